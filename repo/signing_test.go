package repo_test

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

func renewRoot(tx *repo.Tx) error { tx.RenewRoot(); return nil }

func resignReview(tx *repo.Tx) error { return tx.Renew("review") }

// K1: a chain of roots that ends below the newest root seen, or forks from it, is
// refused by calls that sign and by calls that read.
func TestRootNeverGoesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Pin()
	w.Update(add("1"))
	old := w.Store.Copy()
	w.Now = w.Now.Add(time.Hour)
	fork := w.Copy()
	w.Update(renewRoot)
	m := w.machine().adopts()
	r := m.open("review-release", "timestamp", "snapshot")
	if _, err := r.Stage(t.Context(), resignReview); err != nil {
		t.Fatal("valid chain:", err)
	}
	fork.Now = fork.Now.Add(time.Minute)
	fork.Update(renewRoot)
	for name, store := range map[string]*memory{"older": old, "fork": fork.Store} {
		bad := *m
		bad.store = store
		r := bad.open("review-release", "timestamp", "snapshot")
		for call, fn := range map[string]func() error{
			"stage":   func() error { _, err := r.Stage(t.Context(), resignReview); return err },
			"refresh": func() error { return r.Renew(t.Context()) },
			"pin":     func() error { _, err := r.Pin(t.Context()); return err },
		} {
			t.Run(name+" "+call, func(t *testing.T) { bad.refuses(signing.ErrRootBehind, fn) })
		}
	}
	if _, err := r.Stage(t.Context(), resignReview); err != nil {
		t.Fatal("healed:", err)
	}
}

// K1 applies to the first root too: a signer signs only one, unless the caller names
// the one to give up.
func TestOneFirstRoot(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	found := func(tx *repo.Tx) error {
		tx.Root().RepoID = strings.Repeat("ab", 16)
		return w.Define(tx)
	}
	first, err := w.Open(vendorKeys...).Stage(t.Context(), found)
	noErr(t, err)
	w.Now = w.Now.Add(time.Minute)
	again := func() error { _, err := w.Open(vendorKeys...).Stage(t.Context(), found); return err }
	w.Refused(signing.ErrSecondContent, again)
	proposal, err := tuf.ProposeFirst(first.File("root"), nil)
	noErr(t, err)
	second, err := w.Open(vendorKeys...).Stage(t.Context(), func(tx *repo.Tx) error { tx.Supersede(proposal.SHA256()); return found(tx) })
	noErr(t, err)
	w.SignAll(second)
	noErr(t, w.Open().Publish(t.Context(), second))
	w.Sees("root 1")
	// Publishing needs a handle that knows the first root.
	elsewhere := w.Copy()
	elsewhere.Store, elsewhere.Ledger = newMemory(), newMemory()
	elsewhere.Refused(signing.ErrNoPin, func() error { return elsewhere.Open("timestamp", "snapshot").Publish(t.Context(), second) })
	cfg := elsewhere.Config()
	cfg.Pin = w.Root().Bytes()
	for _, k := range []string{"timestamp", "snapshot"} {
		cfg.Signers = append(cfg.Signers, w.Signer(k))
	}
	noErr(t, repo.New(elsewhere.Store, cfg).Publish(t.Context(), second))
	elsewhere.Sees("root 1")
}

// K1: of two roots with one version a signer signs only one, unless the caller names
// the one to give up.
func TestOneRootOfAVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Pin()
	vendor := w.Copy() // the vendor's machine, with a ledger of its own
	vendor.Store = w.Store
	m := w.machine().adopts()
	stage := func() *repo.Draft {
		vendor.Now = vendor.Now.Add(time.Minute)
		d, err := vendor.Open("timestamp").Stage(t.Context(), renewRoot) // no root key: nothing is recorded
		noErr(t, err)
		data, err := d.Bytes()
		noErr(t, err)
		w.Now = vendor.Now
		d, err = m.open().OpenDraft(data)
		noErr(t, err)
		return d
	}
	first := stage()
	noErr(t, first.Sign(t.Context(), w.Signer("review-1")))
	noErr(t, first.Sign(t.Context(), w.Signer("review-2"))) // the same root by another key
	second := stage()
	m.refuses(signing.ErrSecondContent, func() error { return second.Sign(t.Context(), w.Signer("review-1")) })
	m.refuses(signing.ErrSecondContent, func() error { _, err := second.Payload("root"); return err })
	proposal, err := w.Root().Propose(first.File("root"))
	noErr(t, err)
	second.Supersede(strings.Repeat("0", 64))
	m.refuses(signing.ErrSecondContent, func() error { return second.Sign(t.Context(), w.Signer("review-1")) })
	second.Supersede(proposal.SHA256())
	noErr(t, second.Sign(t.Context(), w.Signer("review-1")))
	// Now the first root is the second one.
	m.refuses(signing.ErrSecondContent, func() error { return first.Sign(t.Context(), w.Signer("review-1")) })
	// An exported payload counts as signed.
	third := stage()
	proposal, err = w.Root().Propose(second.File("root"))
	noErr(t, err)
	third.Supersede(proposal.SHA256())
	if _, err := third.Payload("root"); err != nil {
		t.Fatal(err)
	}
	m.refuses(signing.ErrSecondContent, func() error { return second.Sign(t.Context(), w.Signer("review-2")) })
}

