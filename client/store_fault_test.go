package client_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// brokenStore fails at its n-th call, before or after the call's effect.
type brokenStore struct {
	client.Store
	n     int
	after bool
}

var errDisk = errors.New("disk full")

func (b *brokenStore) call(effect func() error) error {
	b.n--
	if b.n == 0 && !b.after {
		return errDisk
	}
	err := effect()
	if b.n == 0 && err == nil {
		return errDisk
	}
	return err
}

func (b *brokenStore) Lock(ctx context.Context) (unlock func(), err error) {
	err = b.call(func() error { unlock, err = b.Store.Lock(ctx); return err })
	if err != nil && unlock != nil {
		unlock()
	}
	return unlock, err
}

func (b *brokenStore) Read(name string, limit int64) (data []byte, err error) {
	err = b.call(func() error { data, err = b.Store.Read(name, limit); return err })
	return data, err
}

func (b *brokenStore) Write(name string, data []byte) error {
	return b.call(func() error { return b.Store.Write(name, data) })
}

func (b *brokenStore) Remove(name string) error {
	return b.call(func() error { return b.Store.Remove(name) })
}

func (b *brokenStore) List(folder string) (list map[string]int64, err error) {
	err = b.call(func() error { list, err = b.Store.List(folder); return err })
	return list, err
}

// The store fails once, at each of its calls in turn, before and after their effect,
// while a client follows a new root and new content and meets a malicious location. It
// reports the error or recovers; nothing trusted is forgotten, and the next run
// succeeds.
func TestFaultAtEveryCallOfTheStore(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				w := newWeb(t)
				mem := client.MemStore()
				on := func(s client.Store) *client.Client {
					return w.client(func(cfg *client.Config) { cfg.Dir, cfg.Store, cfg.DeferFor = "", s, time.Hour })
				}
				w.good(on(mem), 1)
				old := w.repo.Clone()
				w.repo.NextRoot(nothing)
				renew(w.repo)
				w.does(body("timestamp.json", []byte("{}")), vendorHost)
				broken := &brokenStore{Store: mem, n: n, after: after}
				c := on(broken)
				view, err := c.Refresh(t.Context())
				if err == nil {
					_, latest := view.Latest(t.Context(), client.Query{Product: "agent", Channel: "stable", Platform: "linux/amd64"})
					if !errors.Is(latest, client.ErrDeferred) && !errors.Is(latest, errDisk) {
						t.Fatalf("call %d: %v", n, latest)
					}
					if err := c.Save(t.Context(), find(t, view), filepath.Join(w.dir, "agent")); err != nil {
						t.Fatalf("call %d: %v", n, err)
					}
				}
				done := broken.n > 0
				if err != nil && (!errors.Is(err, errDisk) || isRefreshError(err)) {
					t.Fatalf("call %d: %v, %v", n, view, err)
				}
				if done && err != nil {
					t.Fatal(err)
				}
				// After a successful refresh the next process can continue.
				if err == nil {
					w.shows(old, vendorHost, cdnHost, reviewHost)
					if view, err := refreshed(t, on(mem)); err == nil {
						t.Fatalf("call %d: went back to root v%d", n, view.Root().Version())
					}
					w.shows(nil, vendorHost, cdnHost, reviewHost)
				}
				w.does(nil, vendorHost)
				w.good(on(mem), 2)
				w.now = w.now.Add(time.Hour)
				if rel, err := w.good(on(mem), 2).Latest(t.Context(), client.Query{Product: "agent", Channel: "stable", Platform: "linux/amd64"}); err != nil && !errors.Is(err, client.ErrDeferred) || done && err != nil {
					t.Fatalf("call %d: %q, %v", n, rel.Version, err)
				}
				if done {
					if n < 18 {
						t.Fatalf("only %d calls", n)
					}
					break
				}
			}
		})
	}
}

