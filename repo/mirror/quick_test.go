package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
)

// watched counts the requests for targets, and how many run at the same time.
type watched struct {
	*memory
	mu          sync.Mutex
	opened      int
	running     int
	want        int           // a request returns when so many have run at the same time
	enough      chan struct{} // closed then
	at          func()        // called at each request
	onlyTargets bool
}

func (w *watched) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if strings.HasPrefix(name, "targets/") && !strings.Contains(name, ".reviews/") {
		w.mu.Lock()
		w.opened++
		if w.running++; w.running == w.want {
			close(w.enough)
		}
		w.mu.Unlock()
		if w.at != nil {
			w.at()
		}
		if w.want > 0 {
			select {
			case <-w.enough:
			case <-ctx.Done():
			}
		}
		w.mu.Lock()
		w.running--
		w.mu.Unlock()
	} else if w.onlyTargets && strings.HasPrefix(name, "targets/") {
		w.opened++
	}
	return w.memory.Open(ctx, name)
}

// many returns a world with n targets.
func many(t *testing.T, n int) *world {
	w := newWorld(t)
	w.Pin()
	w.Update(func(tx *repo.Tx) error {
		for i := range n {
			if err := add(fmt.Sprintf("1.%d", i))(tx); err != nil {
				return err
			}
		}
		return nil
	})
	return w
}

// A full verification reads 32 targets at the same time, and reports in order.
func TestVerifyAtOnce(t *testing.T) {
	t.Parallel()
	w := many(t, 70)
	s := &watched{memory: w.Store, want: 32, enough: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // only if it fails
	defer cancel()
	var told []string
	opt := repotest.Options(w.Config())
	opt.Progress = func(p storage.Progress) { told = append(told, p.Path) } // in this goroutine
	report, err := mirror.Verify(ctx, s, w.Pin(), opt)
	noErr(t, err)
	if report.Err() != nil || report.Targets != 70 || s.opened != 70 {
		t.Errorf("%v, %d requests", report, s.opened)
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(told)))); n < 70 {
		t.Errorf("progress of %d files", n)
	}
	// The order of the findings does not depend on the order of the answers.
	for _, f := range slices.Sorted(maps.Keys(w.Store.Files)) {
		if strings.HasPrefix(f, "targets/") {
			delete(w.Store.Files, f)
		}
	}
	var first string
	for range 5 {
		report, err := mirror.Verify(t.Context(), w.Store, w.Pin(), repotest.Options(w.Config()))
		noErr(t, err)
		if first == "" {
			first = report.String()
		}
		if report.String() != first || strings.Count(first, "missing: ") != 70 {
			t.Fatalf("got\n%s\nwant\n%s", report, first)
		}
	}
	// The end of the context ends it, with every goroutine.
	ended, end := context.WithCancel(t.Context())
	few := many(t, 3)
	stuck := &watched{memory: few.Store, want: 100, enough: make(chan struct{}), at: end}
	if _, err := mirror.Verify(ended, stuck, few.Pin(), repotest.Options(few.Config())); !errors.Is(err, context.Canceled) || stuck.running > 0 {
		t.Errorf("%v, %d requests still run", err, stuck.running)
	}
}

// A quick verification reads no target, and finds missing files, other sizes, and unknown
// files.
func TestVerifyQuick(t *testing.T) {
	t.Parallel()
	w := many(t, 3)
	w.Update(func(tx *repo.Tx) error { return tx.Approve("review", "agent/1.0", nil) })
	w.Update(func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/1.2") })
	quick := repotest.Options(w.Config())
	quick.Quick = true
	healthy := maps.Clone(w.Store.Files)
	target := w.Store.File(t, "targets/agent/*.1.0")
	statement := target + ".reviews/review-agent.1.json"
	if healthy[statement] == nil {
		t.Fatal("no statement")
	}
	for name, x := range map[string]struct {
		hurt func(files map[string][]byte)
		want string
	}{
		"nothing":   {func(map[string][]byte) {}, ""},
		"missing":   {func(f map[string][]byte) { delete(f, target) }, "missing " + target},
		"longer":    {func(f map[string][]byte) { f[target] = append(slices.Clone(f[target]), 'x') }, "damaged " + target},
		"same size": {func(f map[string][]byte) { f[target] = []byte("agent 9.9") }, ""}, // listings have no sha256
		"unknown":   {func(f map[string][]byte) { f["targets/agent/x"] = nil }, "unknown targets/agent/x"},
		"metadata":  {func(f map[string][]byte) { f["metadata/notes"] = nil }, "unknown metadata/notes"},
		"role": {func(f map[string][]byte) {
			f["metadata/2.review-agent.json"] = append(slices.Clone(f["metadata/2.review-agent.json"]), ' ')
		}, "untrusted metadata/2.review-agent.json"},
	} {
		w.Store.Files = maps.Clone(healthy)
		x.hurt(w.Store.Files)
		s := &watched{memory: w.Store, onlyTargets: true}
		report, err := mirror.Verify(t.Context(), s, w.Pin(), quick)
		noErr(t, err)
		var got []string
		for _, f := range report.Findings {
			if !f.Harmless() {
				got = append(got, string(f.Kind)+" "+f.Name)
			}
		}
		if strings.Join(got, ", ") != x.want || s.opened != 0 || !report.Quick {
			t.Errorf("%s: %q, want %q; %d requests for targets", name, got, x.want, s.opened)
		}
		if !strings.Contains(report.String(), "no target was read") {
			t.Error(report)
		}
	}
	w.Store.Files = healthy
	report, err := mirror.Verify(t.Context(), w.Store, w.Pin(), quick)
	noErr(t, err)
	if report.Targets != 2 || report.Bytes != 18 || slices.ContainsFunc(report.Findings, func(f mirror.Finding) bool { return f.Name == statement }) {
		t.Errorf("%v", report)
	}

	// Copies: one that lists, and one that can't, of which the metadata is compared.
	damaged := w.Copy()
	delete(damaged.Store.Files, target)
	delete(damaged.Store.Files, statement)
	delete(damaged.Store.Files, layout.RoleName("targets", 1))
	copies := []mirror.Mirror{{Name: "lists", Source: damaged.Store}, {Name: "web", Source: onlySource{damaged.Store}}}
	if report, err = mirror.Verify(t.Context(), w.Store, w.Pin(), quick, copies...); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range report.Findings {
		if !f.Harmless() {
			got = append(got, f.Copy+" "+string(f.Kind)+" "+f.Name)
		}
	}
	slices.Sort(got)
	want := []string{"lists missing metadata/1.targets.json", "lists missing " + target, "lists missing " + statement, "web missing metadata/1.targets.json"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := mirror.Verify(t.Context(), storage.ReadOnly(onlySource{w.Store}), w.Pin(), quick); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// onlySource hides the other methods of a storage.
type onlySource struct{ storage.Source }
