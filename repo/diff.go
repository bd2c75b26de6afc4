package repo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// ChangeKind is what happens to a thing.
type ChangeKind string

const (
	Added     ChangeKind = "added"
	Removed   ChangeKind = "removed"
	Changed   ChangeKind = "changed"
	Unchanged ChangeKind = "unchanged" // shown all the same: an expiry, and the whole id of a key
)

// ChangePart is the part of a diff that a [Change] belongs to.
type ChangePart string

const (
	Headline ChangePart = "headline" // one for each file, statement and recovery statement
	Summary  ChangePart = "summary"  // members that this package knows, in its words
	Rest     ChangePart = "rest"     // every other signed member, with its path and its kind; keys with their whole ids
)

// Change is one line of a diff. All its strings may be written to a terminal:
// they are printable ASCII. What stands in metadata is quoted, unless it is a
// plain token such as agent/1.0; only words of this package stand free. Of a
// string of more than 200 characters the first ones are shown, with the length
// and the sha256 of the whole.
type Change struct {
	Part ChangePart
	Role string // of the metadata file; for lists below a party's role, that role
	Kind ChangeKind
	What string // kind of the thing, such as release, location, party, class; "" for the file itself
	Name string // of the thing: path, id, name; in the headline of a file its version, as in v2
	Fact string // what of it changed; "" where the thing itself comes or goes. In the rest: the path, a list of quoted names
	Old  string // "" where there was nothing
	New  string // "" where there is nothing any more
	Note string // what else there is to know, such as what the other party lists
}

// String is the change as one line of at most 4 kB.
func (c Change) String() string {
	var b strings.Builder
	b.WriteString(c.Role)
	subject := strings.TrimSpace(c.What + " " + c.Name)
	if c.Part == Headline && c.What == "" {
		b.WriteString(" " + c.Name + ": " + c.New)
		subject, c.Kind, c.New = "", "", ""
	} else {
		b.WriteString(": ")
	}
	if subject != "" && c.Fact != "" {
		subject += ": "
	}
	if subject += c.Fact; subject != "" {
		subject += " "
	}
	b.WriteString(subject)
	switch {
	case c.Kind == "":
	case c.Fact != "" && c.Old != "" && c.New != "":
		b.WriteString(c.Old + " -> " + c.New)
	case c.Kind == Removed:
		b.WriteString(string(c.Kind))
		if c.Old != "" {
			b.WriteString(", was: " + c.Old)
		}
	case c.Kind == Unchanged:
		b.WriteString(c.New)
	default:
		b.WriteString(string(c.Kind))
		if c.New != "" {
			b.WriteString(": " + c.New)
		}
	}
	if c.Note != "" {
		b.WriteString(" (" + c.Note + ")")
	}
	return text.Line(b.String())
}

// Diff returns what a draft changes: what a signature by the draft's signers
// would mean. It has a headline for each file, then a summary of the members that
// this package knows, then the rest: every other member of what is signed, known or
// not. Two different drafts have different diffs; a file of which nothing
// but its version and date changes has a headline and its expiry.
//
// What was before is the newest content that this signer's ledger has seen
// published; where another one was published since, the difference is part of the
// diff. Of a role that the ledger has not seen it is what is published; with a
// [Config].Ledger that is empty every role is shown whole. It never comes from the
// draft, and neither does the draft decide which role leads to which, or who must
// sign. So a signer needs the storage, a mirror, or a [ReadOnly] view of what is
// served. The first headlines are what approves again what the party took back,
// what was signed before, is not published, and is missing here, what
// compromised keys published and is left out ([Tx.Compromised]), and dates that are
// out of line with this machine's clock or with what they replace (rule K5).
// A root, with all the others, must be one that clients would take once it is
// signed; otherwise the error is that of [tuf.Root.Propose].
//
// Of releases the summary shows what clients find: a release that moves from one
// hash bin to another is no change, and one that comes to light because a listing
// of higher priority goes is one. Hash bins and products that are only signed
// again are folded into one line for each party's role and expiry. The order of
// the changes is always the same. Keys are shown by [Config].Labels where they
// have one.
//
// Where the draft does not follow what is published, the error wraps [ErrStale] or
// [ErrPublished]; where no role leads to one of its files, [tuf.ErrUntrusted].
func (r *Repo) Diff(ctx context.Context, d *Draft) (changes []Change, err error) {
	defer oneLine(&err)
	x, err := r.compareTo(ctx, d, true)
	if err != nil {
		return nil, err
	}
	if err := x.remembered(); err != nil {
		return nil, err
	}
	if err := x.recovery(); err != nil {
		return nil, err
	}
	if err := x.saidBy(d); err != nil {
		return nil, err
	}
	for _, part := range []ChangePart{Headline, Summary, Rest} {
		for _, c := range x.out {
			if c.Part == part {
				changes = append(changes, c)
			}
		}
	}
	return changes, nil
}