func find(t *testing.T, view *client.View) tuf.Approved {
	t.Helper()
	a, err := view.Find(t.Context(), rawtuf.Path)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// quota is a Store with room for a number of further bytes.
type quota struct {
	client.Store
	room int
}

func (q *quota) Write(name string, data []byte) error {
	if len(data) > q.room {
		return errDisk
	}
	q.room -= len(data)
	return q.Store.Write(name, data)
}

// The disk is full at any byte of an update: there is an error, and with room again the
// client continues.
func TestFullStore(t *testing.T) {
	failed := 0
	for room := 0; ; room += 1500 {
		w := newWeb(t)
		mem := client.MemStore()
		on := func(s client.Store) *client.Client {
			return w.client(func(cfg *client.Config) { cfg.Dir, cfg.Store = "", s })
		}
		w.good(on(mem), 1)
		w.repo.NextRoot(nothing)
		renew(w.repo)
		_, err := on(&quota{mem, room}).Refresh(t.Context())
		if err != nil && (!errors.Is(err, errDisk) || isRefreshError(err)) {
			t.Fatalf("room for %d bytes: %v", room, err)
		}
		w.good(on(mem), 2)
		if err == nil {
			break
		}
		failed++
	}
	if failed < 5 {
		t.Errorf("only %d failed", failed)
	}
}

// Hundreds of refreshes in one process, thousands with VISUM_LONG=1, with changes now and
// then: memory, goroutines and files do not grow.
func TestThousandsOfRefreshes(t *testing.T) {
	rounds := 400
	if rawtuf.Long {
		rounds = 10_000
	}
	w := newWeb(t)
	c := w.client()
	measure := func() (heap uint64, goroutines, files int) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_ = filepath.WalkDir(w.dir, func(_ string, d fs.DirEntry, _ error) error {
			if !d.IsDir() {
				files++
			}
			return nil
		})
		return m.HeapAlloc, runtime.NumGoroutine(), files
	}
	var heap uint64
	var goroutines, files int
	for i := range rounds {
		if i%100 == 50 {
			renew(w.repo)
		}
		w.good(c, 1)
		w.asked("")
		if i == rounds/10 {
			heap, goroutines, files = measure()
		}
	}
	h, g, f := measure()
	t.Logf("heap %d kB to %d kB, goroutines %d to %d, files %d to %d", heap>>10, h>>10, goroutines, g, files, f)
	if h > heap+heap/4+1<<20 || g > goroutines || f > files {
		t.Errorf("heap %d to %d, goroutines %d to %d, files %d to %d", heap, h, goroutines, g, files, f)
	}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil && len(entries) > 100 {
		t.Errorf("%d open files", len(entries))
	}
}

// stubborn is a store in which nothing can be removed, and no directory be read.
type stubborn struct{ client.Store }

func (stubborn) Remove(string) error                   { return fs.ErrPermission }
func (stubborn) List(string) (map[string]int64, error) { return nil, fs.ErrPermission }

// Old files of the state that cannot be removed do not prevent updates, permit no
// rollback, and preserve no floor that has ended: versions inflated with a compromised
// key do not bind after a rotation.
func TestStateFilesThatCannotBeRemoved(t *testing.T) {
	p := newPlain(t)
	store := client.MemStore()
	build := func() *client.Client {
		c, err := client.New(p.pin, &client.Config{Store: stubborn{store}, UnsafeNoReview: true, Sources: []client.Source{p}, Now: clock, Retries: -1})
		must(t, err)
		return c
	}
	good := func() {
		t.Helper()
		if _, err := build().Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	good()
	honest := p.repo
	p.repo = p.repo.Clone()
	for _, driven := range []string{"timestamp", "snapshot", "targets"} {
		p.repo.Roles[driven]["version"] = 1 << 40
	}
	p.repo.Publish()
	good()
	p.repo = honest
	p.repo.NextRoot(func() {
		p.repo.AddKeys(p.repo.Root, "snapshot2")
		rawtuf.At(p.repo.Root, "roles")["snapshot"] = p.repo.Role(1, "snapshot2")
		p.repo.Signers["snapshot"] = []string{"snapshot2"}
	})
	p.repo.Bump("targets")
	p.repo.Publish()
	good()
	good()
	older := p.repo.Clone()
	p.repo.Bump("targets")
	p.repo.Publish()
	good()
	p.repo = older
	if _, err := build().Refresh(t.Context()); !errors.Is(err, tuf.ErrRollback) {
		t.Errorf("went back: %v", err)
	}
}
