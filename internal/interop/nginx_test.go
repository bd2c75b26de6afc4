//go:build unix

package interop_test

import (
	"bytes"
	"crypto/tls"
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

// requests returns the requests that nginx answered, in the format of its log.
func (n *nginx) requests() []string {
	data, err := os.ReadFile(filepath.Join(n.dir, "access.log"))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// of waits until the log has a request with all these words, and returns such
// requests.
func (n *nginx) of(words ...string) (out []string) {
	for range 500 {
		for _, r := range n.requests() {
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(r, word) }) {
				out = append(out, r)
			}
		}
		if len(out) > 0 {
			return out
		}
		time.Sleep(20 * time.Millisecond) // nginx logs after it has answered
	}
	return nil
}

func (w *world) save(c *client.Client, rel client.Release, file string, want []byte) {
	w.t.Helper()
	noErr(w.t, c.Save(w.t.Context(), rel.Approved, file))
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		w.t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
	}
}

// Metadata is compressed and targets are not, over a connection that only the test's
// authority certifies.
func TestNginx(t *testing.T) {
	w, n := newNginx(t, "", origin)
	w.release("1.1", []byte("agent 1.1"))
	c := w.client(nil)
	_, rel := w.latest(c, "1.1")
	file := filepath.Join(t.TempDir(), "agent")
	w.save(c, rel, file, []byte("agent 1.1"))
	if len(n.of("/metadata/", " 200 ", "coding=gzip")) == 0 || len(n.of("/targets/agent/", " 200 9 coding=-")) != 1 {
		t.Error("not coded as expected")
	}
	w.release("1.2", []byte("agent 1.2"))
	_, rel = w.latest(c, "1.2")
	w.save(c, rel, file, []byte("agent 1.2"))

	// A client that does not trust the authority fails, and loses nothing.
	stranger := w.client(func(cfg *client.Config) { cfg.HTTP = nil })
	_, err := stranger.Refresh(t.Context())
	failed, ok := errors.AsType[*client.RefreshError](err)
	if !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), "certificate") || !ok || failed.Root.Version() != 1 {
		t.Errorf("%v", err)
	}
	if err := stranger.Save(t.Context(), rel.Approved, file+"2"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(file + "2"); err == nil {
		t.Error("a file was created")
	}
	w.latest(c, "1.2")
}

// The client uses HTTP/1.1; then it expects a server name that is not in the
// certificate.
func TestNginxOldHTTP(t *testing.T) {
	w, _ := newNginx(t, "", origin)
	old := func(cfg *client.Config) {
		cfg.HTTP = w.ca.client(t, func(tr *http.Transport) {
			tr.ForceAttemptHTTP2 = false
			tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		})
	}
	_, rel := w.latest(w.client(old), "1.0")
	w.save(w.client(old), rel, filepath.Join(t.TempDir(), "agent"), []byte("agent 1.0"))
	misnamed := w.client(func(cfg *client.Config) {
		cfg.HTTP = w.ca.client(t, func(tr *http.Transport) { tr.TLSClientConfig.ServerName = "updates.example" })
	})
	if _, err := misnamed.Refresh(t.Context()); !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), "updates.example") {
		t.Errorf("%v", err)
	}
}

// big is a release whose download takes a while.
func (w *world) big() []byte {
	content := bytes.Repeat([]byte("0123456789abcdef\n"), 1<<18) // 4.5 MB
	w.release("2.0", content)
	return content
}

// interrupt downloads until some bytes have arrived, and kills the server.
func (w *world) interrupt(n *nginx, file string) (rel client.Release) {
	w.t.Helper()
	cut := false
	c := w.client(func(cfg *client.Config) {
		cfg.Progress = func(p client.Progress) {
			if p.Done > 1<<19 && !cut {
				cut = true
				n.kill()
			}
		}
	})
	_, rel = w.latest(c, "2.0")
	if err := c.Save(w.t.Context(), rel.Approved, file); err == nil || !cut {
		w.t.Fatalf("the download was not interrupted: %v", err)
	}
	if _, err := os.Lstat(file); err == nil {
		w.t.Fatal("a partial file has the final name")
	}
	return rel
}

