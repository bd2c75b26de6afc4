package client_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// A configured URL whose host the root has retired, or whose use_until has passed, is
// not contacted for metadata or targets, also in a List, and however its host is
// written. Before the client knows of it, it is contacted.
func TestRetiredHostInSources(t *testing.T) {
	retire := func(r *rawtuf.Repo) {
		r.Charter()["retired"] = append(r.Charter()["retired"].([]any), rawtuf.Doc{"id": "main", "hosts": []any{vendorHost}})
		r.Charter()["locations"] = slices.DeleteFunc(r.Charter()["locations"].([]any), func(l any) bool { return l.(rawtuf.Doc)["id"] == "main" })
	}
	sunset := func(r *rawtuf.Repo) {
		locations(r, func(id string, l rawtuf.Doc) {
			if id == "main" {
				l["use_until"] = rawtuf.Stamp(rawtuf.Now.Add(-time.Hour))
			}
		})
		l := location("new", "primary", "vendor-ch", "updates.new.example")
		r.Charter()["locations"] = append(r.Charter()["locations"].([]any), l)
	}
	url := func(host string) client.Source {
		return client.HTTPSource("https://"+host+"/r/metadata/", "https://"+host+"/r/targets/")
	}
	capitals := "Updates.VENDOR.example"
	for name, tt := range map[string]struct {
		over   func(*rawtuf.Repo)
		source client.Source
	}{
		"retired":               {retire, url(vendorHost)},
		"past its use_until":    {sunset, url(vendorHost)},
		"in a list":             {retire, client.MultiSource(url(vendorHost), client.MultiSource(url(vendorHost)))},
		"in capitals":           {retire, url(capitals)},
		"with a dot at the end": {retire, url(vendorHost + ".")},
		"with a port":           {retire, url(vendorHost + ":8443")},
		"for targets only":      {retire, client.HTTPSource("https://"+cdnHost+"/r/metadata/", "https://"+vendorHost+"/r/targets/")},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t)
			in := func(cfg *client.Config) { cfg.Sources = []client.Source{tt.source} }
			w.good(w.client(in), 1)
			atVendor := func() (out []string) {
				for _, r := range w.asked("") {
					if strings.HasPrefix(strings.ToLower(r), vendorHost) {
						out = append(out, r)
					}
				}
				return out
			}
			if got := atVendor(); len(got) == 0 {
				t.Fatal("the usable location was not asked")
			}
			w.repo.NextRoot(func() { tt.over(w.repo) })
			w.good(w.client(in), 2)
			atVendor()
			c := w.client(in)
			view := w.good(c, 2)
			a, err := view.Find(t.Context(), rawtuf.Path)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []*client.Client{c, w.client(in)} { // also before its first refresh
				if err := c.Save(t.Context(), a, filepath.Join(t.TempDir(), "agent")); err != nil {
					t.Fatal(err)
				}
			}
			if got := atVendor(); len(got) > 0 {
				t.Errorf("asked %q", got)
			}
		})
	}
}

// A list may contain retired hosts and others: the others are still asked.
func TestListWithARetiredHost(t *testing.T) {
	w := newWeb(t)
	w.repo.NextRoot(func() {
		w.repo.Charter()["retired"] = append(w.repo.Charter()["retired"].([]any), rawtuf.Doc{"id": "other", "hosts": []any{"updates.other.example"}})
	})
	list := client.MultiSource(client.HTTPSource("https://updates.other.example/r/metadata/", ""), client.HTTPSource("https://updates.own.example/r/metadata/", "https://updates.own.example/r/targets/"))
	in := func(cfg *client.Config) { cfg.Sources = []client.Source{list} }
	w.good(w.client(in), 2)
	w.asked("")
	if view := w.good(w.client(in), 2); view.Location() != "source 1" {
		t.Errorf("served by %s", view.Location())
	}
	for _, r := range w.asked("") {
		if strings.HasPrefix(r, "updates.other.example") {
			t.Errorf("asked %s", r)
		}
	}
}

