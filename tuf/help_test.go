package tuf_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

type doc = rawtuf.Doc

// errNotServed is the error of a source without the file.
var errNotServed = errors.New("not served")

// from returns a Fetch of the files that r serves.
func from(r *rawtuf.Repo) tuf.Fetch {
	return func(f tuf.RoleFile) ([]byte, error) {
		if data, ok := r.Files[f.Name()]; ok {
			return data, nil
		}
		return nil, errNotServed
	}
}

// client is the state of a client: only verified files are stored.
type client struct {
	root     *tuf.Root
	ts, snap []byte
}

// newClient starts from the pin, or from root v1 of a repository without a charter.
func newClient(t testing.TB, r *rawtuf.Repo) *client {
	t.Helper()
	data := r.Files["1.root.json"]
	if r.Root["x-visum"] != nil {
		data = rawtuf.Marshal(r.Pin())
	}
	p, err := tuf.OpenPin(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &client{root: p.Root()}
}

// refresh verifies root, timestamp and snapshot, and stores them.
func (c *client) refresh(r *rawtuf.Repo) (*tuf.Snapshot, error) {
	for {
		data, ok := r.Files[fmt.Sprintf("%d.root.json", c.root.Version()+1)]
		if !ok {
			break
		}
		next, err := c.root.Next(data)
		if err := proposedAlike(c.root, data, err); err != nil {
			return nil, err
		}
		if err != nil {
			return nil, err
		}
		if next.OnlineKeys() != c.root.OnlineKeys() {
			c.ts, c.snap = nil, nil
		}
		c.root = next
	}
	ts, err := c.root.Timestamp(r.Files["timestamp.json"], c.ts, rawtuf.Now)
	if err != nil {
		return nil, err
	}
	c.ts = ts.Bytes()
	snap, err := ts.Snapshot(r.Files[ts.SnapshotFile().Name()], c.snap)
	if err != nil {
		return nil, err
	}
	c.snap = snap.Bytes()
	return snap, nil
}

// proposedAlike compares the results of [tuf.Root.Propose] for an unsigned root and of Next
// for the same root: every refusal except for signatures is the same.
func proposedAlike(root *tuf.Root, data []byte, said error) error {
	var file doc
	if err := json.Unmarshal(data, &file); err != nil {
		return nil
	}
	file["signatures"] = []any{}
	p, err := root.Propose(rawtuf.Marshal(file))
	refused, have := new(tuf.Error), new(tuf.Error)
	switch {
	case said == nil || errors.Is(said, tuf.ErrThreshold):
		if err == nil && (p.Version() != root.Version()+1 || said == nil && p.Charter() != nil && p.Charter().PrevRoot() == p.SHA256()) {
			return fmt.Errorf("proposed as v%d", p.Version())
		}
		if said == nil && err != nil {
			return fmt.Errorf("signed it is trusted, as a proposal it is refused: %w", err)
		}
	case errors.As(said, &refused) && errors.Is(said, tuf.ErrCharter):
		if !errors.As(err, &have) || have.Detail != refused.Detail {
			return fmt.Errorf("refused when signed (%w), as a proposal: %w", said, err)
		}
	}
	return nil
}

// find does a complete update for one path, for either kind of repository.
func (c *client) find(r *rawtuf.Repo, path string) (tuf.Approved, error) {
	snap, err := c.refresh(r)
	if err != nil {
		return tuf.Approved{}, err
	}
	if c.root.Charter() == nil {
		return snap.UnsafeTarget(path, from(r))
	}
	return snap.Approve(path, from(r))
}

// walk finds the charter repository's release.
func (c *client) walk(r *rawtuf.Repo) error {
	a, err := c.find(r, rawtuf.Path)
	if err == nil && a.IsZero() {
		return errors.New("approved nothing without an error")
	}
	return err
}

// mustSnapshot refreshes a new client.
func mustSnapshot(t testing.TB, r *rawtuf.Repo) *tuf.Snapshot {
	t.Helper()
	s, err := newClient(t, r).refresh(r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// want checks an error by its sentinel and a part of its message. A nil sentinel means
// success.
func want(t testing.TB, err, sentinel error, part string) {
	t.Helper()
	if sentinel == nil && err != nil {
		t.Errorf("got %v, want success", err)
		return
	}
	if !errors.Is(err, sentinel) || err != nil && !strings.Contains(err.Error(), part) {
		t.Errorf("got %v, want %v with %q", err, sentinel, part)
	}
}

// edit replaces a part of a served file, which must occur exactly once.
func edit(r *rawtuf.Repo, file, old, new string) {
	if n := bytes.Count(r.Files[file], []byte(old)); n == 0 {
		panic(fmt.Sprintf("%s has no %s", file, old))
	}
	r.Files[file] = bytes.Replace(r.Files[file], []byte(old), []byte(new), 1)
}

// envelope changes the signatures of a served file.
func envelope(r *rawtuf.Repo, file string, change func(signatures []any) []any) {
	env := parse(r.Files[file])
	env["signatures"] = change(env["signatures"].([]any))
	r.Files[file] = rawtuf.Marshal(env)
}
