package keycompromise_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

type doc = rawtuf.Doc

const day = 24 * time.Hour

// Validity periods of honest metadata, the defaults of package repo.
const (
	timestampLife = day
	snapshotLife  = 7 * day
	releaseLife   = 30 * day
	rootLife      = 365 * day
	recoveryHold  = 14 * day
)

// Paths of the honest repository: a release of each class, and a recalled one.
const (
	agent    = "agent/agent-1.0"
	rules    = "rules/rules-1.0"
	recalled = "agent/agent-0.9"
)

// The keys of each party. The vendor runs the repository.
var (
	vendorKeys = []string{"vendor-root-1", "vendor-root-2", "vendor-root-3", "timestamp", "snapshot", "targets", "vendor-agent", "vendor-rules"}
	reviewKeys = []string{"review-root-1", "review-root-2", "review-root-3", "ann", "ben", "cleo", "robot"}
	// Two of these, from both bank and university, meet the recovery rule.
	recoveryKeys = []string{"bank-1", "bank-2", "university"}
)

// honest returns the attacked repository: three root keys for each party, two of which
// must sign; agents signed by two of three reviewers, each of whom can hold them; and
// rules signed by the centre's robot.
func honest() *rawtuf.Repo {
	r := rawtuf.NewPlain()
	delete(r.Roles, "lib")
	r.Roles["targets"] = rawtuf.Targets()
	r.Files = map[string][]byte{}
	roots := append(slices.Clone(vendorKeys[:3]), reviewKeys[:3]...)
	r.Signers["root"] = roots
	r.Root["keys"] = doc{}
	r.AddKeys(r.Root, slices.Concat(vendorKeys, reviewKeys, recoveryKeys)...)
	r.Root["roles"].(doc)["root"] = r.Role(5, roots...) // rule Q: 6 keys less 3 of a party, plus its minimum 2
	role := func(party, role string, threshold int, keys ...string) doc {
		r.Roles[role], r.Signers[role] = rawtuf.Targets(), keys
		d := r.Role(threshold, keys...)
		if role != "hold-agent" {
			d["party"] = party
		}
		d["role"] = role
		return d
	}
	hold := role("", "hold-agent", 1, "ann", "ben", "cleo")
	hold["max_seconds"] = 604800
	r.Root["x-visum"] = doc{
		"schema": 1, "repo_id": rawtuf.RepoID, "seq": 1, "epoch": 1, "signed_at": rawtuf.Stamp(rawtuf.Now),
		"parties": []any{
			doc{"name": "vendor", "keyids": r.IDs(roots[:3]...), "min": 2},
			doc{"name": "review", "keyids": r.IDs(roots[3:]...), "min": 2}},
		"classes": []any{
			doc{"name": "agent", "prefix": "agent/", "hold": hold, "roles": []any{
				role("vendor", "vendor-agent", 1, "vendor-agent"), role("review", "review-agent", 2, "ann", "ben", "cleo")}},
			doc{"name": "rules", "prefix": "rules/", "roles": []any{
				role("vendor", "vendor-rules", 1, "vendor-rules"), role("review", "review-rules", 1, "robot")}}},
		"floors": doc{"timestamp": 1, "snapshot": 1, "targets": 1}, "locations": rawtuf.Locations(),
		"recovery": doc{"keyids": r.IDs(recoveryKeys...), "threshold": 2, "min_orgs": 2, "counter": 1,
			"orgs":         []any{doc{"name": "bank", "keyids": r.IDs("bank-1", "bank-2")}, doc{"name": "university", "keyids": r.IDs("university")}},
			"hold_seconds": int(recoveryHold / time.Second), "min_ticks": 14},
	}
	r.Root["expires"] = rawtuf.Stamp(rawtuf.Now.Add(rootLife))
	for name, d := range r.Roles {
		life := releaseLife
		switch name {
		case "timestamp":
			life = timestampLife
		case "snapshot":
			life = snapshotLife
		}
		d["expires"] = rawtuf.Stamp(rawtuf.Now.Add(life))
	}
	for _, x := range []struct {
		path, product string
		sequence      int
		roles         []string
	}{
		{agent, "agent", 2, []string{"vendor-agent", "review-agent"}},
		{recalled, "agent", 1, []string{"vendor-agent"}},
		{rules, "rules", 1, []string{"vendor-rules", "review-rules"}},
	} {
		r.AddTarget(x.path, x.path, release(x.product, x.sequence), x.roles...)
	}
	r.PublishRoot()
	r.Publish()
	return r
}

