package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/tuf"
)

const mib = 1 << 20

// After a connection is cut at any byte only the rest is requested, of the same version
// of the file if the server sends a tag.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	d := newDepot(t, 1, mib)
	p := d.mirrors[0]
	tag := fmt.Sprintf(`"%d-%x"`, mib, d.content[:8])
	for tenth := range 10 {
		at := max(1, tenth*mib/10)
		for given, want := range map[string]string{tag: tag, "W/" + tag: "", "": "", `"a b"`: "", `"tag`: ""} {
			p.tell(first(func(_ int, w http.ResponseWriter, r *http.Request, file http.HandlerFunc) {
				if given == "" {
					w.Header()["Etag"] = []string{}
				} else {
					w.Header().Set("ETag", given)
				}
				file(&cutter{w, at, hangUp}, r)
			}, nil))
			d.saves(filepath.Join(t.TempDir(), "agent"))
			if got, want := p.asked(), []ask{{-1, "", int64(at)}, {int64(at), want, int64(mib - at)}}; !slices.Equal(got, want) {
				t.Errorf("cut at %d, ETag %s: asked %v, want %v", at, given, got, want)
			}
		}
	}
}

// A download from a server that cuts every 300 kB completes, and no byte is sent twice.
func TestCutEverywhere(t *testing.T) {
	d := newDepot(t, 1, 3*mib)
	d.mirrors[0].tell(cutAfter(300_000))
	d.saves(filepath.Join(t.TempDir(), "agent"))
	if got := d.mirrors[0].asked(); len(got) != 11 || sent(got) != 3*mib {
		t.Errorf("%d requests, %d bytes", len(got), sent(got))
	}
	// Short reads are not repeated forever; the next Save resumes.
	d.mirrors[0].tell(cutAfter(1000))
	dir := t.TempDir()
	if err := d.save(t.Context(), filepath.Join(dir, "agent")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if got := d.mirrors[0].asked(); len(got) != 4 {
		t.Errorf("asked %v", got)
	}
	part(t, dir, 4000)
}

// If a location breaks off, the next one delivers the rest.
func TestNextLocationResumes(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]behaviour{"cut": down, "gone": gone,
		"silent": func(_ int, w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t, 2, mib)
			d.mirrors[0].tell(first(cutAfter(400_000), end))
			c := d.client(func(cfg *client.Config) { cfg.IdleTimeout = 2 * time.Second })
			file := filepath.Join(t.TempDir(), "agent")
			if err := c.Save(t.Context(), d.approved(c), file); err != nil {
				t.Fatal(err)
			}
			d.holds(file)
			a, b := d.mirrors[0].asked(), d.mirrors[1].asked()
			if len(a) != 2 || a[0].sent != 400_000 {
				t.Errorf("the first was asked %v", a)
			}
			if want := []ask{{400_000, "", mib - 400_000}}; !slices.Equal(b, want) {
				t.Errorf("the second was asked %v, want %v", b, want)
			}
		})
	}
}

// A location that stalls is left, and its bytes are not fetched again.
func TestStallInTheMiddle(t *testing.T) {
	t.Parallel()
	d := newDepot(t, 2, mib)
	d.mirrors[0].tell(func(_ int, w http.ResponseWriter, r *http.Request, file http.HandlerFunc) {
		file(&cutter{w, 500_000, func() { <-r.Context().Done(); hangUp() }}, r)
	})
	c := d.client(func(cfg *client.Config) { cfg.IdleTimeout = 2 * time.Second })
	file := filepath.Join(t.TempDir(), "agent")
	if err := c.Save(t.Context(), d.approved(c), file); err != nil {
		t.Fatal(err)
	}
	d.holds(file)
	if a, b := d.mirrors[0].asked(), d.mirrors[1].asked(); sent(a)+sent(b) != mib {
		t.Errorf("%v and %v", a, b)
	}
}

