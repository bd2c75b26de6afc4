package s3

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// A repository is published to a bucket, verified, copied to another bucket and pruned.
func TestRepository(t *testing.T) {
	ctx, s := t.Context(), newServer(t)
	b := s.open(t)
	b.part = testPart
	w := repotest.Empty(t)
	w.Now, w.Elsewhere = time.Now().UTC().Truncate(time.Second), b
	w.Update(w.Define)
	s.requests()
	w.Update(func(tx *repo.Tx) error {
		if err := tx.Add("vendor", "agent/agent-1.0", strings.NewReader(large), repotest.Release("1.0")); err != nil {
			return err
		}
		return tx.Approve("review", "agent/agent-1.0", nil)
	})
	reads, writes := 0, 0
	for _, r := range s.requests() {
		if r.Method == http.MethodGet {
			reads++
		} else {
			writes++
		}
	}
	t.Logf("a release: %d reads, %d writes", reads, writes)
	if reads > 60 || writes > 25 {
		t.Errorf("a release took %d reads, %d writes", reads, writes)
	}
	pin, err := w.Open().Pin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	opt := repotest.Options(w.Config())
	report, err := mirror.Verify(ctx, b, pin, opt)
	if err != nil || report.Err() != nil {
		t.Fatal(report, err)
	}

	// A reader needs no permission to write.
	read := s.options(func(next http.RoundTripper) http.RoundTripper {
		return tripper(func(r *http.Request) (*http.Response, error) {
			if r.Method != http.MethodGet {
				t.Errorf("a reader sends %s", r.Method)
			}
			return next.RoundTrip(r)
		})
	})
	read.ReadOnly = true
	reader, err := Open(ctx, uri, read)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Open(ctx, "s3://bucket/mirror?endpoint=http://127.0.0.1:1", s.options())
	if err != nil {
		t.Fatal(err)
	}
	if err := mirror.Clone(ctx, other, reader, pin, opt); err != nil {
		t.Fatal(err)
	}
	report, err = mirror.Verify(ctx, other, pin, opt, mirror.Mirror{Name: "reader", Source: reader})
	if err != nil || report.Err() != nil {
		t.Fatal(report, err)
	}
	if err := reader.Create(ctx, "targets/x", strings.NewReader("x")); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}

	// A file that no metadata lists is removed when it is old enough.
	orphan := "targets/agent/" + strings.Repeat("ab", 32) + ".agent-0.9"
	if err := b.Create(ctx, orphan, strings.NewReader("old")); err != nil {
		t.Fatal(err)
	}
	if removed, err := w.Open().Prune(ctx, nil); err != nil || len(removed) > 0 {
		t.Fatal(removed, err)
	}
	w.Now = w.Now.Add(2 * time.Hour)
	removed, err := w.Open().Prune(ctx, &repo.PruneOptions{Drafts: time.Hour})
	if err != nil || !slices.ContainsFunc(removed, func(f storage.FileInfo) bool { return f.Name == orphan }) {
		t.Fatal(removed, err)
	}
	if report, err = mirror.Verify(ctx, b, pin, opt); err != nil || report.Err() != nil {
		t.Fatal(report, err)
	}
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Two publishers with handles of their own lose nothing of each other's changes.
func TestPublishersRace(t *testing.T) {
	ctx, s := t.Context(), newServer(t)
	w := repotest.Empty(t)
	w.Elsewhere = s.open(t)
	w.Update(w.Define)
	const each = 3
	var all sync.WaitGroup
	for p := range 2 {
		cfg := w.Config()
		for _, k := range w.Keys {
			cfg.Signers = append(cfg.Signers, k)
		}
		r := repo.New(s.open(t), cfg)
		all.Go(func() {
			for i := range each {
				for {
					err := r.Update(ctx, func(tx *repo.Tx) error {
						version := fmt.Sprintf("%d.%d", p+1, i)
						path := fmt.Sprintf("agent/agent-%s", version)
						release := &tuf.Release{Product: fmt.Sprintf("agent-%d", p), Version: version, Channel: "stable", Platform: "linux/amd64"}
						if err := tx.Add("vendor", path, strings.NewReader(version), release); err != nil {
							return err
						}
						return tx.Approve("review", path, nil)
					})
					if err == nil {
						break
					}
					if !errors.Is(err, repo.ErrConflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	pin, err := w.Open().Pin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	report, err := mirror.Verify(ctx, w.Elsewhere, pin, repotest.Options(w.Config()))
	if err != nil || report.Err() != nil {
		t.Fatal(report, err)
	}
	var listed []string
	for f, err := range w.Elsewhere.(storage.Lister).List(ctx, "targets/agent/") {
		if err != nil {
			t.Fatal(err)
		}
		for p := range 2 {
			for i := range each {
				if strings.HasSuffix(f.Name, fmt.Sprintf(".agent-%d.%d", p+1, i)) {
					listed = append(listed, f.Name)
				}
			}
		}
	}
	diff, err := w.Open().Pending(ctx, "review")
	if err != nil || len(diff) > 0 || len(listed) < 2*each {
		t.Fatalf("%d files, %v pending, %v", len(listed), diff, err)
	}
	if orphans := report.Findings; len(orphans) > 0 {
		for _, f := range orphans {
			if strings.HasPrefix(f.Name, "targets/") && strings.Contains(f.Name, ".agent-") {
				t.Errorf("a published release is listed by no metadata: %v", f)
			}
		}
	}
}

// A bucket has the headers that mirror.Handler sends.
func TestHeaders(t *testing.T) {
	s := newServer(t)
	b := s.open(t)
	b.part = testPart
	h := mirror.Handler(b)
	for name, data := range map[string]string{"metadata/timestamp.json": "x", "metadata/1.root.json": "x", "metadata/12.vendor-agent.json": large, "metadata/recovery/1": "x", "metadata/snapshot.json": large,
		"targets/agent/" + strings.Repeat("ab", 32) + ".agent": large, "targets/x": "x", "targets/metadata/timestamp.json": "x"} {
		s.requests()
		if err := b.Create(t.Context(), name, strings.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		sent := s.requests()
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/"+name, nil))
		if rec.Code != 200 {
			t.Fatal(name, rec.Code)
		}
		seen := false
		for _, r := range sent {
			if !strings.HasSuffix(r.URL.Path, name) || r.URL.Query().Has("partNumber") || r.Method != http.MethodPut && !r.URL.Query().Has("uploads") {
				continue
			}
			seen = true
			for _, key := range []string{"Cache-Control", "Content-Type"} {
				if got, want := r.Header.Get(key), rec.Header().Get(key); got != want {
					t.Errorf("%s: %s %q, want %q", name, key, got, want)
				}
			}
		}
		if !seen {
			t.Errorf("%s: no request", name)
		}
	}
}
