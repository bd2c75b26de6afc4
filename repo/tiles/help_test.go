package tiles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

var origin = "vendor.example/visum/" + strings.Repeat("0f", 16) + "/1"

// steps counts the calls of a storage, a ledger and a signer, and lets one of them fail:
// all calls from then on fail too, as after the death of a process.
type steps struct {
	mu    sync.Mutex
	count int
	n     int  // the call that fails, from 1; 0: none
	after bool // after its effect
	once  bool // later calls succeed
	dead  bool
	log   []string
	turn  func() verdict // asked before each call; nil: all calls succeed but the n-th
}

// verdict is what happens to a call.
type verdict int

const (
	works verdict = iota
	diesBefore
	diesAfter
)

var errDead = errors.New("the process has died")

// do runs one call.
func (s *steps) do(name string, call func() error) error {
	v := works
	if s.turn != nil {
		v = s.turn()
	}
	s.mu.Lock()
	s.count++
	s.log = append(s.log, name)
	if s.count == s.n {
		if v = diesBefore; s.after {
			v = diesAfter
		}
	}
	dead := s.dead
	if v != works && !s.once {
		s.dead = true
	}
	s.mu.Unlock()
	if dead || v == diesBefore {
		return fmt.Errorf("%s: %w", name, errDead)
	}
	if err := call(); v == works {
		return err
	}
	return fmt.Errorf("%s: %w", name, errDead)
}

// stepStorage is a storage without optional interfaces whose calls are steps.
type stepStorage struct {
	storage.Storage
	*steps
}

func (s stepStorage) Read(ctx context.Context, name string) (data []byte, err error) {
	err = s.do("read "+name, func() error { data, err = s.Storage.Read(ctx, name); return err })
	return data, err
}

func (s stepStorage) Create(ctx context.Context, name string, r io.Reader) error {
	return s.do("create "+name, func() error { return s.Storage.Create(ctx, name, r) })
}

func (s stepStorage) Replace(ctx context.Context, name string, old, new []byte) error {
	return s.do("replace "+name, func() error { return s.Storage.Replace(ctx, name, old, new) })
}

type stepLedger struct {
	signing.Ledger
	*steps
}

func (l stepLedger) Load(ctx context.Context, id string) (data []byte, err error) {
	err = l.do("load ledger", func() error { data, err = l.Ledger.Load(ctx, id); return err })
	return data, err
}

func (l stepLedger) Swap(ctx context.Context, id string, old, new []byte) error {
	return l.do("swap ledger", func() error { return l.Ledger.Swap(ctx, id, old, new) })
}

type stepSigner struct {
	tuf.Signer
	*steps
}

func (s stepSigner) Sign(ctx context.Context, msg []byte) (sig []byte, err error) {
	err = s.do("sign", func() error { sig, err = s.Signer.Sign(ctx, msg); return err })
	return sig, err
}

// register is a signer that keeps all it has signed. It is what an attacker who reads
// everything could use: two texts of one size are a fork.
type register struct {
	tuf.Signer
	mu    sync.Mutex
	roots map[int64]tlog.Hash
	fork  string
}

func newRegister() *register {
	return &register{Signer: repotest.Signer("log"), roots: map[int64]tlog.Hash{}}
}

func (r *register) Sign(ctx context.Context, msg []byte) ([]byte, error) {
	_, size, root, err := tlog.ParseCheckpointText(string(msg))
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	if old, ok := r.roots[size]; ok && old != root {
		r.fork = fmt.Sprintf("two trees of %d entries were signed", size)
	}
	r.roots[size] = root
	r.mu.Unlock()
	return r.Signer.Sign(ctx, msg)
}

// world is one log with its ledger and key.
type world struct {
	testing.TB
	store  *repotest.Memory
	ledger signing.Ledger
	signer *register
	tree   *tlog.Tree // what must be in the log
	files  map[string][]byte
}

func newWorld(t testing.TB) *world {
	w := &world{TB: t, store: repotest.NewMemory(), ledger: signing.MemLedger(), signer: newRegister(), files: map[string][]byte{}}
	w.tree = &tlog.Tree{Root: tlog.EmptyRoot, Read: func(path string) ([]byte, error) {
		if data, ok := w.files[path]; ok {
			return data, nil
		}
		return nil, fmt.Errorf("%s: not there", path)
	}}
	return w
}

