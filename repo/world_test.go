package repo_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/storage/storagetest"
	"github.com/visum-dev/visum/tuf"
)

// world is a repository of two parties, in memory, with every key.
type world struct {
	t     testing.TB
	now   time.Time
	store *memory
	// elsewhere is the storage of the repository, if it is not store.
	elsewhere repo.Storage

	pinned []byte // the first pin
	// ledger is the shared memory of all signers of the true repository. Without a ledger,
	// as for a repository that an attacker makes, the storage is trusted.
	ledger *memory
	// ledgerDir is the directory of the ledger, if that is not in memory.
	ledgerDir string
	killed    *killer // kills this process at a write of the ledger too; nil: nothing does
	seeded    bool    // keys follow from their names, so that processes have the same

	mu   sync.Mutex
	keys map[string]tuf.Signer
}

func emptyWorld(t testing.TB) *world {
	return &world{t: t, now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), store: newMemory(), keys: map[string]tuf.Signer{}, ledger: newMemory()}
}

// newWorld returns a published repository without releases.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := emptyWorld(t)
	w.update(w.found)
	return w
}

// found sets the content of the first root. Setting it again changes nothing.
func (w *world) found(tx *repo.Tx) error {
	r := tx.Root()
	r.Parties = []repo.Party{{Name: "vendor", Keys: w.public("vendor-1", "vendor-2"), Min: 1}, {Name: "review", Keys: w.public("review-1", "review-2")}}
	r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = w.public("timestamp"), w.public("snapshot"), w.public("targets")
	r.Classes = []repo.Class{w.class("agent")}
	// The locations are not in order of priority, which must not matter.
	r.Locations = []tuf.Location{location("z", tuf.Rendezvous, 20), location("a", tuf.Primary, 10)}
	return nil
}

func (w *world) class(name string) repo.Class {
	return repo.Class{Name: name, Prefix: name + "/", Roles: []repo.ReleaseRole{
		{Party: "vendor", Role: "vendor-" + name, Keys: repo.Keys{Keys: w.public("vendor-release")}},
		{Party: "review", Role: "review-" + name, Keys: repo.Keys{Keys: w.public("review-release")}}}}
}

func location(id, tier string, priority int) tuf.Location {
	l := tuf.Location{ID: id, Tier: tier, Operator: "host-" + id, Base: "https://" + id + ".example.org/", Metadata: "metadata/", Targets: "targets/", Priority: priority}
	if tier == tuf.Rendezvous {
		l.Targets = ""
	}
	return l
}

// signer returns the key with that name, made at its first use.
func (w *world) signer(name string) tuf.Signer {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keys[name] == nil {
		_, key, err := ed25519.GenerateKey(nil)
		noErr(w.t, err)
		if w.seeded {
			seed := sha256.Sum256([]byte(name))
			key = ed25519.NewKeyFromSeed(seed[:])
		}
		w.keys[name], err = tuf.NewSigner(key)
		noErr(w.t, err)
	}
	return w.keys[name]
}

func (w *world) public(names ...string) (keys []tuf.Key) {
	for _, n := range names {
		keys = append(keys, w.signer(n).Key())
	}
	return keys
}

// open returns a handle with the named keys, or with all keys made so far.
func (w *world) open(names ...string) *repo.Repo {
	if len(names) == 0 {
		names = slices.Collect(maps.Keys(w.keys))
	}
	cfg := w.config()
	for _, n := range names {
		cfg.Signers = append(cfg.Signers, w.signer(n))
	}
	if w.elsewhere != nil {
		return repo.New(w.elsewhere, cfg)
	}
	return repo.New(w.store, cfg)
}

// config is that of a handle without keys.
func (w *world) config() *repo.Config {
	cfg := &repo.Config{Now: func() time.Time { return w.now }, UnsafeTrustStorage: w.ledger == nil}
	switch {
	case w.ledgerDir != "":
		cfg.Ledger = signing.DirLedger(w.ledgerDir)
		if w.killed != nil {
			cfg.Ledger = signing.StorageLedger(&killer{repo.Folder(w.ledgerDir), w.killed.n, w.killed.count})
		}
	case w.ledger != nil:
		cfg.Ledger = signing.StorageLedger(w.ledger)
	}
	return cfg
}

// These are the keys of each side; the vendor operates the repository.
var (
	vendorKeys = []string{"vendor-1", "vendor-2", "vendor-release", "targets", "timestamp", "snapshot"}
	reviewKeys = []string{"review-1", "review-2", "review-release"}
)

