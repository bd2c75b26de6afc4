package client_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// A client does not contact a host that it knows to be retired: not from an older View,
// and not in a Save of a new process before its first refresh.
func TestRetiredHost(t *testing.T) {
	w := newWeb(t, func(r *rawtuf.Repo) {
		for _, role := range []string{"vendor-agent", "review-agent"} {
			r.Roles[role+"-deep"] = rawtuf.Targets()
			r.Signers[role+"-deep"] = []string{"deep"}
			r.Delegate(role, role+"-deep", rawtuf.Doc{"paths": []any{"agent/deep/*"}}, "deep")
			r.AddTarget("agent/deep/x", "x", nil, role+"-deep")
		}
	})
	c := w.client()
	before := w.good(c, 1)
	a := w.approved(c)
	w.repo.NextRoot(func() {
		ch := w.repo.Charter()
		ch["locations"] = ch["locations"].([]any)[1:]
		ch["retired"] = append(ch["retired"].([]any), rawtuf.Doc{"id": "gone", "hosts": []any{vendorHost}})
	})
	w.good(c, 2)
	w.asked("")
	if _, err := before.Find(t.Context(), "agent/deep/x"); err != nil {
		t.Error(err)
	}
	if err := w.client().Save(t.Context(), a, w.state("agent")); err != nil {
		t.Error(err)
	}
	if got := w.asked(vendorHost); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
}

// A delegated role is fetched from an honest location although the first one serves
// wrong bytes, which do not affect the View.
func TestDelegatedRoleFromMaliciousLocation(t *testing.T) {
	w := newWeb(t, func(r *rawtuf.Repo) {
		for _, role := range []string{"vendor-agent", "review-agent"} {
			r.Roles[role+"-deep"] = rawtuf.Targets()
			r.Signers[role+"-deep"] = []string{"deep"}
			r.Delegate(role, role+"-deep", rawtuf.Doc{"paths": []any{"agent/deep/*"}}, "deep")
			r.AddTarget("agent/deep/x", "x", nil, role+"-deep")
		}
	})
	for name, wrong := range map[string]answer{"junk": body("-deep.json", []byte("{}")), "unreachable": unreachable, "none": status(404, "-deep.json", nil), "html": body("-deep.json", []byte("<html>"))} {
		t.Run(name, func(t *testing.T) {
			w.dir = quickDir(t)
			view := w.good(w.client(), 1)
			w.does(wrong, vendorHost, cdnHost)
			if _, err := view.Find(t.Context(), "agent/deep/x"); err == nil {
				t.Error("found without an honest location")
			}
			if d, err := view.CheckInstalled(t.Context(), "agent/deep/x", ""); err == nil {
				t.Errorf("decided without an honest location: %v", d)
			}
			w.does(nil, cdnHost)
			if _, err := view.Find(t.Context(), "agent/deep/x"); err != nil {
				t.Error(err)
			}
			if _, err := view.Find(t.Context(), "agent/deep/y"); !errors.Is(err, tuf.ErrNoTarget) {
				t.Error(err)
			}
			w.does(nil, vendorHost)
		})
	}
}

// A location that only the pin lists serves roots, but no content: the parties may have
// left it.
func TestPinGivesNoContent(t *testing.T) {
	w := newWeb(t)
	c := w.client()
	w.repo.NextRoot(func() { w.repo.Charter()["locations"] = w.repo.Charter()["locations"].([]any)[1:] })
	w.good(c, 2)
	w.asked("")
	w.does(unreachable, cdnHost, reviewHost)
	w.bad(c, client.ErrNoContent)
	got := w.asked(vendorHost)
	if len(got) == 0 {
		t.Error("not asked for roots")
	}
	for _, name := range got {
		if !strings.HasSuffix(name, ".root.json") {
			t.Errorf("asked for %q", name)
		}
	}
}

// A location whose use_until has passed is not asked, also if its host continues as
// another location.
func TestUseUntilOfOneOfTwoOnAHost(t *testing.T) {
	w := newWeb(t, func(r *rawtuf.Repo) {
		locations(r, func(id string, l rawtuf.Doc) {
			if id == "main" {
				l["use_until"] = rawtuf.Stamp(rawtuf.Now.Add(time.Hour))
			} else if id == "cdn" {
				l["base"] = "https://" + vendorHost + "/r/new/"
			}
		})
	})
	c := w.client()
	if view := w.good(c, 1); view.Location() != "main" {
		t.Fatalf("served by %s", view.Location())
	}
	w.now = w.now.Add(time.Hour)
	w.asked("")
	_, _ = c.Refresh(t.Context())
	got := w.asked(vendorHost)
	if len(got) == 0 {
		t.Error("the other location was not asked")
	}
	for _, name := range got {
		if !strings.HasPrefix(name, "new/") {
			t.Errorf("asked for %q", name)
		}
	}
}

// The time of a download is at least the signing time of the root, as for a refresh: a
// clock that is behind makes no retired location usable.
func TestUseUntilWithAClockBehind(t *testing.T) {
	w := newWeb(t, func(r *rawtuf.Repo) {
		r.Charter()["signed_at"] = rawtuf.Stamp(rawtuf.Now.Add(2 * time.Hour))
		locations(r, func(id string, l rawtuf.Doc) {
			if id == "cdn" {
				l["use_until"] = rawtuf.Stamp(rawtuf.Now.Add(time.Hour))
			}
		})
	})
	c := w.client()
	a := w.approved(c)
	w.does(unreachable, vendorHost)
	if err := c.Save(t.Context(), a, w.state("agent")); !errors.Is(err, errDark) {
		t.Error(err)
	}
	if got := w.asked(cdnHost); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
}

// A complete set is no longer complete after one of its files has expired, although the
// timestamp is the same.
func TestKeptSetExpires(t *testing.T) {
	w := newWeb(t, func(r *rawtuf.Repo) {
		r.Roles["vendor-agent"]["expires"] = rawtuf.Stamp(rawtuf.Now.Add(time.Hour))
	})
	c := w.client()
	w.good(c, 1)
	w.now = w.now.Add(time.Hour - time.Second)
	w.good(c, 1)
	w.now = w.now.Add(time.Second)
	if view := w.bad(c, client.ErrNoContent); !errors.Is(view.Err, tuf.ErrExpired) {
		t.Error(view.Err)
	}
}
