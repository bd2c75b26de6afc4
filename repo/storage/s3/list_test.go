package s3

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/repo/storage"
)

func TestListPages(t *testing.T) {
	s := newServer(t)
	b := s.open(t)
	const n = 25
	for i := range n {
		if err := b.Create(t.Context(), fmt.Sprintf("targets/a b+%02d/ü", i), strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	for pages := range int32(n + 2) {
		b.pages = pages + 1
		seen := map[string]bool{}
		for f, err := range b.List(t.Context(), "targets/") {
			if err != nil || seen[f.Name] {
				t.Fatal(f, err)
			}
			seen[f.Name] = true
		}
		if len(seen) != n {
			t.Fatalf("pages of %d: %d files", b.pages, len(seen))
		}
	}
}

// A listing that never ends, or that has other keys than asked for, is an error.
func TestListMalformed(t *testing.T) {
	page := func(keys, rest string) string {
		out := "<ListBucketResult>" + rest
		for _, k := range strings.Fields(keys) {
			out += "<Contents><Key>" + k + "</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
		}
		return out + "</ListBucketResult>"
	}
	for name, body := range map[string]string{
		"same token": page("", "<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"),
		"same keys":  page("pre/fix/a", "<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>"),
		"no token":   page("", "<IsTruncated>true</IsTruncated>"),
		"outside":    page("other/a", ""),
		"escaped":    page("pre/fix/%%zz", "<EncodingType>url</EncodingType>"),
		"cut":        "<ListBucketResult><Contents>",
	} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			b := newServer(t).open(t, func(next http.RoundTripper) http.RoundTripper {
				return tripper(func(r *http.Request) (*http.Response, error) {
					if !r.URL.Query().Has("list-type") {
						return next.RoundTrip(r)
					}
					n++
					rec := httptest.NewRecorder()
					rec.Header().Set("Content-Type", "application/xml")
					fmt.Fprint(rec, strings.ReplaceAll(strings.ReplaceAll(body, "%d", fmt.Sprint(n)), "%%", "%"))
					return rec.Result(), nil
				})
			})
			var err error
			for _, err = range b.List(t.Context(), "") {
			}
			if err == nil || n > maxAttempts {
				t.Errorf("%s: %v after %d requests", name, err, n)
			}
		})
	}
}

// A Create of an old file runs at every point of a Remove, and the reverse. If Create
// succeeds, the file exists afterwards. So it is on stores of all abilities.
func TestRemoveOrCreate(t *testing.T) {
	for _, data := range []string{"small", large} {
		for name, set := range map[string]func(*server){
			"S3": func(*server) {}, "missing404": func(s *server) { s.missing404 = true },
			"spooled": func(s *server) { s.ignoreParts, s.noDelete = true, true }, "encrypted": func(s *server) { s.encrypted = true },
		} {
			for _, outer := range []string{"remove", "create"} {
				t.Run(fmt.Sprintf("%s/%d/%s", name, len(data), outer), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						conflicts, removals := 0, 0
						for at := 0; at < 20; at++ {
							s := newServer(t)
							set(s)
							inner, k := s.open(t), -1
							inner.part = testPart
							if err := inner.Create(t.Context(), "targets/a", strings.NewReader(data)); err != nil {
								t.Fatal(err)
							}
							time.Sleep(48 * time.Hour)
							create := func(b *Bucket) error { return b.Create(t.Context(), "targets/a", strings.NewReader(data)) }
							remove := func(b *Bucket) error {
								return b.Remove(t.Context(), "targets/a", time.Now().Add(-time.Hour))
							}
							var created, removed error
							var armed bool
							b := s.open(t, func(next http.RoundTripper) http.RoundTripper {
								return tripper(func(r *http.Request) (*http.Response, error) {
									if armed {
										if k++; k == at {
											if outer == "remove" {
												created = create(inner)
											} else {
												removed = remove(inner)
											}
										}
									}
									return next.RoundTrip(r)
								})
							})
							b.part, b.opt.Parallel = testPart, 1 // one request at a time, so that they can be counted
							if _, err := b.conditionalParts(t.Context()); err != nil {
								t.Fatal(err)
							}
							armed = true
							if outer == "remove" {
								removed = remove(b)
							} else {
								created = create(b)
							}
							if k < at {
								break // all points were tried
							}
							for _, err := range []error{created, removed} {
								if err != nil && !errors.Is(err, storage.ErrConflict) {
									t.Errorf("request %d: %v", at, err)
								}
							}
							if created != nil {
								conflicts++
							}
							if removed == nil {
								removals++
							}
							got, err := inner.Read(t.Context(), "targets/a")
							if created == nil && (err != nil || string(got) != data) {
								t.Errorf("request %d: Create succeeded (remove: %v), but the file is gone: %v", at, removed, err)
							}
						}
						if conflicts == 0 || removals == 0 {
							t.Errorf("%d conflicts, %d removals: the calls did not meet", conflicts, removals)
						}
					})
				})
			}
		}
	}
}

