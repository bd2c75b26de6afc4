package repo_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// addFiles lists files [from, to) at the vendor; the content of each is its number.
func addFiles(from, to int) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		for i := from; i < to; i++ {
			if err := tx.Add("vendor", file(i), strings.NewReader(fmt.Sprint(i)), nil); err != nil {
				return err
			}
		}
		return nil
	}
}

func approveFiles(from, to int) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		for i := from; i < to; i++ {
			if err := tx.Approve("review", file(i), nil); err != nil {
				return err
			}
		}
		return nil
	}
}

func file(i int) string { return fmt.Sprintf("agent/%d/%d", i%7, i) }

// finds checks that a client accepts exactly these of the files up to 1800.
func (w *world) finds(want func(i int) bool) {
	w.T.Helper()
	p := w.Product()
	snap, err := p.Refresh()
	noErr(w.T, err)
	for i := range 2000 {
		a, err := snap.Approve(file(i), p.Get)
		if err != nil && !errors.Is(err, tuf.ErrNoTarget) && !errors.Is(err, tuf.ErrNotApproved) {
			w.T.Fatal(err)
		}
		if (err == nil) != want(i) || err == nil && a.Length() != int64(len(fmt.Sprint(i))) {
			w.T.Fatalf("%s: %v (%v)", file(i), a, err)
		}
	}
}

// files are the role files of one version that were written, by the part of the role's
// name before the bin.
func (w *world) wroteBins() map[string]int {
	out := map[string]int{}
	for _, name := range w.Store.Wrote() {
		if name, ok := strings.CutPrefix(name, "metadata/"); ok {
			_, role, _ := strings.Cut(name, ".")
			role, _, bin := strings.Cut(role, ".b-")
			if bin {
				role += " bin"
			}
			out[role]++
		}
	}
	return out
}

