package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Run runs all scenarios. The results are in the Report. The error is an error of the
// storage or of ctx, or the reason why a rehearsal is impossible.
func (d *Drill) Run(ctx context.Context) (*Report, error) {
	p := newPlay(d)
	if done, err := p.prepare(ctx); done || err != nil {
		return p.report, err
	}
	scenes := p.scenes()
	outcomes := make([][]Outcome, len(scenes))
	errs := make([]error, len(scenes))
	var wg sync.WaitGroup
	free := make(chan struct{}, max(1, runtime.GOMAXPROCS(0)))
	for i, s := range scenes {
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			outcomes[i], errs[i] = p.run(ctx, s)
		})
	}
	wg.Wait()
	other, err := p.runFork(ctx)
	if err != nil {
		return p.report, errors.Join(append(errs, err)...)
	}
	if other != nil {
		p.report.Outcomes = append(p.report.Outcomes, *other)
	}
	if len(p.Locations) > 0 {
		held, err := p.holds(ctx)
		if err != nil {
			return p.report, errors.Join(append(errs, err)...)
		}
		p.report.Outcomes = append(p.report.Outcomes, *held)
	}
	for _, o := range outcomes {
		p.report.Outcomes = append(p.report.Outcomes, o...)
	}
	slices.SortStableFunc(p.report.Outcomes, func(a, b Outcome) int { return -cmp.Compare(a.Client, b.Client) })
	return p.report, errors.Join(errs...)
}

func newPlay(d *Drill) *play {
	return &play{Drill: d, report: &Report{Outcomes: []Outcome{}}, files: map[string]repo.Storage{}, good: map[string][]string{}, valid: map[validKey]bool{}}
}

// prepare publishes the draft in memory and creates the attacker's files. done means
// that the report is complete.
func (p *play) prepare(ctx context.Context) (done bool, err error) {
	live := repo.New(p.Storage, &p.Config)
	p.now = live.Now()
	if p.before, err = live.Chain(ctx); err != nil {
		return false, err
	}
	if len(p.before) == 0 {
		return false, errors.New("drill: the repository is empty")
	}
	if first := p.before[0].Version(); first > 1 {
		return false, fmt.Errorf("drill: prev_root_sha256 does not name the roots before v%d, so their pins are unknown; set Config.Pin to an older root", first)
	}
	p.report.Root = p.before[len(p.before)-1].Version()
	after := storage.Overlay(p.Storage)
	next := repo.New(after, p.rehearsal())
	if p.Draft != nil {
		if err := next.Publish(ctx, p.Draft); err != nil {
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			p.report.Refused = text.Line(err.Error())
			return true, nil
		}
	}
	if p.after, err = next.Chain(ctx); err != nil {
		return false, err
	}
	if err := p.recoveries(ctx, next); err != nil {
		return false, err
	}
	p.report.Root = p.tip().Version()
	if p.tip().Charter() == nil {
		return false, errors.New("drill: a repository without a charter can't be moved")
	}
	p.files["before"], p.files["after"], p.files["late"] = p.Storage, after, late{after, p.Storage}
	if p.pins, err = next.Pins(ctx); err != nil {
		return false, err
	}
	for _, pin := range p.Pins {
		if _, err := tuf.OpenPin(pin, &tuf.Options{UnsafeLoopback: p.Config.UnsafeLoopback}); err != nil {
			return false, fmt.Errorf("drill: invalid pin: %w", err)
		}
	}
	p.pins = append(p.pins, p.Pins...)
	if len(p.pins) == 0 {
		return false, errors.New("drill: no pin can be derived: no root has locations of two operators")
	}
	p.cast()
	for _, name := range []string{"before", "after"} {
		if err := p.approve(ctx, name); err != nil {
			return false, err
		}
	}
	return false, p.arm(ctx)
}

// rehearsal is the configuration for publishing the draft in memory. It has a ledger
// of its own, which starts with the published repository, so that the rehearsal leaves
// no record; the chain is verified from the same root.
func (p *play) rehearsal() *repo.Config {
	cfg := p.Config
	cfg.Pin = p.before[0].Bytes()
	cfg.Ledger, cfg.UnsafeTrustStorage, cfg.Automation = signing.MemLedger(), true, nil
	return &cfg
}

// recoveries records the roots that clients accept only after a waiting period.
func (p *play) recoveries(ctx context.Context, r *repo.Repo) error {
	files, err := r.RootFiles(ctx)
	if err != nil {
		return err
	}
	p.recovered = map[int64]bool{}
	for _, f := range files {
		if n, recovery, ok := rootOf(f.Name); ok && recovery {
			p.recovered[n] = true
		}
	}
	return nil
}

// cast determines old and new locations, and collects all locations.
func (p *play) cast() {
	p.old, p.fresh = map[string]bool{}, map[string]bool{}
	stays := func(l tuf.Location) bool {
		for _, x := range p.tip().Charter().Locations() {
			if x.Base == l.Base {
				return x.Tier != tuf.Legacy && x.UseUntil.IsZero()
			}
		}
		return false
	}
	for _, id := range p.Old {
		p.old[id] = true
	}
	for _, root := range []*tuf.Root{p.was(), p.tip()} {
		for _, l := range root.Charter().Locations() {
			if p.Old == nil && l.Tier != tuf.Rendezvous && !stays(l) {
				p.old[l.ID] = true
			}
		}
		for _, r := range root.Charter().Retired() {
			if p.Old == nil {
				p.old[r.ID] = true
			}
		}
	}
	if len(p.old) == 0 {
		for _, l := range p.was().Charter().Locations() {
			if l.Tier != tuf.Rendezvous {
				p.old[l.ID] = true
				break
			}
		}
	}
	add := func(list []tuf.Location) {
		for _, l := range list {
			if !slices.ContainsFunc(p.locations, func(x tuf.Location) bool { return x.Base == l.Base }) {
				p.locations = append(p.locations, l)
			}
		}
	}
	for _, root := range slices.Backward(p.after) {
		add(root.Charter().Locations())
	}
	for _, data := range p.pins {
		if pin, err := tuf.OpenPin(data, &tuf.Options{UnsafeLoopback: p.Config.UnsafeLoopback}); err == nil {
			add(pin.Locations())
		}
	}
	p.well = map[string]host{}
	for _, l := range p.locations {
		p.well[l.Base] = p.healthy(l)
	}
	for _, l := range p.tip().Charter().Locations() {
		if !p.old[l.ID] && l.Tier != tuf.Rendezvous {
			p.fresh[l.ID] = true
		}
	}
}
