package client_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// One malicious or failing location never changes the outcome while another is honest.
func TestBadAnswersOfOneLocation(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"unreachable": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"500":         func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 500) },
		"html":        func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("<html>log in</html>")) },
		"redirect":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"endless":     func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 70<<20)) },
		"empty":       func(w http.ResponseWriter, r *http.Request) {},
		"gone":        func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(410) },
		"forbidden":   func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.update(func(tx *repo.Tx) error {
				tx.Root().Locations = append(tx.Root().Locations, w.location("b", tuf.Mirror, "mirror-host", w.b, 30))
				return nil
			})
			pin := w.pin()
			w.add("1.0", "one")
			w.approve("1.0")
			w.update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
			w.copyTo(w.b)
			w.a.does(func(rw http.ResponseWriter, r *http.Request) bool { answer(rw, r); return true })
			c := w.client(pin)
			w.mustGet(c, "", "1.0", "one")
			view, err := refreshed(t, c)
			if err != nil || view.Root().Version() != 3 || view.Location() != "b" {
				t.Fatalf("root v%d from %q, %v", view.Root().Version(), view.Location(), err)
			}
		})
	}
}

// A byte of each served file is changed in turn: nothing wrong is ever saved.
func TestEveryServedByteCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add("1.0", "one")
	w.approve("1.0")
	pin := w.pin()
	var files []string
	filepath.WalkDir(w.a.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.HasPrefix(d.Name(), ".") {
			files = append(files, path)
		}
		return nil
	})
	if len(files) < 8 {
		t.Fatalf("only %d files", len(files))
	}
	for _, file := range files {
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, len(good) / 3, len(good) / 2, len(good) - 1} {
			bad := slices.Clone(good)
			bad[at] ^= 1
			if err := os.WriteFile(file, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			c := w.client(pin)
			rel, err := w.latest(c, "")
			dst := filepath.Join(t.TempDir(), "agent")
			if err == nil {
				err = c.Save(t.Context(), rel.Approved, dst)
			}
			if got, readErr := os.ReadFile(dst); readErr == nil && string(got) != "one" {
				t.Fatalf("%s, byte %d: saved %q", file, at, got)
			} else if readErr != nil && err == nil {
				t.Fatalf("%s, byte %d: no error and no file", file, at)
			}
			if err := os.WriteFile(file, good, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.mustGet(w.client(pin), "", "1.0", "one")
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	pin := string(w.pin())
	root, err := os.ReadFile(filepath.Join(w.a.dir, "metadata", "1.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		pin  string
		want error
	}{
		"empty":          {"", tuf.ErrMalformed},
		"not JSON":       {"pin", tuf.ErrMalformed},
		"unknown member": {strings.Replace(pin, "{", `{"a":1,`, 1), tuf.ErrMalformed},
		"no such party":  {strings.Replace(pin, `"party":"review"`, `"party":"audit"`, 1), tuf.ErrCharter},
		"higher minimum": {strings.Replace(pin, `"min":1`, `"min":2`, 1), tuf.ErrCharter},
		"bare root":      {string(root), tuf.ErrMalformed},
	} {
		if tt.pin == pin {
			t.Fatalf("%s: nothing changed", name)
		}
		if _, err := client.New([]byte(tt.pin), &client.Config{Dir: t.TempDir(), UnsafeLoopback: true}); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	if _, err := client.New([]byte(pin), &client.Config{Dir: t.TempDir()}); !errors.Is(err, tuf.ErrCharter) {
		t.Errorf("loopback without the unsafe switch: %v", err)
	}
	if _, err := client.New([]byte(pin), nil); err == nil {
		t.Error("no state folder, no error")
	}
}

func TestSave(t *testing.T) {
	w := newWorld(t)
	w.add("1.0", "one")
	w.approve("1.0")
	c := w.client(w.pin())
	dst := filepath.Join(t.TempDir(), "agent")
	if err := c.Save(t.Context(), tuf.Approved{}, dst); !errors.Is(err, tuf.ErrNotApproved) {
		t.Errorf("zero Approved: %v", err)
	}
	rel, err := w.latest(c, "")
	if err != nil {
		t.Fatal(err)
	}
	other := newWorld(t)
	if err := other.client(other.pin()).Save(t.Context(), rel.Approved, dst); !errors.Is(err, tuf.ErrMismatch) {
		t.Errorf("approved by another repository: %v", err)
	}
	if err := os.WriteFile(dst, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := func(body string) func(http.ResponseWriter, *http.Request) bool {
		return func(rw http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/targets/") {
				rw.Write([]byte(body))
				return true
			}
			return false
		}
	}
	for _, body := range []string{"", "on", "two", "one and more"} {
		w.a.does(wrong(body))
		if err := c.Save(t.Context(), rel.Approved, dst); !errors.Is(err, tuf.ErrMismatch) {
			t.Errorf("%q instead of the target: %v", body, err)
		}
		if got, _ := os.ReadFile(dst); string(got) != "old" {
			t.Fatalf("%q was saved", got)
		}
		if left, _ := os.ReadDir(filepath.Dir(dst)); len(left) != 1 {
			t.Fatalf("left behind: %v", left)
		}
	}
	w.a.heal()
	if err := c.Save(t.Context(), rel.Approved, dst); err != nil {
		t.Fatal(err)
	}
	w.a.asked()
	if err := c.Save(t.Context(), rel.Approved, dst); err != nil || len(w.a.asked()) > 0 {
		t.Fatalf("requested a file that is correct already: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Save(ctx, rel.Approved, dst+"2"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A body that stalls is aborted after the idle time.
func TestSaveStalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add("1.0", "one")
	w.approve("1.0")
	c := w.client(w.pin(), func(cfg *client.Config) { cfg.IdleTimeout = 400 * time.Millisecond })
	rel, err := w.latest(c, "")
	if err != nil {
		t.Fatal(err)
	}
	w.a.does(func(rw http.ResponseWriter, r *http.Request) bool {
		rw.Write([]byte("o"))
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	err = c.Save(t.Context(), rel.Approved, filepath.Join(t.TempDir(), "agent"))
	if err == nil || !strings.Contains(err.Error(), "less than 1024 bytes per second for 400ms") {
		t.Fatalf("got %v", err)
	}
}

// A release role is not rolled back while its keys are the same, even if new online
// keys begin a new epoch.
func TestReleaseRoleFloorAcrossEpochs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add("1.0", "one")
	w.approve("1.0")
	before := t.TempDir()
	if err := os.CopyFS(before, os.DirFS(w.a.dir)); err != nil {
		t.Fatal(err)
	}
	w.update(func(tx *repo.Tx) error { return tx.Remove("review", target("1.0")) }) // recalled
	c := w.client(w.pin())
	if _, err := w.latest(c, ""); !errors.Is(err, tuf.ErrNotApproved) {
		t.Fatal(err)
	}
	// From the state before the recall, new online keys: old versions return in a new
	// epoch.
	w.a.clear()
	if err := os.CopyFS(w.a.dir, os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
	w.update(func(tx *repo.Tx) error {
		tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = w.public("timestamp-2"), w.public("snapshot-2")
		return nil
	})
	_, err := c.Refresh(t.Context())
	if !errors.Is(err, tuf.ErrRollback) || !strings.Contains(err.Error(), "lists review-agent v2, trusted v3") {
		t.Fatalf("got %v", err)
	}
	// The review centre's next version ends it.
	for range 2 {
		w.update(func(tx *repo.Tx) error { return tx.Renew("review") })
	}
	w.mustGet(c, "", "1.0", "one")
}
