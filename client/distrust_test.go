package client_test

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// A location that serves bytes that do not verify is asked last for some time, also by
// the next process, and even if it serves roots correctly. It is asked first again when
// that time is over, or when it has served content that verifies.
func TestLocationWithBadContentIsAskedLast(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]answer{
		"a role":         body(".vendor-agent.json", []byte("{}")),
		"a role, large":  body(".vendor-agent.json", bytes.Repeat([]byte(" "), 1<<20)),
		"a snapshot":     body("snapshot.json", []byte("{}")),
		"a timestamp":    body("timestamp.json", []byte("{}")),
		"a gzip bomb":    roleBomb(t),
		"an old version": nil,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t)
			w.good(w.client(), 1)
			old := w.repo.Clone()
			renew(w.repo)
			if bad == nil {
				w.good(w.client(), 1)
				w.shows(old, vendorHost)
			} else {
				w.does(bad, vendorHost)
			}
			w.good(w.client(), 1)           // the others serve
			w.does(unreachable, reviewHost) // so that the location is asked for roots, which it serves correctly
			w.asked("")
			for range 3 {
				renew(w.repo)
				w.now = w.now.Add(10 * time.Second)
				w.good(w.client(), 1)
				for _, asked := range w.asked(vendorHost) {
					if !strings.HasSuffix(asked, "root.json") {
						t.Errorf("asked for %s", asked)
					}
				}
			}
			w.now = w.now.Add(2 * time.Minute)
			w.does(nil, vendorHost)
			w.shows(nil, vendorHost)
			if view := w.good(w.client(), 1); view.Location() != "main" {
				t.Errorf("after its pause served by %s", view.Location())
			}
		})
	}
}

func roleBomb(t *testing.T) answer {
	data := gzipOf(t, []byte(`{"signed":{`+strings.Repeat(`"b":0,"a":0,`, 2<<20)+`"c":0},"signatures":[]}`))
	return func(name string, r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(name, ".vendor-agent.json") {
			return nil, nil
		}
		return gzipBody(bytes.NewReader(data))(name, r)
	}
}

// dying is a store whose state can be copied at the moment when a process is killed
// while parsing: right after this was recorded.
type dying struct {
	client.Store
	mu     sync.Mutex
	files  map[string][]byte
	corpse map[string][]byte
	notes  int
}

func newDying() *dying { return &dying{Store: client.MemStore(), files: map[string][]byte{}} }

func (d *dying) Write(name string, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[name] = bytes.Clone(data)
	if strings.HasPrefix(name, "trying/") {
		d.notes++
		d.corpse = maps.Clone(d.files)
	}
	return d.Store.Write(name, data)
}

func (d *dying) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, name)
	return d.Store.Remove(name)
}

// A process that is killed by the bytes of one location asks the others first after a
// restart: parsing is recorded on disk before it begins. Small files, and files that
// verify, leave no record.
func TestProcessKilledByALocation(t *testing.T) {
	large := bytes.Repeat([]byte(" "), 300<<10)
	for name, tt := range map[string]struct {
		bad   answer
		notes bool
	}{
		"a large role":  {body(".vendor-agent.json", large), true},
		"a large root":  {body("2.root.json", large), true},
		"a small role":  {body(".vendor-agent.json", []byte("{}")), false},
		"a small root":  {body("2.root.json", []byte("{}")), false},
		"a healthy one": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t, func(r *rawtuf.Repo) {})
			for _, m := range w.repo.Roles["snapshot"]["meta"].(rawtuf.Doc) { // as repositories of the previous version list them
				delete(m.(rawtuf.Doc), "length")
				delete(m.(rawtuf.Doc), "hashes")
			}
			w.repo.PublishSnapshot()
			w.repo.PublishTimestamp()
			w.does(tt.bad, vendorHost)
			store := newDying()
			in := func(s client.Store) func(*client.Config) {
				return func(cfg *client.Config) { cfg.Dir, cfg.Store = "", s }
			}
			w.good(w.client(in(store)), 1)
			if (store.notes > 0) != tt.notes {
				t.Errorf("%d notes", store.notes)
			}
			if left, _ := store.List("trying"); len(left) > 0 {
				t.Errorf("left %v", left)
			}
			if !tt.notes {
				return
			}
			next := client.MemStore()
			for name, data := range store.corpse {
				if err := next.Write(name, data); err != nil {
					t.Fatal(err)
				}
			}
			w.asked("")
			if view := w.good(w.client(in(next)), 1); view.Location() != "cdn" {
				t.Errorf("served by %s", view.Location())
			}
			if got := w.asked(vendorHost); slices.ContainsFunc(got, func(s string) bool { return !strings.HasSuffix(s, "root.json") }) || name == "a large root" && len(got) > 0 {
				t.Errorf("the next process asked %q", got)
			}
			if left, _ := next.List("trying"); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// A View remembers in memory which location served a bad role, and asks it last.
func TestBadLocationInFind(t *testing.T) {
	w := newWeb(t)
	w.repo.Roles["deep"], w.repo.Signers["deep"] = rawtuf.Targets(), []string{"va"}
	w.repo.AddTarget("agent/deep", "the agent", nil, "deep", "review-agent")
	w.repo.Delegate("vendor-agent", "deep", rawtuf.Doc{"paths": []any{"agent/deep"}}, "va")
	renew(w.repo)
	c := w.client()
	view := w.good(c, 1)
	w.does(body(".deep.json", []byte("{}")), vendorHost)
	w.asked("")
	if _, err := view.Find(t.Context(), "agent/deep"); err != nil {
		t.Fatal(err)
	}
	if got := w.asked(vendorHost); len(got) != 1 {
		t.Fatalf("asked %q", got)
	}
	if _, err := view.Find(t.Context(), "agent/deep"); err != nil {
		t.Fatal(err)
	}
	renew(w.repo)
	w.good(c, 1)
	if got := w.asked(vendorHost); slices.Contains(got, "metadata/timestamp.json") {
		t.Errorf("asked %q", got)
	}
}