const slow = "location /targets/ { limit_rate 1500k; }"

// Another process resumes a download that the server's death interrupted: with
// If-Range if the server provides a strong validator, and without it otherwise.
func TestNginxResume(t *testing.T) {
	for name, tt := range map[string]struct{ special, ifRange string }{
		"strong tag": {slow, `if-range=\x22`},
		"weak tag":   {"location /targets/ { limit_rate 1500k; etag off; add_header ETag 'W/\"abc\"'; }", "if-range=- "},
	} {
		t.Run(name, func(t *testing.T) {
			w, n := newNginx(t, tt.special, origin)
			content, file := w.big(), filepath.Join(t.TempDir(), "agent")
			rel := w.interrupt(n, file)
			n.start()
			w.save(w.client(nil), rel, file, content)
			got := n.of("/targets/agent/", " 206 ", "range=bytes=", tt.ifRange)
			if len(got) != 1 || len(n.of("/targets/agent/")) > 2 {
				t.Errorf("not resumed: %q", n.of("/targets/agent/"))
			}
		})
	}
}

// If a server dies and returns within one download, no byte is transferred twice.
func TestNginxCutAndBack(t *testing.T) {
	w, n := newNginx(t, slow, origin)
	content, cuts := w.big(), 0
	c := w.client(func(cfg *client.Config) {
		cfg.Retries = 3
		cfg.Progress = func(p client.Progress) {
			if p.Done > int64(cuts+1)<<20 && cuts < 3 {
				cuts++
				n.kill()
				n.start()
			}
		}
	})
	_, rel := w.latest(c, "2.0")
	w.save(c, rel, filepath.Join(t.TempDir(), "agent"), content)
	if cuts != 3 {
		t.Errorf("%d cuts", cuts)
	}
	if got := n.of("/targets/agent/", " 206 ", "range=bytes=", `if-range=\x22`); len(got) == 0 {
		t.Errorf("%q", n.of("/targets/agent/"))
	}
	if got := n.of("/targets/agent/", " 200 "); len(got) > 1 {
		t.Errorf("restarted: %q", got)
	}
}

// The file has another tag in the meantime: nginx sends the whole file, and the
// existing bytes are compared with it.
func TestNginxResumeOtherTag(t *testing.T) {
	w, n := newNginx(t, slow, origin)
	content, file := w.big(), filepath.Join(t.TempDir(), "agent")
	rel := w.interrupt(n, file)
	served := w.served(rel)
	noErr(t, os.Chtimes(served, time.Time{}, time.Now().Add(-time.Hour)))
	n.start()
	w.save(w.client(nil), rel, file, content)
	if got := n.of("/targets/agent/", "range=bytes="); len(got) != 1 || !strings.Contains(got[0], " 200 ") {
		t.Errorf("%q", got)
	}
}

// served is the file that is served for a release.
func (w *world) served(rel client.Release) string {
	a := rel.Approved
	dir, base := filepath.Split(a.Path())
	return filepath.Join(w.dir, "targets", dir, a.Hash()+"."+base)
}

// The file is too short for the requested range: the answer is 416, if there is no tag
// to check.
func TestNginxRangeBeyondTheEnd(t *testing.T) {
	w, n := newNginx(t, slow+" etag off;", origin)
	content, file := w.big(), filepath.Join(t.TempDir(), "agent")
	rel := w.interrupt(n, file)
	served := w.served(rel)
	noErr(t, os.Truncate(served, 1000))
	n.start()
	if err := w.client(nil).Save(t.Context(), rel.Approved, file); !errors.Is(err, tuf.ErrMismatch) {
		t.Errorf("a short file: %v", err)
	}
	if len(n.of("/targets/agent/", " 416 ", "if-range=-")) != 1 {
		t.Error("no 416")
	}
	if _, err := os.Lstat(file); err == nil {
		t.Error("a partial file has the final name")
	}
	noErr(t, os.WriteFile(served, content, 0o644))
	w.save(w.client(nil), rel, file, content)
}

