package theft_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/tuftest"
)

type doc = tuftest.Doc

const day = 24 * time.Hour

// What the honest sign stays valid for as long as package repo has it.
const (
	timestampLife = day
	snapshotLife  = 7 * day
	releaseLife   = 30 * day
	rootLife      = 365 * day
	recoveryHold  = 14 * day
)

// Paths of the honest repository: a release of each class, and one that the
// centre has recalled.
const (
	agent    = "agent/agent-1.0"
	rules    = "rules/rules-1.0"
	recalled = "agent/agent-0.9"
)

// The keys of each party. The vendor runs the repository.
var (
	vendorKeys = []string{"vendor-root-1", "vendor-root-2", "vendor-root-3", "timestamp", "snapshot", "targets", "vendor-agent", "vendor-rules"}
	reviewKeys = []string{"review-root-1", "review-root-2", "review-root-3", "ann", "ben", "cleo", "robot"}
	// Two of these, of both a bank and a university, may recover the repository.
	recoveryKeys = []string{"bank-1", "bank-2", "university"}
)

// honest is the repository that is robbed: three root keys a party, two of which
// must sign; engine-like releases that two of three reviewers sign by hand, any of
// whom can hold them; and rules that the centre's robot signs.
func honest() *tuftest.Repo {
	r := tuftest.NewPlain()
	delete(r.Roles, "lib")
	r.Roles["targets"] = tuftest.Targets()
	r.Files = map[string][]byte{}
	roots := append(slices.Clone(vendorKeys[:3]), reviewKeys[:3]...)
	r.Signers["root"] = roots
	r.Root["keys"] = doc{}
	r.AddKeys(r.Root, slices.Concat(vendorKeys, reviewKeys, recoveryKeys)...)
	r.Root["roles"].(doc)["root"] = r.Role(5, roots...) // 6 keys less the 3 of either party, and its 2
	role := func(party, role string, threshold int, keys ...string) doc {
		r.Roles[role], r.Signers[role] = tuftest.Targets(), keys
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
		"schema": 1, "repo_id": tuftest.RepoID, "seq": 1, "epoch": 1, "signed_at": tuftest.Stamp(tuftest.Now),
		"parties": []any{
			doc{"name": "vendor", "keyids": r.IDs(roots[:3]...), "min": 2},
			doc{"name": "review", "keyids": r.IDs(roots[3:]...), "min": 2}},
		"classes": []any{
			doc{"name": "agent", "prefix": "agent/", "hold": hold, "roles": []any{
				role("vendor", "vendor-agent", 1, "vendor-agent"), role("review", "review-agent", 2, "ann", "ben", "cleo")}},
			doc{"name": "rules", "prefix": "rules/", "roles": []any{
				role("vendor", "vendor-rules", 1, "vendor-rules"), role("review", "review-rules", 1, "robot")}}},
		"floors": doc{"timestamp": 1, "snapshot": 1, "targets": 1}, "locations": tuftest.Locations(),
		"recovery": doc{"keyids": r.IDs(recoveryKeys...), "threshold": 2, "min_orgs": 2, "counter": 1,
			"orgs":         []any{doc{"name": "bank", "keyids": r.IDs("bank-1", "bank-2")}, doc{"name": "university", "keyids": r.IDs("university")}},
			"hold_seconds": int(recoveryHold / time.Second), "min_ticks": 14},
	}
	r.Root["expires"] = tuftest.Stamp(tuftest.Now.Add(rootLife))
	for name, d := range r.Roles {
		life := releaseLife
		switch name {
		case "timestamp":
			life = timestampLife
		case "snapshot":
			life = snapshotLife
		}
		d["expires"] = tuftest.Stamp(tuftest.Now.Add(life))
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

func pin(r *tuftest.Repo) []byte {
	p := r.Pin()
	var keys []any
	for _, n := range reviewKeys[:3] {
		_, k := r.KeyDoc(n)
		keys = append(keys, k)
	}
	p["review"] = doc{"party": "review", "min": 2, "keys": keys}
	return tuftest.Marshal(p)
}

// place serves a repository's files, to whoever is on the way to it.
type place struct {
	files map[string][]byte
}

func (p *place) Open(_ context.Context, name string) (io.ReadCloser, error) {
	data, ok := p.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// RoundTrip is the place under every name there is.
func (p *place) RoundTrip(r *http.Request) (*http.Response, error) {
	data, ok := p.files[strings.TrimPrefix(r.URL.Path, "/r/")]
	resp := &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader(data)), ContentLength: int64(len(data))}
	if !ok {
		resp.StatusCode = http.StatusNotFound
	}
	return resp, nil
}

// show makes the place serve r, and every target whose content is its path.
func (p *place) show(r *tuftest.Repo) {
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
	return tuftest.At(tuftest.FileOf([]byte(path)), "hashes")["sha256"].(string)
}

func evil(class string) string { return class + "/evil" }

// machine is a client in the field that has seen the honest repository. The thief
// has the network and every place.
type machine struct {
	t     *testing.T
	place *place
	now   time.Time
	*client.Client
}

func newMachine(t *testing.T, r *tuftest.Repo, change ...func(*place, *client.Config)) *machine {
	t.Helper()
	m := &machine{t: t, place: &place{}, now: tuftest.Now}
	m.place.show(r)
	cfg := &client.Config{Store: client.MemStore(), Sources: []client.Source{m.place}, Offline: true, Retries: -1, Now: func() time.Time { return m.now }}
	for _, c := range change {
		c(m.place, cfg)
	}
	var err error
	m.Client, err = client.New(pin(r), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{agent, rules} {
		if !m.takes(path) {
			t.Fatalf("the honest repository does not give %s", path)
		}
	}
	if m.takes(recalled) {
		t.Fatal("the honest repository gives what was recalled")
	}
	return m
}

// look refreshes; nil where there is no content.
func (m *machine) look() *client.View {
	v, err := m.Refresh(m.t.Context())
	if err != nil {
		return nil
	}
	return v
}

// takes reports whether the machine would install what is under a path, to the last byte.
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
