package tiles

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/logtest"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/storage/s3"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// The contract of logs, on several storages.
func TestLog(t *testing.T) {
	for _, x := range []struct {
		name string
		open func(t *testing.T) func() storage.Storage
	}{
		{"Memory", func(*testing.T) func() storage.Storage {
			s := repotest.NewMemory()
			return func() storage.Storage { return s }
		}},
		{"Overlay", func(*testing.T) func() storage.Storage { // a storage with batches
			s := storage.Overlay(nil)
			return func() storage.Storage { return s }
		}},
		{"Dir", func(t *testing.T) func() storage.Storage {
			dir := t.TempDir()
			return func() storage.Storage { return storage.Dir(dir) }
		}},
		{"S3", bucket},
	} {
		t.Run(x.name, func(t *testing.T) {
			logtest.Run(t, func(t *testing.T) (tlog.Key, logtest.Open) {
				open := x.open(t)
				s := open()
				ledger := signing.StorageLedger(repotest.NewMemory())
				cfg := Config{Origin: origin, Signer: repotest.Signer("log"), Ledger: ledger}
				l, err := New(s, cfg)
				if err != nil {
					t.Fatal(err)
				}
				return l.Key(), func() repo.Log {
					l, err := New(open(), cfg)
					if err != nil {
						t.Fatal(err)
					}
					return l
				}
			})
		})
	}
}

