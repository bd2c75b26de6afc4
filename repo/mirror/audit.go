package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/walk"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/receipt"
)

// State is what clients do with some bytes under a path.
type State string

const (
	StateOffered    State = "offered"    // every party lists them, and clients are offered them
	StateSuperseded State = "superseded" // approved, but all clients are offered a later release
	StateHeld       State = "held"       // a hold stops new installs
	StateRecalled   State = "recalled"   // a party states that they must not be used
	StateRefused    State = "refused"    // the last statement of a party refuses them
	StateWaiting    State = "waiting"    // some roles list them, but not every party does
)

// AuditOptions selects what [Audit] returns.
type AuditOptions struct {
	Options
	// SHA256 selects the bytes with one of these hashes, in lower-case hex, under each of
	// their paths. nil selects all releases.
	SHA256 []string
	// Prefix selects the paths that begin with it.
	Prefix string
	// Files also selects targets without release data, if SHA256 is nil.
	Files bool
	// RootsOnly reads the roots alone: there are no entries.
	RootsOnly bool
}

// AuditReport is the result of [Audit].
type AuditReport struct {
	At       time.Time     // of the decisions
	Root     *tuf.Root     // under which timestamp and snapshot are signed; nil with RootsOnly
	Snapshot *tuf.Snapshot // with which the decisions were made; nil with RootsOnly
	Roots    []AuditRoot   // that the pin authenticates, in order; the last one is the newest
	Answers  []Answer      // one for each source, in their order
	Entries  []Entry       // sorted by path, then by sha256
}

// AuditRoot is a verified root.
type AuditRoot struct {
	*tuf.Root
	Recovered bool // it follows from a recovery statement
}

// Answer is what one source has.
type Answer struct {
	Name      string // of the [Mirror]
	RootsOnly bool   // likewise
	Root      int64  // version of its newest root; 0: none
	Timestamp int64  // likewise
	Snapshot  int64  // likewise
	Differs   string // how it differs from what counts; "": it agrees
	Fork      bool   // it has another root or snapshot of the same version as what counts
	Err       error  // why it has no valid content
}

// Entry is some bytes under a path, with what clients do with them.
type Entry struct {
	Path, SHA256 string       // of the target, lower-case hex
	Length       int64        // 0 for recalled bytes that no role lists
	State        State        // what clients do with the bytes
	Err          error        // why clients are not offered them; nil: offered or superseded
	Release      *tuf.Release // nil for a target without release data; of waiting bytes the fields of one role
	Later        string       // of superseded bytes: the version that clients are offered
	Recall       *tuf.Recall  // the latest recall of these bytes; nil: none
	// Signoffs are the roles that list the bytes. Unless every party lists them, the keys
	// are not known, nor the party of a delegated role.
	Signoffs   []tuf.Signoff
	Statements []receipt.Statement // valid ones, by role in the charter's order, then by number
}

