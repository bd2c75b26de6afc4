package relocate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// Preflight checks a root before its publication: authority, keys, floors and dates,
// and every location over the network in comparison with the storage. It writes
// nothing.
type Preflight struct {
	// Repo is a handle on Storage. It needs no signers.
	Repo *repo.Repo
	// Storage has the published files, the expected state of every location.
	Storage repo.Storage
	// Draft has the root to check, signed or not; nil: the newest published root. Of a
	// first root, Run reports authority and losses.
	Draft *repo.Draft
	// Move is the move that the root belongs to; may be nil. With it Run also probes
	// the new locations before they are listed, and old keys must not remain after the
	// cut-over.
	Move *Move
	// RootsOnly are retired locations that are still under your control. Each must
	// serve all roots and nothing else, see [PublishRootsOnly].
	RootsOnly []tuf.Location
	// HTTP makes the requests; nil: Run probes no location. It is copied. Run follows
	// redirects of targets by the rules of package client and no others. It has at
	// most one open request for each location.
	HTTP *http.Client
	// MaxStale is the longest time that a cache may keep an old timestamp or the answer
	// that there is no next root; 0: 5 minutes.
	MaxStale time.Duration
	// MinCertificate is the remaining validity of a certificate below which Run
	// reports a warning; 0: 21 days.
	MinCertificate time.Duration
	// MaxTargets is the number of bytes of targets to read from each location, smallest
	// targets first. Run checks only the size of further targets. 0: 1 GiB.
	MaxTargets int64
}

// Run does all checks. Their results are in the Report; the error is an error of the
// storage or of ctx.
func (p *Preflight) Run(ctx context.Context) (*Report, error) {
	chain, err := p.Repo.Chain(ctx)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return p.first()
	}
	tip := chain[len(chain)-1]
	want, err := readExpected(ctx, p.Storage, chain)
	if err != nil {
		return nil, err
	}
	if want.rootFiles, err = p.Repo.RootFiles(ctx); err != nil {
		return nil, err
	}
	var f findings
	root, before := tuf.RootView(tip), (*tuf.Root)(nil)
	if len(chain) > 1 {
		before = chain[len(chain)-2]
	}
	if p.Draft != nil {
		if data := p.Draft.File("root"); data != nil {
			proposal, err := tip.Propose(data)
			if err != nil && before != nil && want.recovered() {
				// A recovery may replace an earlier recovery.
				if other, otherErr := before.Propose(data); otherErr == nil {
					proposal, err, tip = other, nil, before
				}
			}
			if err != nil {
				f.add(LevelError, "root", "", "clients will refuse the root: %v", err)
				return &Report{Root: tip.Version() + 1, Findings: f}, nil
			}
			root, before = proposal, tip
		}
		for _, m := range p.Draft.Missing() {
			f.add(LevelNote, "signatures", "", "missing: %s", m)
		}
	}
	now := p.Repo.Now()
	f = append(f, powers(root, now)...)
	f.keys(root, before, p.Move)
	f.floors(root, before, want, p.Draft != nil)
	f.windows(root, want, now)
	if p.Draft != nil {
		if err := f.dates(ctx, p.Repo, p.Draft); err != nil {
			return nil, err
		}
	}
	if p.HTTP != nil {
		found, err := p.probeAll(ctx, root, want, now)
		if err != nil {
			return nil, err
		}
		f = append(f, found...)
	}
	r := &Report{Root: root.Version(), Findings: f}
	r.sort()
	return r, nil
}

// first reports the authority of a first root, which has nothing before it.
func (p *Preflight) first() (*Report, error) {
	if p.Draft == nil || p.Draft.File("root") == nil {
		return nil, fmt.Errorf("relocate: %w: the repository is empty", ErrOrder)
	}
	// The handle that staged or opened the draft has decided on its locations.
	root, err := tuf.ProposeFirst(p.Draft.File("root"), &tuf.Options{UnsafeLoopback: true})
	if err != nil {
		return nil, fmt.Errorf("relocate: %w", err)
	}
	var f findings
	for _, m := range p.Draft.Missing() {
		f.add(LevelNote, "signatures", "", "missing: %s", m)
	}
	r := &Report{Root: root.Version(), Findings: append(f, powers(root, p.Repo.Now())...)}
	r.sort()
	return r, nil
}

