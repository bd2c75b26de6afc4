package repo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/repo/signing"
)

// LedgerInfo is what a signer's ledger records of a repository, for a person to read.
type LedgerInfo struct {
	RepoID string     `json:"repo_id"` // 32 lower-case hex digits
	Root   LedgerSeen `json:"root"`    // the newest one seen published
	// First is set if no root was seen published: Root is the first root as signed here.
	First     bool           `json:"first,omitempty"`
	Roles     []LedgerRole   `json:"roles"`      // in order of names; no review statements
	TakenBack []LedgerRecall `json:"taken_back"` // what this signer recalled, refused or held, and is in force (rule K4)
	// Digest is that of the published metadata, as [Repo.AdoptDigest] returns it on every
	// machine. Current is set if all that it covers was signed here, or was published at
	// a signature of this ledger.
	Digest  string `json:"digest"`
	Current bool   `json:"current"` // see Digest
}

// LedgerSeen is a version and its content.
type LedgerSeen struct {
	Version int64  `json:"version"` // 0: none
	SHA256  string `json:"sha256"`  // of the canonical signed part
}

// LedgerRole is a role in a ledger. Published content older than Seen or High is refused
// (rule K3).
type LedgerRole struct {
	Role   string            `json:"role"`   // name
	Seen   LedgerSeen        `json:"seen"`   // published at the last signature of this ledger
	High   LedgerSeen        `json:"high"`   // the newest one that any call has read
	Signed []LedgerSignature `json:"signed"` // oldest first; at most 256 are kept
}

// LedgerSignature is content that was signed with this ledger.
type LedgerSignature struct {
	LedgerSeen
	At     time.Time `json:"at,omitzero"`     // of the last signature; zero: not recorded
	KeyIDs []string  `json:"keyids"`          // of the signatures
	Draft  string    `json:"draft,omitempty"` // Draft.Digest of the draft that had it
}

// LedgerRecall is a recall, a refusal or a hold.
type LedgerRecall struct {
	Kind   string    `json:"kind"`             // recall, refusal or hold
	Role   string    `json:"role"`             // that lists it
	Path   string    `json:"path"`             // of the target
	SHA256 string    `json:"sha256"`           // of its bytes
	Until  time.Time `json:"until,omitzero"`   // end of a hold
	Reason string    `json:"reason,omitempty"` // as published
}

// LedgerInfo reads this signer's ledger, and the published metadata, whose versions the
// ledger records as every call does. The error wraps [signing.ErrNoLedger] if the ledger
// has no record of the repository.
func (r *Repo) LedgerInfo(ctx context.Context) (*LedgerInfo, error) {
	p, err := r.loadPublished(ctx)
	if err != nil {
		return nil, err
	}
	b, err := r.loadBook(ctx, p.root.Charter().RepoID())
	if err != nil {
		return nil, err
	}
	if b.empty() {
		return nil, fmt.Errorf("repo: %w", signing.ErrNoLedger)
	}
	roles, err := r.ownRoles(ctx, p)
	if err != nil {
		return nil, err
	}
	out := b.info()
	out.Digest = digestOf(p, roles)
	out.Current = out.Root.SHA256 == p.root.SHA256()
	for _, x := range roles {
		sum := metafile.SHA256(x.signed)
		out.Current = out.Current && slices.ContainsFunc(b.contents(x.role), func(c bookContent) bool { return c.Version == x.version && c.SHA256 == sum })
	}
	return out, nil
}

func (b *book) info() *LedgerInfo {
	out := &LedgerInfo{RepoID: b.body.RepoID, Root: LedgerSeen{b.body.Root.Version, b.body.Root.SHA256}, First: !b.body.Published, Roles: []LedgerRole{}, TakenBack: []LedgerRecall{}}
	if x := b.body.Recovered; x != nil {
		out.Root = LedgerSeen{x.Version, x.SHA256}
	}
	for _, name := range slices.Sorted(maps.Keys(b.body.Roles)) {
		have := b.body.Roles[name]
		if strings.Contains(name, "/") {
			continue // a review statement
		}
		role := LedgerRole{Role: name, Signed: []LedgerSignature{}}
		if have.Seen != nil {
			role.Seen = LedgerSeen{have.Seen.Version, have.Seen.SHA256}
		}
		if high := have.high(); high != nil {
			role.High = LedgerSeen{high.Version, high.SHA256}
		}
		if name == "root" && !out.First { // of which the ledger keeps a record of its own
			role.Seen, role.High = out.Root, out.Root
		}
		for _, s := range have.Signed {
			role.Signed = append(role.Signed, LedgerSignature{LedgerSeen{s.Version, s.SHA256}, parsed(s.At), append([]string{}, s.KeyIDs...), s.Draft})
		}
		out.Roles = append(out.Roles, role)
	}
	for _, t := range b.body.TakenBack {
		out.TakenBack = append(out.TakenBack, LedgerRecall{t.Kind, t.Role, t.Path, t.SHA256, parsed(t.Until), t.Reason})
	}
	return out
}

// parsed is zero for what is not a time.
func parsed(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
