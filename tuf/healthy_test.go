package tuf_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

func TestHealthy(t *testing.T) {
	r := rawtuf.New()
	a, err := newClient(t, r).find(r, rawtuf.Path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("the agent"))
	if a.Path() != rawtuf.Path || a.Class() != "agent" || a.RepoID() != rawtuf.RepoID || a.Length() != 9 || a.SHA256() != hex.EncodeToString(sum[:]) {
		t.Errorf("%+v", a)
	}
	rel, ok := a.Release()
	if !ok || rel != (tuf.Release{Product: "agent", Version: "11.4.0", Channel: "stable", Platform: "linux/amd64", Sequence: 7}) {
		t.Errorf("%+v, %v", rel, ok)
	}
	id := func(name string) []string { return []string{r.IDs(name)[0].(string)} }
	expires := rawtuf.Now.AddDate(0, 1, 0)
	by := []tuf.Signoff{{"vendor", "vendor-agent", 5, id("va"), expires}, {"review", "review-agent", 5, id("ra"), expires}}
	if got := a.Signoffs(); !reflect.DeepEqual(got, by) {
		t.Errorf("got %v, want %v", got, by)
	}
	for _, part := range []string{rawtuf.Path, "9 bytes", a.SHA256()[:16], "vendor (vendor-agent", " and review (review-agent"} {
		if !strings.Contains(a.String(), part) {
			t.Errorf("%s: no %q", a, part)
		}
	}
}

func TestZeroValuesAreRefused(t *testing.T) {
	r := rawtuf.New()
	get := from(r)
	for name, call := range map[string]func() error{
		"Root.Next": func() error { _, err := new(tuf.Root).Next(r.Files["1.root.json"]); return err },
		"Root.Timestamp": func() error {
			_, err := new(tuf.Root).Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now)
			return err
		},
		"Root.CheckExpiry":    func() error { return new(tuf.Root).CheckExpiry(rawtuf.Now) },
		"nil Root.Next":       func() error { _, err := (*tuf.Root)(nil).Next(nil); return err },
		"Timestamp.Snapshot":  func() error { _, err := new(tuf.Timestamp).Snapshot(r.Files["5.snapshot.json"], nil); return err },
		"Snapshot.Targets":    func() error { _, err := new(tuf.Snapshot).Targets(r.Files["5.targets.json"]); return err },
		"Snapshot.Approve":    func() error { _, err := new(tuf.Snapshot).Approve(rawtuf.Path, get); return err },
		"Snapshot.Candidates": func() error { _, err := new(tuf.Snapshot).Candidates(t.Context(), nil, get); return err },
		"Snapshot.Unsafe":     func() error { _, err := new(tuf.Snapshot).UnsafeTarget("top.txt", get); return err },
		"Snapshot.RoleFile":   func() error { _, err := new(tuf.Snapshot).RoleFile("targets"); return err },
	} {
		t.Run(name, func(t *testing.T) { want(t, call(), tuf.ErrUntrusted, "zero ") })
	}
	if !(tuf.Approved{}).IsZero() {
		t.Error("the zero Approved is not zero")
	}
}

// Verified values do not change with the caller's buffer or with their own results.
func TestVerifiedIsImmutable(t *testing.T) {
	r := rawtuf.New()
	c := newClient(t, r)
	bufs := map[string][]byte{}
	get := func(f tuf.RoleFile) ([]byte, error) {
		data, err := from(r)(f)
		bufs[f.Role] = bytes.Clone(data)
		return bufs[f.Role], err
	}
	ts, err := c.root.Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now)
	if err != nil {
		t.Fatal(err)
	}
	buf := bytes.Clone(r.Files["5.snapshot.json"])
	snap, err := ts.Snapshot(buf, nil)
	if err != nil {
		t.Fatal(err)
	}
	clear(buf)
	for range 2 {
		a, err := snap.Approve(rawtuf.Path, get)
		if err != nil || a.Length() != 9 {
			t.Fatal(a, err)
		}
		for _, b := range bufs {
			clear(b) // a reused buffer
		}
		clear(a.Signoffs()[0].KeyIDs)
		clear(snap.Bytes())
		clear(snap.Root().Charter().Parties())
		clear(snap.Root().Charter().Classes()[0].Roles[0].KeyIDs)
		snap.Root().Charter().Classes()[0].Hold.KeyIDs[0] = ""
		clear(snap.Root().Charter().Locations())
		clear(snap.Root().Charter().Retired()[0].Hosts)
	}
}