// K2: two drafts of two machines assign one version to two contents. A signer of one
// does not sign the other. A draft that is staged here takes the next version.
func TestOneContentOfAVersion(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), add("2")(tx)) })
	ann, ben, cleo := w.machine().adopts(), w.machine().adopts(), w.machine().adopts()
	stage := func(m *machine, key, version string) *repo.Draft {
		d, err := m.open(key).Stage(t.Context(), approve(version))
		noErr(t, err)
		return d
	}
	one, two := stage(ann, "ann", "1"), stage(ben, "ben", "2")
	give := func(m *machine, d *repo.Draft) *repo.Draft {
		data, err := d.Bytes()
		noErr(t, err)
		d, err = m.open().OpenDraft(data)
		noErr(t, err)
		return d
	}
	noErr(t, give(cleo, one).Sign(t.Context(), w.Signer("cleo")))
	noErr(t, give(cleo, one).Sign(t.Context(), w.Signer("cleo"))) // the same again
	cleo.refuses(signing.ErrSecondContent, func() error { return give(cleo, two).Sign(t.Context(), w.Signer("cleo")) })
	cleo.refuses(signing.ErrSecondContent, func() error { _, err := give(cleo, two).Payload("review-agent"); return err })
	own := stage(cleo, "cleo", "2")
	if !strings.Contains(own.String(), "review-agent v3") {
		t.Errorf("staged is %s", own)
	}
	noErr(t, give(ann, own).Sign(t.Context(), w.Signer("ann")))
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), give(ann, mergeOf(t, own, give(ann, own), w.Signer("ann")))))
	w.Sees("root 1 agent/2")
}

// Of very many signings the ledger keeps the last ones; no unknown content is signed
// at or below the versions of the others.
func TestOldRecordsStayInForce(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	w := newWorld(t)
	m := w.machine().adopts()
	r := m.open("review-release")
	first, err := m.open().Stage(t.Context(), resignReview)
	noErr(t, err)
	for range 260 {
		if _, err := r.Stage(t.Context(), resignReview); err != nil {
			t.Fatal(err)
		}
	}
	w.Now = w.Now.Add(time.Minute)
	for name, data := range m.ledger.Files {
		if len(data) > 200<<10 {
			t.Errorf("%s has %d bytes", name, len(data))
		}
	}
	first = edited(t, first, "review-agent", func(_, signed object) { signed["expires"] = "2026-12-20T12:00:01Z" })
	data, err := first.Bytes()
	noErr(t, err)
	first, err = m.open().OpenDraft(data)
	noErr(t, err)
	m.refuses(signing.ErrSecondContent, func() error { return first.Sign(t.Context(), w.Signer("review-release")) })
}

