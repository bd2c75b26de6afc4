package repo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/tuf"
)

// over returns the signed parts that replace published ones.
func (l lastSeen) over() func(string) wire.Value {
	return func(role string) wire.Value { return l.roles[role] }
}

// lastSeen returns the content of a draft's files that the ledger has seen, if it is not
// the published one.
func (r *Repo) lastSeen(p *present, d *Draft, restored map[string]wire.Value) (l lastSeen, err error) {
	if p.book.empty() {
		l.nothing = r.cfg.Ledger != nil && p.root != nil
		return l, nil
	}
	b := p.book.body
	if b.Published && b.Root.Version < p.root.Version() && b.Recovered == nil {
		l.root = p.chain.At(b.Root.Version)
	}
	l.roles = maps.Clone(restored)
	if l.roles == nil {
		l.roles = map[string]wire.Value{}
	}
	for role := range d.files {
		seen, err := p.book.lastSeen(role)
		if err != nil {
			return l, err
		}
		if seen != nil && p.snap != nil && (b.Roles[role].Seen.Version < p.listed(role) || restored[role] != nil) {
			l.roles[role] = seen
		}
	}
	return l, nil
}

// dates adds the dates that rule K5 or a publish will refuse, and the warnings of the
// new root.
func (x *comparison) dates() error {
	r := x.tx.repo
	now := r.now()
	say := func(role string, version int64, format string, args ...any) {
		x.out = append(x.out, diff.Change{Part: diff.PartHeadline, Role: roleText(role), Kind: diff.KindUnchanged, What: "date of", Name: fmt.Sprintf("v%d", version), New: fmt.Sprintf(format, args...)})
	}
	ahead := func(root tuf.RootView, which string) {
		if d := r.ahead(root); d > 0 {
			say("root", root.Version(), "signed_at of the %s root is %s, %s ahead of this machine's clock: clients use it as the current time", which, text.Time(root.Charter().SignedAt()), text.Duration(d))
		}
	}
	if root := x.tx.present.root; root != nil {
		ahead(root, "published")
	}
	if x.proposed != nil {
		ahead(x.proposed, "new")
		for _, w := range rootOf(x.proposed).Warnings(r.cfg.Review, now) {
			x.out = append(x.out, diff.Change{Part: diff.PartHeadline, Role: "root", Kind: diff.KindUnchanged, What: "warning of", Name: fmt.Sprintf("v%d", x.proposed.Version()), New: w})
		}
	}
	last := map[string]bool{"targets": true} // roles whose expiry may be earlier than before
	for _, n := range x.after.layout.lists() {
		last[n.role] = n.party == ""
	}
	for _, f := range x.draft.sorted() {
		if !f.expires.After(now) {
			say(f.role, f.version, "it expired on %s", text.Time(f.expires))
		}
		if last[f.role] {
			continue
		}
		var before time.Time
		if f.role == "root" && x.tx.present.root != nil {
			before = x.tx.present.root.Expires()
		} else if f.role != "root" {
			was, err := x.before.open(f.role)
			if err != nil {
				return err
			}
			if was != nil {
				if before, err = metafile.ExpiryOf(was.Signed); err != nil {
					return fmt.Errorf("repo: %s: %w", roleText(f.role), err)
				}
			}
		}
		if f.expires.Before(before.Add(-oneHour)) {
			say(f.role, f.version, "it expires on %s, earlier than the replaced version, which expires on %s", text.Time(f.expires), text.Time(before))
		}
	}
	return nil
}

