package relocate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// product is a client that was offline since it saw a root. It uses only a storage.
type product struct {
	w   *repotest.Moving
	pin []byte
	dir client.Store
}

func asleep(w *repotest.Moving) *product {
	w.T.Helper()
	pin, err := w.Repo().Pin(context.Background())
	rawtuf.NoErr(w.T, err)
	return &product{w, pin, client.MemStore()}
}

// sees refreshes from a storage and returns root and newest release.
func (p *product) sees(s repo.Storage) string {
	p.w.T.Helper()
	c, err := client.New(p.pin, &client.Config{Store: p.dir, Offline: true, Sources: []client.Source{source{s}}, Now: func() time.Time { return p.w.Now }, Retries: -1})
	rawtuf.NoErr(p.w.T, err)
	view, err := c.Refresh(p.w.T.(*testing.T).Context())
	if failed, ok := errors.AsType[*client.RefreshError](err); ok && errors.Is(err, client.ErrNoContent) {
		return fmt.Sprintf("root v%d no content", failed.Root.Version())
	}
	rawtuf.NoErr(p.w.T, err)
	out := fmt.Sprintf("root v%d", view.Root().Version())
	rel, err := view.Latest(context.Background(), client.Query{Product: "agent", Channel: "stable", Platform: "linux/amd64"})
	if err != nil {
		return out + " " + err.Error()
	}
	return out + " " + rel.Version
}

// source serves a storage.
type source struct{ repo.Storage }

func (s source) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	data, err := s.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// stock runs go-tuf's client, from the first root on, and returns its result.
func stock(w *repotest.Moving, s repo.Storage, path string) string {
	w.T.Helper()
	first, err := s.Read(context.Background(), "metadata/1.root.json")
	rawtuf.NoErr(w.T, err)
	cfg, err := config.New("https://stock.example/metadata", first)
	rawtuf.NoErr(w.T, err)
	cfg.RemoteTargetsURL, cfg.DisableLocalCache, cfg.Fetcher = "https://stock.example/targets", true, fetcher{s}
	u, err := updater.New(cfg)
	rawtuf.NoErr(w.T, err)
	u.UnsafeSetRefTime(w.Now)
	if err := u.Refresh(); err != nil {
		return err.Error()
	}
	root := u.GetTrustedMetadataSet().Root.Signed.Version
	info, err := u.GetTargetInfo(path)
	if err != nil {
		return err.Error()
	}
	_, data, err := u.DownloadTarget(info, "", "")
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("root v%d %s", root, data)
}

type fetcher struct{ s repo.Storage }

func (f fetcher) DownloadFile(url string, max int64, _ time.Duration) ([]byte, error) {
	data, err := f.s.Read(context.Background(), strings.TrimPrefix(url, "https://stock.example/"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound}
	}
	return data, err
}

// without hides a file, as a location without its copy yet.
type without struct {
	repo.Storage
	name string
}

func (s without) Read(ctx context.Context, name string) ([]byte, error) {
	if name == s.name {
		return nil, fs.ErrNotExist
	}
	return s.Storage.Read(ctx, name)
}

// bridge stages and publishes the cut-over with dual signing.
func bridge(w *repotest.Moving) *repo.Repo {
	w.T.Helper()
	w.Now = w.Move.Dates.CutOver
	w.Refresh(repotest.OldKeys...)
	r, err := w.Move.DualSigner(context.Background(), w.Store, &repo.Config{Signers: repotest.Signers(repotest.NewKeys...), Now: func() time.Time { return w.Now }, UnsafeTrustStorage: true}, repotest.Signers(repotest.OldKeys...)...)
	rawtuf.NoErr(w.T, err)
	w.Publish(r, func(r *repo.Repo) (*repo.Draft, error) { return w.Move.CutOver(context.Background(), r) })
	return r
}

