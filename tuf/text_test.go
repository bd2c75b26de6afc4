package tuf_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// lawful checks an error with rawtuf.BadText; for an Error it also checks that text.Line had
// nothing to change.
func lawful(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if why := rawtuf.BadText(err.Error()); why != "" {
		t.Errorf("%s: %s: %.300q", what, why, err.Error())
	}
	var e *tuf.Error
	if errors.As(err, &e) {
		if why := rawtuf.BadText(e.Detail); why != "" {
			t.Errorf("%s: %s in the detail: %.300q", what, why, e.Detail)
		}
	}
}

// Hostile strings anywhere in a file, signed or not, give lawful messages only.
func TestTextsOfHostileFiles(t *testing.T) {
	rawtuf.Sequential(t)
	each, step := 1, 2 // texts for each position in a file, and which share of the positions
	if rawtuf.Long {
		each, step = 2, 1
	}
	for _, make := range []func() *rawtuf.Repo{rawtuf.New, rawtuf.NewPlain} {
		healthy := make()
		trusted := newClient(t, healthy).root
		roles := []string{"root"}
		for role := range healthy.Roles {
			roles = append(roles, role)
		}
		for _, role := range roles {
			part := func(r *rawtuf.Repo) doc {
				if role == "root" {
					return r.Root
				}
				return r.Roles[role]
			}
			if role == "hold" {
				healthy.AddTarget(rawtuf.Path, "", doc{"reason": "x", "at": rawtuf.Stamp(rawtuf.Now), "until": rawtuf.Stamp(rawtuf.Now.AddDate(0, 0, 1))}, "hold")
			}
			part(healthy)["x-visum-recalled"] = []any{doc{"path": "agent/x", "sha256": strings.Repeat("0", 64), "reason": "x", "at": rawtuf.Stamp(rawtuf.Now)}}
			for i := range spots(rawtuf.Copy(part(healthy))) {
				if i%step != 0 {
					continue
				}
				for k := range 3 {
					for _, n := range []int{i + k, i + k + 8}[:each] {
						j := n % len(rawtuf.Hostile)
						evil := rawtuf.Hostile[j]
						r := healthy.Clone()
						s := spots(part(r))[i]
						switch {
						case k == 0:
							s.set(evil)
						case k == 1 && s.rename != nil:
							s.rename(evil)
						case k == 2 && s.rename != nil:
							s.rename(strings.ToUpper(s.name))
						default:
							continue
						}
						what := fmt.Sprintf("%s, spot %d %s, text %d, way %d", role, i, s.name, j, k)
						r.PublishRoot()
						func() {
							defer func() { _ = recover() }() // rawtuf writes what it knows into lists, where there may be none now
							r.Publish()
						}()
						for _, data := range r.Files {
							_, err := tuf.OpenPin(data, nil)
							lawful(t, what, err)
						}
						next := rawtuf.Copy(r.Root).(doc)
						if role == "root" {
							if _, ok := next["version"].(int); ok {
								next["version"] = 2
							}
						}
						_, err := trusted.Next(r.Sign(next, r.Signers["root"]...))
						lawful(t, what, err)
						root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
						lawful(t, what, err)
						if err != nil {
							root = trusted
						}
						c := &client{root: root}
						snap, err := c.refresh(r)
						lawful(t, what, err)
						if err != nil {
							continue
						}
						texts(t, what, snap, r)
					}
				}
			}
		}
	}
}