// A server that answers every request with a page and status 200 does not stop the
// client if another operator serves the right files.
func TestNginxSoft404(t *testing.T) {
	special := "location /soft/ { alias REPO/; error_page 404 =200 /sorry.html; }"
	w, n := newNginx(t, special, func(origin, _, _ string) []string {
		return []string{origin + "soft/", strings.Replace(origin, "127.0.0.1", "localhost", 1)}
	})
	writeFile(t, "<html>Sorry!</html>", w.dir, "sorry.html")
	c := w.client(nil)
	view, rel := w.latest(c, "1.0")
	if len(view.Evidence()) != 1 {
		t.Errorf("evidence %q", view.Evidence())
	}
	if len(n.of("/soft/metadata/2.root.json", " 200 ")) != 1 || len(n.of(" /metadata/2.root.json", " 404 ")) != 1 {
		t.Errorf("not both locations were requested")
	}
	// The target is such a page too.
	noErr(t, os.Rename(w.served(rel), filepath.Join(w.dir, "away")))
	file := filepath.Join(t.TempDir(), "agent")
	if err := c.Save(t.Context(), rel.Approved, file); !errors.Is(err, tuf.ErrMismatch) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(file); err == nil {
		t.Error("an error page was installed")
	}
	w.update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	if view, _ := w.latest(w.client(nil), "1.0"); view.Root().Version() != 2 {
		t.Errorf("root v%d", view.Root().Version())
	}
}

// Directories exist under the names of files: nginx redirects, which is not followed,
// and lists directories, which are not valid files.
func TestNginxFolders(t *testing.T) {
	w, n := newNginx(t, "", func(origin, cache, rdv string) []string { return []string{origin, cache} })
	noErr(t, os.Mkdir(filepath.Join(w.dir, "metadata", "2.root.json"), 0o755))
	c := w.client(nil)
	_, err := c.Refresh(t.Context())
	if !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), "301 Moved Permanently, which is not followed") {
		t.Errorf("%v", err)
	}
	if got := n.of("/metadata/2.root.json 301 "); len(got) == 0 {
		t.Error("the log is empty")
	}
	if got := strings.Join(n.requests(), "\n"); strings.Contains(got, "/metadata/2.root.json/") {
		t.Errorf("the redirect was followed:\n%s", got)
	}
	noErr(t, os.Remove(filepath.Join(w.dir, "metadata", "2.root.json")))
	noErr(t, os.RemoveAll(filepath.Join(n.dir, "cache")))
	n.kill()
	n.start()
	w.latest(c, "1.0")
}

// A cache reports for an hour that there is no next root. A client that checked
// recently accepts that and keeps what it has; a client that starts, is due for a root
// check, or has met an error also asks the other operator.
func TestCacheOfAbsence(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		t.Run(map[bool]string{false: "renewed", true: "new online keys"}[rotate], func(t *testing.T) {
			w, n := newNginx(t, "", func(origin, cache, rdv string) []string { return []string{cache, origin} })
			now := time.Now()
			clock := func(cfg *client.Config) { cfg.Now = func() time.Time { return now } }
			c := w.client(clock)
			w.latest(c, "1.0")
			w.update(func(tx *repo.Tx) error {
				if tx.RenewRoot(); rotate {
					tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = w.public("timestamp-2"), w.public("snapshot-2")
				}
				return nil
			})
			w.release("1.1", []byte("agent 1.1"))
			view, err := c.Refresh(t.Context())
			if len(n.of("/metadata/2.root.json 404 ", "cache=HIT")) == 0 {
				t.Error("the cache did not serve the stored response")
			}
			if rotate {
				if err == nil && view.Root().Version() != 2 || err != nil && !errors.Is(err, client.ErrNoContent) {
					t.Fatalf("%v, %v", view, err)
				}
			} else if err != nil || view.Root().Version() != 1 {
				t.Fatalf("%v, %v", view, err)
			}
			// After an error the client checks at once, otherwise when a check is due.
			if !rotate {
				now = now.Add(7 * time.Hour)
			}
			if view, _ := w.latest(c, "1.1"); view.Root().Version() != 2 {
				t.Errorf("root v%d", view.Root().Version())
			}
			// A new process starts with a root check. It begins at the pin.
			w.state = t.TempDir()
			if view, _ := w.latest(w.client(clock), "1.1"); view.Root().Version() != 2 {
				t.Errorf("root v%d", view.Root().Version())
			}
		})
	}
}

