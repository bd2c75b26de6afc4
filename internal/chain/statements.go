package chain

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// Statements calls fn for each statement in src alongside a target's file, role by
// role, in order; roots are those of the repository, the newest last. An invalid one has the reason as err. One that can't be read ends the
// role's sequence. skip selects files to skip; may be nil.
func Statements(ctx context.Context, src storage.Source, roots []*tuf.Root, x metafile.Target, skip func(name string) (bool, error), fn func(name string, data []byte, err error) error) error {
	c := roots[len(roots)-1].Charter()
	if c == nil {
		return nil
	}
	subject := attestation.Subject{Path: x.Path, Length: x.Length, SHA256: x.SHA256}
	for _, class := range c.Classes() {
		if !strings.HasPrefix(x.Path, class.Prefix) {
			continue
		}
		for _, role := range class.Roles {
			for n := 1; n <= MaxStatements; n++ {
				name := StatementName(subject, role.Role, n)
				if storage.CheckName(name) != nil {
					break // the name of a statement on this target is too long
				}
				if skip != nil {
					if have, err := skip(name); err != nil {
						return err
					} else if have {
						continue
					}
				}
				data, err := storage.ReadAll(ctx, src, name, attestation.MaxSize)
				if errors.Is(err, fs.ErrNotExist) {
					break
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					if err := fn(name, nil, err); err != nil {
						return err
					}
					break
				}
				if err := fn(name, data, verifyStatement(data, roots, role.Party, subject)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// verifyStatement verifies a statement under the newest root, or else under an earlier
// one, since the keys may have been rotated. Expiry is not checked here.
func verifyStatement(data []byte, roots []*tuf.Root, party string, subject attestation.Subject) (first error) {
	for _, root := range slices.Backward(roots) {
		_, err := attestation.OpenRefusal(data, root, party, subject)
		if attestation.Kind(data) != attestation.RefusalType {
			_, err = attestation.OpenListed(data, root, party, subject, LongAgo)
		}
		if err == nil || errors.Is(err, tuf.ErrExpired) {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}