// comparison is one draft against what was before.
type comparison struct {
	ctx           context.Context
	draft         *Draft
	tx            *Tx // of what is published, without an edit
	before, after *edition
	last          lastWord
	restored      *restoring
	top           map[string]*tree
	proposed      *tuf.Proposal // the draft's root; nil: it has none
	out           []Change
}

// compareTo compares a draft's files with what was before.
func (r *Repo) compareTo(ctx context.Context, d *Draft, remembers bool) (*comparison, error) {
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	last, restored := lastWord{}, &restoring{}
	if remembers {
		if restored, err = r.newTx(ctx, p).withoutCompromised(d.override.compromised); err != nil {
			return nil, err
		}
		if last, err = r.lastWord(p, d, restored.signed); err != nil {
			return nil, err
		}
	}
	x := &comparison{ctx: ctx, draft: d, tx: r.newTx(ctx, p), last: last, restored: restored, top: map[string]*tree{}}
	was, now := &Root{}, &Root{}
	if p.under != nil {
		was = rootOf(p.under)
	}
	if p.root != nil {
		now = rootOf(p.root)
	}
	if d.files["root"] != nil {
		if now, err = x.root(); err != nil {
			return nil, err
		}
	}
	x.before = newEdition(x.tx, was, last.over())
	x.before.blank = last.nothing
	x.after = newEdition(x.tx, now, func(role string) wire.Value {
		if f := d.files[role]; f != nil {
			return f.signed
		}
		return nil
	})
	if err := x.roles(); err != nil {
		return nil, err
	}
	return x, nil
}

// root compares the draft's root with the one before, and returns what it states.
func (x *comparison) root() (*Root, error) {
	f, p := x.draft.files["root"], x.tx.present
	published := p.root
	if x.draft.recovery != nil {
		says, err := readRecovery(x.draft.recovery)
		if err != nil {
			return nil, err
		}
		if published, err = p.chain.recoverable(says.Tip.Version); err != nil {
			return nil, err
		}
	}
	version := int64(0)
	if published != nil {
		version = published.Version()
	}
	if f.base != version || f.version != version+1 {
		return nil, fmt.Errorf("repo: %w", f.behindRoot(p.chain))
	}
	var next *tuf.Proposal
	var err error
	if published == nil {
		next, err = tuf.ProposeFirst(f.bytes(), x.tx.repo.judge())
	} else {
		next, err = published.Propose(f.bytes())
	}
	if err != nil {
		return nil, fmt.Errorf("repo: %w", err)
	}
	if next.Charter() == nil {
		return nil, fmt.Errorf("repo: root v%d has no charter: %w", next.Version(), tuf.ErrCharter)
	}
	before := published
	if x.last.root != nil {
		before = x.last.root
	}
	var old wire.Value
	var was *Root
	if before != nil {
		env, err := openEnvelope(before.Bytes())
		if err != nil {
			return nil, fmt.Errorf("repo: root v%d: %w", before.Version(), err)
		}
		old, was = env.signed, rootOf(before)
	}
	x.proposed = next
	now := rootOf(next)
	lines := x.file(f, old)
	x.head(f, was == nil, append(rootHeadline(was, now), others(lines, text.Quote(tuf.CharterMember)+" "+text.Quote("prev_root_sha256"), text.Quote(tuf.CharterMember)+" "+text.Quote("schema"), text.Quote("spec_version"), text.Quote("consistent_snapshot"))...))
	x.out = append(x.out, lines...)
	return now, nil
}

