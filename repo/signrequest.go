package repo

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// signing is one request for signatures: what shall be signed with which keys.
// Its rules are the only way to a signature of a draft, timestamp or snapshot.
type signing struct {
	repo          *Repo
	ctx           context.Context
	tx            *Tx // over what is published
	draft         *Draft
	tip           *tuf.Root   // the root that the draft's root follows; nil for the first root
	root          before      // the draft's root; nil where root stays
	layout        *Root       // as it will be; nil for timestamp and snapshot
	fork          []*tuf.Root // that the draft's root follows too; nil for none
	items         []*item
	before, after *edition               // of the draft
	restored      map[string]wire.Value  // signed parts in place of what compromised keys published
	parties       map[tuf.Key]string     // of keys that root names, their party
	recalls       map[string][]takenBack // by party
	compromised   []tuf.Key              // of timestamp and snapshot
	ends          bool                   // timestamp and snapshot go with a root that ends or replaces a recovery
}

// item is one file that shall be signed.
type item struct {
	file    *draftFile
	role    named // of a targets role
	top     string
	bin     bool // a hash bin
	online  bool // timestamp or snapshot
	fresh   bool // staged in this very call, so that its version can still be chosen
	keyIDs  []string
	signers []tuf.Signer
	was     wire.Value // signed part that is published; nil for none
	wasKeys []tuf.Key  // the role's keys where it is published
	expires time.Time  // of what is published; zero for none
	version int64      // that is published; 0 for none
}

// choose says who signs the item: those signers that have a part in it, and those
// of the bridge, which has none in root.
func (x *item) choose(signers []tuf.Signer, b *DualSigning, part func(tuf.Key) bool) {
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
		if b.part(cmp.Or(x.top, x.file.role), s.Key().ID()) {
			add(s)
		}
	}
}

// excused reports whether rule K3 does not hold for what is published, since
// compromised keys signed it: what the ledger signed stands in its place, or, of
// timestamp and snapshot, the draft that is published names their key.
func (s *signing) excused(x *item) bool {
	return s.restored[x.file.role] != nil || x.online && slices.ContainsFunc(x.wasKeys, func(k tuf.Key) bool { return slices.Contains(s.compromised, k) })
}

// recordName is the name under which the ledger records a part. A recovered root
// is no second content of the regular one.
func (s *signing) recordName(f *draftFile) string {
	if s.draft != nil && f.role == "root" && s.draft.recovery != nil {
		return "recovered root"
	}
	return f.role
}

// unnumbered reports whether a part has no version of its own: a statement of a
// reviewer, whose number only orders them, and a recovered root, which its
// statement names and whose statement is numbered.
func (s *signing) unnumbered(f *draftFile) bool {
	return s.draft != nil && (s.draft.statements[f.role] != nil || f.role == "root" && s.draft.recovery != nil)
}

// holdsAll reports whether this handle's own signers hold every one of the keys.
func (s *signing) holdsAll(keys []tuf.Key) bool {
	for _, k := range keys {
		if !slices.ContainsFunc(s.repo.cfg.Signers, func(o tuf.Signer) bool { return o.Key() == k }) {
			return false
		}
	}
	return true
}

// part reports whether the bridge's root gives a key a part in a role that it names.
func (b *DualSigning) part(role, id string) bool {
	if keyIDs, _ := b.Root.RoleKeys(role); slices.Contains(keyIDs, id) {
		return true
	}
	if b.Root.Charter() == nil {
		return false
	}
	for _, x := range rootOf(b.Root).lists() {
		if x.role == role && slices.Contains(ids(x.keys.Keys), id) {
			return true
		}
	}
	return false
}
