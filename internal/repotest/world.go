package repotest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
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
	"github.com/visum-dev/visum/tuf"
)

// World is a repository of two parties, in memory, with every key.
type World struct {
	T     testing.TB
	Now   time.Time
	Store *Memory
	// Elsewhere is the storage of the repository, if it is not store.
	Elsewhere repo.Storage

	Pinned []byte // the first pin
	// Ledger is the shared memory of all signers of the true repository. Without a ledger,
	// as for a repository that an attacker makes, the storage is trusted.
	Ledger *Memory
	// LedgerDir is the directory of the ledger, if that is not in memory.
	LedgerDir string
	// wrap, if not nil, returns the storage of the ledger in ledgerDir, with faults.
	Wrap   func(repo.Storage) repo.Storage
	Seeded bool // keys follow from their names, so that processes have the same

	mu   sync.Mutex
	Keys map[string]tuf.Signer
}

func Empty(t testing.TB) *World {
	return &World{T: t, Now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Store: NewMemory(), Keys: map[string]tuf.Signer{}, Ledger: NewMemory()}
}

// New returns a published repository without releases.
func New(t testing.TB) *World {
	t.Helper()
	w := Empty(t)
	w.Update(w.Define)
	return w
}

// Define sets the content of the first root. Setting it again changes nothing.
func (w *World) Define(tx *repo.Tx) error {
	r := tx.Root()
	r.Parties = []repo.Party{{Name: "vendor", Keys: w.Public("vendor-1", "vendor-2"), Min: 1}, {Name: "review", Keys: w.Public("review-1", "review-2")}}
	r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = w.Public("timestamp"), w.Public("snapshot"), w.Public("targets")
	r.Classes = []repo.Class{w.Class("agent")}
	// The locations are not in order of priority, which must not matter.
	r.Locations = []tuf.Location{NewLocation("z", tuf.Rendezvous, 20), NewLocation("a", tuf.Primary, 10)}
	return nil
}

func (w *World) Class(name string) repo.Class {
	return repo.Class{Name: name, Prefix: name + "/", Roles: []repo.ReleaseRole{
		{Party: "vendor", Role: "vendor-" + name, Keys: repo.Keys{Keys: w.Public("vendor-release")}},
		{Party: "review", Role: "review-" + name, Keys: repo.Keys{Keys: w.Public("review-release")}}}}
}

func NewLocation(id, tier string, priority int) tuf.Location {
	l := tuf.Location{ID: id, Tier: tier, Operator: "host-" + id, Base: "https://" + id + ".example.org/", Metadata: "metadata/", Targets: "targets/", Priority: priority}
	if tier == tuf.Rendezvous {
		l.Targets = ""
	}
	return l
}

// Signer returns the key with that name, made at its first use.
func (w *World) Signer(name string) tuf.Signer {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.Keys[name] == nil {
		_, key, err := ed25519.GenerateKey(nil)
		rawtuf.NoErr(w.T, err)
		if w.Seeded {
			seed := sha256.Sum256([]byte(name))
			key = ed25519.NewKeyFromSeed(seed[:])
		}
		w.Keys[name], err = tuf.NewSigner(key)
		rawtuf.NoErr(w.T, err)
	}
	return w.Keys[name]
}

func (w *World) Public(names ...string) (keys []tuf.Key) {
	for _, n := range names {
		keys = append(keys, w.Signer(n).Key())
	}
	return keys
}

// Open returns a handle with the named keys, or with all keys made so far.
func (w *World) Open(names ...string) *repo.Repo {
	if len(names) == 0 {
		names = slices.Collect(maps.Keys(w.Keys))
	}
	cfg := w.Config()
	for _, n := range names {
		cfg.Signers = append(cfg.Signers, w.Signer(n))
	}
	if w.Elsewhere != nil {
		return repo.New(w.Elsewhere, cfg)
	}
	return repo.New(w.Store, cfg)
}

// Config is that of a handle without keys.
func (w *World) Config() *repo.Config {
	cfg := &repo.Config{Now: func() time.Time { return w.Now }, UnsafeTrustStorage: w.Ledger == nil}
	switch {
	case w.LedgerDir != "":
		cfg.Ledger = signing.DirLedger(w.LedgerDir)
		if w.Wrap != nil {
			cfg.Ledger = signing.StorageLedger(w.Wrap(repo.Folder(w.LedgerDir)))
		}
	case w.Ledger != nil:
		cfg.Ledger = signing.StorageLedger(w.Ledger)
	}
	return cfg
}

// These are the keys of each side; the vendor operates the repository.
var (
	VendorKeys = []string{"vendor-1", "vendor-2", "vendor-release", "targets", "timestamp", "snapshot"}
)

// Try edits with every key, including those made in fn.
func (w *World) Try(fn func(*repo.Tx) error) error {
	d, err := w.Open().Stage(w.T.Context(), fn)
	if err != nil {
		return err
	}
	if len(d.Missing()) > 0 {
		for _, s := range w.Keys {
			if err := d.Sign(w.T.Context(), s); err != nil && !errors.Is(err, repo.ErrNoPart) {
				return err
			}
		}
	}
	return w.Open().Publish(w.T.Context(), d)
}

