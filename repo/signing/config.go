package signing

import "github.com/visum-dev/visum/tuf"

// Automation lists the changes that a handle may sign without a person. Changes are
// relative to the published content that its ledger has seen, or if it has seen none to
// the published content that it has signed, not to the storage.
// Every other change fails with [ErrNotAutomatic], and so does every root, recovery,
// recall, refusal and hold, and an expiry that is later than repo.Config.Expiry allows
// and than that of the published version. Timestamp and snapshot may always be signed.
type Automation struct {
	// Renew permits new versions of a role that differ only in version and expiry.
	Renew bool
	// Transport permits changes of custom["visum-transport"] of listed targets.
	Transport bool
	// Plain lists path prefixes, such as "rules/", below which targets without release
	// data may be added, changed and removed.
	Plain []string
	// Releases lists path prefixes, such as "agent/", below which targets with release
	// data may be added and changed, with their review statements.
	Releases []string
}

// DualSigning adds the signatures of a second generation of keys, so that clients with
// the root before and clients with the root after a cut-over both accept the metadata.
// Update, Stage, Publish and Renew also sign each role with those Signers that Root
// lists for it. These signatures do not count towards the threshold of the published
// root. Roots are never dual signed.
type DualSigning struct {
	Root    *tuf.Root    // the previous root, or the next one, which may be unpublished
	Signers []tuf.Signer // of the other generation of keys
}
