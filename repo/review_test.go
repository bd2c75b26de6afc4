package repo_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// The vendor publishes a release. The review centre sees it as pending, reads exactly
// these bytes and lists them too; then it revokes one approval.
func TestReview(t *testing.T) {
	w := newWorld(t)
	rel := release("1.0")
	rel.Source, rel.Notes, rel.Critical = tuf.SourceRef{URI: "git+https://src.example.org/agent", Revision: "abc"}, `<b> & "quotes" – é`, true
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Add("vendor", "agent/linux/agent", strings.NewReader("content"), rel),
			tx.Add("vendor", "agent/README", strings.NewReader("plain"), nil))
	})
	if rel.Sequence != 0 {
		t.Error("the caller's release was changed")
	}
	pending := func(party string) []repo.Pending {
		t.Helper()
		list, err := repo.New(w.Store, w.Config()).Pending(t.Context(), party) // without a key
		noErr(t, err)
		return list
	}
	list := pending("review")
	if len(list) != 2 || list[0].Path != "agent/README" || list[0].Release != nil || len(pending("vendor")) != 0 {
		t.Fatalf("%+v", list)
	}
	p, want := list[1], *rel
	want.Sequence = 1
	sum := sha256.Sum256([]byte("content"))
	if p.Path != "agent/linux/agent" || p.Length != 7 || p.SHA256 != hex.EncodeToString(sum[:]) || *p.Release != want || !slices.Equal(p.ListedBy, []string{"vendor-agent"}) {
		t.Errorf("%+v, %+v", p, p.Release)
	}
	if data, err := w.Store.Read(t.Context(), p.Name); err != nil || string(data) != "content" || p.Name != "targets/agent/linux/"+p.SHA256+".agent" {
		t.Errorf("%s: %q, %v", p.Name, data, err)
	}

	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Approve("review", "agent/README", nil), tx.Approve("review", "agent/linux/agent", nil))
	})
	if left := pending("review"); len(left) != 0 {
		t.Errorf("%+v", left)
	}
	c := w.Product()
	snap, err := c.Refresh()
	noErr(t, err)
	a, err := snap.Approve("agent/linux/agent", c.Get)
	noErr(t, err)
	if got, ok := a.Release(); !ok || got != want || a.SHA256() != p.SHA256 {
		t.Errorf("%+v", got)
	}
	if plain, err := snap.Approve("agent/README", c.Get); err != nil || plain.Length() != 5 {
		t.Error(plain, err)
	}

	// The vendor puts other bytes under the same path: the entry is pending again.
	w.Update(func(tx *repo.Tx) error { return tx.Add("vendor", "agent/README", strings.NewReader("other"), nil) })
	if left := pending("review"); len(left) != 1 || left[0].Path != "agent/README" {
		t.Errorf("%+v", left)
	}
	w.Update(func(tx *repo.Tx) error { return tx.Remove("review", "agent/linux/agent") })
	w.Sees("root 1")
	if left := pending("review"); len(left) != 2 {
		t.Errorf("%+v", left)
	}
	w.Refused(tuf.ErrNoTarget, func() error {
		return w.Try(func(tx *repo.Tx) error { return tx.Remove("review", "agent/linux/agent") })
	})
	w.Refused(tuf.ErrNoTarget, func() error { return w.Try(approve("never")) })
}