// The number of bins follows the number of files up and down, at both parties. Nothing
// is lost, and a change affects its bin only.
func TestBins(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	w := newWorld(t)
	none := func(int) bool { return false }
	upTo := func(n int) func(int) bool { return func(i int) bool { return i < n } }
	w.Update(func(tx *repo.Tx) error { return errors.Join(addFiles(0, 512)(tx), add("1.0")(tx)) })
	if got := w.wroteBins(); got["vendor-agent bin"] != 0 {
		t.Fatal(got)
	}
	w.Update(addFiles(512, 513)) // one too many
	if got := w.wroteBins(); got["vendor-agent bin"] != 4 || got["vendor-agent.json"] != 1 {
		t.Fatal(got)
	}
	w.finds(none)
	// The review party takes the vendor's number of bins with its first file.
	w.Update(func(tx *repo.Tx) error { return errors.Join(approveFiles(0, 1)(tx), approve("1.0")(tx)) })
	if got := w.wroteBins(); got["review-agent bin"] != 4 {
		t.Fatal(got)
	}
	w.finds(upTo(1))
	w.Sees("root 1 agent/1.0") // releases stay in the list that is searched for the latest
	w.Update(approveFiles(0, 513))
	w.wroteBins()
	// One more file changes a bin of each party and nothing else.
	w.Update(addFiles(600, 601))
	if got := w.wroteBins(); len(got) != 3 || got["vendor-agent bin"] != 1 {
		t.Fatal(got)
	}
	w.Update(approveFiles(600, 601))
	if got := w.wroteBins(); len(got) != 3 || got["review-agent bin"] != 1 {
		t.Fatal(got)
	}
	w.finds(func(i int) bool { return i < 513 || i == 600 })
	// A plain target becomes a release, and another one.
	w.Update(func(tx *repo.Tx) error {
		for range 2 {
			if err := tx.Add("vendor", file(600), strings.NewReader("600"), release("600")); err != nil {
				return err
			}
		}
		return approveFiles(600, 601)(tx)
	})
	w.Sees("root 1 agent/1.0 " + file(600))
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Remove("vendor", file(600)), tx.Remove("review", file(600)))
	})
	w.wroteBins()

	// With 1800 files four bins still suffice; both parties change in one step.
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(addFiles(513, 1800)(tx), approveFiles(513, 1800)(tx))
	})
	if got := w.wroteBins(); got["vendor-agent bin"] != 4 || got["review-agent bin"] != 4 {
		t.Fatal("1800 files do not stay in four bins:", got)
	}
	w.Update(func(tx *repo.Tx) error { return addFiles(1800, 2600)(tx) })
	if got := w.wroteBins(); got["vendor-agent bin"] != 16 {
		t.Fatal(got)
	}
	w.finds(upTo(1800))

	// A renewal signs all bins, at the party that requests it.
	w.Update(func(tx *repo.Tx) error { return tx.Renew("review") })
	if got := w.wroteBins(); got["review-agent bin"] != 16 || got["vendor-agent bin"] != 0 {
		t.Fatal(got)
	}
	w.finds(upTo(1800))
	// The bins get the new keys.
	w.Update(func(tx *repo.Tx) error {
		tx.Root().Classes[0].Roles[1].Keys.Keys = w.Public("review-release-2")
		return nil
	})
	if got := w.wroteBins(); got["review-agent bin"] != 16 || got["vendor-agent bin"] != 0 {
		t.Fatal(got)
	}
	w.finds(upTo(1800))

	// After removals the role has a single list again.
	w.Update(func(tx *repo.Tx) error {
		for i := range 2600 {
			if i >= 30 {
				if err := tx.Remove("vendor", file(i)); err != nil {
					return err
				}
			}
			if i >= 30 && i < 1800 {
				if err := tx.Remove("review", file(i)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if got := w.wroteBins(); got["vendor-agent bin"]+got["review-agent bin"] != 0 || got["vendor-agent.json"] != 1 {
		t.Fatal(got)
	}
	w.finds(upTo(30))
	// Bins are added again, under names that were used before.
	w.Update(addFiles(30, 700))
	w.Update(approveFiles(30, 700))
	w.finds(upTo(700))
}

// A product's team signs its part of the class; the rest stays with the role.
func TestProducts(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(addFiles(0, 1000)(tx), approveFiles(0, 1000)(tx), add("1")(tx))
	})
	team := repo.Product{Role: "team-three", Paths: []string{"agent/3/*", "agent/three/*"}, Keys: repo.Keys{Keys: w.Public("team-three")}}
	w.Update(func(tx *repo.Tx) error { return tx.Delegate("vendor", "agent", team) })
	all := func(i int) bool { return i < 1000 }
	w.finds(all)
	// Its files are signed by the team alone, and its releases are found as the latest.
	list := func(tx *repo.Tx) error {
		return errors.Join(tx.Add("vendor", "agent/3/new", strings.NewReader("new"), nil), tx.Add("vendor", "agent/three/1", strings.NewReader("3.1"), release("3.1")))
	}
	d, err := w.Open(vendorKeys...).Stage(t.Context(), list)
	noErr(t, err)
	if m := d.Missing(); len(m) != 1 || m[0].Role != "team-three" || len(m[0].KeyIDs) != 1 || m[0].KeyIDs[0] != w.Signer("team-three").Key().ID() {
		t.Fatal(m)
	}
	noErr(t, d.Sign(t.Context(), w.Signer("team-three")))
	noErr(t, w.Open(vendorKeys...).Publish(t.Context(), travel(t, d)))
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Approve("review", "agent/three/1", nil), tx.Approve("review", "agent/3/new", nil), approve("1")(tx))
	})
	w.Sees("root 1 agent/1 agent/three/1")
	// The product gets its own bins, signed by its keys; then its keys change.
	w.Update(func(tx *repo.Tx) error {
		for i := range 600 {
			if err := tx.Add("vendor", fmt.Sprintf("agent/three/f%d", i), strings.NewReader("x"), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if got := w.wroteBins(); got["team-three bin"] != 4 {
		t.Fatal(got)
	}
	w.Update(func(tx *repo.Tx) error {
		return tx.Delegate("vendor", "agent", repo.Product{Role: "team-three", Keys: repo.Keys{Keys: w.Public("team-three-2")}})
	})
	if got := w.wroteBins(); got["team-three bin"] != 4 {
		t.Fatal(got)
	}
	w.finds(all)
	// A change of the role's own keys does not affect the team's.
	w.Update(func(tx *repo.Tx) error {
		tx.Root().Classes[0].Roles[0].Keys.Keys = w.Public("vendor-release-2")
		return nil
	})
	if got := w.wroteBins(); got["team-three bin"] != 0 || got["vendor-agent.rest bin"] == 0 {
		t.Fatal(got)
	}
	w.finds(all)
	w.Sees("root 2 agent/1 agent/three/1")
	// Each party renews its own part: the role its remaining bins, the team its product.
	w.wroteBins()
	w.Update(func(tx *repo.Tx) error { return tx.Renew("vendor") })
	if got := w.wroteBins(); got["team-three bin"] != 0 || got["team-three.json"] != 0 || got["vendor-agent.rest bin"] == 0 || got["vendor-agent.rest.json"] != 1 || got["vendor-agent.json"] != 1 {
		t.Fatal(got)
	}
	w.finds(all)
	for name, bad := range map[string]repo.Product{
		"taken":        {Role: "team-three", Paths: []string{"agent/*"}},
		"role of root": {Role: "review-agent", Paths: []string{"agent/4/*"}},
		"top":          {Role: "timestamp", Paths: []string{"agent/4/*"}},
		"bin":          {Role: "review-agent.b-1", Paths: []string{"agent/4/*"}},
		"rest":         {Role: "vendor-agent.rest", Paths: []string{"agent/4/*"}},
		"outside":      {Role: "x", Paths: []string{"other/*"}},
		"everything":   {Role: "x", Paths: []string{"agent/"}},
		"pattern":      {Role: "x", Paths: []string{"agent/[*"}},
		"no paths":     {Role: "x"},
		"keys":         {Role: "x", Paths: []string{"agent/4/*"}, Keys: repo.Keys{Keys: w.Public("a"), Threshold: 2}},
	} {
		if err := w.Try(func(tx *repo.Tx) error { return tx.Delegate("vendor", "agent", bad) }); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	w.Update(func(tx *repo.Tx) error { return tx.Undelegate("vendor", "agent", "team-three") })
	w.finds(all)
	w.Sees("root 2 agent/1 agent/three/1")
	if got := w.pending(); len(got) != 600 || !slices.Contains(got, "agent/three/f0") {
		t.Errorf("%d wait", len(got))
	}
}

// reads is a storage that remembers what was read.
type reads struct {
	repo.Storage
	names []string
}

func (r *reads) Read(ctx context.Context, name string) ([]byte, error) {
	data, err := r.Storage.Read(ctx, name)
	if err == nil {
		r.names = append(r.names, name)
	}
	return data, err
}

// For one file of many, only its bin is read and verified, whatever the number of the
// others.
func TestOneChangeReadsOneBin(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(addFiles(0, 3000)(tx), approveFiles(0, 3000)(tx)) })
	log := &reads{Storage: w.Store}
	w.Elsewhere = log
	bins := func(edit func(*repo.Tx) error) map[string]int {
		t.Helper()
		log.names = nil
		w.Update(edit)
		read := map[string]int{}
		for _, name := range log.names {
			if _, bin, ok := strings.Cut(name, "-agent.b-"); ok {
				read[bin]++
			}
		}
		return read
	}
	for i := range 20 {
		if read := bins(addFiles(5000+i, 5001+i)); len(read) != 1 {
			t.Fatalf("adding one file read the bins %v", read)
		}
		if read := bins(approveFiles(5000+i, 5001+i)); len(read) != 1 {
			t.Fatalf("approving one file read the bins %v", read)
		}
	}
	if read := bins(func(tx *repo.Tx) error { tx.RenewRoot(); return nil }); len(read) != 0 {
		t.Fatalf("a new root read the bins %v", read)
	}
}

// addLarge adds a file of the given size and returns the growth of the heap.
func addLarge(t testing.TB, size int64) uint64 {
	w := newWorld(t)
	w.Elsewhere = noTargets{w.Store}
	peak, err := peakHeap(func() error {
		return w.Try(func(tx *repo.Tx) error { return tx.Add("vendor", "agent/large", &endless{Size: size}, release("1")) })
	})
	noErr(t, err)
	return peak
}

// The test is not parallel, because the heap is shared.
func TestLargeFile(t *testing.T) {
	if peak := addLarge(t, 256<<20); peak > 32<<20 {
		t.Errorf("the heap grew by %d MiB", peak>>20)
	}
}

// A draft that lost a bin in transit, or has a bin without a delegation, is refused.
func TestDraftOfOtherBins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	draft, err := w.Open().Stage(t.Context(), addFiles(0, 520))
	noErr(t, err)
	data, err := draft.Bytes()
	noErr(t, err)
	var parts struct {
		Draft int                          `json:"visum-draft"`
		Files []map[string]json.RawMessage `json:"files"`
	}
	noErr(t, json.Unmarshal(data, &parts))
	parts.Files = slices.DeleteFunc(parts.Files, func(f map[string]json.RawMessage) bool { return string(f["role"]) == `"vendor-agent.b-2"` })
	for range 2 {
		if len(parts.Files) < 3 {
			t.Fatalf("%d files", len(parts.Files))
		}
		data, err := json.Marshal(parts)
		noErr(t, err)
		d, err := repo.OpenDraft(data)
		noErr(t, err)
		w.Refused(tuf.ErrUntrusted, func() error { return w.Open().Publish(t.Context(), d) })
		parts.Files = parts.Files[1:] // the role itself is removed too: no delegation leads to its bins
	}
	noErr(t, w.Open().Publish(t.Context(), draft))
}