// A process died during Remove: its mark blocks the file for a while only.
func TestDeadMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newServer(t), &faulty{}
		b := s.open(t, f.wrap)
		ctx := t.Context()
		create := func() error { return b.Create(ctx, "targets/a", strings.NewReader("x")) }
		remove := func() error { return b.Remove(ctx, "targets/a", time.Now().Add(-time.Minute)) }
		if err := create(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		f.set(func(n int, _ *http.Request) fault {
			if n > 0 {
				return unsent
			}
			return none
		})
		if err := remove(); err == nil {
			t.Fatal("no fault")
		}
		f.set(nil)
		if err := create(); !errors.Is(err, storage.ErrConflict) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if err := remove(); !errors.Is(err, storage.ErrConflict) {
			t.Fatal(err)
		}
		time.Sleep(markAge)
		if err := create(); err != nil {
			t.Fatal(err)
		}
		if err := remove(); !errors.Is(err, storage.ErrConflict) { // young now, by way of the dead mark
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		if _, size, _ := storage.Stat(ctx, b, "targets/a"); size > 0 {
			t.Fatal("not removed")
		}
	})
}

// The answer to the request that removes is lost, and a Create makes the file again
// before the retry: it stays.
func TestRemoveRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newServer(t), &faulty{}
		b, other, ctx := s.open(t, f.wrap), s.open(t), t.Context()
		if err := b.Create(ctx, "targets/a", strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		deletes := 0
		f.set(func(_ int, r *http.Request) fault {
			if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/a") {
				if deletes++; deletes == 1 {
					return unheard
				}
			}
			if deletes == 1 && r.Method == http.MethodGet {
				deletes++
				if err := other.Create(ctx, "targets/a", strings.NewReader("x")); err != nil {
					t.Error(err)
				}
			}
			return none
		})
		if err := b.Remove(ctx, "targets/a", time.Now().Add(-time.Minute)); !errors.Is(err, storage.ErrConflict) {
			t.Fatal(err)
		}
		if _, err := other.Read(ctx, "targets/a"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newServer(t), &faulty{}
		b, ctx := s.open(t, f.wrap), t.Context()
		b.part = testPart
		if _, err := b.conditionalParts(ctx); err != nil {
			t.Fatal(err)
		}
		// A process died in an upload, and another one in Remove.
		f.set(func(n int, r *http.Request) fault {
			if n > 2 {
				return unsent
			}
			return none
		})
		if err := b.Create(ctx, "targets/a", strings.NewReader(large)); err == nil {
			t.Fatal("no fault")
		}
		f.set(func(n int, r *http.Request) fault {
			if n > 0 {
				return unsent
			}
			return none
		})
		if err := b.Remove(ctx, "targets/b", time.Now()); err == nil {
			t.Fatal("no fault")
		}
		f.set(nil)
		if s.uploads() != 1 {
			t.Fatal(s.uploads())
		}
		time.Sleep(24 * time.Hour)
		if n, err := b.Clean(ctx, time.Now().Add(-48*time.Hour)); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := b.Clean(ctx, time.Now().Add(-time.Hour)); n != 1 || err != nil || s.uploads() != 0 {
			t.Fatal(n, err, s.uploads())
		}
		for o, err := range b.list(ctx, "") {
			if err != nil || o.Name != probeKey {
				t.Errorf("%s is left: %v", o.Name, err)
			}
		}
	})
}
