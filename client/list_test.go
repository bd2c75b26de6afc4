package client_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/visum-dev/visum/client"
)

// A list reports a file as absent only if all of its sources do: one that fails may
// have it.
func TestListOfSources(t *testing.T) {
	gone := client.FSSource(fstest.MapFS{})
	has := client.FSSource(fstest.MapFS{"targets/x": &fstest.MapFile{Data: []byte("data")}})
	fails := sourceFunc(func() (io.ReadCloser, error) { return nil, errDark })
	empty := sourceFunc(func() (io.ReadCloser, error) { return nil, nil })
	for name, tt := range map[string]struct {
		list   []client.Source
		want   error
		absent bool
	}{
		"none":                            {nil, fs.ErrNotExist, true},
		"no source has it":                {[]client.Source{gone, gone}, fs.ErrNotExist, true},
		"the second has it":               {[]client.Source{gone, has}, nil, false},
		"after one that fails":            {[]client.Source{fails, has}, nil, false},
		"one fails, one does not have it": {[]client.Source{fails, gone}, errDark, false},
		"in the other order":              {[]client.Source{gone, fails}, errDark, false},
		"one returns nothing":             {[]client.Source{empty, gone}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := client.MultiSource(tt.list...).Open(t.Context(), "targets/x")
			if name == "one returns nothing" {
				if err == nil || errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, tt.want) || errors.Is(err, fs.ErrNotExist) != tt.absent {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				if got, err := io.ReadAll(f); err != nil || string(got) != "data" {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	if _, err := client.New(newWeb(t).pin(), &client.Config{Dir: t.TempDir(), Sources: []client.Source{client.MultiSource(has, nil)}}); err == nil {
		t.Error("nil in a list is accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.MultiSource(fails, has).Open(ctx, "targets/x"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// An interrupted download resumes at the source of the list that delivered its start,
// because another source's file may differ.
func TestListResumes(t *testing.T) {
	d := newDepot(t, 2, mib)
	url := func(n int) client.Source {
		return client.HTTPSource(d.mirrors[n].url+"metadata/", d.mirrors[n].url+"targets/")
	}
	list := func(order ...int) *client.Client {
		var of []client.Source
		for _, n := range order {
			of = append(of, url(n))
		}
		return d.client(func(cfg *client.Config) { cfg.Sources, cfg.Offline = []client.Source{client.MultiSource(of...)}, true })
	}
	d.mirrors[0].tell(gone)
	d.mirrors[1].tell(first(cutAfter(mib/2), nil))
	c := list(0, 1)
	file := filepath.Join(t.TempDir(), "agent")
	if err := c.Save(t.Context(), d.approved(c), file); err != nil {
		t.Fatal(err)
	}
	d.holds(file)
	a, b := d.mirrors[0].asked(), d.mirrors[1].asked()
	if len(a) != 1 || len(b) != 2 || sent(b) != mib || b[1].ifRange == "" {
		t.Errorf("asked %v and %v", a, b)
	}
}

// A final answer is not retried through a list either.
func TestListReturnsFinalAnswers(t *testing.T) { synctest.Test(t, listHandsFinalAnswersThrough) }

func listHandsFinalAnswersThrough(t *testing.T) {
	w := newWeb(t)
	c := w.client(func(cfg *client.Config) {
		cfg.Retries, cfg.Offline = 3, true
		cfg.Sources = []client.Source{client.MultiSource(client.HTTPSource("https://"+vendorHost+"/r/metadata/", "https://"+vendorHost+"/r/targets/"), client.HTTPSource("https://"+cdnHost+"/r/metadata/", "https://"+cdnHost+"/r/targets/"))}
	})
	a := w.approved(c)
	final := func(_ string, r *http.Request) (*http.Response, error) { return respond(r, 451, http.NoBody), nil }
	w.does(final, vendorHost, cdnHost)
	w.asked("")
	if err := c.Save(t.Context(), a, filepath.Join(t.TempDir(), "agent")); err == nil || !strings.Contains(err.Error(), "451") {
		t.Error(err)
	}
	if got := w.asked(""); len(got) != 2 {
		t.Errorf("asked %q", got)
	}
	w.does(busy(503, "", ""), cdnHost)
	if err := c.Save(t.Context(), a, filepath.Join(t.TempDir(), "agent")); err == nil {
		t.Error("no error")
	}
	got := w.asked("")
	if n := len(slices.DeleteFunc(got, func(s string) bool { return !strings.HasPrefix(s, cdnHost) })); n != 4 {
		t.Errorf("the other source was asked %d times", n)
	}
}