// A snapshot is used concurrently and fetches each role as rarely as possible.
func TestSnapshotConcurrently(t *testing.T) {
	r := rawtuf.New()
	snap := mustSnapshot(t, r)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := snap.Approve(rawtuf.Path, from(r)); err != nil {
				t.Error(err)
			}
			if _, err := snap.Candidates(t.Context(), func(tuf.Release) bool { return true }, from(r)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := snap.Approve(rawtuf.Path, nil); err != nil {
		t.Error("fetches what it has:", err)
	}
}

func TestCandidates(t *testing.T) {
	r := rawtuf.New()
	rel := func(seq int, version string) doc {
		return doc{"product": "agent", "version": version, "channel": "stable", "platform": "linux/amd64", "sequence": seq}
	}
	r.AddTarget("agent/12", "twelve", rel(8, "12.0.0"), "vendor-agent")
	r.AddTarget("agent/13", "thirteen", rel(9, "13.0.0"), "review-agent")
	r.AddTarget("agent/beta", "beta", rel(10, "14.0.0-beta"), "vendor-agent", "review-agent")
	r.AddTarget("agent/readme", "plain file", nil, "vendor-agent", "review-agent")
	r.AddTarget("agent/odd", "odd", doc{"product": "of a later day"}, "vendor-agent", "review-agent")
	r.AddTarget("else/1", "else", rel(11, "15.0.0"), "vendor-agent", "review-agent")
	r.Publish()
	list, err := mustSnapshot(t, r).Candidates(t.Context(), func(rel tuf.Release) bool { return !strings.Contains(rel.Version, "beta") }, from(r))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, fmt.Sprintf("%s %s approved=%v", c.Path, c.Claim.Version, !c.Approved.IsZero()))
		if c.Path == "agent/odd" {
			want(t, c.Err, tuf.ErrRelease, "version is missing")
		} else if c.Err != nil {
			want(t, c.Err, tuf.ErrNotApproved, "")
		}
	}
	all := []string{"agent/12 12.0.0 approved=false", "agent/13 13.0.0 approved=false", rawtuf.Path + " 11.4.0 approved=true", "agent/odd  approved=false"}
	if !reflect.DeepEqual(got, all) {
		t.Errorf("got %q, want %q", got, all)
	}
	delete(r.Files, "5.review-agent.json")
	_, err = mustSnapshot(t, r).Candidates(t.Context(), func(tuf.Release) bool { return true }, from(r))
	want(t, err, errNotServed, "")
}

// A download must match every hash that any party lists.
func TestEveryListedHashIsKept(t *testing.T) {
	r := rawtuf.New()
	sum := strings.Repeat("0", 128)
	rawtuf.At(r.Roles["review-agent"], "targets", rawtuf.Path, "hashes")["sha512"] = sum
	r.Bump("review-agent")
	r.Publish()
	a, err := mustSnapshot(t, r).Approve(rawtuf.Path, from(r))
	if err != nil || a.SHA512() != sum {
		t.Fatalf("sha512 %q, %v", a.SHA512(), err)
	}
}

// Two roles with different sha512 disagree, even if a third lists none.
func TestEveryListedHashIsAgreedOn(t *testing.T) {
	r := rawtuf.New()
	lab := rawtuf.Copy(rawtuf.At(r.Charter(), "classes", 0, "roles", 1)).(doc)
	lab["role"] = "review-lab"
	cl := rawtuf.At(r.Charter(), "classes", 0)
	cl["roles"] = append(cl["roles"].([]any), lab)
	r.Roles["review-lab"], r.Signers["review-lab"] = rawtuf.Copy(r.Roles["review-agent"]).(doc), r.Signers["review-agent"]
	r.PublishRoot()
	for _, tt := range []struct {
		agent, lab string
		err        error
	}{{"1", "1", nil}, {"1", "2", tuf.ErrNotApproved}, {"2", "2", nil}} {
		for role, digit := range map[string]string{"review-agent": tt.agent, "review-lab": tt.lab} {
			rawtuf.At(r.Roles[role], "targets", rawtuf.Path, "hashes")["sha512"] = strings.Repeat(digit, 128)
			r.Bump(role)
		}
		r.Publish()
		_, err := mustSnapshot(t, r).Approve(rawtuf.Path, from(r))
		want(t, err, tt.err, map[bool]string{true: "review (review-agent"}[err != nil])
	}
}