func release(product string, sequence int) doc {
	return doc{"product": product, "version": fmt.Sprint(sequence), "channel": "stable", "platform": "any", "sequence": sequence}
}

func pin(r *rawtuf.Repo) []byte {
	p := r.Pin()
	var keys []any
	for _, n := range reviewKeys[:3] {
		_, k := r.KeyDoc(n)
		keys = append(keys, k)
	}
	p["review"] = doc{"party": "review", "min": 2, "keys": keys}
	return rawtuf.Marshal(p)
}

// location serves a repository's files.
type location struct {
	files map[string][]byte
}

func (p *location) Open(_ context.Context, name string) (io.ReadCloser, error) {
	data, ok := p.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// RoundTrip answers for every host name.
func (p *location) RoundTrip(r *http.Request) (*http.Response, error) {
	data, ok := p.files[strings.TrimPrefix(r.URL.Path, "/r/")]
	resp := &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader(data)), ContentLength: int64(len(data))}
	if !ok {
		resp.StatusCode = http.StatusNotFound
	}
	return resp, nil
}

// show serves r, and every target with its path as content.
func (p *location) show(r *rawtuf.Repo) {
	p.files = map[string][]byte{}
	for name, data := range r.Files {
		p.files["metadata/"+name] = data
	}
	for _, path := range []string{agent, rules, recalled, evil("agent"), evil("rules")} {
		dir, base, _ := strings.Cut(path, "/")
		p.files["targets/"+dir+"/"+sumOf(path)+"."+base] = []byte(path)
	}
}

func sumOf(path string) string {
	return rawtuf.At(rawtuf.FileOf([]byte(path)), "hashes")["sha256"].(string)
}

func evil(class string) string { return class + "/evil" }

// machine is a client that has seen the honest repository. The attacker controls the
// network and every location.
type machine struct {
	t        *testing.T
	location *location
	now      time.Time
	*client.Client
}

func newMachine(t *testing.T, r *rawtuf.Repo, change ...func(*location, *client.Config)) *machine {
	t.Helper()
	m := &machine{t: t, location: &location{}, now: rawtuf.Now}
	m.location.show(r)
	cfg := &client.Config{Store: client.MemStore(), Sources: []client.Source{m.location}, Offline: true, Retries: -1, Now: func() time.Time { return m.now }}
	for _, c := range change {
		c(m.location, cfg)
	}
	var err error
	m.Client, err = client.New(pin(r), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{agent, rules} {
		if !m.takes(path) {
			t.Fatalf("not installed from the honest repository: %s", path)
		}
	}
	if m.takes(recalled) {
		t.Fatal("a recalled release was installed from the honest repository")
	}
	return m
}

// rootAfterRefresh refreshes and returns the version of the newest trusted root.
func (m *machine) rootAfterRefresh() int64 {
	v, err := m.Refresh(m.t.Context())
	if failed, ok := errors.AsType[*client.RefreshError](err); ok {
		return failed.Root.Version()
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return v.Root().Version()
}

// look refreshes; the result is nil without content.
func (m *machine) look() *client.View {
	v, err := m.Refresh(m.t.Context())
	if err != nil {
		return nil
	}
	return v
}

// takes reports whether the machine would install the target with its full content.
func (m *machine) takes(path string) bool {
	v := m.look()
	if v == nil {
		return false
	}
	a, err := v.Find(m.t.Context(), path)
	if err != nil {
		return false
	}
	data, err := m.ReadTarget(m.t.Context(), a, 1<<20)
	return err == nil && string(data) == path
}