// head adds the headline of a file.
func (x *comparison) head(f *draftFile, fresh bool, phrases []string) {
	switch {
	case len(phrases) > 0:
	case fresh:
		phrases = []string{"is new"}
	default:
		phrases = []string{"is signed again"}
	}
	x.out = append(x.out, Change{Part: Headline, Role: roleText(f.role), Kind: Changed, Name: fmt.Sprintf("v%d", f.version), New: strings.Join(phrases, "; ")})
}

// others counts the changes that only the rest shows, but for whole keys, orders
// and the paths that usually change.
func others(lines []Change, usual ...string) []string {
	n := 0
	for _, c := range lines {
		if c.Part == Rest && c.What != "key" && !strings.HasSuffix(c.Fact, " order") && !slices.Contains(usual, c.Fact) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return []string{plural(n, "other member changes", "other members change") + ", see the rest"}
}

// file compares what a file signs, but for what it lists under paths.
func (x *comparison) file(f *draftFile, old wire.Value) []Change {
	role := roleText(f.role)
	version := Change{Part: Summary, Role: role, Kind: Added, Fact: "version", New: fmt.Sprint(f.version)}
	if f.base > 0 {
		version.Kind, version.Old = Changed, fmt.Sprint(f.base)
	}
	expires := Change{Part: Summary, Role: role, Kind: Added, Fact: "expires", New: dateText(f.signed)}
	if old != nil {
		expires.Kind, expires.Old = Changed, dateText(old)
		if expires.Old == expires.New {
			expires.Kind, expires.Old = Unchanged, ""
		}
	}
	skip := []string{"_type", "version", "expires"}
	if member(f.signed, "targets").Kind() == '{' && (old == nil || member(old, "targets").Kind() == '{') {
		skip = append(skip, "targets")
	}
	shape, ok := documentShapes[f.role]
	if !ok {
		shape = documentShapes[""]
	}
	a, b := without(old, skip...), without(f.signed, skip...)
	y := &facts{role: role, keys: newKeyNames(x.tx.repo.cfg.Labels, a, b)}
	y.members(at{}, shape, a, b)
	return append([]Change{version, expires}, y.keys.whole(role, y.out)...)
}

// dateText is when a signed part expires.
func dateText(signed wire.Value) string {
	s, err := member(signed, "expires").Text()
	if err != nil {
		return kindText(member(signed, "expires"))
	}
	return wordText(s)
}

// saidBy adds the draft's statements, as their payloads state them.
func (x *comparison) saidBy(d *Draft) error {
	for _, f := range d.parts() {
		s := d.statements[f.role]
		if s == nil || s.file != f {
			continue
		}
		v, err := wire.Canonical(s.payload)
		if err != nil {
			return fmt.Errorf("repo: %s: %w", roleText(f.role), err)
		}
		subject, by := s.claim.Subject, s.claim.Reviewer
		y := &facts{role: text.Name(by.Role), keys: newKeyNames(nil)}
		p := at{thing: s.what(), name: text.Name(subject.Path)}
		y.asThing(p, nil, v, func() { y.compare(p, statementShape, nil, without(v, "_type", "subject", "predicateType")) })
		x.out = append(x.out, Change{Part: Headline, Role: y.role, Kind: Added, What: p.thing, Name: p.name,
			New: fmt.Sprintf("%d bytes, sha256 %s, statement %d of the role", subject.Length, subject.SHA256, s.number())})
		x.out = append(x.out, y.out...)
	}
	return nil
}
