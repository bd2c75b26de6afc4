package repo_test

import (
	"errors"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage/storagetest"
)

// world is the repository of these tests, with the helpers of its files.
type world struct{ *repotest.World }

type (
	memory     = repotest.Memory
	product    = repotest.Product
	readerFunc = repotest.ReaderFunc
	endless    = repotest.Endless
)

var (
	newMemory  = repotest.NewMemory
	location   = repotest.NewLocation
	release    = repotest.Release
	add        = repotest.Add
	approve    = repotest.Approve
	options    = repotest.Options
	scoop      = repotest.ReadDir
	shorten    = repotest.Shorten
	sum        = repotest.Sum
	sum512     = repotest.Sum512
	vendorKeys = repotest.VendorKeys
	reviewKeys = repotest.ReviewKeys
	errKilled  = repotest.ErrKilled
)

func emptyWorld(t testing.TB) *world { return &world{repotest.Empty(t)} }

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{repotest.New(t)}
}

func dated(t testing.TB) *world {
	t.Helper()
	return &world{repotest.Dated(t)}
}

func richWorld(t testing.TB) *world {
	t.Helper()
	return &world{repotest.Rich(t)}
}

func (w *world) Copy() *world { return &world{w.World.Copy()} }

var noErr = rawtuf.NoErr

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func TestMemory(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) repo.Storage { return newMemory() })
}
