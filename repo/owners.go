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

// checkOwners refuses a list that delegates to a role that the root names: verified
// under that delegator alone, the role would count as part of two trees.
func checkOwners(named map[string]bool, l *listing) error {
	if l.delegations == nil || l.role == "targets" { // targets.json delegates to the parties' roles for standard TUF clients
		return nil
	}
	fail := func(name string) error {
		return &tuf.Error{Role: l.role, Err: tuf.ErrUntrusted, Detail: "it delegates to " + roleText(name) + ", which the root names"}
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

// ownNames returns the roles to which no other role may delegate: those that the root
// names.
func ownNames(layout *Root) map[string]bool {
	out := map[string]bool{"root": true, "timestamp": true, "snapshot": true}
	for _, x := range layout.lists() {
		out[x.role] = true
	}
	return out
}

// children names the roles to which t delegates, in order of priority. Hash bins are
// included only if listed contains them, since a role may delegate to 2^32 bins in a
// few bytes; bins is their total number. A delegation to a role in own, which the root
// names, is an error that wraps [tuf.ErrUntrusted].
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

// snapNames returns the roles that a snapshot lists, sorted.
func snapNames(snap *tuf.Snapshot) []string {
	names := snap.Roles()
	slices.Sort(names)
	return names
}

// nearEnough refuses a path or path pattern that standard TUF clients do not find.
func nearEnough(class Class, path string) error {
	if n := strings.Count(strings.TrimPrefix(path, class.Prefix), "/"); n > mostFolders {
		return fmt.Errorf("%s: %w: %d folders below %s, at most %d; standard TUF clients do not find it", text.Name(path), fs.ErrInvalid, n, text.Name(class.Prefix), mostFolders)
	}
	return nil
}

// mostFolders is the number of folder levels below a class's prefix that the patterns
// of targets.json cover. Standard TUF clients find a target through these patterns.
const mostFolders = 7

// fetchable refuses a target path that some clients can't fetch, or that leaves no
// valid name for its statements.
func fetchable(class Class, target string) error {
	no := func(format string, args ...any) error {
		return fmt.Errorf("repo: %s: %w: %s", text.Name(target), fs.ErrInvalid, fmt.Sprintf(format, args...))
	}
	if i := strings.IndexAny(target, `%#?\`); i >= 0 {
		return no("the character %q; clients that do not escape it request another file", target[i])
	}
	if err := nearEnough(class, target); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	for _, role := range class.Roles {
		name := statementName(proof.Subject{Path: target, SHA256: strings.Repeat("0", 64)}, role.Role, maxStatements)
		if err := storage.CheckName(name); err != nil {
			return no("the name of a statement of %s on it would be too long: %v", roleText(role.Role), err)
		}
	}
	return nil
}