// at returns a handle whose calls are counted.
func (w *world) at(s *steps) *Log { return w.over(w.store, s) }

func (w *world) over(store storage.Storage, s *steps) *Log {
	w.Helper()
	l, err := New(stepStorage{store, s}, Config{Origin: origin, Signer: stepSigner{w.signer, s}, Ledger: stepLedger{w.ledger, s}})
	w.must(err)
	return l
}

func (w *world) log() *Log { return w.at(&steps{}) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// copy is the world with copies of storage and ledger. The key is the same, so a second
// tree of one size is found in any copy of one history.
func (w *world) copy() *world {
	w.Helper()
	c := newWorld(w.TB)
	c.store, c.tree.Size, c.tree.Root = w.store.Copy(), w.tree.Size, w.tree.Root
	maps.Copy(c.files, w.files)
	maps.Copy(c.signer.roots, w.signer.roots)
	if doc, err := w.ledger.Load(w.Context(), ledgerID(origin)); err == nil {
		w.must(c.ledger.Swap(w.Context(), ledgerID(origin), nil, doc))
	}
	return c
}

// expect adds leaves to what must be in the log.
func (w *world) expect(leaves [][]byte) {
	w.Helper()
	next, made, err := w.tree.Append(leaves)
	w.must(err)
	for _, f := range made {
		w.files[f.Path] = f.Data
	}
	w.tree = next
}

// last is the newest checkpoint; nil for an empty log.
func (w *world) last() []byte { return w.store.Files["log/1/checkpoint"] }

// append appends n leaves, which must succeed.
func (w *world) append(n int) {
	w.Helper()
	batch := leaves(w.tree.Size, n)
	note, err := w.log().Append(w.Context(), w.last(), batch)
	w.must(err)
	w.expect(batch)
	w.holds(note)
}

// holds checks that a checkpoint and the files of the storage are those of the expected
// tree, and that the key has signed one tree of each size.
func (w *world) holds(note []byte) {
	w.Helper()
	h, err := openHead(note, w.log().key)
	w.must(err)
	if (h != head{w.tree.Size, w.tree.Root}) {
		w.Fatalf("the checkpoint has %s, want %s", h, head{w.tree.Size, w.tree.Root})
	}
	if !bytes.Equal(w.last(), note) {
		w.Fatalf("the storage has checkpoint %q, want %q", w.last(), note)
	}
	for path, data := range w.files {
		if got, ok := w.store.Files["log/1/"+path]; !ok || !bytes.Equal(got, data) {
			w.Fatalf("%s has %d bytes, want %d", path, len(got), len(data))
		}
	}
	if w.signer.fork != "" {
		w.Fatal(w.signer.fork)
	}
}

// refused checks that no call works, with an error that wraps want, and that none of them
// signs or writes.
func (w *world) refused(what string, want error) {
	w.Helper()
	before, signed := w.store.Copy(), len(w.signer.roots)
	record, _ := w.ledger.Load(w.Context(), ledgerID(origin))
	after := w.last()
	if _, err := openHead(after, w.log().key); err != nil {
		after = nil // the caller has not seen it
	}
	_, err := w.log().Append(w.Context(), after, leaves(1000, 1))
	_, err2 := w.log().Checkpoint(w.Context())
	for _, err := range []error{err, err2} {
		if !errors.Is(err, want) || errors.Is(err, repo.ErrConflict) {
			w.Fatalf("%s: %v, want %v", what, err, want)
		}
	}
	now, _ := w.ledger.Load(w.Context(), ledgerID(origin))
	if !bytes.Equal(record, now) || len(w.signer.roots) != signed || !equalFiles(before, w.store) {
		w.Fatalf("%s: the refused calls have changed something", what)
	}
}

func equalFiles(a, b *repotest.Memory) bool {
	if len(a.Files) != len(b.Files) {
		return false
	}
	for name, data := range a.Files {
		if got, ok := b.Files[name]; !ok || !bytes.Equal(got, data) {
			return false
		}
	}
	return true
}

// leaves returns n leaves from an index.
func leaves(from int64, n int) (out [][]byte) {
	for i := range n {
		out = append(out, fmt.Appendf(nil, "leaf %d", from+int64(i)))
	}
	return out
}