// Several reviewing parties approve in any order, each in its own draft, what the
// vendor lists; if others disagree, no choice is made for them.
func TestThreeParties(t *testing.T) {
	w := emptyWorld(t)
	w.Update(func(tx *repo.Tx) error {
		err := w.Define(tx)
		r := tx.Root()
		r.Parties = append(r.Parties, repo.Party{Name: "audit", Keys: w.Public("audit-1")})
		r.Classes[0].Roles = append(r.Classes[0].Roles, repo.ReleaseRole{Party: "audit", Role: "audit-agent", Keys: repo.Keys{Keys: w.Public("audit-release")}})
		return err
	})
	if _, threshold := w.Root().RoleKeys("root"); threshold != 5 {
		t.Errorf("threshold %d", threshold)
	}
	audit := func(tx *repo.Tx) error { return tx.Approve("audit", "agent/1", nil) }
	w.Refused(tuf.ErrNoTarget, func() error { return w.Try(audit) })
	w.Update(add("1"))
	w.Update(func(tx *repo.Tx) error { return tx.Add("review", "agent/1", strings.NewReader("other"), nil) })
	w.Refused(tuf.ErrNotApproved, func() error { return w.Try(audit) })
	// Two entries show which parties list which bytes, and SHA256 selects one.
	waiting, err := w.Open().Pending(t.Context(), "audit")
	noErr(t, err)
	if len(waiting) != 2 || waiting[0].SHA256 != sum("agent 1") || !slices.Equal(waiting[0].ListedBy, []string{"vendor-agent"}) ||
		waiting[1].SHA256 != sum("other") || !slices.Equal(waiting[1].ListedBy, []string{"review-agent"}) || !slices.Contains(waiting[1].Changes, "vendor-agent lists it differently") {
		t.Errorf("%+v", waiting)
	}
	chosen := func(tx *repo.Tx) error {
		return tx.Approve("audit", "agent/1", &repo.ReviewRecord{SHA256: sum("agent 1")})
	}
	noErr(t, w.Copy().Try(chosen))
	w.Refused(tuf.ErrMismatch, func() error {
		return w.Try(func(tx *repo.Tx) error {
			return tx.Approve("audit", "agent/1", &repo.ReviewRecord{SHA256: sum("agent 2")})
		})
	})
	w.Update(func(tx *repo.Tx) error { return tx.Remove("review", "agent/1") })
	w.Sees("root 1")

	parties := []string{"review", "audit"}
	for range parties {
		slices.Reverse(parties)
		w := w.Copy()
		for round, content := range []string{"agent 1", "agent one", "agent one"} { // new, other bytes, other fields
			w.Update(func(tx *repo.Tx) error {
				rel := release([]string{"1", "1.1", "1.1"}[round])
				rel.Critical = round == 2
				if round == 1 {
					noErr(t, tx.Remove("vendor", "agent/1"))
				}
				return tx.Add("vendor", "agent/1", strings.NewReader(content), rel)
			})
			w.Sees("root 1")
			var drafts []*repo.Draft
			for _, party := range parties { // neither party has the other's draft
				waiting, err := w.Open().Pending(t.Context(), party)
				if err != nil || len(waiting) != 1 || waiting[0].SHA256 != sum(content) {
					t.Fatalf("%s, round %d: %+v, %v", party, round, waiting, err)
				}
				d, err := w.Open(party+"-release").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Approve(party, "agent/1", nil) })
				noErr(t, err)
				drafts = append(drafts, d)
			}
			w.Sees("root 1")
			noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), travel(t, drafts[0])))
			w.Sees("root 1")
			noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), travel(t, drafts[1])))
			w.Sees("root 1 agent/1")
		}
	}
}

func TestBadPaths(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string]error{
		"agent/../x": fs.ErrInvalid, "../agent/x": fs.ErrInvalid, "agent/..": fs.ErrInvalid, "/agent/x": fs.ErrInvalid, "agent//x": fs.ErrInvalid,
		`agent\x`: fs.ErrInvalid, `agent/a\..\..\x`: fs.ErrInvalid, "agent/": fs.ErrInvalid, "": fs.ErrInvalid, "agent/./x": fs.ErrInvalid,
		"agent/a\nb": fs.ErrInvalid, "agent/NUL": fs.ErrInvalid, "agent/" + strings.Repeat("x", 250): fs.ErrInvalid,
		"agent": tuf.ErrNoTarget, "rules/x": tuf.ErrNoTarget, "agents/x": tuf.ErrNoTarget, "Agent/x": tuf.ErrNoTarget,
	} {
		for _, fn := range []func(tx *repo.Tx) error{
			func(tx *repo.Tx) error { return tx.Add("vendor", path, strings.NewReader("x"), nil) },
			func(tx *repo.Tx) error { return tx.Approve("review", path, nil) },
			func(tx *repo.Tx) error { return tx.Remove("review", path) },
		} {
			if err := w.Try(fn); !errors.Is(err, want) && !(len(path) > 200 && errors.Is(err, tuf.ErrNoTarget)) {
				t.Errorf("%.30q: %v", path, err)
			}
		}
	}
	if err := w.Try(func(tx *repo.Tx) error { return tx.Add("unknown", "agent/x", strings.NewReader("x"), nil) }); err == nil {
		t.Error("added for an unknown party")
	}
	w.Update(func(tx *repo.Tx) error { return tx.Add("vendor", "agent/a/b/c.d/x y+z", strings.NewReader(""), nil) })
	if got := w.pending(); !slices.Equal(got, []string{"agent/a/b/c.d/x y+z"}) {
		t.Errorf("%q", got)
	}
}