// keys checks that rotated keys have no role in the new root.
func (f *findings) keys(root tuf.RootView, before *tuf.Root, m *Move) {
	if before == nil || root.Charter().Epoch() == before.Charter().Epoch() {
		return
	}
	old := map[string]string{}
	note := func(whose string, ids []string) {
		for _, k := range before.Keys(ids) {
			if print, err := k.Fingerprint(); err == nil {
				old[print] = whose
			}
		}
	}
	party := "vendor"
	if m != nil {
		party = m.party()
	}
	for _, p := range before.Charter().Parties() {
		if p.Name == party {
			note("an old root key of "+p.Name, p.KeyIDs)
		}
	}
	for _, role := range []string{"timestamp", "snapshot", "targets"} {
		ids, _ := before.RoleKeys(role)
		note("the old "+role+" key", ids)
	}
	clean := true
	for print, role := range allKeys(root) {
		if whose := old[print]; whose != "" {
			clean = false
			f.add(LevelError, "keys", "", "%s (fingerprint %.16s) is still a key of %s in the new root", whose, print, role)
		}
	}
	if clean {
		f.add(LevelNote, "keys", "", "root v%[2]d has no old root key of %[1]s and no old online key", party, root.Version())
	}
	for _, cl := range root.Charter().Classes() {
		for _, r := range cl.Roles {
			if was := roleKeys(before)[r.Role]; r.Party == party && was != nil && before.KeySet(was) == root.KeySet(r.KeyIDs) {
				f.add(LevelWarning, "keys", "", "role %s of %s keeps its release keys", r.Role, party)
			}
		}
	}
}

// floors checks that the floors are the published versions. Higher floors make
// clients refuse content; lower ones permit rollback.
func (f *findings) floors(root tuf.RootView, before *tuf.Root, t *expected, draft bool) {
	if before == nil || !draft || root.Charter().Epoch() == before.Charter().Epoch() {
		return
	}
	have := root.Charter().Floors()
	good := true
	for _, x := range []struct {
		role        string
		floor, last int64
	}{{"timestamp", have.Timestamp, t.timestamp}, {"snapshot", have.Snapshot, t.snapshot}, {"targets", have.Targets, t.targets}} {
		switch {
		case x.floor > x.last:
			good = false
			f.add(LevelError, "floors", "", "the floor of %s is v%d, published is v%d: clients would refuse the next versions", x.role, x.floor, x.last)
		case x.floor < x.last:
			good = false
			f.add(LevelWarning, "floors", "", "the floor of %s is v%d, published is v%d: stage the draft again, and publish nothing else before it", x.role, x.floor, x.last)
		}
	}
	if good {
		f.add(LevelNote, "floors", "", "the floors are the published versions: timestamp v%d, snapshot v%d, targets v%d", have.Timestamp, have.Snapshot, have.Targets)
	}
}

// dates reports the dates in the draft's diff that signers or a publication will
// refuse. It leaves out dates of the root that windows reports.
func (f *findings) dates(ctx context.Context, r *repo.Repo, d *repo.Draft) error {
	changes, err := r.Diff(ctx, d)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		level := LevelError
		if errors.Is(err, repo.ErrStale) || errors.Is(err, repo.ErrPublished) {
			level = LevelWarning // the draft is still fit for a rehearsal
		}
		f.add(level, "draft", "", "%v", err)
		return nil
	}
	for _, c := range changes {
		if c.What == "date of" && (c.Role != "root" || strings.HasPrefix(c.New, "it expires")) {
			f.add(LevelError, "windows", "", "%s %s of the draft: %s", c.Role, c.Name, c.New)
		}
	}
	return nil
}