// wrongRanges are wrong responses to range requests. Requests for the whole file are
// served correctly.
func wrongRanges(d *depot) map[string]behaviour {
	rest := func(w http.ResponseWriter, r *http.Request, status int, headers ...string) {
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		w.Write(d.content[mib/2:])
	}
	answer := func(status int, headers ...string) behaviour {
		return func(_ int, w http.ResponseWriter, r *http.Request, file http.HandlerFunc) {
			if r.Header.Get("Range") == "" {
				file(w, r)
				return
			}
			rest(w, r, status, headers...)
		}
	}
	half, last := mib/2, mib-1
	return map[string]behaviour{
		"ignored": func(_ int, w http.ResponseWriter, r *http.Request, file http.HandlerFunc) {
			r.Header.Del("Range")
			file(w, r)
		},
		"other bytes": func(_ int, w http.ResponseWriter, r *http.Request, file http.HandlerFunc) {
			if r.Header.Get("Range") == "" {
				file(w, r)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", half, last, mib))
			w.WriteHeader(206)
			w.Write(d.bad(half, half+1)[half:])
		},
		"begins elsewhere":   answer(206, fmt.Sprintf("Content-Range: bytes %d-%d/%d", half+1, last, mib)),
		"begins at 0":        answer(206, fmt.Sprintf("Content-Range: bytes 0-%d/%d", last, mib)),
		"ends beyond":        answer(206, fmt.Sprintf("Content-Range: bytes %d-%d/%d", half, mib, mib)),
		"ends before":        answer(206, fmt.Sprintf("Content-Range: bytes %d-%d/%d", half, half-1, mib)),
		"no Content-Range":   answer(206),
		"junk Content-Range": answer(206, fmt.Sprintf("Content-Range: bytes=%d-%d/%d", half, last, mib)),
		"signs":              answer(206, fmt.Sprintf("Content-Range: bytes +%d-%d/%d", half, last, mib)),
		"several":            answer(206, "Content-Type: multipart/byteranges; boundary=x"),
		"gzip":               answer(206, fmt.Sprintf("Content-Range: bytes %d-%d/%d", half, last, mib), "Content-Encoding: gzip"),
		"changed":            answer(206, fmt.Sprintf("Content-Range: bytes %d-%d/%d", half, last, mib), `ETag: "other"`),
		"416":                answer(416, fmt.Sprintf("Content-Range: bytes */%d", mib)),
	}
}

// A location without ranges, or with wrong ones, is asked for the whole file. If there
// is another location, that is asked for the rest and no more.
func TestWrongRanges(t *testing.T) {
	for name := range wrongRanges(&depot{content: noise(mib)}) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t, 2, mib)
			wrong := wrongRanges(d)[name]
			broken := first(cutAfter(mib/2), wrong)
			d.mirrors[0].tell(broken)
			d.mirrors[1].tell(gone)
			d.saves(filepath.Join(t.TempDir(), "agent"))
			asks := d.mirrors[0].asked()
			if want := int64(2*mib + mib/2); sent(asks) > want || len(asks) > 4 {
				t.Errorf("alone: asked %v", asks)
			}

			d.mirrors[0].tell(broken)
			d.mirrors[1].tell(nil)
			d.saves(filepath.Join(t.TempDir(), "agent"))
			a, b := d.mirrors[0].asked(), d.mirrors[1].asked()
			switch name {
			case "ignored":
				if sent(a) != mib+mib/2 || len(b) != 0 {
					t.Errorf("asked %v and %v", a, b)
				}
			case "gzip": // identity was requested: the header is ignored
				if sent(a) != mib || len(a) != 2 || len(b) != 0 {
					t.Errorf("asked %v and %v", a, b)
				}
			case "other bytes": // detected only by the hash of the whole file
				if len(a) != 3 || sent(a) != 2*mib || len(b) != 0 {
					t.Errorf("asked %v and %v", a, b)
				}
			default:
				if want := []ask{{mib / 2, "", mib / 2}}; !slices.Equal(b, want) || len(a) != 2 {
					t.Errorf("asked %v and %v", a, b)
				}
			}
		})
	}
}

// The file is replaced during a download: by a wrong one, by one of another length, and
// back.
func TestFileChangesInBetween(t *testing.T) {
	for name, at := range map[string]func(d *depot) []byte{
		"from the start": func(d *depot) []byte { return d.bad(0, mib) },
		"at the end":     func(d *depot) []byte { return d.bad(mib-1, mib) },
		"longer":         func(d *depot) []byte { return append(d.bad(0, 1), 'x') },
		"shorter":        func(d *depot) []byte { return d.bad(0, 1)[:mib/4] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t, 2, mib)
			other := at(d)
			// It was wrong, and is correct from then on.
			d.mirrors[0].tell(first(func(_ int, w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
				d.file(other)(&cutter{w, min(mib/2, len(other)-1), hangUp}, r)
			}, nil))
			d.mirrors[1].tell(down)
			err := d.save(t.Context(), filepath.Join(t.TempDir(), "agent"))
			if refused := len(other) != mib; refused != errors.Is(err, tuf.ErrMismatch) || !refused && err != nil {
				t.Errorf("healed: %v", err)
			}
			// It was correct, and is wrong from then on.
			dir := t.TempDir()
			d.mirrors[0].tell(first(cutAfter(mib/2), d.gives(other)))
			if err := d.save(t.Context(), filepath.Join(dir, "agent")); err == nil {
				t.Error("no error")
			}
			d.mirrors[1].tell(nil)
			d.saves(filepath.Join(dir, "agent"))
		})
	}
}