// With dual signing a client has content with and without the new root; without dual signing
// a client without the new root has no content.
func TestDualSigningWithoutGap(t *testing.T) {
	t.Parallel()
	w := repotest.NewMoving(t)
	w.Announce()
	sleepers := []*product{asleep(w), asleep(w)}
	w.Now = w.Move.Dates.CutOver
	w.Refresh(repotest.OldKeys...)
	awake := []*product{asleep(w), asleep(w)}
	for _, p := range awake {
		if got := p.sees(w.Store); got != "root v2 1.0" {
			t.Fatal(got)
		}
	}
	r := bridge(w)
	old := without{w.Store, "metadata/3.root.json"}
	check := func(onOld, onNew string) {
		t.Helper()
		for _, list := range [][]*product{sleepers, awake} {
			if got := list[0].sees(old); got != onOld {
				t.Errorf("without root v3: %s, want %s", got, onOld)
			}
			if got := list[1].sees(w.Store); got != onNew {
				t.Errorf("with root v3: %s, want %s", got, onNew)
			}
		}
	}
	check("root v2 1.0", "root v3 1.0")
	if got := stock(w, old, "agent/1.0"); got != "root v2 agent 1.0" {
		t.Errorf("stock, without root v3: %s", got)
	}
	if got := stock(w, w.Store, "agent/1.0"); got != "root v3 agent 1.0" {
		t.Errorf("stock, with root v3: %s", got)
	}
	// Later that day.
	w.Now = w.Now.Add(20 * time.Hour)
	rawtuf.NoErr(t, r.Renew(t.Context()))
	check("root v2 1.0", "root v3 1.0")
	// The end: the last timestamp by the old keys expires at most a day after the cut-over, and
	// there is no later one.
	w.Now = w.Move.Dates.CutOver.Add(repotest.Day)
	if _, err := w.Move.DualSigner(t.Context(), w.Store, &repo.Config{Now: func() time.Time { return w.Now }, UnsafeTrustStorage: true}, repotest.Signers(repotest.OldKeys...)...); !errors.Is(err, relocate.ErrDates) {
		t.Errorf("a bridge of more than a day: %v", err)
	}
	again, err := w.Repo().Chain(t.Context())
	rawtuf.NoErr(t, err)
	stamp, err := w.Store.Read(t.Context(), "metadata/timestamp.json")
	rawtuf.NoErr(t, err)
	if _, err := again[1].Timestamp(stamp, nil, w.Now.Add(repotest.Day)); !errors.Is(err, tuf.ErrExpired) {
		t.Errorf("the bridge lasts: %v", err)
	}
	rawtuf.NoErr(t, w.Repo(repotest.NewKeys...).Renew(t.Context()))
	check("root v2 no content", "root v3 1.0")
	if got := stock(w, old, "agent/1.0"); strings.Contains(got, "agent") {
		t.Errorf("stock, without root v3, after the bridge: %s", got)
	}
	for _, p := range slices.Concat(sleepers, awake) { // all clients follow
		if got := p.sees(w.Store); got != "root v3 1.0" {
			t.Errorf("afterwards: %s", got)
		}
	}
}

// A cut-over that is killed at any write and then published again never leaves a client without
// content: before, in between, or after.
func TestDualSigningKilled(t *testing.T) {
	t.Parallel()
	w := repotest.NewMoving(t)
	w.Announce()
	w.Now = w.Move.Dates.CutOver
	w.Refresh(repotest.OldKeys...)
	cfg := &repo.Config{Signers: repotest.Signers(repotest.NewKeys...), Now: func() time.Time { return w.Now }, UnsafeTrustStorage: true}
	r, err := w.Move.DualSigner(t.Context(), w.Store, cfg, repotest.Signers(repotest.OldKeys...)...)
	rawtuf.NoErr(t, err)
	d, err := w.Move.CutOver(t.Context(), r)
	rawtuf.NoErr(t, err)
	w.Sign(d)
	sleeper := asleep(w)
	for n := 0; ; n++ {
		s := storage.Overlay(w.Store)
		mortal := &killed{OverlayStorage: s, writes: n}
		r, err := w.Move.DualSigner(t.Context(), mortal, cfg, repotest.Signers(repotest.OldKeys...)...)
		rawtuf.NoErr(t, err)
		err = r.Publish(t.Context(), d)
		if err != nil && !errors.Is(err, os.ErrClosed) {
			t.Fatal(err)
		}
		for _, p := range []*product{{w, sleeper.pin, client.MemStore()}} {
			if got := p.sees(s); got != "root v2 1.0" && got != "root v3 1.0" {
				t.Errorf("killed after %d writes: %s", n, got)
			}
		}
		mortal.writes = 100
		if err != nil {
			rawtuf.NoErr(t, r.Publish(t.Context(), d))
		}
		for _, p := range []*product{{w, sleeper.pin, client.MemStore()}} {
			if got := p.sees(s); got != "root v3 1.0" {
				t.Errorf("killed after %d writes, published again: %s", n, got)
			}
		}
		if err == nil {
			if n < 4 {
				t.Fatalf("only %d writes", n)
			}
			return
		}
	}
}

// killed is a storage whose process dies after a number of writes.
type killed struct {
	*storage.OverlayStorage
	writes int
}

func (k *killed) die() error {
	if k.writes == 0 {
		return os.ErrClosed
	}
	k.writes--
	return nil
}

func (k *killed) Create(ctx context.Context, name string, r io.Reader) error {
	if err := k.die(); err != nil {
		return err
	}
	return k.OverlayStorage.Create(ctx, name, r)
}

func (k *killed) Replace(ctx context.Context, name string, old, new []byte) error {
	if err := k.die(); err != nil {
		return err
	}
	return k.OverlayStorage.Replace(ctx, name, old, new)
}
