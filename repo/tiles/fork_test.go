package tiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf/tlog"
)

// A storage is set back to each of its earlier states. It is refused until it is restored,
// unless the ledger permits the rest: then the same tree is signed again.
func TestSetBack(t *testing.T) {
	w := grown(t, 254)
	var backups []*repotest.Memory
	w.store.After = func(string) error { backups = append(backups, w.store.Copy()); return nil }
	w.append(3)
	w.append(1)
	w.store.After = nil
	refused, healed := 0, 0
	newest := w.store
	for i, backup := range backups[:len(backups)-1] {
		w.store = backup.Copy()
		if _, err := w.log().Checkpoint(t.Context()); err == nil {
			healed++
			w.holds(w.last()) // the last batch was completed as before
			continue
		}
		w.refused(fmt.Sprintf("backup %d", i), repo.ErrFork)
		refused++
	}
	if refused != 7 || healed != 3 {
		t.Errorf("%d backups are refused, %d completed", refused, healed)
	}
	w.store = newest
	if !equalFiles(backups[len(backups)-1], newest) {
		t.Fatal("the newest state has changed")
	}
	w.append(1)

	// Only a part is set back.
	for what, set := range map[string]func(m *repotest.Memory){
		"the checkpoint": func(m *repotest.Memory) {
			m.Files["log/1/checkpoint"] = backups[6].Files["log/1/checkpoint"]
		},
		"the checkpoint and pending": func(m *repotest.Memory) {
			m.Files["log/1/checkpoint"] = backups[6].Files["log/1/checkpoint"]
			m.Files["private/log-pending/1"] = backups[6].Files["private/log-pending/1"]
		},
		"no checkpoint": func(m *repotest.Memory) { delete(m.Files, "log/1/checkpoint") },
		"nothing":       func(m *repotest.Memory) { clear(m.Files) },
	} {
		good := w.store.Copy()
		set(w.store)
		w.refused(what, repo.ErrFork)
		w.store = good
	}
	w.append(1)
	// pending alone has no effect once its batch is completed.
	w.store.Files["private/log-pending/1"] = backups[6].Files["private/log-pending/1"]
	w.append(1)
	delete(w.store.Files, "private/log-pending/1")
	w.append(1)
}

// A batch in pending that no holder of the ledger wrote is not appended.
func TestPlantedPending(t *testing.T) {
	for _, size := range []int{1, 255} {
		w := grown(t, size)
		good := w.store.Files["private/log-pending/1"]
		encode := func(b batch) []byte {
			data, err := json.Marshal(b)
			w.must(err)
			return data
		}
		planted := [][]byte{[]byte("planted")}
		for what, data := range map[string][]byte{
			"a batch":                   encode(batch{1, int64(size), "x", planted}),
			"a batch beyond the end":    encode(batch{1, int64(size) + 5, "x", planted}),
			"a batch with a large leaf": encode(batch{1, int64(size), "x", [][]byte{make([]byte, tlog.MaxEntry+1)}}),
			"a batch before the log":    encode(batch{1, -1, "x", planted}),
			"another format":            encode(batch{2, int64(size), "x", nil}),
			"an unknown member":         []byte(`{"visum-log-pending":1,"base":0,"nonce":"x","more":1}`),
			"a space":                   append(encode(batch{1, 0, "x", nil}), ' '),
			"an empty file":             {},
			"no JSON":                   []byte("\x00\x1b[31m"),
		} {
			w.store.Files["private/log-pending/1"] = data
			w.refused(what, repo.ErrFork)
		}
		w.store.Files["private/log-pending/1"] = good
		w.append(1)
		// An old batch and a barrier append nothing.
		for _, data := range [][]byte{encode(batch{1, 0, "x", planted}), encode(batch{1, int64(size) + 1, "x", nil}), encode(batch{1, 1 << 50, "x", nil})} {
			w.store.Files["private/log-pending/1"] = data
			w.append(1)
		}
	}
}