// generated is a large file that takes no memory. After its first reading, next may
// change it.
type generated struct {
	size, at int64
	fill     byte
	next     func(*generated)
}

var chunk []byte

func (g *generated) Read(p []byte) (int, error) {
	if g.at == g.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), g.size-g.at, 1<<16)]
	if len(chunk) == 0 || chunk[0] != g.fill {
		chunk = bytes.Repeat([]byte{g.fill}, 1<<16)
	}
	copy(p, chunk)
	g.at += int64(len(p))
	return len(p), nil
}

func (g *generated) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekStart {
		return 0, errors.ErrUnsupported
	}
	if g.at > 0 && g.next != nil {
		g.next(g)
	}
	g.at = 0
	return 0, nil
}

// An artifact is never held in memory.
func TestAddLarge(t *testing.T) {
	const size = 64 << 20
	w, dir := newWorld(t), t.TempDir()
	cfg := &repo.Config{}
	for _, k := range w.Keys {
		cfg.Signers = append(cfg.Signers, k)
	}
	r := repo.New(repo.Folder(dir), cfg)
	var before, after runtime.MemStats
	noErr(t, r.Update(t.Context(), func(tx *repo.Tx) error {
		noErr(t, w.Define(tx))
		runtime.ReadMemStats(&before)
		err := tx.Add("vendor", "agent/large", &generated{size: size, fill: 'x'}, nil)
		runtime.ReadMemStats(&after)
		return err
	}))
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("%d bytes allocated for a file of %d", used, size)
	}
	list, err := r.Pending(t.Context(), "review")
	noErr(t, err)
	info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(list[0].Name)))
	if err != nil || info.Size() != size || list[0].Length != size {
		t.Error(info, err)
	}
}

// A file that changes between the hashing and the copying is not listed, and no wrong
// content is stored under its hash.
func TestFileChanges(t *testing.T) {
	for name, next := range map[string]func(*generated){
		"other content": func(g *generated) { g.fill++ },
		"longer":        func(g *generated) { g.size++ },
		"shorter":       func(g *generated) { g.size-- },
		"empty":         func(g *generated) { g.size = 0 },
	} {
		w := newWorld(t)
		before := w.Store.Copy()
		g := &generated{size: 1 << 20, next: next}
		err := w.Try(func(tx *repo.Tx) error { return tx.Add("vendor", "agent/x", g, nil) })
		if err == nil || !strings.Contains(err.Error(), "changed while it was read") {
			t.Errorf("%s: %v", name, err)
		}
		if len(before.Files) != len(w.Store.Files) {
			t.Errorf("%s: stored %q", name, w.Store.Wrote())
		}
		g.next = nil
		w.Update(func(tx *repo.Tx) error { return tx.Add("vendor", "agent/x", g, nil) })
	}
	// A file is read from its start, not from its current position.
	w := newWorld(t)
	r := bytes.NewReader([]byte("all of it"))
	r.Seek(4, io.SeekStart)
	w.Update(func(tx *repo.Tx) error { return tx.Add("vendor", "agent/x", r, nil) })
	if list, err := w.Open().Pending(t.Context(), "review"); err != nil || list[0].Length != 9 {
		t.Error(list, err)
	}
}
