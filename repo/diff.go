package repo

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// ChangeKind is what happens to a thing.
type ChangeKind string

const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// Change is one thing that becomes another by a draft. All its strings are in
// words, safe for a terminal: what is not printable ASCII is escaped.
type Change struct {
	Role string // of the metadata file; for lists below a party's role, that role
	Kind ChangeKind
	What string // kind of the thing, such as release, location, party, class; "" for the file itself
	Name string // of the thing: path, id, name
	Fact string // what of it changed; "" where the thing itself comes or goes
	Old  string // "" where there was nothing
	New  string // "" where there is nothing any more
	Note string // what else there is to know, such as what the other party lists
}

// String is the change as one line.
func (c Change) String() string {
	var b strings.Builder
	b.WriteString(c.Role + ": ")
	subject := strings.TrimSpace(c.What + " " + c.Name)
	if subject != "" && c.Fact != "" {
		subject += ": "
	}
	subject += c.Fact
	b.WriteString(subject + " ")
	switch {
	case c.Fact != "" && c.Old != "" && c.New != "":
		b.WriteString(c.Old + " -> " + c.New)
	case c.Kind == Removed:
		b.WriteString(string(c.Kind))
		if c.Old != "" {
			b.WriteString(", was: " + c.Old)
		}
	default:
		b.WriteString(string(c.Kind))
		if c.New != "" {
			b.WriteString(": " + c.New)
		}
	}
	if c.Note != "" {
		b.WriteString(" (" + c.Note + ")")
	}
	return b.String()
}

// Diff says what a draft changes: what a signer puts his name to. What was
// before comes from this repository, verified from its first root on, and not
// from the draft; what the draft says of who must sign is not looked at. So a
// signer needs the storage, a mirror, or a [ReadOnly] view of what is served.
//
// Nothing that the draft's files say is left out, members that no version of
// this package knows included; a release that moves from one hash bin to another
// is no change. The order of the changes is always the same. Where the draft does
// not follow what is published, the error wraps [ErrConflict].
func (r *Repo) Diff(ctx context.Context, d *Draft) ([]Change, error) {
	x, files, err := r.compareTo(ctx, d)
	if err != nil {
		return nil, err
	}
	for _, top := range slices.Sorted(maps.Keys(x.trees)) {
		if err := x.releases(top); err != nil {
			return nil, fmt.Errorf("repo: %s: %w", clean(top), err)
		}
	}
	recovery, err := x.recovery()
	if err != nil {
		return nil, err
	}
	return slices.Concat(x.out, summary(files, d), d.said(), recovery), nil
}

// compareTo holds a draft against what is published. What it says of its files
// themselves is the second result.
func (r *Repo) compareTo(ctx context.Context, d *Draft) (*comparison, []Change, error) {
	p, err := r.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	x := &comparison{ctx: ctx, draft: d, tx: r.newTx(ctx, p), trees: map[string]*tree{}}
	if p.under != nil {
		x.layout = rootOf(p.under)
	}
	if err := x.root(); err != nil {
		return nil, nil, err
	}
	var files []Change
	for _, f := range d.sorted() {
		if f.role == "root" {
			continue
		}
		changes, err := x.file(f)
		if err != nil {
			return nil, nil, fmt.Errorf("repo: %s v%d: %w", clean(f.role), f.version, err)
		}
		files = append(files, changes...)
	}
	return x, files, nil
}

type comparison struct {
	ctx    context.Context
	draft  *Draft
	tx     *Tx
	layout *Root // of what is published; nil for nothing
	trees  map[string]*tree
	out    []Change
}

// tree is what a role that root names lists, itself and below it, before and
// after, as far as the draft touches it.
type tree struct {
	before, after map[string]wire.Value // canonical entries
	gathered      map[string]bool       // roles, of each side
}

// gather puts what a role lists on one side, once.
func (t *tree) gather(side map[string]wire.Value, which, role string, signed wire.Value) {
	if t.gathered[which+role] {
		return
	}
	t.gathered[which+role] = true
	for path, v := range member(signed, "targets").Members() {
		at := path.String()
		for side[at] != nil { // what is listed twice is listed twice
			at += "\x00"
		}
		side[at] = v
	}
}

func member(v wire.Value, name string) wire.Value {
	for n, m := range v.Members() {
		if n.String() == name {
			return m
		}
	}
	return nil
}