// texts calls all methods of a snapshot whose results have text.
func texts(t testing.TB, what string, snap *tuf.Snapshot, r *rawtuf.Repo) {
	t.Helper()
	get := from(r)
	for _, path := range []string{rawtuf.Path, "lib/a.txt", rawtuf.Hostile[0], "agent/" + rawtuf.Hostile[0], "agent/" + rawtuf.Words, "lib/" + rawtuf.Hostile[4]} {
		for _, find := range []func(string, tuf.Fetch) (tuf.Approved, error){snap.Approve, snap.UnsafeTarget} {
			a, err := find(path, get)
			lawful(t, what, err)
			if why := rawtuf.BadText(a.String()); why != "" {
				t.Errorf("%s: %s: %s", what, why, a)
			}
		}
	}
	list, err := snap.Candidates(t.Context(), nil, get)
	lawful(t, what, err)
	for _, c := range list {
		lawful(t, what, c.Err)
		if why := rawtuf.BadText(c.Approved.String()); why != "" {
			t.Errorf("%s: %s: %s", what, why, c.Approved)
		}
	}
	_, err = snap.Recalls(get)
	lawful(t, what, err)
	lawful(t, what, snap.OpenRoles(get))
	for _, name := range append(snap.Roles(), rawtuf.Hostile...) {
		top, err := snap.Role(name, get)
		lawful(t, what, err)
		_, err = snap.RoleFile(name)
		lawful(t, what, err)
		for _, below := range rawtuf.Hostile[:9] {
			_, err := snap.Delegated(top, below, get)
			lawful(t, what, err)
		}
	}
}

// The same for the seeded mutants of healthy files.
func TestTextsOfMutants(t *testing.T) {
	rawtuf.Sequential(t)
	for _, s := range subjects(t) {
		for _, c := range s.mutants(15) {
			lawful(t, c.kind+" "+c.from, c.ours)
		}
	}
}

// Names of delegated roles, target paths and key ids are arbitrary strings; one that looks like
// rawtuf.Words is quoted, also in an approval.
func TestTextsOfHostileNames(t *testing.T) {
	for _, evil := range rawtuf.Hostile[:12] {
		r := rawtuf.New()
		path := "agent/" + evil
		for _, role := range []string{"vendor-agent", "review-agent"} {
			name := role + evil
			r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{"k"}
			r.Delegate(role, name, doc{"paths": []any{"agent/*"}}, "k")
			r.AddTarget(path, "x", release("agent", "1", 1), name)
			r.AddTarget(path+".odd", "x", release(evil, evil, 1), name)
		}
		r.Publish()
		_, err := newClient(t, r).find(r, path+".odd")
		want(t, err, tuf.ErrRelease, "")
		lawful(t, evil, err)
		a, err := newClient(t, r).find(r, path)
		if err != nil {
			t.Fatal(err)
		}
		if why := rawtuf.BadText(a.String()); why != "" {
			t.Errorf("%s: %s", why, a)
		}
		texts(t, evil, mustSnapshot(t, r), r)
		r.Signers["vendor-agent"+evil] = []string{"attacker"}
		r.Publish()
		_, err = newClient(t, r).find(r, path)
		want(t, err, tuf.ErrThreshold, "")
		lawful(t, evil, err)
	}
	// Very many keys and roles do not make a long text.
	var keys []string
	for i := range 200 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	r := rawtuf.NewPlain()
	d := rawtuf.At(r.Roles["targets"], "delegations")
	d["roles"] = []any{}
	var group []any
	for i := range 60 {
		name := fmt.Sprintf("%d-%s", i, strings.Repeat("y", 190))
		r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{keys[i]}
		r.Delegate("targets", name, doc{"paths": []any{"g"}}, keys[i])
		r.AddTarget("g", "g", nil, name)
		group = append(group, name)
	}
	d[layout.AgreementMember] = []any{doc{"roles": group, "min_roles_in_agreement": 60, "terminating": true}}
	r.Publish()
	a, err := newClient(t, r).find(r, "g")
	if err != nil || len(a.Signoffs()) != 60 || rawtuf.BadText(a.String()) != "" {
		t.Errorf("%v, %d: %s", err, len(a.Signoffs()), rawtuf.BadText(a.String()))
	}
	rawtuf.At(r.Roles[group[3].(string)], "targets")["g"] = rawtuf.FileOf([]byte("other"))
	r.Publish()
	_, err = newClient(t, r).find(r, "g")
	want(t, err, tuf.ErrNotApproved, "and 52 more")
	lawful(t, "agreement", err)
}
