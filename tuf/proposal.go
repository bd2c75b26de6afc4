package tuf

import "time"

// Proposal is a root that those who must have not signed yet. It obeys every
// rule that can be judged without signatures: H1 to H10 and H12. It is not a
// [Root], and nothing but its own Propose takes it for the root before another.
type Proposal struct{ root *Root }

// Propose judges data as the root after r by the same rules as [Root.Next], but
// for H11: its signatures are not looked at. It is for those who prepare a root,
// so that nobody signs one that every client would refuse.
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
// signed, and checks it by the rules of [OpenRoot] but for its signatures. opt may be nil.
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

// Propose judges data as the root after p.
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

// Bytes returns a copy of the file as it was proposed.
func (p *Proposal) Bytes() []byte { return p.root.Bytes() }

// SHA256 is the hash of the canonical signed part, in hex. Signatures do not change it.
func (p *Proposal) SHA256() string { return p.root.SHA256() }

// Charter returns the agreement that the parties are asked to sign.
func (p *Proposal) Charter() *Charter { return p.root.Charter() }

// Keys returns the keys named by ids, by id.
func (p *Proposal) Keys(ids []string) map[string]Key { return p.root.Keys(ids) }

// RoleKeys returns the key ids and threshold of a top-level role.
func (p *Proposal) RoleKeys(role string) (ids []string, threshold int) { return p.root.RoleKeys(role) }

// CheckExpiry returns an error that wraps [ErrExpired] where the root will be past its date.
func (p *Proposal) CheckExpiry(now time.Time) error { return p.root.CheckExpiry(now) }

// KeySet is [Root.KeySet] of the proposed root.
func (p *Proposal) KeySet(ids []string) string { return p.root.KeySet(ids) }
