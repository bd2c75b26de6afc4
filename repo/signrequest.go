package repo

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// signRequest is one request for signatures. Drafts, timestamps and snapshots can only be
// signed through its rules.
type signRequest struct {
	repo          *Repo
	ctx           context.Context
	tx            *Tx // on the published state
	draft         *Draft
	prev          *tuf.Root    // the root that the draft's root follows; nil for the first root
	root          tuf.RootView // the draft's root; nil if the root stays
	layout        *Root        // after publication; nil for timestamp and snapshot
	fork          []*tuf.Root  // the fork that the draft's root follows too; nil for none
	items         []*item
	before, after *edition               // of the draft
	restored      map[string]wire.Value  // signed parts that replace those published by compromised keys
	parties       map[tuf.Key]string     // the party of each key that the root names
	recalls       map[string][]takenBack // by party
	compromised   []tuf.Key              // for timestamp and snapshot
	ends          bool                   // timestamp and snapshot belong to a root that ends or replaces a recovery
}

// item is one file to sign.
type item struct {
	file    *draftFile
	role    named // for a targets role
	top     string
	bin     bool // a hash bin
	online  bool // timestamp or snapshot
	fresh   bool // staged in the same call, so that its version can still change
	keyIDs  []string
	signers []tuf.Signer
	was     wire.Value // published signed part; nil for none
	wasKeys []tuf.Key  // keys of the published role
	expires time.Time  // of the published version; zero for none
	version int64      // published version; 0 for none
}

// choose selects the signers of the item: those that may sign it, and those for dual
// signing, which the root does not name.
func (x *item) choose(signers []tuf.Signer, b *signing.DualSigning, part func(tuf.Key) bool) {
	add := func(s tuf.Signer) {
		x.signers, x.keyIDs = append(x.signers, s), append(x.keyIDs, s.Key().ID())
	}
	for _, s := range signers {
		if part(s.Key()) {
			add(s)
		}
	}
	if b == nil || x.file.role == "root" {
		return
	}
	for _, s := range b.Signers {
		if dualPart(b.Root, cmp.Or(x.top, x.file.role), s.Key().ID()) {
			add(s)
		}
	}
}

// excused reports whether rule K3 does not apply to the published version because
// compromised keys signed it: the version that the ledger signed replaces it, or, for
// timestamp and snapshot, the published draft names their key.
func (s *signRequest) excused(x *item) bool {
	return s.restored[x.file.role] != nil || x.online && slices.ContainsFunc(x.wasKeys, func(k tuf.Key) bool { return slices.Contains(s.compromised, k) })
}

// recordName returns the name under which the ledger records a part. A recovery root
// has a name of its own, so it does not conflict with the regular root of the same
// version.
func (s *signRequest) recordName(f *draftFile) string {
	if s.draft != nil && f.role == "root" && s.draft.recovery != nil {
		return "recovered root"
	}
	return f.role
}

// unnumbered reports whether a part has no version of its own: a reviewer's statement,
// whose number only gives the order, and a recovery root, whose statement has the
// number.
func (s *signRequest) unnumbered(f *draftFile) bool {
	return s.draft != nil && (s.draft.statements[f.role] != nil || f.role == "root" && s.draft.recovery != nil)
}

// holdsAll reports whether this handle's signers hold all of the keys.
func (s *signRequest) holdsAll(keys []tuf.Key) bool {
	for _, k := range keys {
		if !slices.ContainsFunc(s.repo.cfg.Signers, func(o tuf.Signer) bool { return o.Key() == k }) {
			return false
		}
	}
	return true
}

// dualPart reports whether the root for dual signing gives a key a part in a role.
func dualPart(root *tuf.Root, role, id string) bool {
	if keyIDs, _ := root.RoleKeys(role); slices.Contains(keyIDs, id) {
		return true
	}
	if root.Charter() == nil {
		return false
	}
	for _, x := range rootOf(root).lists() {
		if x.role == role && slices.Contains(ids(x.keys.Keys), id) {
			return true
		}
	}
	return false
}