// try edits with every key, including those made in fn.
func (w *world) try(fn func(*repo.Tx) error) error {
	d, err := w.open().Stage(w.t.Context(), fn)
	if err != nil {
		return err
	}
	if len(d.Missing()) > 0 {
		for _, s := range w.keys {
			if err := d.Sign(w.t.Context(), s); err != nil && !errors.Is(err, repo.ErrNoPart) {
				return err
			}
		}
	}
	return w.open().Publish(w.t.Context(), d)
}

// again is an edit of root by signers that signed another root of that version before,
// which was never published.
func (w *world) again(fn func(*repo.Tx) error) func(*repo.Tx) error {
	w.t.Helper()
	var doc struct {
		Body struct {
			Roles map[string]struct {
				Signed []struct{ SHA256 string }
			}
		}
	}
	files := w.ledger.copy().files
	if w.ledgerDir != "" {
		files = scoop(w.t, w.ledgerDir).files
	}
	for _, data := range files {
		noErr(w.t, json.Unmarshal(data, &doc))
	}
	return func(tx *repo.Tx) error {
		if all := doc.Body.Roles["root"].Signed; len(all) > 0 {
			tx.Supersede(all[len(all)-1].SHA256)
		}
		return fn(tx)
	}
}

// lastRecovered is the sha256 of the recovered root that the ledger has seen.
func (w *world) lastRecovered() string {
	w.t.Helper()
	var doc struct {
		Body struct{ Recovered struct{ SHA256 string } }
	}
	for _, data := range w.ledger.copy().files {
		noErr(w.t, json.Unmarshal(data, &doc))
	}
	return doc.Body.Recovered.SHA256
}

// signAll signs a draft that was staged elsewhere, with every key.
func (w *world) signAll(d *repo.Draft) {
	w.t.Helper()
	for _, s := range w.keys {
		sign := d.Sign
		if w.root() == nil {
			sign = func(ctx context.Context, s tuf.Signer) error { return d.SignFirst(ctx, s, d.Digest()) }
		}
		if err := sign(w.t.Context(), s); err != nil && !errors.Is(err, repo.ErrNoPart) {
			w.t.Fatal(err)
		}
	}
}

func (w *world) update(fn func(*repo.Tx) error) {
	w.t.Helper()
	noErr(w.t, w.try(fn))
}

// release has a valid version that is derived from its name, even if the name is not a
// version.
func release(version string) *tuf.Release {
	if _, err := tuf.ParseVersion(version); err != nil {
		version = "0-" + version
	}
	return &tuf.Release{Product: "agent", Version: version, Channel: "stable", Platform: "any"}
}

func add(version string) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/"+version, strings.NewReader("agent "+version), release(version))
	}
}

func approve(version string) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		return tx.Approve("review", "agent/"+version, &repo.ReviewRecord{Unrecorded: true}) // other tests cover the statements
	}
}

// product is a client that uses only package tuf: it keeps the newest root and the
// state that it saw last.
type product struct {
	w                   *world
	root                *tuf.Root
	timestamp, snapshot []byte
}

func (w *world) product() *product { return &product{w: w} }

func (p *product) read(name string) ([]byte, error) { return p.w.store.Read(p.w.t.Context(), name) }

// refresh follows the repository as a client does. The snapshot is nil if there is an
// error.
func (p *product) refresh() (*tuf.Snapshot, error) {
	for n := int64(1); ; n++ {
		if p.root != nil {
			n = p.root.Version() + 1
		}
		data, err := p.read(fmt.Sprintf("metadata/%d.root.json", n))
		if errors.Is(err, fs.ErrNotExist) && n > 1 {
			break
		}
		if err != nil {
			return nil, err
		}
		if p.root == nil {
			p.root, err = tuf.OpenRoot(data, nil)
		} else {
			p.root, err = p.root.Next(data)
		}
		if err != nil {
			p.w.t.Fatal("a root that breaks the chain:", err)
		}
	}
	timestamp, err := p.read("metadata/timestamp.json")
	if err != nil {
		return nil, err
	}
	ts, err := p.root.Timestamp(timestamp, p.timestamp, p.w.now)
	if err != nil {
		return nil, err
	}
	snapshot, err := p.get(ts.SnapshotFile())
	if err != nil {
		return nil, err
	}
	snap, err := ts.Snapshot(snapshot, p.snapshot)
	if err == nil {
		p.timestamp, p.snapshot = timestamp, snapshot
	}
	return snap, err
}

func (p *product) get(f tuf.RoleFile) ([]byte, error) {
	return p.read(fmt.Sprintf("metadata/%d.%s.json", f.Version, f.Role))
}

