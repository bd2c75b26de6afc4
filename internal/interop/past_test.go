//go:build unix

package interop_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
)

// oldModule has repositories that other tools wrote in earlier years, one for each
// state.
const oldModule = "github.com/theupdateframework/go-tuf@v0.7.0"

// oldData is the directory of the module's client package, which is downloaded if it
// is missing.
func oldData(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", oldModule)
	cmd.Dir = t.TempDir() // outside this module, because the requirements differ
	out, err := cmd.Output()
	var mod struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &mod); err != nil || jsonErr != nil || mod.Dir == "" {
		rawtuf.Missing(t, fmt.Sprintf("no %s: %v %s; it takes a module proxy, or a module cache that has it", oldModule, err, mod.Error))
	}
	return filepath.Join(mod.Dir, "client")
}

// states are the states of a repository up to one: metadata is next to the directory
// targets; roots and targets of earlier states are still served.
type states []string

func (s states) Open(_ context.Context, name string) (io.ReadCloser, error) {
	rest, meta := strings.CutPrefix(name, "metadata/")
	for _, dir := range slices.Backward(s) {
		f, err := os.Open(filepath.Join(dir, filepath.FromSlash(rest)))
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		if meta && !strings.HasSuffix(rest, ".root.json") {
			break
		}
	}
	return nil, fs.ErrNotExist
}

// The repositories are those of go-tuf before v2, with and without consistent
// snapshots: they have two ids for one key, sha512 alone, and a rotation of the keys
// of all roles. A client follows from the first state on; each state is verified, and
// mirrored if possible.
func TestReadOldGoTUF(t *testing.T) {
	t.Parallel()
	data := oldData(t)
	now := func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }
	for _, writer := range []string{"go-tuf", "go-tuf-transition-M3", "go-tuf-transition-M4"} {
		for _, consistent := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %v", writer, consistent), func(t *testing.T) {
				var here states
				state, copied := t.TempDir(), repo.Folder(t.TempDir())
				var pin []byte
				for n := range 6 {
					dir := filepath.Join(data, "testdata", writer, fmt.Sprintf("consistent-snapshot-%v", consistent), fmt.Sprint(n), "repository")
					here = append(here, dir)
					if n == 0 {
						var err error
						pin, err = os.ReadFile(filepath.Join(dir, "1.root.json"))
						noErr(t, err)
					}
					c, err := client.New(pin, &client.Config{Dir: state, UnsafeNoReview: true, Retries: -1, Now: now, Sources: []client.Source{here}})
					noErr(t, err)
					view, err := c.Refresh(t.Context())
					noErr(t, err)
					if len(view.Evidence()) > 0 || view.Root().ConsistentSnapshot() != consistent {
						t.Errorf("state %d: evidence %q", n, view.Evidence())
					}
					a, err := view.Find(t.Context(), fmt.Sprint(n))
					noErr(t, err)
					file := filepath.Join(state, "file")
					noErr(t, c.Save(t.Context(), a, file))
					if got, err := os.ReadFile(file); err != nil || string(got) != fmt.Sprint(n) {
						t.Errorf("state %d: %q, %v", n, got, err)
					}
					examined(t, storage.ReadOnly(here), pin, now)
					switch err := mirror.Clone(t.Context(), copied, here, pin, nil); {
					case consistent:
						noErr(t, err)
						examined(t, copied, pin, now)
					case !errors.Is(err, errors.ErrUnsupported):
						t.Errorf("state %d: a mirror: %v", n, err)
					}
				}
			})
		}
	}
}

// examined checks that all findings are harmless.
func examined(t *testing.T, place repo.Storage, pin []byte, now func() time.Time) {
	t.Helper()
	report, err := mirror.Verify(t.Context(), place, pin, &mirror.Options{Now: now})
	noErr(t, err)
	if report.Err() != nil || report.Targets == 0 {
		t.Error(report)
	}
}

// The data is python-tuf's own test data.
func TestReadOldPython(t *testing.T) {
	t.Parallel()
	data := oldData(t)
	now := func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }
	for _, kind := range []string{"with", "without"} {
		dir := filepath.Join(data, "python_interop", "testdata", "python-tuf-v3.0.0", kind+"-consistent-snapshot", "repository")
		pin, err := os.ReadFile(filepath.Join(dir, "metadata", "1.root.json"))
		noErr(t, err)
		state := t.TempDir()
		c, err := client.New(pin, &client.Config{Dir: state, UnsafeNoReview: true, Retries: -1, Now: now, Sources: []client.Source{client.FSSource(os.DirFS(dir))}})
		noErr(t, err)
		view, err := c.Refresh(t.Context())
		noErr(t, err)
		for _, path := range []string{"file1.txt", "dir/file2.txt"} {
			a, err := view.Find(t.Context(), path)
			noErr(t, err)
			noErr(t, c.Save(t.Context(), a, filepath.Join(state, "file")))
		}
		examined(t, storage.ReadOnly(client.FSSource(os.DirFS(dir))), pin, now)
	}
}
