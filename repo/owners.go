package repo

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf/attestation"
)

// ownNames returns the roles to which no other role may delegate: those that the root
// names.
func ownNames(layout *Root) map[string]bool {
	out := map[string]bool{"root": true, "timestamp": true, "snapshot": true}
	for _, x := range layout.lists() {
		out[x.role] = true
	}
	return out
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
		name := chain.StatementName(attestation.Subject{Path: target, SHA256: strings.Repeat("0", 64)}, role.Role, chain.MaxStatements)
		if err := storage.CheckName(name); err != nil {
			return no("the name of a statement of %s on it would be too long: %v", roleText(role.Role), err)
		}
	}
	return nil
}