// A planted batch that takes the place of one in progress is refused, and so is one whose
// leaves are those of the recorded batch in another order.
func TestPlantedPendingInProgress(t *testing.T) {
	w := grown(t, 3)
	old := w.last()
	s := &steps{}
	w.store.After = func(name string) error {
		if strings.HasPrefix(name, "private/") {
			s.mu.Lock()
			s.dead = true
			s.mu.Unlock()
		}
		return nil
	}
	if _, err := w.at(s).Append(t.Context(), old, leaves(3, 2)); !errors.Is(err, errDead) {
		t.Fatal(err)
	}
	w.store.After = nil
	good := w.store.Files["private/log-pending/1"]
	b, err := parseBatch(good)
	w.must(err)
	slices.Reverse(b.Leaves)
	w.store.Files["private/log-pending/1"], err = json.Marshal(b)
	w.must(err)
	w.refused("leaves in another order", repo.ErrFork)
	w.store.Files["private/log-pending/1"] = good
	note, err := w.log().Checkpoint(t.Context())
	w.must(err)
	w.expect(leaves(3, 2))
	w.holds(note)
}

// Tiles that another party has changed, removed or created: the log appends nothing. It
// goes ahead once they are restored.
func TestChangedTiles(t *testing.T) {
	w := grown(t, 259)
	w.append(41) // 300
	needed := 0
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range w.store.Files {
			if strings.HasPrefix(name, "log/1/tile/") && !yield(name) {
				return
			}
		}
	}) {
		data := w.store.Files[name]
		try := func(what string, change func(c *world)) {
			c := w.copy()
			change(c)
			if _, err := c.log().Append(t.Context(), c.last(), leaves(300, 1)); err == nil {
				c.expect(leaves(300, 1)) // the tile is not at the right edge
				for path, want := range c.files {
					if name != "log/1/"+path && !bytes.Equal(c.store.Files["log/1/"+path], want) {
						t.Errorf("%s %s: %s has another content", name, what, path)
					}
				}
				return
			} else if !errors.Is(err, repo.ErrFork) || errors.Is(err, repo.ErrConflict) {
				t.Fatalf("%s %s: %v, want ErrFork", name, what, err)
			}
			needed++
			if _, ok := c.signer.roots[301]; ok {
				t.Fatalf("%s %s: a tree was signed", name, what)
			}
			c.store.Files[name] = data
			note, err := c.log().Checkpoint(t.Context())
			c.must(err)
			c.expect(leaves(300, 1))
			c.holds(note)
		}
		try("changed", func(c *world) {
			c.store.Files[name] = slices.Clone(data)
			c.store.Files[name][len(data)-1] ^= 1
		})
		try("cut", func(c *world) { c.store.Files[name] = data[:len(data)-1] })
		try("empty", func(c *world) { c.store.Files[name] = nil })
		try("larger than a tile", func(c *world) { c.store.Files[name] = make([]byte, maxBundle+1) })
		try("removed", func(c *world) { delete(c.store.Files, name) })
	}
	// 300 = 256 + 44: the bundle, the hashes of both parts, and level 1.
	if needed < 15 {
		t.Errorf("only %d changes of tiles are refused", needed)
	}

	// A file in the place of a new one, also one that begins as the new one does.
	next := w.copy()
	next.append(1)
	for i, data := range [][]byte{[]byte("planted"), append(bytes.Clone(next.files["tile/0/001.p/45"]), make([]byte, 32)...)} {
		w.store.Files["log/1/tile/0/001.p/45"] = data
		if i == 0 {
			if _, err := w.log().Append(t.Context(), w.last(), leaves(300, 1)); !errors.Is(err, repo.ErrFork) || errors.Is(err, repo.ErrConflict) {
				t.Fatal(err)
			}
		}
		w.refused("a planted tile", repo.ErrFork)
	}
	delete(w.store.Files, "log/1/tile/0/001.p/45")
	note, err := w.log().Checkpoint(t.Context())
	w.must(err)
	w.expect(leaves(300, 1))
	w.holds(note)
}

// The key was used elsewhere: what the ledger has not recorded is refused although its
// signature verifies. So is a checkpoint that does not verify.
func TestForeignCheckpoint(t *testing.T) {
	w := grown(t, 3)
	note := w.last()
	elsewhere := newWorld(t)
	elsewhere.append(2)
	smaller := elsewhere.last()
	for _, other := range []string{"x", "y"} {
		_, err := elsewhere.log().Append(t.Context(), elsewhere.last(), [][]byte{[]byte(other)})
		elsewhere.must(err)
		w.store.Files["log/1/checkpoint"] = elsewhere.last()
		w.refused("a foreign checkpoint", repo.ErrFork) // at first one of the same size
	}
	for what, data := range map[string][]byte{
		"a foreign smaller one": smaller,
		"an empty file":         {},
		"an unsigned text":      []byte(tlog.CheckpointText(origin, 3, w.tree.Root)),
		"another signature":     bytes.Replace(note, []byte("\n3\n"), []byte("\n4\n"), 1),
		"too many bytes":        append(bytes.Clone(note), make([]byte, tlog.MaxNote)...),
	} {
		w.store.Files["log/1/checkpoint"] = data
		w.refused(what, repo.ErrFork)
	}
	// The caller knows a tree that the storage does not have.
	w.store.Files["log/1/checkpoint"] = note
	if _, err := w.log().Append(t.Context(), elsewhere.last(), leaves(3, 1)); !errors.Is(err, repo.ErrFork) {
		t.Errorf("after a checkpoint of another tree: %v", err)
	}
	w.append(1)
}