// Again is an edit of root by signers that signed another root of that version before,
// which was never published.
func (w *World) Again(fn func(*repo.Tx) error) func(*repo.Tx) error {
	w.T.Helper()
	var doc struct {
		Body struct {
			Roles map[string]struct {
				Signed []struct{ SHA256 string }
			}
		}
	}
	files := w.Ledger.Copy().Files
	if w.LedgerDir != "" {
		files = ReadDir(w.T, w.LedgerDir).Files
	}
	for _, data := range files {
		rawtuf.NoErr(w.T, json.Unmarshal(data, &doc))
	}
	return func(tx *repo.Tx) error {
		if all := doc.Body.Roles["root"].Signed; len(all) > 0 {
			tx.Supersede(all[len(all)-1].SHA256)
		}
		return fn(tx)
	}
}

// LastRecovered is the sha256 of the recovered root that the ledger has seen.
func (w *World) LastRecovered() string {
	w.T.Helper()
	var doc struct {
		Body struct{ Recovered struct{ SHA256 string } }
	}
	for _, data := range w.Ledger.Copy().Files {
		rawtuf.NoErr(w.T, json.Unmarshal(data, &doc))
	}
	return doc.Body.Recovered.SHA256
}

// SignAll signs a draft that was staged elsewhere, with every key.
func (w *World) SignAll(d *repo.Draft) {
	w.T.Helper()
	for _, s := range w.Keys {
		sign := d.Sign
		if w.Root() == nil {
			sign = func(ctx context.Context, s tuf.Signer) error { return d.SignFirst(ctx, s, d.Digest()) }
		}
		if err := sign(w.T.Context(), s); err != nil && !errors.Is(err, repo.ErrNoPart) {
			w.T.Fatal(err)
		}
	}
}

func (w *World) Update(fn func(*repo.Tx) error) {
	w.T.Helper()
	rawtuf.NoErr(w.T, w.Try(fn))
}

// Release has a valid version that is derived from its name, even if the name is not a
// version.
func Release(version string) *tuf.Release {
	if _, err := tuf.ParseVersion(version); err != nil {
		version = "0-" + version
	}
	return &tuf.Release{Product: "agent", Version: version, Channel: "stable", Platform: "any"}
}

func Add(version string) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/"+version, strings.NewReader("agent "+version), Release(version))
	}
}

func Approve(version string) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		return tx.Approve("review", "agent/"+version, &repo.ReviewRecord{Unrecorded: true}) // other tests cover the statements
	}
}

// Sees checks the state of a product that starts from the first root.
func (w *World) Sees(want string) {
	w.T.Helper()
	if got := w.Product().State(); got != want {
		w.T.Fatalf("a client sees %q, want %q", got, want)
	}
}

// Root returns the newest root.
func (w *World) Root() *tuf.Root {
	p := w.Product()
	p.Refresh()
	return p.Root
}

// Copy is a world with the same history.
func (w *World) Copy() *World {
	out := &World{T: w.T, Now: w.Now, Store: w.Store.Copy(), Keys: maps.Clone(w.Keys), Pinned: w.Pinned, Seeded: w.Seeded}
	if w.Ledger != nil {
		out.Ledger = w.Ledger.Copy()
	}
	return out
}

// Refused checks that fn fails with the error and writes no metadata.
func (w *World) Refused(want error, fn func() error) error {
	w.T.Helper()
	before := w.Store.Copy()
	err := fn()
	if !errors.Is(err, want) {
		w.T.Fatalf("got %v, want %v", err, want)
	}
	maps.DeleteFunc(w.Store.Files, func(name string, _ []byte) bool {
		return strings.HasPrefix(name, "targets/") && before.Files[name] == nil
	})
	if !maps.EqualFunc(before.Files, w.Store.Files, bytes.Equal) {
		w.T.Fatalf("refused (%v), but written: %q", err, w.Store.Writes)
	}
	return err
}

// Storage is the storage of the repository.
func (w *World) Storage() repo.Storage {
	if w.Elsewhere != nil {
		return w.Elsewhere
	}
	return w.Store
}

// Options are those of a mirror with the clock and the reports of a handle.
func Options(cfg *repo.Config) *mirror.Options {
	return &mirror.Options{Now: cfg.Now, Progress: cfg.Progress, UnsafeLoopback: cfg.UnsafeLoopback}
}

// Pin is the pin of the first root, made once.
func (w *World) Pin() []byte {
	w.T.Helper()
	if w.Pinned == nil {
		var err error
		w.Pinned, err = w.Open().Pin(w.T.Context())
		rawtuf.NoErr(w.T, err)
	}
	return w.Pinned
}

func Rich(t testing.TB) *World {
	t.Helper()
	w := New(t)
	w.Pin()
	w.Update(Add("1"))
	w.Update(Approve("1"))
	w.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	return w
}
