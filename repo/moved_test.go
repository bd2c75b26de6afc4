package repo_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
)

// moving is a storage that runs a function just before a file is read.
type moving struct {
	*memory
	name string
	do   func() // once
}

func (m *moving) Read(ctx context.Context, name string) ([]byte, error) {
	if do := m.do; name == m.name && do != nil {
		m.do = nil
		do()
	}
	return m.memory.Read(ctx, name)
}

func (m *moving) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if _, err := m.Read(ctx, name); err != nil {
		return nil, err
	}
	return m.memory.Open(ctx, name)
}

// A product's list is replaced and pruned just before it is read. The call starts
// again if it can; otherwise it reports a concurrent publication.
func TestListGoneMeanwhile(t *testing.T) {
	t.Parallel()
	past := dated(t)
	past.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team/*"}}),
			tx.Add("vendor", "agent/team/1", strings.NewReader("1"), nil))
	})
	pin := past.Pin()
	for name, x := range map[string]struct {
		do   func(w *world, s repo.Storage) error
		want error
	}{
		"Status": {func(w *world, s repo.Storage) error {
			_, err := repo.New(s, w.Config()).Status(t.Context(), w.Now)
			return err
		}, nil},
		"Verify": {func(w *world, s repo.Storage) error {
			report, err := mirror.Verify(t.Context(), s, pin, options(w.Config()))
			if err == nil && report.Err() != nil {
				t.Error(report)
			}
			return err
		}, nil},
		"Clone": {func(w *world, s repo.Storage) error {
			return mirror.Clone(t.Context(), newMemory(), storage.SourceOf(s), pin, options(w.Config()))
		}, repo.ErrConflict},
		"Bundle": {func(w *world, s repo.Storage) error {
			return mirror.Bundle(t.Context(), io.Discard, s, w.Pin(), &mirror.BundleOptions{Metadata: true})
		}, repo.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			w := past.Copy()
			w.T = t
			w.Store.Clock = func() time.Time { return w.Now }
			s := &moving{memory: w.Store, name: "metadata/1.team.json"}
			s.do = func() {
				w.Update(func(tx *repo.Tx) error { return tx.Add("vendor", "agent/team/2", strings.NewReader("2"), nil) })
				w.Now = w.Now.Add(2 * 24 * time.Hour)
				noErr(t, w.Open().Renew(t.Context()))
				w.prune(&repo.PruneOptions{Drafts: time.Hour})
				if w.Store.Files[s.name] != nil {
					t.Error("it is still there")
				}
			}
			if err := x.do(w, s); !errors.Is(err, x.want) || s.do != nil {
				t.Errorf("got %v, want %v", err, x.want)
			}
			noErr(t, x.do(w, s))
		})
	}
}
