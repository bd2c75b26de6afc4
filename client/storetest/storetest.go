// Package storetest tests implementations of client.Store.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
)

// Run tests whether a Store follows its contract. At the first call in each subtest
// open returns an empty store; further calls with the same t return stores with the
// same state, as another process would open them. If a store cannot be opened twice,
// open returns the same one.
func Run(t *testing.T, open func(t *testing.T) func() client.Store) {
	for name, test := range map[string]func(*testing.T, func() client.Store){
		"files": files, "names": names, "limit": limit, "ownership": ownership, "list": list,
		"lock": lock, "lock ends with its context": lockContext, "writers and readers": together,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

const most = 1 << 20

func write(t *testing.T, s client.Store, name, data string) {
	t.Helper()
	if err := s.Write(name, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, s client.Store, name, want string) {
	t.Helper()
	if got, err := s.Read(name, most); err != nil || string(got) != want {
		t.Fatalf("%s holds %.40q, %v; want %.40q", name, got, err, want)
	}
}

func absent(t *testing.T, s client.Store, name string, limit int64) {
	t.Helper()
	if got, err := s.Read(name, limit); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s holds %d bytes, %v; want fs.ErrNotExist", name, len(got), err)
	}
}

func files(t *testing.T, open func() client.Store) {
	s := open()
	absent(t, s, "state.json", most)
	absent(t, s, "roots/2.root.json", most)
	for _, name := range []string{"state.json", "roots/2.root.json"} {
		write(t, s, name, "one")
		holds(t, s, name, "one")
		write(t, s, name, "") // an empty file exists
		holds(t, open(), name, "")
		write(t, s, name, strings.Repeat("two", 100_000))
		holds(t, open(), name, strings.Repeat("two", 100_000))
		if err := s.Remove(name); err != nil {
			t.Fatal(err)
		}
		absent(t, open(), name, most)
		if err := s.Remove(name); err != nil {
			t.Fatalf("removing a missing file: %v", err)
		}
	}
	if err := s.Remove("folder/none"); err != nil {
		t.Fatalf("removing from a missing directory: %v", err)
	}
}

// All names that a client may use are accepted, and names that lead outside are not.
func names(t *testing.T, open func() client.Store) {
	s := open()
	long := strings.Repeat("x", 150)
	for _, name := range []string{"a", "0", "roles/1.%2e%2e%2fa.json", "roles/1.a_b-c.json", "evidence/0123.x.json.reason.json", "roles/" + long} {
		write(t, s, name, name)
	}
	holds(t, s, "roles/1.%2e%2e%2fa.json", "roles/1.%2e%2e%2fa.json")
	holds(t, s, "roles/"+long, "roles/"+long)
	for _, name := range []string{"", ".", "..", "/a", "a/", "a//b", "../a", "a/../b", "a/b/c", ".hidden", "a/.hidden", "A", "a b", `a\b`, "c:a", "ä", "a\x00b", strings.Repeat("x", 161)} {
		if err := s.Write(name, []byte("x")); err == nil {
			t.Errorf("wrote %q", name)
		}
		absent(t, s, name, most)
	}
}

func limit(t *testing.T, open func() client.Store) {
	s := open()
	write(t, s, "f", "12345")
	if got, err := s.Read("f", 5); err != nil || string(got) != "12345" {
		t.Errorf("%q, %v", got, err)
	}
	absent(t, s, "f", 4)
	holds(t, s, "f", "12345") // too large for this reader, but not removed
}

func ownership(t *testing.T, open func() client.Store) {
	s := open()
	data := []byte("mine")
	if err := s.Write("f", data); err != nil {
		t.Fatal(err)
	}
	data[0] = 'X'
	holds(t, s, "f", "mine")
	got, err := s.Read("f", most)
	if err != nil {
		t.Fatal(err)
	}
	got[0] = 'X'
	holds(t, s, "f", "mine")
}

func list(t *testing.T, open func() client.Store) {
	s := open()
	if got, err := s.List("roles"); err != nil || len(got) > 0 {
		t.Fatalf("%v, %v", got, err)
	}
	write(t, s, "roles/1.a.json", "1")
	write(t, s, "roles/2.b.json", "22")
	write(t, s, "roots/2.root.json", "333")
	write(t, s, "state.json", "4444")
	got, err := open().List("roles")
	if want := map[string]int64{"1.a.json": 1, "2.b.json": 2}; err != nil || !maps.Equal(got, want) {
		t.Fatalf("%v, %v; want %v", got, err, want)
	}
}

func lock(t *testing.T, open func() client.Store) {
	a, b := open(), open()
	// Increments under the lock are not lost.
	const each = 20
	var all sync.WaitGroup
	for _, s := range []client.Store{a, b, a} {
		all.Go(func() {
			for range each {
				unlock, err := s.Lock(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				n, err := s.Read("count", most)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
				if err := s.Write("count", append(n, 'x')); err != nil {
					t.Error(err)
				}
				unlock()
			}
		})
	}
	all.Wait()
	if got, err := a.Read("count", most); len(got) != 3*each {
		t.Errorf("counted %d of %d, %v", len(got), 3*each, err)
	}
}

func lockContext(t *testing.T, open func() client.Store) {
	a, b := open(), open()
	unlock, err := a.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []client.Store{a, b} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := s.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		cancel()
		if _, err := s.Lock(ctx); err == nil {
			t.Error("locked with a context that has ended")
		}
	}
	unlock()
	unlock, err = b.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// A reader sees complete contents only, whatever is written concurrently.
func together(t *testing.T, open func() client.Store) {
	s := open()
	content := func(n int) []byte { return bytes.Repeat(fmt.Append(nil, n), 10_000) }
	write(t, s, "f", string(content(0)))
	var all sync.WaitGroup
	for n := 1; n <= 3; n++ {
		all.Go(func() {
			for range 20 {
				if err := s.Write("f", content(n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		all.Go(func() {
			other := open()
			for range 40 {
				got, err := other.Read("f", most)
				if err != nil || len(got) != 10_000 || bytes.Count(got, got[:1]) != len(got) {
					t.Errorf("read %d bytes that were never written, %v", len(got), err)
					return
				}
			}
		})
	}
	all.Wait()
}