// state describes what the product sees: the releases that it accepts.
func (p *product) state() string {
	snap, err := p.refresh()
	if p.root == nil {
		return "empty"
	}
	out := fmt.Sprintf("root %d", p.root.Version())
	if err == nil {
		err = snap.OpenRoles(p.get) // as a client demands of a set
	}
	if err == nil {
		var all []tuf.Candidate
		if all, err = snap.Candidates(p.w.t.Context(), nil, p.get); err == nil {
			for _, c := range all {
				if c.Err == nil {
					out += " " + c.Path
				}
			}
			return out
		}
	}
	if !errors.Is(err, tuf.ErrUntrusted) && !errors.Is(err, fs.ErrNotExist) {
		p.w.t.Fatal(err)
	}
	return out + " without content"
}

// sees checks the state of a product that starts from the first root.
func (w *world) sees(want string) {
	w.t.Helper()
	if got := w.product().state(); got != want {
		w.t.Fatalf("a client sees %q, want %q", got, want)
	}
}

// root returns the newest root.
func (w *world) root() *tuf.Root {
	p := w.product()
	p.refresh()
	return p.root
}

// memory is a storage with a record of its writes and with injected faults.
type memory struct {
	mu      sync.Mutex
	files   map[string][]byte
	writes  []string
	written map[string]time.Time
	clock   func() time.Time // nil: time.Now
	// before and after are called at each write, outside the lock.
	before, after func(name string) error
}

func newMemory() *memory { return &memory{files: map[string][]byte{}, written: map[string]time.Time{}} }

func (m *memory) Read(ctx context.Context, name string) ([]byte, error) {
	if err := errors.Join(storage.CheckName(name), ctx.Err()); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.files[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return bytes.Clone(data), nil
}

func (m *memory) Create(ctx context.Context, name string, r io.Reader) error {
	if err := errors.Join(storage.CheckName(name), ctx.Err()); err != nil {
		return err
	}
	data, err := io.ReadAll(readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return r.Read(p)
	}))
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	return m.write(name, data, func(have []byte, there bool) bool { return !there || bytes.Equal(have, data) })
}

func (m *memory) Replace(ctx context.Context, name string, old, new []byte) error {
	if err := errors.Join(storage.CheckName(name), ctx.Err()); err != nil {
		return err
	}
	if len(new) > storage.MaxRead {
		return errors.New("too large")
	}
	return m.write(name, bytes.Clone(new), func(have []byte, there bool) bool { return there == (old != nil) && bytes.Equal(have, old) })
}

func (m *memory) write(name string, data []byte, may func([]byte, bool) bool) error {
	if m.before != nil {
		if err := m.before(name); err != nil {
			return err
		}
	}
	m.mu.Lock()
	have, there := m.files[name]
	if !may(have, there) {
		m.mu.Unlock()
		return fmt.Errorf("%s: %w", name, repo.ErrConflict)
	}
	m.files[name] = data
	m.written[name] = time.Now()
	if m.clock != nil {
		m.written[name] = m.clock()
	}
	m.writes = append(m.writes, name)
	m.mu.Unlock()
	if m.after != nil {
		return m.after(name)
	}
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// wrote returns the names written since the last call.
func (m *memory) wrote() []string {
	out := m.writes
	m.writes = nil
	return out
}

// copy is a world with the same history.
func (w *world) copy() *world {
	out := &world{t: w.t, now: w.now, store: w.store.copy(), keys: maps.Clone(w.keys), pinned: w.pinned, seeded: w.seeded}
	if w.ledger != nil {
		out.ledger = w.ledger.copy()
	}
	return out
}

func (m *memory) copy() *memory {
	return &memory{files: maps.Clone(m.files), written: maps.Clone(m.written), clock: m.clock}
}

func TestMemory(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) repo.Storage { return newMemory() })
}

// refused checks that fn fails with the error and writes no metadata.
func (w *world) refused(want error, fn func() error) error {
	w.t.Helper()
	before := w.store.copy()
	err := fn()
	if !errors.Is(err, want) {
		w.t.Fatalf("got %v, want %v", err, want)
	}
	maps.DeleteFunc(w.store.files, func(name string, _ []byte) bool {
		return strings.HasPrefix(name, "targets/") && before.files[name] == nil
	})
	if !maps.EqualFunc(before.files, w.store.files, bytes.Equal) {
		w.t.Fatalf("refused (%v), but written: %q", err, w.store.writes)
	}
	return err
}

var noErr = rawtuf.NoErr

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

var errCut = errors.New("line cut")

// place is the storage of the repository.
func (w *world) place() repo.Storage {
	if w.elsewhere != nil {
		return w.elsewhere
	}
	return w.store
}

// options are those of a mirror with the clock and the reports of a handle.
func options(cfg *repo.Config) *mirror.Options {
	return &mirror.Options{Now: cfg.Now, Progress: cfg.Progress, UnsafeLoopback: cfg.UnsafeLoopback}
}
