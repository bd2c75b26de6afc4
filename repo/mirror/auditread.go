package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
	"github.com/visum-dev/visum/tuf/receipt"
)

const (
	maxAudited     = 1 << 20 // entries of a report
	auditRequests  = 16      // that read statements at the same time
	maxLaterChecks = 1000    // later releases on which one decision is made
)

// auditRead reads the content of one source.
type auditRead struct {
	*audit
	ctx    context.Context
	source storage.Source
	snap   *tuf.Snapshot
	get    tuf.Fetch
	want   map[string]bool           // sha256; nil: releases
	found  map[[2]string]*found      // by path and sha256
	lines  map[[2]string][]versioned // releases by product and channel
	seen   map[[2]string]bool        // path and version of lines
	later  map[string]*offer         // by path
}

// found is some bytes that a role lists or a party recalled.
type found struct {
	target   metafile.Target // without length if no role lists it
	release  *tuf.Release
	signoffs []tuf.Signoff // of the roles that list it; their keys are not known
}

// versioned is a release that a role lists.
type versioned struct {
	path, platform string
	version        tuf.Version
}

// offer is a decision on what the parties list under a path.
type offer struct {
	rel tuf.Release
	ok  bool // offered to all machines
}

func (a *audit) readFrom(ctx context.Context, h *head) error {
	r := &auditRead{audit: a, ctx: ctx, source: h.Source, snap: h.snap, get: readRole(ctx, h.Source), found: map[[2]string]*found{},
		lines: map[[2]string][]versioned{}, seen: map[[2]string]bool{}, later: map[string]*offer{}}
	if a.opts.SHA256 != nil {
		r.want = map[string]bool{}
		for _, sum := range a.opts.SHA256 {
			r.want[sum] = true
		}
	}
	s := newestOf(h.Source, a.pinned, &a.opts.Options)
	s.Metadata = func(context.Context, string, []byte) error { return nil }
	s.Role = func(_ context.Context, _ string, t *tuf.Targets) error { return r.role(s.Under, s.Targets, t) }
	s.Opened = func(_ context.Context, _, snapshot []byte) error {
		if !bytes.Equal(snapshot, h.snapshot) {
			return fmt.Errorf("%w: another snapshot was published", storage.ErrConflict)
		}
		return nil
	}
	if err := s.Run(ctx, a.pinned); err != nil {
		return s.Conflict(ctx, err)
	}
	if err := r.decide(); err != nil {
		return s.Conflict(ctx, err)
	}
	if err := r.statements(a.newest.walker.Trusted()); err != nil {
		return err
	}
	return nil
}

