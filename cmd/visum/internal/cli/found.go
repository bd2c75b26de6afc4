package cli

import (
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// founding is a first root whose parties are all on this machine.
type founding struct {
	store    storage.Storage
	root     repo.Root
	review   string // name of the reviewing party
	renews   string
	loopback bool
	ledger   func(party string) string // path of a party's ledger
	parties  []string                  // the first one publishes
	signers  map[string][]tuf.Signer   // by party
}

func (f *founding) add(party string, s tuf.Signer) {
	if f.signers == nil {
		f.signers = map[string][]tuf.Signer{}
	}
	if f.signers[party] == nil {
		f.parties = append(f.parties, party)
	}
	f.signers[party] = append(f.signers[party], s)
}

// found signs and publishes the root, each party with a handle and a ledger of its own,
// as on another machine, and returns the pin.
func (a *app) found(f *founding) ([]byte, error) {
	expiry, err := expiryOf(f.renews)
	if err != nil {
		return nil, err
	}
	handle := func(party string) *repo.Repo {
		return repo.New(f.store, &repo.Config{Now: a.Now, Party: party, Review: f.review, Signers: f.signers[party], Expiry: expiry,
			Ledger: repo.DirLedger(f.ledger(party)), UnsafeLoopback: f.loopback})
	}
	first := handle(f.parties[0])
	d, err := first.Stage(a.ctx, func(tx *repo.Tx) error { tx.SetRoot(f.root); return nil })
	if err != nil {
		return nil, err
	}
	for _, party := range f.parties[1:] {
		theirs, err := reopened(handle(party), d)
		if err != nil {
			return nil, err
		}
		for _, s := range f.signers[party] {
			if err := theirs.SignFirst(a.ctx, s, d.Digest()); err != nil {
				return nil, err
			}
		}
		if err := d.Merge(theirs); err != nil {
			return nil, err
		}
	}
	if err := first.Publish(a.ctx, d); err != nil {
		return nil, err
	}
	return first.Pin(a.ctx)
}
