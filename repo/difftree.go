package repo

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/fingerprint"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/tuf"
)

// holdOf is the type of the entries of a hold role in a diff.
const holdOf = "hold of"

// roles compares the draft's targets roles.
func (x *comparison) roles() error {
	var files []*draftFile
	var wanted, wantedBefore []string
	for _, f := range x.draft.sorted() {
		if f.role == "root" {
			continue
		}
		if have := x.tx.present.listed(f.role); have != f.base {
			return x.tx.behind(f)
		}
		files = append(files, f)
		if !x.after.named[f.role] {
			wanted = append(wanted, f.role)
		}
		if !x.before.named[f.role] {
			wantedBefore = append(wantedBefore, f.role)
		}
	}
	if err := x.before.trace(wantedBefore); err != nil {
		return err
	}
	if err := x.after.trace(wanted); err != nil {
		return err
	}
	var all []*roleDiff
	for _, f := range files {
		r, err := x.role(f)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	for _, top := range slices.Sorted(maps.Keys(x.top)) {
		if err := x.releases(x.top[top]); err != nil {
			return err
		}
	}
	x.addLines(all)
	return nil
}

// role compares one file, and adds its entries to the trees that contain it.
func (x *comparison) role(f *draftFile) (*roleDiff, error) {
	r := &roleDiff{file: f, tops: x.after.tops(f.role)}
	if len(r.tops) == 0 {
		return nil, fmt.Errorf("repo: %s v%d: neither root nor another role delegates to it: %w", roleText(f.role), f.version, tuf.ErrUntrusted)
	}
	was, err := x.before.open(f.role)
	if err != nil {
		return nil, err
	}
	now, err := x.after.instead(f.role)
	if err != nil {
		return nil, err
	}
	if was == nil {
		was = rolelist.New(f.role)
	}
	r.old = was.Signed
	r.lines = x.file(f, r.old)
	paths := maps.Clone(was.Targets)
	maps.Copy(paths, now.Targets)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if a, b := was.Targets[path], now.Targets[path]; string(a) != string(b) {
			r.placed = append(r.placed, placement{f.role, path, a, b})
		}
	}
	moved := map[string]bool{}
	if string(metafile.Member(was.Signed, "delegations")) != string(metafile.Member(f.signed, "delegations")) {
		take := func(l *rolelist.List) {
			for path := range l.Targets {
				moved[path] = true
			}
		}
		if err := x.before.walk(was, map[string]bool{}, take); err != nil {
			return nil, err
		}
		if err := x.after.walk(now, map[string]bool{}, take); err != nil {
			return nil, err
		}
	}
	for _, top := range append(slices.Clone(r.tops), x.before.tops(f.role)...) {
		t := x.top[top]
		if t == nil {
			t = &tree{top: top, paths: map[string]bool{}}
			x.top[top] = t
		}
		if len(t.roles) == 0 || t.roles[len(t.roles)-1] != r {
			t.roles = append(t.roles, r)
		}
		for _, p := range r.placed {
			t.paths[p.path] = true
		}
		maps.Copy(t.paths, moved)
	}
	by, err := x.after.instead(x.after.via[f.role])
	if err == nil && by != nil && by.Delegations != nil && metafile.IsBin(by.Delegations.SuccinctRoles, f.role) {
		before, err := x.before.open(by.Role)
		r.bins = err != nil || before == nil || bitsOf(before.Delegations) != bitsOf(by.Delegations)
	}
	return r, nil
}

func bitsOf(d *metadata.Delegations) int {
	if d == nil || d.SuccinctRoles == nil {
		return 0
	}
	return d.SuccinctRoles.BitLength
}

// releases compares the search results of clients in a tree.
func (x *comparison) releases(t *tree) error {
	kind, others := x.others(t.top)
	t.holds = kind == holdOf
	role := roleText(t.top)
	at0 := func(path string) facts.At {
		return facts.At{Path: text.Quote("targets") + " " + text.Quote(path), Thing: kind, Name: text.Name(path)}
	}
	found := map[string]sight{}
	for _, path := range slices.Sorted(maps.Keys(t.paths)) {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		f := sight{path: path}
		var err error
		if f.oldBy, f.old, err = x.before.search(t.top, path); err != nil {
			return err
		}
		if f.newBy, f.new, err = x.after.search(t.top, path); err != nil {
			return err
		}
		found[path] = f
		if string(f.old) == string(f.new) {
			continue
		}
		t.found = append(t.found, f)
		y := &facts.Facts{Role: role, Keys: facts.NewKeyNames(nil)}
		y.AsObject(at0(path), f.old, f.new, func() { y.Compare(at0(path), facts.EntryShape, f.old, f.new) })
		if f.new != nil && len(y.Out) > 0 {
			y.Out[0].Note = x.note(others, path, f.new)
		}
		t.lines = append(t.lines, y.Out...)
	}
	// The lines above do not show which file contains an entry, nor the entries that no
	// client finds.
	var parts [][]byte
	add := func(list ...string) {
		for _, s := range list {
			parts = append(parts, []byte(s))
		}
	}
	files, moves := 0, 0
	for _, r := range t.roles {
		if r.file.role != t.top {
			files++
			add("file", r.file.role, fmt.Sprint(r.file.version), string(metafile.Member(r.file.signed, "expires")))
		}
		for _, p := range r.placed {
			f := found[p.path]
			told := string(p.old) == string(f.old) && string(p.new) == string(f.new)
			if told && p.role == t.top && (f.oldBy == "" || f.oldBy == t.top) && (f.newBy == "" || f.newBy == t.top) {
				continue
			}
			add("listing", p.role, p.path, string(p.old), string(p.new))
			switch {
			case told && string(f.old) != string(f.new):
			case string(f.old) == string(f.new) && (p.new == nil && string(p.old) == string(f.old) && p.role == f.oldBy || p.old == nil && string(p.new) == string(f.new) && p.role == f.newBy):
				if p.old == nil {
					moves++
				}
			default:
				y := &facts.Facts{Role: roleText(p.role), Keys: facts.NewKeyNames(nil)}
				hidden := at0(p.path)
				hidden.Thing, hidden.Rest = "listing that clients do not find, or find in another role,", true
				y.AsObject(hidden, p.old, p.new, func() { y.Compare(hidden, facts.EntryShape, p.old, p.new) })
				t.lines = append(t.lines, y.Out...)
			}
		}
	}
	if len(parts) > 0 {
		note := fmt.Sprintf("of %d files below it, by name, version, expiry and listings", files)
		if moves > 0 {
			note += fmt.Sprintf("; %d listings are moved from another file", moves)
		}
		t.lines = append(t.lines, diff.Change{Part: diff.PartRest, Role: role, Kind: diff.KindUnchanged, What: "lists below it", Fact: "fingerprint", New: fingerprint.New(parts...), Note: note})
	}
	return nil
}