// K3 applies to a product whose party replaces the product's keys in the same draft.
func TestProductNeverGoesBackInARotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	team := func(key string) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error {
			return tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team/*"}, Keys: repo.Keys{Keys: w.Public(key)}})
		}
	}
	w.Update(team("team"))
	old := w.Store.Copy()
	w.Update(func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/team/1", strings.NewReader("team 1"), release("1"))
	})
	m := w.machine().adopts()
	m.store = old
	d, err := m.open().Stage(t.Context(), team("team-2"))
	noErr(t, err)
	m.refuses(signing.ErrRoleBehind, func() error { return d.Sign(t.Context(), w.Signer("team-2")) })
	m.store = w.Store
	d, err = m.open().Stage(t.Context(), team("team-2"))
	noErr(t, err)
	noErr(t, d.Sign(t.Context(), w.Signer("team-2")))
}

// mergeOf is a draft with one more signature, made on a copy of it.
func mergeOf(t *testing.T, d, other *repo.Draft, s tuf.Signer) *repo.Draft {
	t.Helper()
	noErr(t, other.Sign(t.Context(), s))
	noErr(t, d.Merge(other))
	return d
}

// K3: the storage shows an old version of the signer's own role, or of the timestamp:
// no signer signs on top of it.
func TestRoleNeverGoesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(approve("1"))
	old := w.Store.Copy()
	w.Update(add("2"))
	w.Update(approve("2"))
	m := w.machine().adopts()
	bad := *m
	bad.store = old
	keys := append([]string{"review-release"}, vendorKeys...)
	for call, fn := range map[string]func(r *repo.Repo) error{
		"approve": func(r *repo.Repo) error { _, err := r.Stage(t.Context(), resignReview); return err },
		"vendor":  func(r *repo.Repo) error { _, err := r.Stage(t.Context(), add("3")); return err },
		"refresh": func(r *repo.Repo) error { return r.Renew(t.Context()) },
	} {
		t.Run(call, func(t *testing.T) {
			bad.refuses(signing.ErrRoleBehind, func() error { return fn(bad.open(keys...)) })
		})
	}
	// Another content has the version that was seen.
	other := w.Copy()
	w.Update(resignReview)
	m.ledger = newMemory()
	m.adopts()
	bad.ledger = m.ledger
	other.Now = other.Now.Add(time.Hour)
	other.Update(resignReview)
	bad.store = other.Store
	bad.refuses(signing.ErrRoleBehind, func() error { _, err := bad.open("review-release").Stage(t.Context(), resignReview); return err })
	noErr(t, m.w.Open(keys...).Update(t.Context(), add("3")))
}

// A draft that follows a superseded state is not signed.
func TestStaleDraft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), add("2")(tx)) })
	m := w.machine().adopts()
	for what, fn := range map[string]func(*repo.Tx) error{"role": approve("1"), "root": renewRoot} {
		d, err := m.open().Stage(t.Context(), fn)
		noErr(t, err)
		w.Now = w.Now.Add(time.Minute)
		w.Update(map[string]func(*repo.Tx) error{"role": approve("2"), "root": announce}[what])
		if _, err := m.open().Pending(t.Context(), "review"); err != nil {
			t.Fatal(err)
		}
		for _, key := range reviewKeys[1:] {
			err := d.Sign(t.Context(), w.Signer(key))
			if !errors.Is(err, repo.ErrStale) {
				t.Errorf("%s by %s: %v", what, key, err)
			}
		}
	}
}

// Content that a signer has only read is recorded too: neither role nor root is rolled
// back behind it, and the diff still shows it as a difference.
func TestWhatWasReadIsRemembered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), add("2")(tx)) })
	w.Update(approve("1"))
	m := w.machine().adopts()
	old := w.Store.Copy()
	w.Update(approve("2"))
	role := w.Store.Copy()
	w.Now = w.Now.Add(time.Hour)
	w.Update(renewRoot)
	d, err := m.open().Stage(t.Context(), resignReview) // without keys: it reads
	noErr(t, err)
	says(t, m.diff(d), "review-agent: release agent/2 added")
	bad := *m
	bad.store = role
	bad.refuses(signing.ErrRootBehind, func() error { _, err := bad.open("review-release").Stage(t.Context(), resignReview); return err })

	m = w.machine()
	m.store = old
	digest, err := m.open().AdoptDigest(t.Context())
	noErr(t, err)
	noErr(t, m.open().Adopt(t.Context(), digest))
	m.store = role
	if _, err := m.open().Pending(t.Context(), "review"); err != nil {
		t.Fatal(err)
	}
	m.store = old
	m.refuses(signing.ErrRoleBehind, func() error { _, err := m.open("review-release").Stage(t.Context(), resignReview); return err })
}

// K3 applies to a role whose keys are replaced in the same draft.
func TestRoleNeverGoesBackInARotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(approve("1"))
	old := w.Store.Copy()
	w.Update(func(tx *repo.Tx) error { return tx.Recall("review", "agent/1", repo.RecallRecord{Reason: "it leaks"}) })
	m := w.machine().adopts()
	m.store = old
	rotate := func(tx *repo.Tx) error {
		tx.Root().Classes[0].Roles[1].Keys = repo.Keys{Keys: w.Public("review-release-2")}
		return nil
	}
	d, err := m.open().Stage(t.Context(), rotate)
	noErr(t, err)
	m.refuses(signing.ErrRoleBehind, func() error { return d.Sign(t.Context(), w.Signer("review-release-2")) })
	// Recalled content is in no list of the true state, whatever the list's keys are.
	w.Update(rotate)
	w.Sees("root 2")
}

// The verified roots and listings determine what a key may sign. A draft that states
// otherwise gets no signature: the metadata of a role does not state which keys are
// its own.
func TestDraftCannotSayWhoSigns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(approve("1"))
	m := w.machine().adopts()
	needs := func(draft map[string]any, role, key string) {
		k := w.Signer(key).Key()
		w.files(draft)[role]["needs"] = []any{map[string]any{"who": "review (" + role + ")", "threshold": 1,
			"keys": map[string]any{k.ID(): map[string]any{"keytype": k.Type, "scheme": k.Scheme, "public": k.Public}}}}
	}
	vendor, err := w.Open(vendorKeys...).Stage(t.Context(), add("2"))
	noErr(t, err)
	for name, x := range map[string]struct {
		change func(draft map[string]any)
		key    string
	}{
		"the vendor's role": {func(draft map[string]any) { needs(draft, "vendor-agent", "review-release") }, "review-release"},
		"an undelegated role": {func(draft map[string]any) {
			w.files(draft)["vendor-agent"]["base"] = 0
			needs(draft, "vendor-agent", "review-release")
			w.files(draft)["vendor-agent"]["role"] = "nobodys"
		}, "review-release"},
		"below the vendor's": {func(draft map[string]any) {
			w.files(draft)["vendor-agent"]["base"] = 0
			needs(draft, "vendor-agent", "review-release")
			w.files(draft)["vendor-agent"]["role"], w.files(draft)["nobodys"] = "nobodys", nil
			for _, f := range draft["files"].([]any) {
				f.(map[string]any)["under"] = []any{"vendor-agent"}
			}
		}, "review-release"},
	} {
		t.Run(name, func(t *testing.T) {
			data := w.tamper(vendor, x.change)
			d, err := m.open().OpenDraft(data)
			noErr(t, err)
			before := m.ledger.Copy()
			if err := d.Sign(t.Context(), w.Signer(x.key)); !errors.Is(err, repo.ErrNoPart) && !errors.Is(err, tuf.ErrUntrusted) {
				t.Fatal(err)
			}
			if !maps.EqualFunc(before.Files, m.ledger.Files, bytes.Equal) {
				t.Error("recorded")
			}
		})
	}
	// A role below the vendor's role is delegated to the centre's key: a signature of the
	// centre on it would verify for one of its own roles.
	k := w.Signer("review-release").Key()
	theirs := edited(t, vendor, "vendor-agent", func(_, signed object) {
		signed["delegations"] = object{"keys": object{k.ID(): object{"keytype": k.Type, "scheme": k.Scheme, "keyval": object{"public": k.Public}}},
			"roles": []any{object{"name": "team", "keyids": []any{k.ID()}, "threshold": 1, "terminating": true, "paths": []any{"agent/*"}}}}
	})
	noErr(t, theirs.ForceSign(t.Context(), w.Signer("vendor-release")))
	trap := w.tamper(theirs, func(draft map[string]any) {
		file := object{"role": "team", "base": 0, "under": []any{"vendor-agent"}, "content": object{"signatures": []any{}, "signed": object{
			"_type": "targets", "spec_version": "1.0.31", "version": 9, "expires": "2026-12-20T12:00:00Z", "targets": object{}}}}
		draft["files"] = append(draft["files"].([]any), file)
		needs(draft, "team", "review-release")
	})
	d, err := m.open().OpenDraft(trap)
	noErr(t, err)
	wantErr(t, d.Sign(t.Context(), w.Signer("review-release")), repo.ErrNoPart)

	// A product with its own keys is signed by its team.
	w.Update(func(tx *repo.Tx) error {
		return tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team/*"}, Keys: repo.Keys{Keys: w.Public("team")}})
	})
	team, err := w.Open("team").Stage(t.Context(), func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/team/1", strings.NewReader("team 1"), release("2"))
	})
	noErr(t, err)
	if len(team.Missing()) > 0 {
		t.Fatal("the team signs its own role:", team.Missing())
	}
}
