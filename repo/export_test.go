package repo

import (
	"context"

	"github.com/visum-dev/visum/tuf"
)

// Handle is the handle that opened or staged the draft; nil: none did.
func (d *Draft) Handle() *Repo { return d.repo }

// ForceSign signs everything that the draft assigns to s, as an attacker's own tool
// does, without an anchor, a ledger or rules.
func (d *Draft) ForceSign(ctx context.Context, s tuf.Signer) error {
	for _, f := range d.parts() {
		if _, ok := f.key(s.Key().ID()); ok {
			if err := f.add(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}