// The key was used elsewhere, and the tree from there takes the place of the log while a
// batch is in progress whose tree the ledger has recorded: the batch on it would be another
// tree of the recorded size.
func TestForeignTreeInProgress(t *testing.T) {
	w := grown(t, 3)
	batch, s := leaves(3, 2), &steps{}
	_, err := w.copy().at(s).Append(t.Context(), w.last(), batch)
	w.must(err)
	if _, err := w.at(&steps{n: s.count}).Append(t.Context(), w.last(), batch); !errors.Is(err, errDead) {
		t.Fatal(err)
	}
	good := w.store.Copy()
	elsewhere := newWorld(t)
	_, err = elsewhere.log().Append(t.Context(), nil, [][]byte{[]byte("x"), []byte("y"), []byte("z")})
	w.must(err)
	maps.DeleteFunc(w.store.Files, func(name string, _ []byte) bool { return strings.HasPrefix(name, "log/") })
	for name, data := range elsewhere.store.Files {
		if strings.HasPrefix(name, "log/") {
			w.store.Files[name] = data
		}
	}
	if _, err := w.log().Checkpoint(t.Context()); !errors.Is(err, repo.ErrFork) {
		t.Fatal(err)
	}
	w.store = good
	note, err := w.log().Checkpoint(t.Context())
	w.must(err)
	w.expect(batch)
	w.holds(note)
}

// Cosignatures in the checkpoint file do not matter.
func TestCosignedCheckpoint(t *testing.T) {
	w := grown(t, 3)
	k := tlog.Key{Name: "third.example", Type: tlog.TypeCosigner, Public: make([]byte, 32)}
	w.store.Files["log/1/checkpoint"] = append(slices.Clone(w.last()), k.SignatureLine(make([]byte, 72))...)
	w.append(2)
}

// A damaged ledger, one of a later version, and one of another key are refused.
func TestDamagedLedger(t *testing.T) {
	store := repotest.NewMemory()
	w := newWorld(t)
	w.ledger = signing.StorageLedger(store)
	w.append(3)
	name := ledgerID(origin) + ".ledger.json"
	good := store.Files[name]
	edit := func(change func(doc *recordJSON, body map[string]any)) []byte {
		var doc recordJSON
		var body map[string]any
		w.must(errors.Join(json.Unmarshal(good, &doc), json.Unmarshal(doc.Body, &body)))
		change(&doc, body)
		var err error
		if doc.Body, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
		if doc.SHA256 == "" {
			doc.SHA256 = metafile.SHA256(doc.Body)
		}
		data, err := json.Marshal(doc)
		w.must(err)
		return data
	}
	for what, data := range map[string][]byte{
		"no JSON":       []byte("x"),
		"empty":         {},
		"cut":           good[:len(good)-1],
		"a changed bit": bytes.Replace(good, []byte(`"size":3`), []byte(`"size":2`), 1),
		"a later format": edit(func(doc *recordJSON, _ map[string]any) {
			doc.Ledger, doc.SHA256 = 2, ""
		}),
		"an unknown member": edit(func(doc *recordJSON, body map[string]any) {
			body["more"], doc.SHA256 = 1, ""
		}),
		"another key": edit(func(doc *recordJSON, body map[string]any) {
			body["key"], doc.SHA256 = newKey(t).String(), ""
		}),
		"a short root": edit(func(doc *recordJSON, body map[string]any) {
			body["root"], doc.SHA256 = "AAAA", ""
		}),
		"a negative size": edit(func(doc *recordJSON, body map[string]any) {
			body["size"], doc.SHA256 = -1, ""
		}),
	} {
		store.Files[name] = data
		w.refused(what, signing.ErrLedger)
	}
	store.Files[name] = good
	w.append(1)
}

