package repo

import "github.com/visum-dev/visum/tuf"

// publication is one step from the present state to the next.
type publication struct {
	repo    *Repo
	present *present
	root    *tuf.Root // as it will be
	newRoot []byte    // nil where root stays
	// recovery is what the new root follows by; nil: it is an ordinary one
	recovery *recoveryFiles
	fresh    map[string]*draftFile // new targets roles, by name
	content  bool                  // a new snapshot is due
	// of the draft, by name in storage
	statements map[string]*statement
	stamp      bool // a new timestamp is due
	// compromised are the keys that the draft names (Tx.Compromised).
	compromised []tuf.Key

	snapshot int64 // version of the new snapshot
}
