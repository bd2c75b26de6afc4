package drill

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// maxStockSteps is the number of new roots after which a standard TUF client stops
// without an error.
const maxStockSteps = 256

// runStock runs go-tuf's client in a scene: from every root, at every location with
// content. The result is nil if the scene has no location to test such a client with,
// because it uses only one location.
func (p *play) runStock(ctx context.Context, s scene) (*Outcome, error) {
	out := Outcome{Scenario: s.name, Client: "go-tuf", Roots: map[int64]int{}}
	first := true
	for _, l := range p.locations {
		h := s.hosts[l.Base]
		// With a compromised targets key an attacker controls a standard TUF client, which has no review.
		if h.unreachable || h.answer != nil || !h.content || h.files == "evil" {
			continue
		}
		if well := p.healthy(l); s.name != allHealthy && h.files == well.files && h.roots == well.roots && h.fork == nil {
			continue // same files as in the healthy scenario
		}
		some := p.sample(len(p.after))
		for i := range p.after {
			if !slices.Contains(some, i) && (s.name != allHealthy || !first) {
				continue
			}
			if err := p.stock(ctx, s, l, p.after[i], &out); err != nil {
				return nil, err
			}
		}
		first = false
	}
	if out.Clients == 0 {
		return nil, nil
	}
	return &out, nil
}

// stock updates a client from one root at one location.
func (p *play) stock(ctx context.Context, s scene, l tuf.Location, start *tuf.Root, out *Outcome) error {
	h := s.hosts[l.Base]
	end := start.Version()
	for yes := true; yes; {
		if yes, _ = p.tells(ctx, l, h, end+1); yes {
			end++
		}
	}
	forked := h.fork != nil && end+1 == h.forkAt
	if end-start.Version() > maxStockSteps || start.Version() > h.roots && h.roots > 0 {
		return nil
	}
	who := fmt.Sprintf("go-tuf from root v%d at %s", start.Version(), l.ID)
	f := &stockFetcher{ctx: ctx, stage: &stage{play: p, hosts: s.hosts}}
	cfg, err := config.New(strings.TrimSuffix(l.Base+l.Metadata, "/"), start.Bytes())
	if err != nil {
		return err
	}
	cfg.RemoteTargetsURL, cfg.DisableLocalCache, cfg.Fetcher, cfg.MaxRootRotations = strings.TrimSuffix(l.Base+l.Targets, "/"), true, f, maxStockSteps+1
	u, err := updater.New(cfg)
	if err != nil {
		return fmt.Errorf("drill: %s: %w", who, err)
	}
	u.UnsafeSetRefTime(p.now)
	refreshed := u.Refresh()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	data, err := u.GetTrustedMetadataSet().Root.ToBytes(false)
	if err != nil {
		return err
	}
	got := u.GetTrustedMetadataSet().Root.Signed.Version
	root, err := tuf.OpenRoot(data, &tuf.Options{UnsafeLoopback: p.Config.UnsafeLoopback})
	if err != nil || got > p.tip().Version() || root.SHA256() != p.after[got-1].SHA256() {
		out.violated("S1", who, "trusts a root v%d that is not in the chain", got)
		return nil
	}
	good := p.opensStock(ctx, p.after[end-1], h)
	if s.name == allHealthy && !p.waits(start.Version()) { // standard TUF clients know no recovery
		end, good = p.tip().Version(), true
	}
	out.count(got, refreshed == nil && got == p.tip().Version())
	switch {
	case forked: // the specification requires an error
		if refreshed == nil {
			out.violated("S1", who, "ignores a forked root")
		}
		return nil
	case got != end:
		out.violated("L1", who, "is at root v%d, the location serves v%d: %v", got, end, refreshed)
		return nil
	case good != (refreshed == nil):
		out.violated("L1", who, "at root v%d: valid content available: %t; refresh: %v", got, good, refreshed)
		return nil
	}
	if refreshed != nil || h.files == "before" || h.files == "late" {
		return nil
	}
	return p.stockTargets(ctx, u, who, out)
}

// opensStock reports whether a location serves the files that a standard TUF client
// needs under a root: timestamp, snapshot and targets.json. Release roles are not
// checked: they may be signed with other keys than the root names, as after a rotation.
func (p *play) opensStock(ctx context.Context, root *tuf.Root, h host) bool {
	snap, get, err := p.open(ctx, root, func(name string) ([]byte, error) { return p.read(ctx, p.files[h.files], h, name) })
	if err != nil {
		return false
	}
	_, err = snap.Role("targets", get)
	return err == nil
}

// stockTargets checks that a client gets the approved targets and no forged one.
func (p *play) stockTargets(ctx context.Context, u *updater.Updater, who string, out *Outcome) error {
	for _, a := range p.paths {
		if a.Length() > maxStockTarget {
			continue
		}
		info, err := u.GetTargetInfo(a.Path())
		var data []byte
		if err == nil {
			_, data, err = u.DownloadTarget(info, "", "")
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		sum := sha256.Sum256(data)
		if err != nil || !slices.Contains(p.good[a.Path()], hex.EncodeToString(sum[:])) {
			out.violated("L1", who, "does not get %s, which is approved: %v", text.Name(a.Path()), err)
		}
	}
	if p.evil != "" {
		if _, err := u.GetTargetInfo(p.evil); err == nil {
			out.violated("S3", who, "finds %s", p.evil)
		}
	}
	return nil
}

// maxStockTarget bounds downloaded targets, which go-tuf keeps in memory.
const maxStockTarget = 16 << 20

// stockFetcher fetches files of the stage for go-tuf.
type stockFetcher struct {
	ctx   context.Context
	stage *stage
}

func (f *stockFetcher) DownloadFile(address string, limit int64, _ time.Duration) ([]byte, error) {
	l, name, ok := f.stage.find(address)
	if !ok {
		return nil, errUnreachable
	}
	code, data, err := f.stage.serve(f.ctx, l, name)
	switch {
	case err != nil:
		return nil, err
	case code != http.StatusOK:
		return nil, &metadata.ErrDownloadHTTP{StatusCode: code, URL: address}
	case int64(len(data)) > limit:
		return nil, &metadata.ErrDownloadLengthMismatch{Msg: "too long"}
	}
	return bytes.Clone(data), nil
}