func (x *comparison) root() error {
	f := x.draft.files["root"]
	if f == nil {
		return nil
	}
	was, before := newDocument(), int64(0)
	root := x.tx.present.root
	if x.draft.recovery != nil {
		says, err := readRecovery(x.draft.recovery)
		if err != nil {
			return err
		}
		if root, err = x.tx.present.chain.recoverable(says.Tip.Version); err != nil {
			return err
		}
	}
	if root != nil {
		env, err := openEnvelope(root.Bytes())
		if err != nil {
			return err
		}
		was, before = readDocument(env.signed), root.Version()
	}
	if f.base != before || f.version != before+1 {
		return fmt.Errorf("repo: root v%d is published, the draft is v%d after v%d: %w", before, f.version, f.base, ErrConflict)
	}
	x.out = append(x.out, version(f))
	x.out = append(x.out, changesOf("root", was, readDocument(f.signed))...)
	return nil
}

func version(f *draftFile) Change {
	c := Change{Role: clean(f.role), Kind: Added, Fact: "version", New: fmt.Sprint(f.version)}
	if f.base > 0 {
		c.Kind, c.Old = Changed, fmt.Sprint(f.base)
	}
	return c
}

// file compares one targets role, and puts what it lists into its tree.
func (x *comparison) file(f *draftFile) ([]Change, error) {
	if have := x.tx.present.listed(f.role); have != f.base {
		return nil, fmt.Errorf("v%d is published, the draft follows v%d: %w", have, f.base, ErrConflict)
	}
	top := f.role
	if len(f.under) > 0 {
		top = f.under[0]
	}
	t := x.trees[top]
	if t == nil {
		t = &tree{map[string]wire.Value{}, map[string]wire.Value{}, map[string]bool{}}
		x.trees[top] = t
	}
	was, err := x.published(f)
	if err != nil {
		return nil, err
	}
	old, delegations := newDocument(), wire.Value(nil)
	if was != nil {
		signed, err := signedOf(was)
		if err != nil {
			return nil, err
		}
		old, delegations = readDocument(signed), member(signed, "delegations")
		t.gather(t.before, "before ", f.role, signed)
	}
	t.gather(t.after, "after ", f.role, f.signed)
	if was != nil && string(delegations) != string(member(f.signed, "delegations")) {
		// What it leads to no more goes with it; what it still leads to stays.
		if err := x.below(t, was, t.before, "before ", nil); err != nil {
			return nil, err
		}
		l := newListing(f.role)
		if v := member(f.signed, "delegations"); v != nil {
			l.delegations = &metadata.Delegations{}
			if err := json.Unmarshal(v.JSON(), l.delegations); err != nil {
				return nil, err
			}
			if b := l.delegations.SuccinctRoles; b != nil && (b.BitLength < 1 || b.BitLength > maxBits) {
				return nil, fmt.Errorf("%d bits of hash bins, at most %d: %w", b.BitLength, maxBits, tuf.ErrTooLarge)
			}
		}
		still := map[string]bool{}
		for _, name := range l.delegates() {
			still[name] = x.draft.files[name] == nil
		}
		if err := x.below(t, was, t.after, "after ", still); err != nil {
			return nil, err
		}
	}
	return append([]Change{version(f)}, changesOf(clean(f.role), old, readDocument(f.signed))...), nil
}

// published opens the version of a role that the draft's file follows, nil for none.
func (x *comparison) published(f *draftFile) (*tuf.Targets, error) {
	if f.base == 0 {
		return nil, nil
	}
	snap := x.tx.present.snap
	if len(f.under) == 0 {
		return snap.Role(f.role, x.tx.fetch)
	}
	t, err := snap.Role(f.under[0], x.tx.fetch)
	for _, name := range append(slices.Clone(f.under[1:]), f.role) {
		if err != nil {
			return nil, err
		}
		t, err = snap.Delegated(t, name, x.tx.fetch)
	}
	return t, err
}

func signedOf(t *tuf.Targets) (wire.Value, error) {
	env, err := openEnvelope(t.Bytes())
	return env.signed, err
}

// below gathers what the published roles below by list; of those directly below
// it the ones in only, if that is given. Roles that root names are no part of
// another's tree.
func (x *comparison) below(t *tree, by *tuf.Targets, side map[string]wire.Value, which string, only map[string]bool) error {
	for name := range by.Delegates() {
		if only != nil && !only[name] || names(x.layout, name) || t.gathered[which+name] {
			continue
		}
		if err := x.ctx.Err(); err != nil {
			return err
		}
		next, err := x.tx.present.snap.Delegated(by, name, x.tx.fetch)
		if err != nil {
			return err
		}
		signed, err := signedOf(next)
		if err != nil {
			return err
		}
		t.gather(side, which, name, signed)
		if err := x.below(t, next, side, which, nil); err != nil {
			return err
		}
	}
	return nil
}

