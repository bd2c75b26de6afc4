package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
)

// crowd is a storage whose Creates of targets return when so many run at the same time.
type crowd struct {
	repo.Storage
	mu           sync.Mutex
	running, all int
	want         int
	once         sync.Once
	enough       chan struct{}
}

func (c *crowd) Create(ctx context.Context, name string, r io.Reader) error {
	if strings.HasPrefix(name, "targets/") {
		c.mu.Lock()
		c.all++
		if c.running++; c.running == c.want {
			c.once.Do(func() { close(c.enough) })
		}
		c.mu.Unlock()
		select {
		case <-c.enough:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { c.mu.Lock(); c.running--; c.mu.Unlock() }()
	}
	return c.Storage.Create(ctx, name, r)
}

type content struct{ *bytes.Reader }

func (content) Close() error { return nil }

func newFiles(n int) (out []repo.NewFile) {
	for i := range n {
		out = append(out, repo.NewFile{Path: fmt.Sprintf("agent/rules/%d", i), Open: func() (io.ReadSeekCloser, error) {
			return content{bytes.NewReader(fmt.Append(nil, "rule ", i))}, nil
		}})
	}
	return out
}

// Many files are stored 64 at the same time, with the result of as many calls of Add.
func TestAddAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.Copy()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // only if it fails
	defer cancel()
	c := &crowd{Storage: w.Store, want: 64, enough: make(chan struct{})}
	w.Elsewhere = c
	noErr(t, w.Open().Update(ctx, func(tx *repo.Tx) error { return tx.AddAll("vendor", newFiles(150)) }))
	if c.all != 150 {
		t.Errorf("%d files were stored", c.all)
	}
	one.Update(func(tx *repo.Tx) error {
		for i := range 150 {
			if err := tx.Add("vendor", fmt.Sprintf("agent/rules/%d", i), strings.NewReader(fmt.Sprint("rule ", i)), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if got, want := w.Store.Files["metadata/2.vendor-agent.json"], one.Store.Files["metadata/2.vendor-agent.json"]; !bytes.Equal(got, want) || got == nil {
		t.Error("another list than that of Add")
	}
}

// The error is that of the first file, and nothing is listed.
func TestAddAllFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken := errors.New("broken")
	for name, x := range map[string]struct {
		hurt func([]repo.NewFile)
		want error
	}{
		"can't be opened": {func(f []repo.NewFile) { f[90].Open = func() (io.ReadSeekCloser, error) { return nil, broken } }, broken},
		"no class":        {func(f []repo.NewFile) { f[3].Path = "other/x" }, nil},
		"bad name":        {func(f []repo.NewFile) { f[3].Path = "agent/50%" }, nil},
	} {
		files := newFiles(100)
		x.hurt(files)
		before := len(w.Store.Files)
		err := w.Open().Update(t.Context(), func(tx *repo.Tx) error { return tx.AddAll("vendor", files) })
		if err == nil || x.want != nil && !errors.Is(err, x.want) || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if x.want == nil && len(w.Store.Files) != before {
			t.Errorf("%s: files were stored before the check of the names", name)
		}
		if w.Store.Files["metadata/2.vendor-agent.json"] != nil {
			t.Errorf("%s: something was published", name)
		}
	}
	ended, end := context.WithCancel(t.Context())
	files := newFiles(100)
	files[5].Open = func() (io.ReadSeekCloser, error) { end(); return nil, broken }
	if err := w.Open().Update(ended, func(tx *repo.Tx) error { return tx.AddAll("vendor", files) }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
