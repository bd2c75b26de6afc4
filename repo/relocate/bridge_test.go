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
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/tuf"
)

// product is one that slept since it saw a root. It is given nothing but a storage.
type product struct {
	w   *world
	pin []byte
	dir client.Store
}

func (w *world) product() *product {
	w.t.Helper()
	pin, err := w.repo().Pin(context.Background())
	noErr(w.t, err)
	return &product{w, pin, client.Memory()}
}

// sees refreshes from a storage, and says root and newest release.
func (p *product) sees(s repo.Storage) string {
	p.w.t.Helper()
	c, err := client.New(p.pin, &client.Config{Store: p.dir, Offline: true, Sources: []client.Source{source{s}}, Now: func() time.Time { return p.w.now }, Retries: -1})
	noErr(p.w.t, err)
	view, err := c.Refresh(p.w.t.(*testing.T).Context())
	if view == nil {
		p.w.t.Fatal(err)
	}
	out := fmt.Sprintf("root v%d", view.RootVersion())
	if err != nil {
		return out + " " + string(view.State())
	}
	rel, err := view.Latest(context.Background(), client.Query{Product: "agent", Channel: "stable", Platform: "linux/amd64", Installed: -1})
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

// stock is go-tuf's client, from the first root on, and says what it finds.
func (w *world) stock(s repo.Storage, path string) string {
	w.t.Helper()
	first, err := s.Read(context.Background(), "metadata/1.root.json")
	noErr(w.t, err)
	cfg, err := config.New("https://stock.example/metadata", first)
	noErr(w.t, err)
	cfg.RemoteTargetsURL, cfg.DisableLocalCache, cfg.Fetcher = "https://stock.example/targets", true, fetcher{s}
	u, err := updater.New(cfg)
	noErr(w.t, err)
	u.UnsafeSetRefTime(w.now)
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

// without hides a file, as a place does that has not got it yet.
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

// bridge makes and publishes the cut-over with both generations of keys.
func (w *world) bridge() *repo.Repo {
	w.t.Helper()
	w.now = w.move.Dates.CutOver
	w.refresh(oldKeys...)
	r, err := w.move.Bridge(context.Background(), w.store, &repo.Config{Signers: signers(newKeys...), Now: func() time.Time { return w.now }}, signers(oldKeys...)...)
	noErr(w.t, err)
	w.publish(r, func(r *repo.Repo) (*repo.Draft, error) { return w.move.CutOver(context.Background(), r) })
	return r
}

// With the bridge a client has content whether or not it sees the new root yet;
// without it one that does not is left without.
func TestBridgeIsGapless(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.announce()
	asleep := []*product{w.product(), w.product()}
	w.now = w.move.Dates.CutOver
	w.refresh(oldKeys...)
	awake := []*product{w.product(), w.product()}
	for _, p := range awake {
		if got := p.sees(w.store); got != "root v2 1.0" {
			t.Fatal(got)
		}
	}
	r := w.bridge()
	old := without{w.store, "metadata/3.root.json"}
	check := func(onOld, onNew string) {
		t.Helper()
		for _, list := range [][]*product{asleep, awake} {
			if got := list[0].sees(old); got != onOld {
				t.Errorf("without root v3: %s, want %s", got, onOld)
			}
			if got := list[1].sees(w.store); got != onNew {
				t.Errorf("with root v3: %s, want %s", got, onNew)
			}
		}
	}
	check("root v2 1.0", "root v3 1.0")
	if got := w.stock(old, "agent/1.0"); got != "root v2 agent 1.0" {
		t.Errorf("stock, without root v3: %s", got)
	}
	if got := w.stock(w.store, "agent/1.0"); got != "root v3 agent 1.0" {
		t.Errorf("stock, with root v3: %s", got)
	}
	// The day goes on.
	w.now = w.now.Add(20 * time.Hour)
	noErr(t, r.Refresh(t.Context()))
	check("root v2 1.0", "root v3 1.0")
	// It ends: the last timestamp that the old keys signed is good for a day after the
	// cut-over at most, and there is no other.
	w.now = w.move.Dates.CutOver.Add(day)
	if _, err := w.move.Bridge(t.Context(), w.store, &repo.Config{Now: func() time.Time { return w.now }}, signers(oldKeys...)...); !errors.Is(err, relocate.ErrDates) {
		t.Errorf("a bridge of more than a day: %v", err)
	}
	again, err := w.repo().Chain(t.Context())
	noErr(t, err)
	stamp, err := w.store.Read(t.Context(), "metadata/timestamp.json")
	noErr(t, err)
	if _, err := again[1].Timestamp(stamp, nil, w.now.Add(day)); !errors.Is(err, tuf.ErrExpired) {
		t.Errorf("the bridge lasts: %v", err)
	}
	noErr(t, w.repo(newKeys...).Refresh(t.Context()))
	check("root v2 no-content", "root v3 1.0")
	if got := w.stock(old, "agent/1.0"); strings.Contains(got, "agent") {
		t.Errorf("stock, without root v3, after the bridge: %s", got)
	}
	for _, p := range slices.Concat(asleep, awake) { // and all come over
		if got := p.sees(w.store); got != "root v3 1.0" {
			t.Errorf("afterwards: %s", got)
		}
	}
}

// A cut-over that is killed at any write, and then published again, is never
// without content for a client: before, in between, or after.
func TestBridgeKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.announce()
	w.now = w.move.Dates.CutOver
	w.refresh(oldKeys...)
	cfg := &repo.Config{Signers: signers(newKeys...), Now: func() time.Time { return w.now }}
	r, err := w.move.Bridge(t.Context(), w.store, cfg, signers(oldKeys...)...)
	noErr(t, err)
	d, err := w.move.CutOver(t.Context(), r)
	noErr(t, err)
	w.sign(d)
	asleep := w.product()
	for n := 0; ; n++ {
		s := relocate.Overlay(w.store)
		mortal := &killed{OverlayStorage: s, writes: n}
		r, err := w.move.Bridge(t.Context(), mortal, cfg, signers(oldKeys...)...)
		noErr(t, err)
		err = r.Publish(t.Context(), d)
		if err != nil && !errors.Is(err, os.ErrClosed) {
			t.Fatal(err)
		}
		for _, p := range []*product{{w, asleep.pin, client.Memory()}} {
			if got := p.sees(s); got != "root v2 1.0" && got != "root v3 1.0" {
				t.Errorf("killed after %d writes: %s", n, got)
			}
		}
		mortal.writes = 100
		if err != nil {
			noErr(t, r.Publish(t.Context(), d))
		}
		for _, p := range []*product{{w, asleep.pin, client.Memory()}} {
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
	*relocate.OverlayStorage
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