// The vendor has lost all keys. A web server serves the recovery from the unchanged
// directory, and its logs show that clients search for it when they must, not before.
func TestNginxRecovery(t *testing.T) {
	w, n := newNginx(t, "", origin)
	now := time.Now()
	clock := func(cfg *client.Config) { cfg.Now = func() time.Time { return now } }
	w.latest(w.client(clock), "1.0")
	w.publish(func(r *repo.Repo) (*repo.Draft, error) {
		return r.StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "the vendor is gone"}, func(tx *repo.Tx) error {
			root := tx.Root()
			root.Parties[0].Keys = w.public("successor")
			root.Timestamp.Keys, root.Snapshot.Keys, root.Targets.Keys = w.public("timestamp-2"), w.public("snapshot-2"), w.public("targets-2")
			root.Classes[0].Roles[0].Keys.Keys = w.public("successor-agent")
			return nil
		})
	})
	if got := n.of("/metadata/recovery/"); len(got) > 0 {
		t.Errorf("recovery was requested in regular operation: %q", got)
	}
	for i := range 3 {
		view, err := w.client(clock).Refresh(t.Context())
		failed, _ := errors.AsType[*client.RefreshError](err)
		if i < 2 && (!errors.Is(err, tuf.ErrWaiting) || failed == nil || failed.Root.Version() != 1) {
			t.Fatalf("search %d: %v, %v", i, view, err)
		}
		now = now.Add(2 * 24 * time.Hour)
	}
	for _, name := range []string{"/metadata/recovery/1.statement.json 200 ", "/metadata/recovery/2.root.json 200 ", "/rdv/metadata/recovery/1.statement.json 200 "} {
		if len(n.of(name)) < 3 {
			t.Errorf("%s was not asked for three times", name)
		}
	}
	now = now.Add(-6 * 24 * time.Hour) // the content is signed for the current day
	w.release("1.1", []byte("agent 1.1"))
	if view, _ := w.latest(w.client(clock), "1.1"); view.Root().Version() != 2 {
		t.Errorf("root v%d", view.Root().Version())
	}
}

// If the cache reports a target as absent, it is fetched from the other location.
func TestCacheOfAbsentTarget(t *testing.T) {
	w, n := newNginx(t, "", func(origin, cache, rdv string) []string { return []string{cache, origin} })
	c := w.client(nil)
	_, rel := w.latest(c, "1.0")
	file := filepath.Join(t.TempDir(), "agent")
	served, away := w.served(rel), filepath.Join(w.dir, "away")
	noErr(t, os.Rename(served, away))
	if err := c.Save(t.Context(), rel.Approved, file); err == nil {
		t.Fatal("saved a target that no location has")
	}
	noErr(t, os.Rename(away, served))
	w.save(c, rel, file, []byte("agent 1.0"))
	if len(n.of("/targets/agent/", " 404 ", "cache=HIT")) == 0 {
		t.Error("the cache did not serve the stored response")
	}
}
