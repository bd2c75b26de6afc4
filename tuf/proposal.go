package tuf

import "time"

// Proposal is a root that has not been signed yet. It obeys every rule that can be
// checked without signatures: H1 to H10 and H12. It is not a [Root]; only
// [Proposal.Propose] accepts it as the predecessor of another root.
type Proposal struct{ root *Root }

// RootView is what a verified root ([Root]) and an unsigned one ([Proposal]) have in
// common, for tools that describe or compare them.
type RootView interface {
	Version() int64                                     // see [Root.Version]
	Expires() time.Time                                 // see [Root.Expires]
	Bytes() []byte                                      // see [Root.Bytes]
	SHA256() string                                     // see [Root.SHA256]
	Charter() *Charter                                  // see [Root.Charter]
	Keys(ids []string) map[string]Key                   // see [Root.Keys]
	RoleKeys(role string) (ids []string, threshold int) // see [Root.RoleKeys]
	KeySet(ids []string) string                         // see [Root.KeySet]
	CheckExpiry(now time.Time) error                    // see [Root.CheckExpiry]
}

// Propose checks data as the successor of r by the rules of [Root.Next] except H11:
// it does not verify signatures. Tools use it before signing, so that a root that
// every client would refuse is not signed.
func (r *Root) Propose(data []byte) (p *Proposal, err error) {
	defer func() { attach(err, data) }()
	if r == nil || r.doc == nil {
		return nil, refuse("root", 0, ErrUntrusted, "zero Root")
	}
	next, err := r.readNext(data)
	if err != nil {
		return nil, err
	}
	if err := r.checkSuccessor(next); err != nil {
		return nil, err
	}
	return &Proposal{next}, nil
}

// ProposeFirst reads the first root of a repository, version 1, before it is
// signed. It checks the rules of [OpenRoot] except signatures. opt may be nil.
func ProposeFirst(data []byte, opt *Options) (p *Proposal, err error) {
	defer func() { attach(err, data) }()
	root, err := parseRoot(data, opt)
	if err != nil {
		return nil, err
	}
	if root.doc.version != 1 {
		return nil, refuse("root", root.doc.version, ErrVersion, "the first root must be v1")
	}
	return &Proposal{root}, nil
}

// Propose checks data as the successor of p, like [Root.Propose].
func (p *Proposal) Propose(data []byte) (*Proposal, error) {
	if p == nil {
		return nil, refuse("root", 0, ErrUntrusted, "zero Proposal")
	}
	return p.root.Propose(data)
}

// Version is the proposed root's version number.
func (p *Proposal) Version() int64 { return p.root.Version() }

// Expires is the proposed root's own expiry.
func (p *Proposal) Expires() time.Time { return p.root.Expires() }

// Bytes returns a copy of the proposed file.
func (p *Proposal) Bytes() []byte { return p.root.Bytes() }

// SHA256 is the hash of the canonical signed part, in hex. Signatures do not change it.
func (p *Proposal) SHA256() string { return p.root.SHA256() }

// Charter returns the proposed charter; nil if the root has none.
func (p *Proposal) Charter() *Charter { return p.root.Charter() }

// Keys returns the keys with the given ids, by id.
func (p *Proposal) Keys(ids []string) map[string]Key { return p.root.Keys(ids) }

// RoleKeys returns the key ids and threshold of a top-level role.
func (p *Proposal) RoleKeys(role string) (ids []string, threshold int) { return p.root.RoleKeys(role) }

// CheckExpiry returns an error that wraps [ErrExpired] if the root is expired at now.
func (p *Proposal) CheckExpiry(now time.Time) error { return p.root.CheckExpiry(now) }

// KeySet is [Root.KeySet] of the proposed root.
func (p *Proposal) KeySet(ids []string) string { return p.root.KeySet(ids) }