// Bytes of an honest location are not lost because of a malicious one, as far as that
// can be determined.
func TestMaliciousLocations(t *testing.T) {
	t.Parallel()
	wrong := func(d *depot) behaviour { return d.gives(d.bad(0, mib)) }
	t.Run("after the honest one", func(t *testing.T) {
		d := newDepot(t, 3, mib)
		d.mirrors[0].tell(first(cutAfter(mib/2), down))
		d.mirrors[1].tell(wrong(d))
		d.saves(filepath.Join(t.TempDir(), "agent"))
		if got, want := d.mirrors[2].asked(), []ask{{mib / 2, "", mib / 2}}; !slices.Equal(got, want) {
			t.Errorf("asked %v, want %v", got, want)
		}
	})
	t.Run("after the honest one, which comes back", func(t *testing.T) {
		d := newDepot(t, 2, mib)
		d.mirrors[0].tell(first(cutAfter(mib/2), down))
		d.mirrors[1].tell(wrong(d))
		dir := t.TempDir()
		if err := d.save(t.Context(), filepath.Join(dir, "agent")); !errors.Is(err, tuf.ErrMismatch) {
			t.Fatalf("got %v", err)
		}
		part(t, dir, mib/2)
		d.mirrors[0].tell(nil)
		d.saves(filepath.Join(dir, "agent"))
		if got := d.mirrors[0].asked(); sent(got) != mib/2 {
			t.Errorf("asked %v", got)
		}
	})
	t.Run("ignoring ranges", func(t *testing.T) {
		d := newDepot(t, 2, mib)
		d.mirrors[0].tell(first(cutAfter(mib/2), down))
		d.mirrors[1].tell(func(_ int, w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
			r.Header.Del("Range")
			d.file(d.bad(1000, mib))(w, r)
		})
		dir := t.TempDir()
		if err := d.save(t.Context(), filepath.Join(dir, "agent")); !errors.Is(err, tuf.ErrMismatch) {
			t.Fatalf("got %v", err)
		}
		part(t, dir, mib/2)
		if got := d.mirrors[1].asked(); len(got) != 2 {
			t.Errorf("asked %v", got)
		}
	})
	t.Run("before the honest one", func(t *testing.T) {
		for _, ranges := range []bool{true, false} {
			d := newDepot(t, 2, mib)
			d.mirrors[0].tell(first(func(_ int, w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
				d.file(d.bad(0, mib))(&cutter{w, mib / 2, hangUp}, r)
			}, down))
			if !ranges {
				d.mirrors[1].tell(wrongRanges(d)["ignored"])
			}
			d.saves(filepath.Join(t.TempDir(), "agent"))
			// The rest of the wrong file, or the start of the correct one; then all of
			// it.
			if got := d.mirrors[1].asked(); len(got) != 2 || sent(got) > 2*mib {
				t.Errorf("asked %v", got)
			}
		}
	})
	t.Run("alone", func(t *testing.T) {
		d := newDepot(t, 1, mib)
		d.mirrors[0].tell(wrong(d))
		dir := t.TempDir()
		c := d.client(func(cfg *client.Config) { cfg.Retries = 2 })
		if err := c.Save(t.Context(), d.approved(c), filepath.Join(dir, "agent")); !errors.Is(err, tuf.ErrMismatch) {
			t.Fatalf("got %v", err)
		}
		if got := d.mirrors[0].asked(); len(got) != 1 {
			t.Errorf("a faulty location was asked %v", got)
		}
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("left %q", left)
		}
	})
	t.Run("all of them, in turn", func(t *testing.T) {
		d := newDepot(t, 3, mib)
		for _, p := range d.mirrors {
			p.tell(func(_ int, w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
				d.file(d.bad(0, mib))(&cutter{w, 400_000, hangUp}, r)
			})
		}
		c := d.client(func(cfg *client.Config) { cfg.Retries = 1 })
		if err := c.Save(t.Context(), d.approved(c), filepath.Join(t.TempDir(), "agent")); err == nil {
			t.Fatal("no error")
		}
		for i, p := range d.mirrors {
			if got := p.asked(); len(got) > 12 {
				t.Errorf("%d was asked %v", i, got)
			}
		}
	})
}

// When its context ends Save returns its error at once; the next one resumes.
func TestSaveEndsWithContext(t *testing.T) {
	d := newDepot(t, 1, mib)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	d.mirrors[0].tell(func(_ int, w http.ResponseWriter, r *http.Request, file http.HandlerFunc) {
		file(&cutter{w, mib / 4, func() {
			for len(parts(t, dir)) == 0 || size(t, parts(t, dir)[0]) < mib/4 {
				time.Sleep(time.Millisecond)
			}
			cancel()
			<-r.Context().Done()
			hangUp()
		}}, r)
	})
	if err := d.save(ctx, filepath.Join(dir, "agent")); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	part(t, dir, mib/4)
	d.mirrors[0].tell(nil)
	d.saves(filepath.Join(dir, "agent"))
	if got := d.mirrors[0].asked(); len(got) != 1 || sent(got) != mib-mib/4 {
		t.Errorf("asked %v", got)
	}
}