// windows checks that enough operators are usable at every time until the root
// expires.
func (f *findings) windows(root tuf.RootView, t *expected, now time.Time) {
	c := root.Charter()
	switch left := root.Expires().Sub(now); {
	case left <= 0:
		f.add(LevelError, "windows", "", "root v%d has expired on %s", root.Version(), text.Time(root.Expires()))
	case left < 30*day:
		f.add(LevelWarning, "windows", "", "root v%d expires on %s, in %s", root.Version(), text.Time(root.Expires()), days(left))
	}
	if chain.Ahead(c, now) > 0 {
		f.add(LevelError, "windows", "", "signed_at is %s, in the future: clients would use it as the current time", text.Time(c.SignedAt()))
	} else if now.Sub(c.SignedAt()) > 60*day {
		f.add(LevelNote, "windows", "", "signed_at is %s, %s ago", text.Time(c.SignedAt()), days(now.Sub(c.SignedAt())))
	}
	if !t.expires.IsZero() && !now.Before(t.expires) {
		f.add(LevelError, "windows", "", "the published %s has expired on %s", t.first, text.Time(t.expires))
	}
	times := []time.Time{now}
	for _, l := range c.Locations() {
		if l.UseFrom.After(root.Expires()) {
			f.add(LevelError, "windows", l.ID, "its use_from, %s, is after the expiry of the root", text.Time(l.UseFrom))
		}
		if l.UseUntil.IsZero() {
			continue
		}
		if !l.UseFrom.IsZero() && !l.UseUntil.After(l.UseFrom) {
			f.add(LevelError, "windows", l.ID, "its use_until, %s, is not after its use_from, %s", text.Time(l.UseUntil), text.Time(l.UseFrom))
		}
		if !l.UseUntil.After(now) {
			f.add(LevelWarning, "windows", l.ID, "its use_until, %s, has passed: no client contacts it", text.Time(l.UseUntil))
		} else if l.UseUntil.After(root.Expires()) {
			f.add(LevelNote, "windows", l.ID, "its use_until, %s, is after the expiry of the root, %s: renew the root in time", text.Time(l.UseUntil), text.Time(root.Expires()))
		} else {
			times = append(times, l.UseUntil)
		}
	}
	if c.Probe().MinOperators == 1 {
		f.add(LevelWarning, "windows", "", chain.OneOperator)
	}
	slices.SortFunc(times, time.Time.Compare)
	for _, at := range times {
		usable := slices.DeleteFunc(c.Locations(), func(l tuf.Location) bool { return !c.Usable(l, at) })
		if n := tuf.Operators(usable); n < c.Probe().MinOperators {
			f.add(LevelError, "windows", "", "from %s on clients can reach %d operators for root checks, the charter requires %d", text.Time(at), n, c.Probe().MinOperators)
		}
	}
}

// probeAll probes all locations concurrently.
func (p *Preflight) probeAll(ctx context.Context, root tuf.RootView, t *expected, now time.Time) (findings, error) {
	list := slices.DeleteFunc(root.Charter().Locations(), func(l tuf.Location) bool { return !root.Charter().Usable(l, now) })
	if p.Move != nil {
		for _, l := range p.Move.To {
			if find(list, l.ID) == nil && !banned(root.Charter(), l.Host()) {
				list = append(list, l)
			}
		}
	}
	current := len(list)
	for _, l := range p.RootsOnly {
		l.Tier, l.Targets = tuf.Rendezvous, ""
		list = append(list, l)
	}
	out := make([]findings, len(list))
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, l := range list {
		wg.Go(func() {
			v := &probe{location: l, want: t, storage: p.Storage, now: now, maxStale: cmp.Or(p.MaxStale, 5*time.Minute),
				usable:         func(l tuf.Location) bool { return root.Charter().Usable(l, now) },
				minCertificate: cmp.Or(p.MinCertificate, 21*day), maxTargets: cmp.Or(p.MaxTargets, 1<<30), retired: i >= current}
			v.http = *p.HTTP
			v.http.CheckRedirect = v.redirect
			errs[i] = v.run(ctx)
			out[i] = v.found
		})
	}
	wg.Wait()
	return slices.Concat(out...), errors.Join(errs...)
}

func banned(c *tuf.Charter, host string) bool {
	return slices.ContainsFunc(c.Retired(), func(r tuf.Retired) bool { return slices.Contains(r.Hosts, host) })
}