// Audit decides on many bytes with one snapshot. It asks every source for the newest
// state, and decides with the newest valid snapshot; where sources disagree,
// [Answer].Differs says how. A snapshot is valid if it is signed under the newest root
// that any source has. Audit reads roots, timestamp and snapshot of each source once, and
// of the source that counts once more; then all metadata of that source, and the
// statements on the selected bytes. It reads no target, needs no key, and trusts the pin
// alone.
//
// Bytes that no role lists and no party recalled are not in the result. A later release
// supersedes another one if it has the same product and channel, is for the same platform
// or for any, and is offered to all machines.
//
// If no source has a valid state, the error is that of the first one. Expired metadata is
// not valid ([tuf.ErrExpired]). A recovered root after the pin's is [tuf.ErrWaiting],
// except with RootsOnly. If another process published during the call, the error wraps
// [storage.ErrConflict]; call Audit again.
func Audit(ctx context.Context, from []Mirror, pin []byte, opts *AuditOptions) (_ *AuditReport, err error) {
	defer text.OneLine(&err)
	if opts == nil {
		opts = &AuditOptions{}
	}
	opened, err := tuf.OpenPin(pin, opts.tuf())
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	if len(from) == 0 {
		return nil, errors.New("mirror: no source to ask")
	}
	a := &audit{opts: opts, pinned: opened.Root(), at: opts.now(), heads: make([]*head, len(from))}
	var all sync.WaitGroup
	for i, m := range from {
		all.Go(func() { a.heads[i] = a.ask(ctx, m) })
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := a.choose(); err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	if !opts.RootsOnly {
		if err := a.read(ctx); err != nil {
			return nil, fmt.Errorf("mirror: %w", err)
		}
	}
	return a.report(), nil
}

// audit is one call of Audit.
type audit struct {
	opts    *AuditOptions
	pinned  *tuf.Root
	at      time.Time
	heads   []*head
	newest  *head // has the newest root
	best    *head // has the newest valid snapshot; nil with RootsOnly
	entries []Entry
}

// head is the newest state of one source.
type head struct {
	Mirror
	walker              *walk.Walker
	timestamp, snapshot []byte
	err                 error
	ts                  *tuf.Timestamp // at the time of the audit, under the newest root of all sources
	snap                *tuf.Snapshot
}

func (h *head) root() *tuf.Root { return h.walker.Newest() }

// ask reads the roots, the timestamp and the snapshot of a source.
func (a *audit) ask(ctx context.Context, m Mirror) *head {
	h := &head{Mirror: m}
	h.walker = newestOf(m.Source, a.pinned, &a.opts.Options)
	h.walker.RootsOnly = m.RootsOnly || a.opts.RootsOnly
	h.walker.Metadata = func(context.Context, string, []byte) error { return nil }
	h.walker.Opened = func(_ context.Context, timestamp, snapshot []byte) error {
		h.timestamp, h.snapshot = timestamp, snapshot
		return errCollected
	}
	if err := h.walker.Run(ctx, a.pinned); !errors.Is(err, errCollected) {
		h.err = h.walker.Conflict(ctx, err)
	}
	return h
}

// choose finds the newest root, and the newest snapshot that is valid under it.
func (a *audit) choose() error {
	var first error
	for _, h := range a.heads {
		if h.err != nil {
			if first == nil {
				first = fmt.Errorf("%s%w", h.where(), h.err)
			}
		} else if a.newest == nil || h.root().Version() > a.newest.root().Version() {
			a.newest = h
		}
	}
	if a.newest == nil {
		return first
	}
	if a.opts.RootsOnly {
		return nil
	}
	root := a.newest.root()
	if root.Charter() == nil {
		return &tuf.Error{Role: "root", Version: root.Version(), Err: tuf.ErrNotApproved, Detail: "the repository has no charter and no review"}
	}
	if v := a.newest.recovered(a.pinned); v > 0 {
		return &tuf.Error{Role: "root", Version: v, Err: tuf.ErrWaiting, Detail: "it is a recovered root, which clients with this pin accept after a waiting period; use a pin that was made after it"}
	}
	now := a.at
	if signed := root.Charter().SignedAt(); now.Before(signed) {
		now = signed // as clients do
	}
	a.at = now
	for _, h := range a.heads {
		if h.err != nil || h.RootsOnly {
			continue
		}
		if h.ts, h.err = root.Timestamp(h.timestamp, nil, now); h.err == nil {
			h.snap, h.err = h.ts.Snapshot(h.snapshot, nil)
		}
		switch {
		case h.err != nil && first == nil:
			first = fmt.Errorf("%s%w", h.where(), h.err)
		case h.err == nil && (a.best == nil || h.after(a.best)):
			a.best = h
		}
	}
	if a.best == nil && first == nil {
		first = errors.New("every source has roots only")
	}
	if a.best != nil {
		return nil
	}
	return first
}

func (h *head) where() string {
	if h.Name == "" {
		return ""
	}
	return text.Name(h.Name) + ": "
}

// after reports whether h has newer content than o.
func (h *head) after(o *head) bool {
	if h.snap.Version() != o.snap.Version() {
		return h.snap.Version() > o.snap.Version()
	}
	return h.ts.Version() > o.ts.Version()
}

// recovered is the version of the first recovered root after the pin's; 0: none.
func (h *head) recovered(pinned *tuf.Root) int64 {
	for _, r := range h.roots() {
		if r.Recovered && r.Version() > pinned.Version() {
			return r.Version()
		}
	}
	return 0
}

func (h *head) roots() (out []AuditRoot) {
	for _, root := range h.walker.Trusted() {
		x := AuditRoot{Root: root}
		if f, ok := h.walker.Recoveries[root.Version()-1]; ok && f.Statement != nil {
			next, err := f.Root()
			x.Recovered = err == nil && next.SHA256() == root.SHA256()
		}
		out = append(out, x)
	}
	return out
}

// read reads the roles of the source that counts. If it can't serve one of them, another
// source with the same snapshot can.
func (a *audit) read(ctx context.Context) error {
	sum := metafile.SHA256(a.best.snapshot)
	for {
		err := a.readFrom(ctx, a.best)
		if err == nil || ctx.Err() != nil {
			return err
		}
		a.best.err = err
		i := slices.IndexFunc(a.heads, func(h *head) bool { return h.err == nil && h.snap != nil && metafile.SHA256(h.snapshot) == sum })
		if i < 0 {
			return fmt.Errorf("%s%w", a.best.where(), err)
		}
		a.best = a.heads[i]
	}
}

// report says how the sources differ.
func (a *audit) report() *AuditReport {
	out := &AuditReport{At: a.at, Roots: a.newest.roots(), Entries: a.entries}
	if a.best != nil {
		out.Root, out.Snapshot = a.newest.root(), a.best.snap
	}
	for _, h := range a.heads {
		x := Answer{Name: h.Name, RootsOnly: h.RootsOnly, Err: h.err}
		if h.err == nil || h.timestamp != nil {
			x.Root = h.root().Version()
		}
		if h.snap != nil {
			x.Timestamp, x.Snapshot = h.ts.Version(), h.snap.Version()
		}
		if h.err != nil {
			x.Differs = text.Line("no valid answer: " + h.err.Error())
		} else {
			differ, fork := a.differences(h)
			x.Differs, x.Fork = strings.Join(differ, ", "), fork
		}
		out.Answers = append(out.Answers, x)
	}
	return out
}

// differences says how the root and the snapshot of a source differ from those that count.
func (a *audit) differences(h *head) (out []string, fork bool) {
	differ := func(is bool, format string, args ...any) {
		fork = fork || is
		out = append(out, fmt.Sprintf(format, args...))
	}
	newest := a.newest.root()
	switch mine := h.root(); {
	case mine.Version() != newest.Version():
		differ(false, "its newest root is v%d, another source has v%d", mine.Version(), newest.Version())
	case mine.SHA256() != newest.SHA256():
		differ(true, "it has ANOTHER root v%d, sha256 %.16s", mine.Version(), mine.SHA256())
	}
	if h.snap == nil || a.best == nil {
		return out, fork
	}
	switch best := a.best; {
	case h.snap.Version() != best.snap.Version():
		differ(false, "it has snapshot v%d, another source has v%d", h.snap.Version(), best.snap.Version())
	case metafile.SHA256(h.snapshot) != metafile.SHA256(best.snapshot):
		differ(true, "it has ANOTHER snapshot v%d, sha256 %.16s", h.snap.Version(), metafile.SHA256(h.snapshot))
	}
	return out, fork
}

// readRole returns a tuf.Fetch that reads from a source.
func readRole(ctx context.Context, from storage.Source) tuf.Fetch {
	return func(f tuf.RoleFile) ([]byte, error) {
		return storage.ReadAll(ctx, from, "metadata/"+f.Name(), f.MaxLength)
	}
}
