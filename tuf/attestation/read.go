package attestation

import (
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Claim is the unverified content of a payload.
type Claim struct {
	Kind     string   // [ReviewType] or [RefusalType]
	Subject  Subject  // the statement's subject
	Reviewer Reviewer // the stated issuer
	Review   *Review  // nil unless Kind is ReviewType
	Refusal  *Refusal // nil unless Kind is RefusalType
}

// RepoID is the identity of the statement's repository.
func (c Claim) RepoID() string {
	switch {
	case c.Review != nil:
		return c.Review.RepoID
	case c.Refusal != nil:
		return c.Refusal.RepoID
	}
	return ""
}

// Read parses the payload of a statement before it is signed, as strictly as [Open],
// and requires canonical form. Signing tools use it to show the content that a
// signature would confirm. The error wraps [tuf.ErrMalformed], or [tuf.ErrTooLarge]
// above [MaxSize] bytes.
func Read(payload []byte) (Claim, error) {
	if len(payload) > MaxSize {
		return Claim{}, refuse("statement", tuf.ErrTooLarge, "payload of %d bytes, at most %d", len(payload), MaxSize)
	}
	v, err := wire.Canonical(payload)
	if err != nil {
		return Claim{}, refuse("statement", tuf.ErrMalformed, "%v", err)
	}
	if string(v.JSON()) != string(payload) {
		return Claim{}, refuse("statement", tuf.ErrMalformed, "the payload is not in canonical form")
	}
	var kind wire.Value
	if err := v.Fields(wire.Field{Name: "predicateType", To: &kind}); err != nil {
		return Claim{}, refuse("statement", tuf.ErrMalformed, "%v", err)
	}
	var c Claim
	switch c.Kind, _ = kind.Text(); c.Kind {
	case ReviewType:
		r, err := parseReview(v)
		if err != nil {
			return Claim{}, refuse("statement", tuf.ErrMalformed, "%v", err)
		}
		c.Subject, c.Reviewer, c.Review = r.Subject, r.Reviewer, &r
	case RefusalType:
		r, err := parseRefusal(v)
		if err != nil {
			return Claim{}, refuse("statement", tuf.ErrMalformed, "%v", err)
		}
		c.Subject, c.Reviewer, c.Refusal = r.Subject, r.Reviewer, &r
	default:
		return Claim{}, refuse("statement", tuf.ErrMalformed, "predicateType is neither %s nor %s", ReviewType, RefusalType)
	}
	return c, nil
}
