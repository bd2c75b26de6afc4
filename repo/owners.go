package repo

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/proof"
)

// checkOwners refuses a list that delegates to a role that has an owner by root:
// verified for its delegator alone, the role would pass for a part of two trees.
func checkOwners(named map[string]bool, l *listing) error {
	if l.delegations == nil || l.role == "targets" { // targets.json leads standard clients to the parties' roles
		return nil
	}
	fail := func(name string) error {
		return &tuf.Error{Role: l.role, Err: tuf.ErrUntrusted, Detail: "it delegates to " + roleText(name) + ", which root names"}
	}
	for _, r := range l.delegations.Roles {
		if named[r.Name] {
			return fail(r.Name)
		}
	}
	for name := range named {
		if isBin(l.delegations.SuccinctRoles, name) {
			return fail(name)
		}
	}
	return nil
}

// ownNames are the names of roles that have an owner by root: no other role can
// delegate to them.
func ownNames(layout *Root) map[string]bool {
	out := map[string]bool{"root": true, "timestamp": true, "snapshot": true}
	for _, x := range layout.lists() {
		out[x.role] = true
	}
	return out
}

// children names the roles that t delegates to, in order of priority. Of hash bins
// they are those among listed, for no other can be opened: a role may delegate to
// 2^32 of them in a few bytes. bins is how many there are. A role among own, which
// root names, is no other role's child: the error wraps [tuf.ErrUntrusted].
func children(t *tuf.Targets, listed []string, own map[string]bool) (names []string, bins uint64, err error) {
	some := false
	for range t.Delegates() {
		some = true
		break
	}
	if !some {
		return nil, 0, nil
	}
	v, err := memberOf(t, "delegations")
	if err != nil {
		return nil, 0, err
	}
	var d metadata.Delegations
	if err := json.Unmarshal(v.JSON(), &d); err != nil {
		return nil, 0, fmt.Errorf("repo: %s: %w: %w", roleText(t.Role()), tuf.ErrMalformed, err)
	}
	if err := checkOwners(own, &listing{role: t.Role(), delegations: &d}); err != nil {
		return nil, 0, err
	}
	if d.SuccinctRoles == nil {
		for _, r := range d.Roles {
			names = append(names, r.Name)
		}
		return names, 0, nil
	}
	prefix := d.SuccinctRoles.NamePrefix + "-"
	first, _ := slices.BinarySearch(listed, prefix)
	for _, name := range listed[first:] {
		if !strings.HasPrefix(name, prefix) {
			break
		}
		if isBin(d.SuccinctRoles, name) {
			names = append(names, name)
		}
	}
	return names, 1 << d.SuccinctRoles.BitLength, nil
}

// snapNames are the roles that a snapshot lists, sorted.
func snapNames(snap *tuf.Snapshot) []string {
	names := snap.Roles()
	slices.Sort(names)
	return names
}

// nearEnough refuses a path, or a pattern of paths, that stock TUF clients do not find.
func nearEnough(class Class, path string) error {
	if n := strings.Count(strings.TrimPrefix(path, class.Prefix), "/"); n > mostFolders {
		return fmt.Errorf("%s: %w: %d folders below %s, at most %d; stock TUF clients do not find it", text.Name(path), fs.ErrInvalid, n, text.Name(class.Prefix), mostFolders)
	}
	return nil
}

// mostFolders is how many folders below a class's prefix the patterns of
// targets.json lead to, by which stock clients find a target.
const mostFolders = 7

// fetchable refuses a name that only some clients can fetch, or whose statements
// would have no name.
func fetchable(class Class, target string) error {
	no := func(format string, args ...any) error {
		return fmt.Errorf("repo: %s: %w: %s", text.Name(target), fs.ErrInvalid, fmt.Sprintf(format, args...))
	}
	if i := strings.IndexAny(target, `%#?\`); i >= 0 {
		return no("the character %q; clients that do not escape it ask for another file", target[i])
	}
	if err := nearEnough(class, target); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	for _, role := range class.Roles {
		name := statementName(proof.Subject{Path: target, SHA256: strings.Repeat("0", 64)}, role.Role, maxStatements)
		if err := storage.CheckName(name); err != nil {
			return no("it leaves no room for the name of a statement of %s beside it: %v", roleText(role.Role), err)
		}
	}
	return nil
}
