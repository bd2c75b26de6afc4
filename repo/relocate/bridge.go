package relocate

import (
	"context"
	"fmt"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// maxBridge is how long both generations of keys may sign.
const maxBridge = day

// Bridge returns a handle for the day of the cut-over: with cfg's signers, which
// are the new ones, and beside them the old online and release keys. What it
// stages, publishes and refreshes is taken by clients on either side of the
// cut-over, so that none of them is ever without content: make and publish the
// draft of [Move.CutOver] with it. It is to be had until a day after the cut-over
// was signed (an error that wraps [ErrDates] then), and its timestamps last until
// then, no longer; after it the old keys sign nothing any more.
//
// A move in an emergency needs none: where the old keys are in the wrong hands
// their signature says nothing.
func (m *Move) Bridge(ctx context.Context, storage repo.Storage, cfg *repo.Config, old ...tuf.Signer) (*repo.Repo, error) {
	r := repo.New(storage, cfg)
	chain, err := r.Chain(ctx)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%w: the repository is empty", ErrOrder)
	}
	before := chain[len(chain)-1]
	left := maxBridge
	for i, root := range chain[1:] {
		if m.introduced(root) {
			before = chain[i]
			left = root.Charter().SignedAt().Add(maxBridge).Sub(r.Now())
			break
		}
	}
	if left <= 0 {
		return nil, fmt.Errorf("%w: the cut-over was more than a day ago: the old keys sign no more", ErrDates)
	}
	bridged := *cfg
	bridged.DualSigning = &repo.DualSigning{Root: before, Signers: old}
	e := &bridged.Expiry.Timestamp
	if *e <= 0 || *e > left {
		*e = left.Truncate(time.Second)
	}
	return repo.New(storage, &bridged), nil
}