// others returns the roles of the other parties of a role's class, and the type of the
// role's entries.
func (x *comparison) others(top string) (kind string, roles []string) {
	for _, c := range x.after.layout.Classes {
		if c.Hold != nil && c.Hold.Role == top {
			return holdOf, nil
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

// note returns the entries of the other parties' roles for a path, with this draft
// applied. An unreadable role is noted, so that it can't block the diff.
func (x *comparison) note(others []string, path string, entry wire.Value) string {
	var notes []string
	for _, other := range others {
		_, theirs, err := x.after.search(other, path)
		note := " lists the same"
		switch {
		case err != nil:
			note = " can't be read"
		case theirs == nil:
			note = " does not list it"
		case string(theirs) != string(entry):
			note = " lists it DIFFERENTLY"
		}
		notes = append(notes, roleText(other)+note)
	}
	return strings.Join(notes, "; ")
}

// folded is the key by which files without a line of their own are counted.
type folded struct {
	top, expires string
	again        bool
}

// addLines adds the lines of all roles and trees. Files that change only in their expiry, of
// which there may be thousands, share one line.
func (x *comparison) addLines(all []*roleDiff) {
	count := map[folded]int{}
	for _, r := range all {
		f := r.file
		if named := x.after.named[f.role]; !named && len(r.tops) == 1 {
			plain := !slices.ContainsFunc(r.lines, func(c diff.Change) bool { return !x.usual(r, c) })
			if again := len(r.placed) == 0 && r.old != nil && !r.bins; plain && (again || r.bins) {
				count[folded{r.tops[0], facts.DateText(f.signed), again}]++
				continue
			}
		}
		var phrases []string
		if t := x.top[f.role]; t != nil {
			phrases = t.headline()
		} else if len(r.placed) > 0 {
			phrases = append(phrases, plural(len(r.placed), "listing changes", "listings change"))
		}
		phrases = append(phrases, roleHeadline(r.lines)...)
		x.head(f, r.old == nil, append(phrases, others(r.lines, x.standing(f)...)...))
		x.out = append(x.out, r.lines...)
	}
	order := func(a, b folded) int {
		return cmp.Or(strings.Compare(a.top, b.top), strings.Compare(a.expires, b.expires), strings.Compare(fmt.Sprint(a.again), fmt.Sprint(b.again)))
	}
	for _, k := range slices.SortedFunc(maps.Keys(count), order) {
		note := plural(count[k], "file", "files") + " signed again"
		if !k.again {
			note = plural(count[k], "hash bin", "hash bins") + " replace the previous ones"
		}
		x.out = append(x.out, diff.Change{Part: diff.PartSummary, Role: roleText(k.top), Kind: diff.KindChanged, What: "lists below it", Fact: "expires", New: k.expires, Note: note})
	}
	for _, top := range slices.Sorted(maps.Keys(x.top)) {
		x.out = append(x.out, x.top[top].lines...)
	}
}

// usual reports whether a line is one that every file of this package has: version,
// expiry, and for a new file the specification version.
func (x *comparison) usual(r *roleDiff, c diff.Change) bool {
	if c.Part == diff.PartSummary && (c.Fact == "version" || c.Fact == "expires") && c.What == "" {
		return true
	}
	return r.old == nil && c.Part == diff.PartRest && c.Fact == text.Quote("spec_version") && c.New == "string "+text.Quote(metadata.SPECIFICATION_VERSION)
}

// standing returns the members of a role's file that a headline does not count, because
// they have the same correct value in every file of this package.
func (x *comparison) standing(f *draftFile) []string {
	out := []string{text.Quote("spec_version")}
	for name, want := range map[string]string{layout.RepoMember: x.after.layout.RepoID, layout.RoleMember: f.role} {
		if string(metafile.Member(f.signed, name)) == string(metafile.Text(want)) {
			out = append(out, text.Quote(name))
		}
	}
	return out
}
