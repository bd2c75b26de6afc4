package repo

import (
	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/tuf"
)

// publication is one step from the published state to the next.
type publication struct {
	repo    *Repo
	present *present
	root    *tuf.Root // after publication
	newRoot []byte    // nil if the root stays
	// recovery is set if the new root is a recovery root; nil for a regular one.
	recovery *chain.Recovery
	fresh    map[string]*draftFile // new targets roles, by name
	content  bool                  // a new snapshot is needed
	// statements of the draft, by storage name.
	statements map[string]*statement
	stamp      bool // a new timestamp is needed
	// compromised keys that the draft names (Tx.Compromised).
	compromised []tuf.Key

	snapshot int64 // version of the new snapshot
}
