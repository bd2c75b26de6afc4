package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// A small file is downloaded into memory with the same checks, from any honest
// location; nothing is requested if the file is larger than the limit.
func TestBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testBytes) // no waiting for the silent location
}

func testBytes(t *testing.T) {
	w := newWeb(t)
	c := w.client(func(cfg *client.Config) { cfg.IdleTimeout = 400 * time.Millisecond })
	a := w.approved(c)
	for name, does := range map[string]answer{
		"well":        nil,
		"unreachable": unreachable,
		"wrong":       body(targetSuffix, []byte("the tnega")),
		"short":       body(targetSuffix, []byte("the")),
		"long":        body(targetSuffix, []byte("the agent!")),
		"gzip":        zipped(targetSuffix),
		"endless":     func(_ string, r *http.Request) (*http.Response, error) { return respond(r, 200, endless{}), nil },
		"silent": func(_ string, r *http.Request) (*http.Response, error) {
			return respond(r, 200, until(r.Context())), nil
		},
	} {
		w.does(does, vendorHost)
		if got, err := c.ReadTarget(t.Context(), a, a.Length()); err != nil || string(got) != "the agent" {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
		if does == nil || name == "long" { // bytes after the approved length are ignored
			continue
		}
		w.does(does, cdnHost)
		if got, err := c.ReadTarget(t.Context(), a, 1000); err == nil || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		w.does(nil, cdnHost)
	}
	w.asked("")
	if got, err := c.ReadTarget(t.Context(), a, a.Length()-1); !errors.Is(err, tuf.ErrTooLarge) || got != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.ReadTarget(t.Context(), tuf.Approved{}, 1000); !errors.Is(err, tuf.ErrNotApproved) {
		t.Error(err)
	}
	if got := w.asked(""); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
	w.does(nil, vendorHost)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.ReadTarget(ctx, a, 1000); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	p := newPlain(t)
	other := p.client()
	if _, err := other.ReadTarget(t.Context(), a, 1000); !errors.Is(err, tuf.ErrMismatch) {
		t.Error(err)
	}
	// An empty file is valid.
	w = newWeb(t, func(r *rawtuf.Repo) { r.AddTarget(rawtuf.Path, "", nil, "vendor-agent", "review-agent") })
	c = w.client()
	a = w.approved(c)
	w.does(unreachable, vendorHost, cdnHost, reviewHost)
	if got, err := c.ReadTarget(t.Context(), a, 0); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
}

// An interrupted transfer is resumed in memory, too.
func TestBytesResumes(t *testing.T) {
	d := newDepot(t, 2, mib)
	d.mirrors[0].tell(first(cutAfter(400_000), down))
	c := d.client()
	got, err := c.ReadTarget(t.Context(), d.approved(c), mib)
	if err != nil || string(got) != string(d.content) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if a, b := d.mirrors[0].asked(), d.mirrors[1].asked(); sent(a)+sent(b) != mib {
		t.Errorf("asked %v and %v", a, b)
	}
	d.mirrors[0].tell(cutAfter(1000))
	d.mirrors[1].tell(down)
	if _, err := c.ReadTarget(t.Context(), d.approved(c), mib); !errors.Is(err, io.ErrUnexpectedEOF) && !strings.Contains(err.Error(), "EOF") {
		t.Error(err)
	}
}

// Progress starts with the bytes already available, never exceeds the actual number,
// and ends at the total.
func TestProgress(t *testing.T) {
	d := newDepot(t, 2, mib)
	var told []client.Progress
	c := d.client(func(cfg *client.Config) { cfg.Progress = func(p client.Progress) { told = append(told, p) } })
	a := d.approved(c)
	dir := t.TempDir()
	d.mirrors[0].tell(cutAfter(mib / 2))
	d.mirrors[1].tell(down)
	d.mirrors[0].tell(first(cutAfter(mib/2), down))
	if err := c.Save(t.Context(), a, dir+"/agent"); err == nil {
		t.Fatal("no error")
	}
	if len(told) == 0 || told[0] != (client.Progress{Path: rawtuf.Path, Total: mib}) || told[len(told)-1].Done == mib {
		t.Errorf("%+v", told)
	}
	told = nil
	d.mirrors[0].tell(nil)
	if err := c.Save(t.Context(), a, dir+"/agent"); err != nil {
		t.Fatal(err)
	}
	if told[0] != (client.Progress{Path: rawtuf.Path, Done: mib / 2, Total: mib}) {
		t.Errorf("%+v", told[0])
	}
	last := int64(0)
	for _, p := range told {
		if p.Done < last || p.Total != mib {
			t.Errorf("%+v after %d", p, last)
		}
		last = p.Done
	}
	if got := told[len(told)-1]; got != (client.Progress{Path: rawtuf.Path, Done: mib, Total: mib, Location: "p0"}) {
		t.Errorf("%+v", got)
	}
	told = nil
	if err := c.Save(t.Context(), a, dir+"/agent"); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0] != (client.Progress{Path: rawtuf.Path, Done: mib, Total: mib}) {
		t.Errorf("right already: %+v", told)
	}
}