// addWarnings adds the first headlines: approvals of bytes that the party recalled or
// refused before; content that this signer signed, and that is neither published nor in
// the draft; content of compromised keys; and inconsistent dates.
func (x *comparison) addWarnings() error {
	first := len(x.out)
	for _, name := range slices.Sorted(maps.Keys(x.draft.statements)) {
		c := x.draft.statements[name].claim
		if c.Review != nil && c.Review.Reinstate != "" {
			x.out = append(x.out, diff.Change{Part: diff.PartHeadline, Role: roleText(c.Reviewer.Role), Kind: diff.KindAdded, What: "reinstatement of", Name: text.Name(c.Subject.Path),
				New: "the party recalled or refused these bytes before, reason to approve them again: " + text.Quote(c.Review.Reinstate)})
		}
	}
	b := x.tx.present.book
	if f := x.draft.files["root"]; f != nil && b != nil && b.body.Roles["root"] != nil && x.draft.recovery == nil {
		if same, other := b.body.Roles["root"].signedBefore(f.version, metafile.SHA256(f.signed)); !same && other != nil {
			x.out = append(x.out, diff.Change{Part: diff.PartHeadline, Role: "root", Kind: diff.KindChanged, What: "signed before", Name: fmt.Sprintf("v%d", f.version),
				New: fmt.Sprintf("another root with sha256 %s, on %s; this one has sha256 %s", text.Name(other.SHA256), text.Name(other.At), metafile.SHA256(f.signed))})
		}
	}
	for _, f := range x.draft.sorted() {
		if b == nil || b.body.Roles[f.role] == nil || b.body.Roles[f.role].Newest == nil {
			continue
		}
		if err := x.unpublished(f, b.body.Roles[f.role]); err != nil {
			return err
		}
	}
	if err := x.leftOut(); err != nil {
		return err
	}
	if err := x.dates(); err != nil {
		return err
	}
	x.out = append(slices.Clone(x.out[first:]), x.out[:first]...)
	if t := x.tx.repo.cfg.ClockTolerance; t != chain.ClockTolerance && x.draft.files["root"] != nil {
		x.out = append(x.out, diff.Change{Part: diff.PartSummary, Role: "root", Kind: diff.KindUnchanged, Fact: "clock tolerance of this machine", New: t.String()})
	}
	return nil
}

// unpublished adds the entries of the role's last signed and unpublished version that
// the draft does not list.
func (x *comparison) unpublished(f *draftFile, r *bookRole) error {
	had, has := rolelist.New(f.role), rolelist.New(f.role)
	newest, err := r.Newest.read(f.role)
	if err != nil {
		return err
	}
	if string(newest) == string(f.signed) {
		return nil
	}
	for l, signed := range map[*rolelist.List]wire.Value{had: newest, has: f.signed} {
		if err := l.Take(signed); err != nil {
			return fmt.Errorf("repo: %s: %w", roleText(f.role), err)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(had.Targets)) {
		if string(had.Targets[path]) == string(has.Targets[path]) {
			continue
		}
		c := diff.Change{Part: diff.PartHeadline, Role: roleText(f.role), Kind: diff.KindRemoved, What: "signed before", Name: text.Name(path),
			Old: fmt.Sprintf("listed in v%d, which this signer signed and which is not published", r.Newest.Version)}
		if has.Targets[path] != nil {
			c.Kind, c.Old, c.New = diff.KindChanged, "", "listed differently than in "+strings.TrimPrefix(c.Old, "listed in ")
		}
		x.out = append(x.out, c)
	}
	return nil
}

// leftOut adds the entries of the draft's roles that only compromised keys signed and
// that the draft does not list.
func (x *comparison) leftOut() error {
	for _, role := range slices.Sorted(maps.Keys(x.restored.signed)) {
		f := x.draft.files[role]
		if f == nil || x.tx.present.listed(role) == 0 {
			continue
		}
		for _, c := range x.restored.skipped[role] {
			if c.SHA256 == metafile.SHA256(f.signed) {
				continue
			}
			x.out = append(x.out, diff.Change{Part: diff.PartHeadline, Role: roleText(role), Kind: diff.KindRemoved, What: "signed before", Name: fmt.Sprintf("v%d", c.Version),
				Old: fmt.Sprintf("signed here with sha256 %s, not in the storage, so the draft continues from an older version", c.SHA256)})
		}
		file, data, err := x.tx.published(role)
		if err != nil {
			return err
		}
		was := fmt.Sprintf("listed in v%d, which only compromised keys signed", file.Version)
		out := func(what, name, old string) {
			x.out = append(x.out, diff.Change{Part: diff.PartHeadline, Role: roleText(role), Kind: diff.KindRemoved, What: what, Name: name, Old: old})
		}
		had, has := rolelist.New(role), rolelist.New(role)
		env, err := metafile.Open(data)
		if err == nil {
			err = had.Take(env.Signed)
		}
		if err != nil {
			out("compromised", fmt.Sprintf("v%d", file.Version), text.Line(err.Error()))
			continue
		}
		if err := has.Take(f.signed); err != nil {
			return fmt.Errorf("repo: %s: %w", roleText(role), err)
		}
		for _, path := range slices.Sorted(maps.Keys(had.Targets)) {
			if string(had.Targets[path]) != string(has.Targets[path]) {
				out("compromised", text.Name(path), was)
			}
		}
		for _, t := range recalledIn(role, env.Signed) {
			if !slices.Contains(recalledIn(role, f.signed), t) {
				out("compromised recall of", text.Name(t.Path), was)
			}
		}
		if changed, err := differ(had.Delegations, has.Delegations); err != nil {
			return err
		} else if changed && had.Delegations != nil {
			out("compromised", "delegations", was)
		}
	}
	return nil
}
