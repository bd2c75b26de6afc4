package repo_test

import (
	"testing"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
)

// A machine without a key in the first root takes it when all others have signed it, and
// from then on trusts no other one.
func TestAdoptFirst(t *testing.T) {
	w := emptyWorld(t)
	w.Public(append(reviewKeys, "unknown")...)
	theirs, machine, other := w.Copy(), w.Copy(), emptyWorld(t)
	theirs.Store, machine.Store = w.Store, w.Store
	staged, err := w.Open(vendorKeys...).Stage(t.Context(), w.Define)
	noErr(t, err)
	opened := func(d *repo.Draft) *repo.Draft {
		t.Helper()
		data, err := d.Bytes()
		noErr(t, err)
		d, err = machine.Open("unknown").OpenDraft(data)
		noErr(t, err)
		return d
	}
	half := opened(staged)
	wantErr(t, half.SignFirst(t.Context(), w.Signer("unknown"), half.Digest()), repo.ErrNoPart)
	machine.Refused(repo.ErrUnsigned, func() error { return half.AdoptFirst(t.Context(), half.Digest()) })

	signed := theirs.received(staged)
	for _, k := range []string{"review-1", "review-release"} {
		noErr(t, signed.SignFirst(t.Context(), w.Signer(k), signed.Digest()))
	}
	whole := opened(signed)
	machine.Refused(repo.ErrOtherDraft, func() error { return whole.AdoptFirst(t.Context(), "aaaa-"+whole.Digest()[5:]) })
	noErr(t, whole.AdoptFirst(t.Context(), whole.Digest()))
	machine.Refused(signing.ErrLedger, func() error { return whole.AdoptFirst(t.Context(), whole.Digest()) })

	noErr(t, w.Open(vendorKeys...).Publish(t.Context(), travel(t, signed)))
	x, err := machine.Open().LedgerInfo(t.Context())
	if err != nil || x.Root.Version != 1 || !x.First {
		t.Errorf("%+v, %v", x, err)
	}
	// A storage with another first root.
	other.Update(other.Define)
	machine.Store = other.Store
	machine.Refused(signing.ErrNoPin, func() error { _, err := machine.Open().Status(t.Context(), w.Now); return err })
}