// Candidates are also found in roles that a party delegates to by patterns, within these
// patterns; hash bins and prefixes are not traversed.
func TestCandidatesOfProducts(t *testing.T) {
	rel := func(seq int) doc {
		return doc{"product": "p", "version": fmt.Sprint(seq), "channel": "stable", "platform": "any", "sequence": seq}
	}
	build := func() *rawtuf.Repo {
		r := rawtuf.New()
		for i, party := range []string{"vendor", "review"} {
			role := party + "-agent"
			for j, how := range []doc{{"paths": []any{"agent/p-*", "else/*"}}, {"path_hash_prefixes": []any{""}}} {
				name := fmt.Sprintf("%s-%d", party, j)
				r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{name}
				r.Delegate(role, name, how, name)
				r.AddTarget(fmt.Sprintf("agent/p-%d", j), "p", rel(j+1), name)
				r.AddTarget(fmt.Sprintf("agent/q-%d", j), "q", rel(10), name) // not covered by the pattern
				r.AddTarget(fmt.Sprintf("else/%d", j), "e", rel(11), name)    // outside the class
			}
			if i == 0 { // a cycle
				r.Delegate("vendor-0", "vendor-0", doc{"paths": []any{"agent/*"}}, "vendor-0")
			}
		}
		r.AddTarget("agent/"+strings.Repeat("l", 4096-6), "long", rel(20), "vendor-agent", "review-agent")
		r.AddTarget("agent/"+strings.Repeat("l", 4097-6), "longer", rel(21), "vendor-agent", "review-agent")
		r.Publish()
		return r
	}
	r := build()
	get, seen := visits(r)
	list, err := mustSnapshot(t, r).Candidates(t.Context(), nil, get)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, fmt.Sprintf("%.10s %s %v", c.Path, c.Claim.Version, c.Err))
	}
	if want := []string{"agent/agen 11.4.0 <nil>", "agent/llll 20 <nil>", "agent/p-0 1 <nil>"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := strings.Join(*seen, " "); got != "vendor-agent review-agent hold vendor-0 review-0" {
		t.Errorf("fetched %s", got)
	}
	delete(r.Files, "5.review-0.json") // its releases are missing
	list, err = mustSnapshot(t, r).Candidates(t.Context(), nil, from(r))
	want(t, err, nil, "")
	if len(list) != 4 || list[0].Role != "review-0" || !errors.Is(list[0].Err, errNotServed) || list[1].Err != nil || list[2].Err != nil || !errors.Is(list[3].Err, errNotServed) {
		t.Errorf("%+v", list)
	}
	r = build()
	rawtuf.At(r.Roles["review-0"], "targets", "agent/p-0")["length"] = -1
	r.Publish()
	list, err = mustSnapshot(t, r).Candidates(t.Context(), nil, from(r))
	want(t, err, nil, "")
	if len(list) != 4 || list[2].Path != "agent/p-0" || list[2].Err == nil || list[3].Role != "review-0" {
		t.Errorf("%+v", list)
	}
	want(t, list[3].Err, tuf.ErrMalformed, "review-0 v5")

	// As many roles as one search may visit.
	for n, sentinel := range map[int]error{63: nil, 64: tuf.ErrTooLarge} {
		r := rawtuf.New()
		for i := range n {
			name := fmt.Sprintf("p%02d", i)
			r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{"k"}
			r.Delegate("vendor-agent", name, doc{"paths": []any{"agent/x"}}, "k")
		}
		r.Publish()
		list, err := mustSnapshot(t, r).Candidates(t.Context(), nil, from(r))
		want(t, err, nil, "")
		if sentinel != nil {
			want(t, list[0].Err, sentinel, "p63 and those after it are left out")
			list = list[1:]
		}
		if len(list) != 1 || list[0].Approved.IsZero() {
			t.Errorf("%d roles: %+v", n, list)
		}
	}
	// Bins are not traversed.
	r = rawtuf.New()
	bins := r.Role(1, "k")
	bins["bit_length"], bins["name_prefix"] = 1, "bin"
	r.Roles["vendor-agent"]["delegations"] = doc{"succinct_roles": bins}
	r.AddKeys(rawtuf.At(r.Roles["vendor-agent"], "delegations"), "k")
	r.Publish()
	if list, err := mustSnapshot(t, r).Candidates(t.Context(), nil, from(r)); err != nil || len(list) != 1 {
		t.Error(list, err)
	}
}
