package relocate

import (
	"context"
	"fmt"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// maxDualSigning is the greatest duration of dual signing.
const maxDualSigning = day

// DualSigner returns a handle for dual signing on the day of the cut-over. It signs with
// cfg's signers, the new ones, and with old, the old online and release keys. Clients
// before and after the cut-over accept its metadata, so no client is without content.
// Stage and publish the draft of [Move.CutOver] with it.
//
// DualSigner is available until one day after the cut-over was signed; its timestamps
// expire by then, and the old keys are not used any more. Afterwards the error wraps
// [ErrDates].
//
// [Move.Emergency] needs no dual signing: signatures of compromised keys have no
// value.
func (m *Move) DualSigner(ctx context.Context, storage repo.Storage, cfg *repo.Config, old ...tuf.Signer) (*repo.Repo, error) {
	r := repo.New(storage, cfg)
	chain, err := r.Chain(ctx)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("relocate: %w: the repository is empty", ErrOrder)
	}
	before := chain[len(chain)-1]
	left := maxDualSigning
	for i, root := range chain[1:] {
		if m.introduced(root) {
			before = chain[i]
			left = root.Charter().SignedAt().Add(maxDualSigning).Sub(r.Now())
			break
		}
	}
	if left <= 0 {
		return nil, fmt.Errorf("relocate: %w: the cut-over was more than a day ago: the old keys must not sign any more", ErrDates)
	}
	bridged := *cfg
	bridged.DualSigning = &signing.DualSigning{Root: before, Signers: old}
	e := &bridged.Expiry.Timestamp
	if *e <= 0 || *e > left {
		*e = left.Truncate(time.Second)
	}
	return repo.New(storage, &bridged), nil
}
