package client_test

import (
	"path/filepath"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/client/storetest"
)

func TestFolder(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() client.Store {
		dir := filepath.Join(t.TempDir(), "made", "if", "absent")
		// Reading does not create it.
		if got, err := client.DirStore(dir).List("roots"); err != nil || len(got) > 0 {
			t.Fatal(got, err)
		}
		unlock, err := client.DirStore(dir).Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		return func() client.Store { return client.DirStore(dir) }
	})
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() client.Store {
		s := client.MemStore()
		return func() client.Store { return s }
	})
}

// A client with a custom Store, and a second one that continues with it.
func TestStoreOfTheCaller(t *testing.T) {
	w := newWeb(t)
	s := client.MemStore()
	inMemory := func(cfg *client.Config) { cfg.Dir, cfg.Store = "", s }
	old := w.repo.Clone()
	w.repo.NextRoot(nothing)
	renew(w.repo)
	w.good(w.client(inMemory), 2)
	if got := files(t, w.dir); len(got) > 0 {
		t.Errorf("on disk: %q", got)
	}
	w.shows(old, vendorHost, cdnHost, reviewHost)
	w.bad(w.client(inMemory), client.ErrNoContent)
	w.shows(nil, vendorHost, cdnHost, reviewHost)
	w.good(w.client(inMemory), 2)
	if _, err := client.New(w.pin(), &client.Config{Dir: t.TempDir(), Store: s}); err == nil {
		t.Error("both Dir and Store")
	}
}
