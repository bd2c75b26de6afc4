package client_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// bundle is a zip file laid out as a location.
func bundle(t *testing.T, r *rawtuf.Repo, change ...func(name string, data []byte) []byte) *zip.Reader {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	put := func(name string, data []byte) {
		for _, fn := range change {
			data = fn(name, data)
		}
		if data == nil {
			return
		}
		f, err := z.Create(name)
		if err == nil {
			_, err = f.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range r.Files {
		put("metadata/"+name, data)
	}
	sum := rawtuf.At(r.Roles["vendor-agent"], "targets", rawtuf.Path, "hashes")["sha256"].(string)
	put("targets/"+path.Dir(rawtuf.Path)+"/"+sum+"."+path.Base(rawtuf.Path), []byte("the agent"))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// offline returns a client with the web's state that may ask only the bundle.
func (w *web) offline(z *zip.Reader) *client.Client {
	return w.client(func(cfg *client.Config) {
		cfg.Sources, cfg.Offline = []client.Source{client.FSSource(z)}, true
		cfg.HTTP = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			w.t.Errorf("offline, but asked %s", r.URL)
			return nil, errDark
		})}
	})
}

// All hosts are unreachable. A bundle from an untrusted supplier leads the product to
// the new location, with roots, content and the release, also in a running client.
func TestBundleImport(t *testing.T) {
	w := newWeb(t)
	running := w.client()
	w.good(running, 1)
	moved := w.repo.Clone()
	const newHost = "updates.new.example"
	moved.NextRoot(func() {
		ch := moved.Charter()
		locations := ch["locations"].([]any)
		location := rawtuf.Copy(locations[0]).(rawtuf.Doc)
		location["id"], location["base"] = "new", "https://"+newHost+"/r/"
		ch["locations"] = append([]any{location}, locations[1:]...)
	})
	renew(moved)
	w.does(unreachable, vendorHost, cdnHost, reviewHost)
	w.bad(running, client.ErrUnreachable)

	c := w.offline(bundle(t, moved))
	view := w.good(c, 2)
	if view.Location() != "source 1" {
		t.Errorf("from %s", view.Location())
	}
	a, err := view.Find(t.Context(), rawtuf.Path)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "agent")
	if err := c.Save(t.Context(), a, file); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "the agent" {
		t.Fatalf("%q, %v", got, err)
	}
	w.shows(moved, newHost)
	w.asked("")
	if view := w.good(running, 2); view.Location() != "new" {
		t.Errorf("from %s", view.Location())
	}
	// The same bundle changes nothing; an older one is refused.
	w.good(w.offline(bundle(t, moved)), 2)
	w.bad(w.offline(bundle(t, w.repo)), tuf.ErrRollback)
}

// A bundle of roots announces a move; content then comes from the new location.
func TestBundleOfRoots(t *testing.T) {
	w := newWeb(t)
	w.repo.NextRoot(nothing)
	z := bundle(t, w.repo, func(name string, data []byte) []byte {
		if strings.HasSuffix(name, ".root.json") {
			return data
		}
		return nil
	})
	view := w.bad(w.offline(z), client.ErrNoContent)
	if view.Root.Version() != 2 {
		t.Errorf("at root v%d", view.Root.Version())
	}
	w.good(w.client(), 2)
}

// After a bad bundle a good one still works.
func TestBadBundles(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		bundle func(w *web) *zip.Reader
		want   error
		root   int64
	}{
		"forged root": {func(w *web) *zip.Reader {
			attacker := w.repo.Clone()
			attacker.NextRoot(func() { attacker.Signers["root"] = []string{"vendor1", "vendor2"} })
			return bundle(w.t, attacker)
		}, nil, 1},
		"forged content": {func(w *web) *zip.Reader {
			attacker := w.repo.Clone()
			attacker.Signers["review-agent"] = []string{"va"}
			renew(attacker)
			return bundle(w.t, attacker)
		}, tuf.ErrUntrusted, 1},
		"foreign": {func(w *web) *zip.Reader {
			other := w.repo.Clone()
			other.NextRoot(func() { other.Charter()["repo_id"] = strings.Repeat("ab", 16) })
			return bundle(w.t, other)
		}, nil, 1},
		"older": {func(w *web) *zip.Reader {
			older := w.repo.Clone()
			renew(w.repo)
			w.good(w.client(), 1)
			return bundle(w.t, older)
		}, tuf.ErrRollback, 1},
		"huge": {func(w *web) *zip.Reader {
			return bundle(w.t, w.repo, func(name string, data []byte) []byte {
				if name == "metadata/timestamp.json" {
					return make([]byte, 64<<20) // a few kB in the zip file
				}
				return data
			})
		}, tuf.ErrTooLarge, 1},
		"empty": {func(w *web) *zip.Reader {
			return bundle(w.t, w.repo, func(string, []byte) []byte { return nil })
		}, client.ErrNoContent, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t)
			z := tt.bundle(w)
			view, err := refreshed(t, w.offline(z))
			if !errors.Is(err, tt.want) || view.Root().Version() != tt.root {
				t.Fatalf("root v%d, %v; want %v", view.Root().Version(), err, tt.want)
			}
			w.repo.NextRoot(nothing)
			renew(w.repo)
			renew(w.repo)
			w.good(w.offline(bundle(t, w.repo)), 2)
			w.good(w.client(), 2)
		})
	}
}