// role collects the selected bytes that a role lists or recalls, and the versions of all
// releases.
func (r *auditRead) role(root *tuf.Root, each func(*tuf.Targets, func(metafile.Target) error) error, t *tuf.Targets) error {
	party := ""
	for _, class := range root.Charter().Classes() {
		if class.Hold != nil && class.Hold.Role == t.Role() {
			return nil // it lists paths that other roles list
		}
		for _, role := range class.Roles {
			if role.Role == t.Role() {
				party = role.Party
			}
		}
	}
	err := each(t, func(x metafile.Target) error {
		var rel *tuf.Release
		if x.Release != nil {
			fields, err := tuf.ParseRelease(x.Release.JSON())
			rel = &fields
			if err == nil {
				r.line(x.Path, fields)
			}
		}
		if !r.selects(x.Path, x.SHA256, rel != nil) {
			return nil
		}
		f, err := r.add(x.Path, x.SHA256)
		if err != nil {
			return err
		}
		if f.target.Length = x.Length; f.release == nil {
			f.release = rel
		}
		f.signoffs = append(f.signoffs, tuf.Signoff{Party: party, Role: t.Role(), Version: t.Version(), Expires: t.Expires()})
		return nil
	})
	if err != nil {
		return err
	}
	recalls, err := metafile.MemberOf(t, layout.RecallMember)
	if err != nil {
		return err
	}
	for x := range metafile.Recalls(recalls) {
		if r.selects(x.Path, x.SHA256, true) {
			if _, err := r.add(x.Path, x.SHA256); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *auditRead) selects(path, sum string, release bool) bool {
	if !strings.HasPrefix(path, r.opts.Prefix) {
		return false
	}
	if r.want != nil {
		return r.want[sum]
	}
	return release || r.opts.Files
}

func (r *auditRead) add(path, sum string) (*found, error) {
	key := [2]string{path, sum}
	if r.found[key] == nil {
		if len(r.found) == maxAudited {
			return nil, fmt.Errorf("%w: more than %d selected targets", tuf.ErrTooLarge, maxAudited)
		}
		r.found[key] = &found{target: metafile.Target{Path: path, SHA256: sum}}
	}
	return r.found[key], nil
}

// line remembers the version of a release.
func (r *auditRead) line(path string, rel tuf.Release) {
	v, err := tuf.ParseVersion(rel.Version)
	at := [2]string{path, v.String()}
	if err != nil || r.seen[at] {
		return
	}
	r.seen[at] = true
	key := [2]string{rel.Product, rel.Channel}
	r.lines[key] = append(r.lines[key], versioned{path, rel.Platform, v})
}

// decide makes an entry of everything that was found.
func (r *auditRead) decide() error {
	for _, list := range r.lines { // the newest first
		slices.SortStableFunc(list, func(a, b versioned) int { return cmp.Or(b.version.Compare(a.version), cmp.Compare(a.path, b.path)) })
	}
	keys := slices.SortedFunc(maps.Keys(r.found), func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	r.entries = nil
	for _, key := range keys {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		e, err := r.entry(r.found[key])
		if err != nil {
			return err
		}
		r.entries = append(r.entries, e)
	}
	return nil
}

func (r *auditRead) entry(f *found) (Entry, error) {
	e := Entry{Path: f.target.Path, SHA256: f.target.SHA256, Length: f.target.Length, State: StateOffered, Release: f.release, Signoffs: f.signoffs}
	d, err := receipt.Decide(r.snap, e.Path, e.SHA256, r.get)
	if err != nil {
		if e.Err = err; !undecided(err) {
			return e, err
		}
		e.State = StateWaiting
		return e, nil
	}
	if len(d.Agreed.Signoffs) > 0 {
		e.Signoffs, e.Length = d.Agreed.Signoffs, d.Agreed.Length
	}
	e.Err = d.Stopped
	switch {
	case errors.Is(d.Stopped, tuf.ErrRecalled):
		e.State = StateRecalled
		recalls, err := r.snap.RecallsOf(e.Path, r.get)
		if err != nil {
			return e, err
		}
		for _, x := range recalls {
			if x.SHA256 == e.SHA256 && (e.Recall == nil || x.At.After(e.Recall.At)) {
				e.Recall = &x
			}
		}
	case d.Stopped != nil:
		e.State = StateHeld
	default:
		if rel, ok := d.Approved.Release(); ok {
			e.Release = &rel
			if e.Later, err = r.supersededBy(rel); err != nil {
				return e, err
			}
			if e.Later != "" {
				e.State = StateSuperseded
			}
		}
	}
	return e, nil
}

// undecided reports whether an error of receipt.Decide means that the parties do not
// agree on the bytes.
func undecided(err error) bool {
	var e *tuf.Error
	return errors.Is(err, tuf.ErrNotApproved) || errors.Is(err, tuf.ErrNoTarget) || errors.Is(err, tuf.ErrRelease) ||
		errors.Is(err, tuf.ErrMismatch) && errors.As(err, &e) && e.Role == "receipt" // not that of a file
}

// supersededBy returns the version of the newest later release that is offered to all
// machines which could get this one; "" if there is none.
func (r *auditRead) supersededBy(rel tuf.Release) (string, error) {
	mine, err := tuf.ParseVersion(rel.Version)
	if err != nil {
		return "", err
	}
	checks := 0
	for _, x := range r.lines[[2]string{rel.Product, rel.Channel}] {
		if x.version.Compare(mine) <= 0 || checks == maxLaterChecks {
			break
		}
		if x.platform != rel.Platform && x.platform != "any" {
			continue
		}
		checks++
		o, err := r.offered(x.path)
		if err != nil {
			return "", err
		}
		if v, err := tuf.ParseVersion(o.rel.Version); o.ok && err == nil && v.Compare(mine) > 0 && o.rel.Product == rel.Product && o.rel.Channel == rel.Channel &&
			(o.rel.Platform == rel.Platform || o.rel.Platform == "any") {
			return o.rel.Version, nil
		}
	}
	return "", nil
}

// offered decides on a path, once.
func (r *auditRead) offered(path string) (*offer, error) {
	if o := r.later[path]; o != nil {
		return o, nil
	}
	o := &offer{}
	d, err := receipt.Decide(r.snap, path, "", r.get)
	if err != nil && !undecided(err) {
		return nil, err
	}
	if err == nil && d.Stopped == nil {
		o.rel, o.ok = d.Approved.Release()
		o.ok = o.ok && (o.rel.Rollout == nil || o.rel.Rollout.Percent >= 100)
	}
	r.later[path] = o
	return o, nil
}

// statements reads the statements on all entries.
func (r *auditRead) statements(roots []*tuf.Root) error {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	next := make(chan *Entry)
	var all sync.WaitGroup
	for range min(auditRequests, len(r.entries)) {
		all.Go(func() {
			for e := range next {
				if ctx.Err() != nil {
					continue
				}
				if err := r.statementsOn(ctx, e, roots); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range r.entries {
		if r.entries[i].Length > 0 || len(r.entries[i].Signoffs) > 0 {
			next <- &r.entries[i]
		}
	}
	close(next)
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// statementsOn reads the statements on one entry. Those that do not verify are ignored.
func (r *auditRead) statementsOn(ctx context.Context, e *Entry, roots []*tuf.Root) error {
	subject := attestation.Subject{Path: e.Path, Length: e.Length, SHA256: e.SHA256}
	root, parties := roots[len(roots)-1], map[string]string{}
	for _, class := range root.Charter().Classes() {
		for _, role := range class.Roles {
			parties[role.Role] = role.Party
		}
	}
	last := map[string]receipt.Statement{}
	err := chain.Statements(ctx, r.source, roots, metafile.Target{Path: e.Path, Length: e.Length, SHA256: e.SHA256}, nil, func(name string, data []byte, err error) error {
		role, n := layout.SplitStatement(path.Base(name))
		if err != nil || n == 0 {
			return nil
		}
		s, err := receipt.OpenStatement(receipt.StatementFile{Role: role, Number: n, Data: data}, root, parties[role], subject, r.at, roots...)
		if err == nil {
			e.Statements = append(e.Statements, s)
			last[role] = s
		}
		return nil
	})
	if err != nil || e.State == StateRecalled || e.State == StateHeld {
		return err
	}
	for _, role := range slices.Sorted(maps.Keys(last)) {
		if s := last[role]; s.Refusal != nil {
			why := fmt.Sprintf("refused by %s on %s: %s", text.Name(s.Party), text.Time(s.Refusal.At), text.Quote(s.Refusal.Reason))
			if e.State != StateWaiting {
				why += "; every party lists it, so clients are offered it all the same"
			}
			e.State, e.Err = StateRefused, &tuf.Error{Role: e.Path, Err: tuf.ErrNotApproved, Detail: why}
			break
		}
	}
	return nil
}