// bucket returns handles on a bucket of a store in this process.
func bucket(t *testing.T) func() storage.Storage {
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	inner := gofakes3.New(backend).Server()
	var mu sync.Mutex // makes a condition and its write one step, as in a real store
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	return func() storage.Storage {
		b, err := s3.Open(t.Context(), "s3://bucket/pre?region=us-east-1&endpoint="+web.URL, &s3.Options{Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// The ledger of a log can be that of the party, with a mark on this machine.
func TestMarkedLedger(t *testing.T) {
	w := newWorld(t)
	shared := repotest.NewMemory()
	w.ledger = signing.MarkedLedger(signing.StorageLedger(shared), repotest.NewMemory())
	w.append(3)
	name := ledgerID(origin) + ".ledger.json"
	old := bytes.Clone(shared.Files[name])
	w.append(3)
	newest := shared.Files[name]
	shared.Files[name] = old
	w.refused("an older ledger", signing.ErrLedger)
	delete(shared.Files, name)
	w.refused("a removed ledger", signing.ErrLedger)
	// A document that does not follow the one that this machine has seen.
	other := newWorld(t)
	others := repotest.NewMemory()
	other.ledger = signing.StorageLedger(others)
	for range 4 {
		other.append(1)
	}
	shared.Files[name] = others.Files[name]
	w.refused("another ledger", signing.ErrLedger)
	shared.Files[name] = newest
	w.append(3)
}

// Tile is limited to the size of a tile, whatever the storage has.
func TestLargeTile(t *testing.T) {
	w := newWorld(t)
	w.append(1)
	for path, limit := range map[string]int{"tile/0/000.p/1": maxTile, "tile/entries/000.p/1": maxBundle} {
		w.store.Files["log/1/"+path] = make([]byte, limit)
		if _, err := w.log().Tile(t.Context(), path); err != nil {
			t.Error(err)
		}
		w.store.Files["log/1/"+path] = make([]byte, limit+1)
		if _, err := w.log().Tile(t.Context(), path); !errors.Is(err, tuf.ErrTooLarge) {
			t.Errorf("%s with %d bytes: %v", path, limit+1, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	rsa := rsaSigner{repotest.Signer("log")}
	good := Config{Origin: origin, Signer: repotest.Signer("log"), Ledger: signing.MemLedger()}
	for what, change := range map[string]func(*Config){
		"no origin":             func(c *Config) { c.Origin = "" },
		"no number":             func(c *Config) { c.Origin = strings.TrimSuffix(origin, "/1") },
		"number 0":              func(c *Config) { c.Origin = strings.TrimSuffix(origin, "1") + "0" },
		"number 01":             func(c *Config) { c.Origin = strings.TrimSuffix(origin, "1") + "01" },
		"number +1":             func(c *Config) { c.Origin = strings.TrimSuffix(origin, "1") + "+1" },
		"no domain":             func(c *Config) { c.Origin = strings.TrimPrefix(origin, "vendor.example") },
		"a space in the domain": func(c *Config) { c.Origin = "a " + origin },
		"another word":          func(c *Config) { c.Origin = strings.Replace(origin, "visum", "log", 1) },
		"a short repository id": func(c *Config) { c.Origin = "vendor.example/visum/0f0f/1" },
		"a further element":     func(c *Config) { c.Origin += "/1" },
		"no signer":             func(c *Config) { c.Signer = nil },
		"a key of RSA":          func(c *Config) { c.Signer = rsa },
		"no ledger":             func(c *Config) { c.Ledger = nil },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(repotest.NewMemory(), cfg); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v, want fs.ErrInvalid", what, err)
		}
	}
	if _, err := New(nil, good); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("no storage: %v", err)
	}
	if _, err := New(repotest.NewMemory(), good); err != nil {
		t.Error(err)
	}
	if _, err := Prefix("x"); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
	if prefix, err := Prefix(origin[:len(origin)-1] + "12"); err != nil || prefix != "log/12/" {
		t.Error(prefix, err)
	}
}

type rsaSigner struct{ tuf.Signer }

func (rsaSigner) Key() tuf.Key { return tuf.Key{Type: "rsa", Scheme: "rsassa-pss-sha256", Public: "x"} }

// Two logs of one repository, such as the log and its standby, share a storage and a
// ledger, and nothing else.
func TestTwoLogs(t *testing.T) {
	w := newWorld(t)
	w.append(2)
	second := newRegister()
	second.Signer = repotest.Signer("standby")
	l, err := New(w.store, Config{Origin: strings.TrimSuffix(origin, "1") + "2", Signer: second, Ledger: w.ledger})
	w.must(err)
	_, err = l.Append(t.Context(), nil, leaves(0, 3))
	w.must(err)
	w.append(2)
	var names []string
	for name := range w.store.Files {
		if !strings.Contains(name, "/tile/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "log/1/checkpoint log/2/checkpoint private/log-pending/1 private/log-pending/2" {
		t.Error(got)
	}
}

// The limits of a batch hold for leaves together, too.
func TestBatchLimits(t *testing.T) {
	w := newWorld(t)
	large := bytes.Repeat([]byte("x"), tlog.MaxEntry)
	for what, batch := range map[string][][]byte{
		"leaves": slices.Repeat([][]byte{{}}, MaxLeaves+1),
		"bytes":  slices.Repeat([][]byte{large}, MaxBatchBytes/len(large)+1),
	} {
		if _, err := w.log().Append(t.Context(), nil, batch); !errors.Is(err, tuf.ErrTooLarge) {
			t.Errorf("too many %s: %v", what, err)
		}
	}
	if len(w.store.Files) > 0 {
		t.Error("a refused batch has written something")
	}
	// The largest batch that is permitted fits into the file pending.
	_, data, err := newBatch(1<<56, slices.Repeat([][]byte{make([]byte, MaxBatchBytes/MaxLeaves)}, MaxLeaves))
	if err != nil || len(data) > storage.MaxRead {
		t.Errorf("a batch of %d bytes takes %d: %v", MaxBatchBytes, len(data), err)
	}
}

// A reader gets verified entries from any source, and refuses all that another party can
// write.
func TestOpen(t *testing.T) {
	w := newWorld(t)
	w.append(300)
	key := w.log().Key()
	src := storage.SourceOf(w.store)
	at, err := Open(t.Context(), src, "log/1/", key)
	w.must(err)
	if at.Tree.Size != 300 || at.Tree.Root != w.tree.Root || !bytes.Equal(at.Checkpoint, w.last()) {
		t.Fatalf("read %d entries", at.Tree.Size)
	}
	entries, err := at.Tree.Bundle(1)
	w.must(err)
	if len(entries) != 44 || string(entries[43]) != "leaf 299" {
		t.Fatalf("%d entries", len(entries))
	}

	other := key
	other.Public = bytes.Repeat([]byte{9}, 32)
	renamed := key
	renamed.Name = "other.example/log"
	cosigner := key
	cosigner.Type = tlog.TypeCosigner
	for _, x := range []struct {
		what, prefix string
		key          tlog.Key
		want         error
	}{
		{"another key", "log/1/", other, tlog.ErrSignature},
		{"another origin", "log/1/", renamed, tlog.ErrSignature},
		{"a key of a cosigner", "log/1/", cosigner, fs.ErrInvalid},
		{"no checkpoint", "log/2/", key, fs.ErrNotExist},
		{"a prefix without a slash", "log/1", key, fs.ErrInvalid},
		{"a prefix that is no name", "../log/1/", key, fs.ErrInvalid},
	} {
		if _, err := Open(t.Context(), src, x.prefix, x.key); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", x.what, err, x.want)
		}
	}
	note := w.last()
	for what, data := range map[string][]byte{
		"a changed root":     bytes.Replace(note, []byte("\n300\n"), []byte("\n301\n"), 1),
		"a checkpoint twice": append(bytes.Clone(note), note...),
		"a large file":       append(bytes.Clone(note), make([]byte, tlog.MaxNote)...),
	} {
		w.store.Files["log/1/checkpoint"] = data
		if _, err := Open(t.Context(), src, "log/1/", key); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	w.store.Files["log/1/checkpoint"] = note

	// A source is not trusted with tiles, and can't send more than one has.
	name := "log/1/tile/entries/001.p/44"
	bundle := w.store.Files[name]
	w.store.Files[name] = bytes.Replace(bundle, []byte("299"), []byte("298"), 1)
	if _, err := at.Tree.Bundle(1); !errors.Is(err, tlog.ErrInclusion) {
		t.Errorf("a changed entry: %v", err)
	}
	w.store.Files[name] = make([]byte, maxBundle+1)
	if _, err := at.Tree.Bundle(1); !errors.Is(err, tuf.ErrTooLarge) {
		t.Errorf("a bundle of %d bytes: %v", maxBundle+1, err)
	}
	delete(w.store.Files, name)
	if _, err := at.Tree.Bundle(1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing bundle: %v", err)
	}
	w.store.Files[name] = bundle
	if _, err := at.Tree.Bundle(1); err != nil {
		t.Error(err)
	}
	if _, err := Files(t.Context(), src, "log/1/")("checkpoint"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a path that is no tile: %v", err)
	}
}