// releases says what comes, goes and changes in a tree.
func (x *comparison) releases(top string) error {
	t := x.trees[top]
	was, now := newDocument(), newDocument()
	kind, others := x.others(top)
	for _, path := range slices.Sorted(maps.Keys(t.before)) {
		if v := t.before[path]; string(t.after[path]) != string(v) {
			was.walk("targets.*", "", was.thing(kind, clean(path)), v)
		}
	}
	paths := map[string]string{}
	for _, path := range slices.Sorted(maps.Keys(t.after)) {
		if v := t.after[path]; string(t.before[path]) != string(v) {
			now.walk("targets.*", "", now.thing(kind, clean(path)), v)
		}
		paths[clean(path)] = path
	}
	changes := changesOf(clean(top), was, now)
	for i, c := range changes {
		path, ok := paths[c.Name]
		if !ok || c.What != kind || c.Kind == Removed || i > 0 && changes[i-1].Name == c.Name {
			continue
		}
		for _, other := range others {
			theirs, err := x.listing(other, path)
			if err != nil {
				return err
			}
			note := other + " lists the same"
			switch {
			case theirs == nil:
				note = other + " does not list it"
			case string(theirs) != string(t.after[path]):
				note = other + " lists it OTHERWISE"
			}
			changes[i].Note = strings.TrimPrefix(changes[i].Note+"; "+note, "; ")
		}
	}
	x.out = append(x.out, changes...)
	return nil
}

// others are the roles of the other parties of a role's class.
func (x *comparison) others(top string) (kind string, roles []string) {
	if x.layout == nil {
		return "release", nil
	}
	for _, c := range x.layout.Classes {
		if c.Hold != nil && c.Hold.Role == top {
			return "hold of", nil
		}
		if i := slices.IndexFunc(c.Roles, func(r ReleaseRole) bool { return r.Role == top }); i >= 0 {
			for _, r := range c.Roles {
				if r.Party != c.Roles[i].Party {
					roles = append(roles, r.Role)
				}
			}
		}
	}
	return "release", roles
}

// listing is what another party's role lists for a path, by this draft or else
// by what is published.
func (x *comparison) listing(role, path string) (wire.Value, error) {
	if t := x.trees[role]; t != nil {
		if v := t.after[path]; v != nil {
			return v, nil
		}
		if t.before[path] != nil {
			return nil, nil // it goes
		}
	}
	return x.tx.find(role, path)
}

// changesOf says what it takes to make one document of another, in order: of the
// document itself, then of its things.
func changesOf(role string, was, now *document) (out []Change) {
	all := maps.Clone(was.things)
	maps.Copy(all, now.things)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		a, b := was.things[id], now.things[id]
		c := Change{Role: role, What: all[id].kind, Name: all[id].name}
		if c.What != "" && a == nil {
			c.Kind, c.New = Added, b.all()
			out = append(out, c)
			continue
		}
		if c.What != "" && b == nil {
			c.Kind, c.Old = Removed, a.all()
			out = append(out, c)
			continue
		}
		facts := map[string]bool{}
		for _, t := range []*thing{a, b} {
			if t != nil {
				for what := range t.says {
					facts[what] = true
				}
			}
		}
		for _, c.Fact = range slices.Sorted(maps.Keys(facts)) {
			var had, has bool
			c.Kind, c.Old, c.New = Changed, "", ""
			if a != nil {
				c.Old, had = a.says[c.Fact]
			}
			if b != nil {
				c.New, has = b.says[c.Fact]
			}
			switch {
			case had && has && c.Old == c.New:
				continue
			case !had:
				c.Kind = Added
			case !has:
				c.Kind = Removed
			}
			out = append(out, c)
		}
	}
	return out
}

// summary leaves one line of the many lists below a party's role of which no
// more is to be said than that they are signed anew.
func summary(changes []Change, d *Draft) (out []Change) {
	plain, count := map[string]bool{}, map[string]int{}
	for role, f := range d.files {
		plain[clean(role)] = len(f.under) > 0
	}
	for _, c := range changes {
		said := c.Fact == "version" || c.Fact == "expires" || c.Fact == "spec_version" && c.Kind == Added
		if c.What != "" || !said {
			plain[c.Role] = false
		}
	}
	for _, f := range d.sorted() {
		if plain[clean(f.role)] {
			count[clean(f.under[0])+"\n"+stamp(f.expires)]++
		}
	}
	for _, c := range changes {
		if !plain[c.Role] {
			out = append(out, c)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(count)) {
		top, expires, _ := strings.Cut(key, "\n")
		out = append(out, Change{Role: top, Kind: Changed, What: "lists below it", Fact: "expires", New: expires, Note: fmt.Sprintf("%d files signed anew", count[key])})
	}
	return out
}