func newKey(t *testing.T) tlog.Key {
	l, err := New(repotest.NewMemory(), Config{Origin: origin, Signer: repotest.Signer("another key"), Ledger: signing.MemLedger()})
	if err != nil {
		t.Fatal(err)
	}
	return l.Key()
}

// A ledger that is empty refuses a log that exists, until a person adopts it.
func TestAdopt(t *testing.T) {
	for _, size := range []int{1, 256, 300} {
		w := grown(t, size)
		lost := w.ledger
		w.ledger = signing.MemLedger()
		w.refused("an empty ledger", signing.ErrNoLedger)
		a, err := w.log().Adoptable(t.Context())
		w.must(err)
		if a.Size != w.tree.Size || a.Root != w.tree.Root || !bytes.Equal(a.Checkpoint, w.last()) || a.Pending != nil {
			t.Fatalf("to adopt: %+v", a)
		}
		w.refused("Adoptable has not filled the ledger", signing.ErrNoLedger)
		w.must(w.log().Adopt(t.Context(), a))
		w.append(3)
		// It is filled once, and the lost one is behind now.
		if err := w.log().Adopt(t.Context(), a); !errors.Is(err, signing.ErrLedger) {
			t.Errorf("adopted twice: %v", err)
		}
		if _, err := w.log().Adoptable(t.Context()); !errors.Is(err, signing.ErrLedger) {
			t.Error(err)
		}
		w.ledger = lost
		w.refused("the lost ledger", repo.ErrFork)
	}
}

// What is adopted is what the person has seen, with a batch in progress.
func TestAdoptPending(t *testing.T) {
	w := grown(t, 3)
	batch := leaves(3, 2)
	s := &steps{}
	_, err := w.copy().at(s).Append(t.Context(), w.last(), batch)
	w.must(err)
	kill := slices.Index(s.log, "sign") + 1
	if _, err := w.at(&steps{n: kill}).Append(t.Context(), w.last(), batch); !errors.Is(err, errDead) {
		t.Fatal(err)
	}
	w.ledger = signing.MemLedger()
	w.refused("an empty ledger", signing.ErrNoLedger)
	a, err := w.log().Adoptable(t.Context())
	w.must(err)
	if a.Size != 3 || !slices.EqualFunc(a.Pending, batch, bytes.Equal) {
		t.Fatalf("to adopt: %+v", a)
	}
	for what, change := range map[string]func(*Adoptable){
		"no leaves":          func(a *Adoptable) { a.Pending = nil },
		"other leaves":       func(a *Adoptable) { a.Pending = leaves(0, 2) },
		"another checkpoint": func(a *Adoptable) { a.Checkpoint = nil },
	} {
		other := *a
		change(&other)
		if err := w.log().Adopt(t.Context(), &other); !errors.Is(err, repo.ErrConflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := w.log().Adopt(t.Context(), nil); !errors.Is(err, repo.ErrConflict) {
		t.Errorf("nothing: %v", err)
	}
	w.refused("still an empty ledger", signing.ErrNoLedger)
	w.must(w.log().Adopt(t.Context(), a))
	note, err := w.log().Checkpoint(t.Context())
	w.must(err)
	w.expect(batch)
	w.holds(note)
	w.append(1)
}

// What can't be adopted: nothing, damaged tiles, foreign files.
func TestAdoptRefuses(t *testing.T) {
	w := newWorld(t)
	if _, err := w.log().Adoptable(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty storage: %v", err)
	}
	w.append(300)
	w.ledger = signing.MemLedger()
	for name, data := range map[string][]byte{
		"log/1/tile/0/001.p/44":       []byte("x"),
		"log/1/tile/entries/001.p/44": nil,
		"log/1/checkpoint":            []byte("x"),
		"private/log-pending/1":       []byte(`{"visum-log-pending":1,"base":301,"nonce":"x","leaves":["AA=="]}`),
	} {
		good := w.store.Files[name]
		w.store.Files[name] = data
		_, err := w.log().Adoptable(t.Context())
		err2 := w.log().Adopt(t.Context(), &Adoptable{Checkpoint: w.last()})
		if !errors.Is(err, repo.ErrFork) || !errors.Is(err2, repo.ErrFork) {
			t.Errorf("%s changed: %v, %v", name, err, err2)
		}
		w.store.Files[name] = good
	}
	a, err := w.log().Adoptable(t.Context())
	w.must(err)
	w.must(w.log().Adopt(t.Context(), a))
	w.append(1)
}