// A host name that is not ASCII can be written in more ways than a charter lists.
func TestURLOfAHostNotInASCII(t *testing.T) {
	w := newWeb(t)
	_, err := client.New(w.pin(), &client.Config{Dir: t.TempDir(), Sources: []client.Source{client.HTTPSource("https://münchen.example/r/", "")}})
	if err == nil || !strings.Contains(err.Error(), "xn--") {
		t.Error(err)
	}
	if _, err := client.New(w.pin(), &client.Config{Dir: t.TempDir(), Sources: []client.Source{client.HTTPSource("https://xn--mnchen-3ya.example/r/", "")}}); err != nil {
		t.Error(err)
	}
}

// A custom Source is never asked for a name that leads out of a directory, on any
// system: roles and targets with such names are refused before.
func TestSourceGetsNoPathTraversal(t *testing.T) {
	climbs := func(name string) bool {
		return !fs.ValidPath(name) || slices.Contains(strings.FieldsFunc(name, func(r rune) bool { return r == '/' || r == '\\' }), "..")
	}
	for _, up := range []string{"x/../../../../etc/passwd", `x\..\..\..\etc\passwd`, "../x", "x/../y", "/etc/passwd", `\\server\share`, "a//b", "x/./y"} {
		t.Run(up, func(t *testing.T) {
			p := newPlain(t)
			p.repo.Roles[up], p.repo.Signers[up] = rawtuf.Targets(), []string{"lib"}
			p.repo.Delegate("targets", up, rawtuf.Doc{"paths": []any{"deep/*"}}, "lib")
			p.repo.AddTarget(up, "the agent", nil, "targets")
			p.repo.Bump("targets")
			p.repo.Publish()
			// Also in a list.
			c, err := client.New(p.pin, &client.Config{Dir: p.dir, UnsafeNoReview: true, Sources: []client.Source{client.MultiSource(p)}, Now: clock, Retries: -1})
			if err != nil {
				t.Fatal(err)
			}
			view, err := c.Refresh(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := fs.ErrInvalid
			if up == "../x" || up == "/etc/passwd" {
				want = tuf.ErrNoTarget // "6.../x.json" is below metadata
			}
			if _, err := view.Find(t.Context(), "deep/x"); !errors.Is(err, want) {
				t.Errorf("role: %v", err)
			}
			if a, err := view.Find(t.Context(), up); err == nil {
				if err := c.Save(t.Context(), a, filepath.Join(t.TempDir(), "x")); !errors.Is(err, fs.ErrInvalid) {
					t.Errorf("target: %v", err)
				}
				if _, err := c.ReadTarget(t.Context(), a, 100); !errors.Is(err, fs.ErrInvalid) {
					t.Errorf("target: %v", err)
				}
			}
			for _, name := range p.asked {
				if climbs(name) {
					t.Errorf("asked for %q", name)
				}
			}
			// A valid name works.
			if _, err := view.Find(t.Context(), "lib/a.txt"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Names with unusual characters that stay in the directory are requested unchanged.
func TestSourceIsAskedForUnusualNames(t *testing.T) {
	for _, role := range []string{"a/b", "a b", "..", "a..b", "é", "50%", `back\slash`} {
		t.Run(role, func(t *testing.T) {
			p := newPlain(t)
			p.repo.Roles[role], p.repo.Signers[role] = rawtuf.Targets(), []string{"lib"}
			p.repo.AddTarget("deep/x", "the agent", nil, role)
			p.repo.Delegate("targets", role, rawtuf.Doc{"paths": []any{"deep/*"}}, "lib")
			p.repo.Bump("targets", role)
			p.repo.Publish()
			view := p.refresh(p.client(), nil, "2.root", "timestamp", "6.snapshot", "6.targets")
			p.asked = nil
			if _, err := view.Find(t.Context(), "deep/x"); err != nil {
				t.Fatal(err)
			}
			if len(p.asked) != 1 || !strings.HasSuffix(p.asked[0], "."+role+".json") {
				t.Errorf("asked %q", p.asked)
			}
		})
	}
}
