package repo_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/tuf"
)

func TestStockGoTUFBins(t *testing.T) { binStory(t, goTUF) }

func TestStockTUFJSBins(t *testing.T) { rawtuf.TUFJS(t, tufJS); binStory(t, tufjs) }

// visum's own client finds the same targets.
func TestClientBins(t *testing.T) {
	binStory(t, func(t *testing.T, url, dir string, paths []string) map[string]any {
		t.Helper()
		pin, err := os.ReadFile(filepath.Join(dir, "pin.json"))
		noErr(t, err)
		c, err := client.New(pin, &client.Config{Dir: filepath.Join(dir, "state"), HTTP: &http.Client{Transport: to(url)}})
		noErr(t, err)
		view, err := c.Refresh(t.Context())
		noErr(t, err)
		found := map[string]any{}
		for _, path := range paths {
			found[path] = nil
			a, err := view.Find(t.Context(), path)
			if err != nil {
				if !errors.Is(err, tuf.ErrNoTarget) && !errors.Is(err, tuf.ErrNotApproved) {
					t.Error(err)
				}
				continue
			}
			data, err := c.ReadTarget(t.Context(), a, 1<<20)
			noErr(t, err)
			found[path] = string(data)
		}
		return found
	})
}

// to sends every request to one server, whatever its host.
type to string

func (base to) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(string(base), "http://")
	return http.DefaultTransport.RoundTrip(r)
}

// Independent clients follow a repository with hash bins and products, at both
// parties; they see what the review party lists.
func binStory(t *testing.T, look stock) {
	t.Parallel()
	w := emptyWorld(t)
	w.Now = time.Now()
	w.Update(w.Define)
	first, err := w.Store.Read(t.Context(), "metadata/1.root.json")
	noErr(t, err)
	pin, err := w.Open().Pin(t.Context())
	noErr(t, err)
	server := httptest.NewServer(mirror.Handler(w.Store))
	t.Cleanup(server.Close)
	fresh := func() string {
		dir := t.TempDir()
		noErr(t, os.Mkdir(filepath.Join(dir, "metadata"), 0o755))
		noErr(t, os.Mkdir(filepath.Join(dir, "targets"), 0o755))
		noErr(t, os.WriteFile(filepath.Join(dir, "metadata", "root.json"), first, 0o644))
		noErr(t, os.WriteFile(filepath.Join(dir, "pin.json"), pin, 0o644))
		return dir
	}
	kept := fresh()
	sees := func(approved func(i int) bool) {
		t.Helper()
		want := map[string]any{"agent/never": nil}
		var paths []string
		for _, i := range []int{0, 1, 2, 3, 10, 511, 512, 899, 1499} {
			paths = append(paths, file(i))
			if want[file(i)] = nil; approved(i) {
				want[file(i)] = fmt.Sprint(i)
			}
		}
		for _, dir := range []string{kept, fresh()} {
			if got := look(t, server.URL, dir, append(paths, "agent/never")); !reflect.DeepEqual(got, want) {
				t.Fatalf("a client finds %v, want %v", got, want)
			}
		}
	}
	below := func(n int) func(int) bool { return func(i int) bool { return i < n } }
	w.Update(addFiles(0, 900))
	w.Update(approveFiles(0, 600))
	sees(below(600))
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Delegate("review", "agent", repo.Product{Role: "review-three", Paths: []string{"agent/3/*"}}),
			tx.Delegate("vendor", "agent", repo.Product{Role: "team-three", Paths: []string{"agent/3/*"}, Keys: repo.Keys{Keys: w.Public("team-three")}}))
	})
	sees(below(600))
	w.Update(addFiles(900, 1500))
	w.Update(approveFiles(600, 1500)) // the remaining files are redistributed
	sees(below(1500))
	w.Update(func(tx *repo.Tx) error { return tx.Remove("review", file(3)) })
	sees(func(i int) bool { return i != 3 })
}
