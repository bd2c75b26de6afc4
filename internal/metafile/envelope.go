package metafile

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Envelope is a parsed metadata file whose signatures are not verified yet.
type Envelope struct {
	Signed     wire.Value // canonical
	Type       string
	Version    int64
	Signatures map[string][]byte // by key id
}

// Open parses a metadata file.
func Open(data []byte) (e Envelope, err error) {
	v, err := wire.Canonical(data)
	if err != nil {
		return e, err
	}
	var sigs, typ, version wire.Value
	if err := v.Fields(wire.Field{Name: "signed", To: &e.Signed}, wire.Field{Name: "signatures", To: &sigs}); err != nil {
		return e, err
	}
	if err := e.Signed.Fields(wire.Field{Name: "_type", To: &typ}, wire.Field{Name: "version", To: &version}); err != nil {
		return e, err
	}
	if e.Type, err = typ.Text(); err != nil {
		return e, err
	}
	if e.Version, err = version.Int(); err != nil {
		return e, err
	}
	e.Signatures, err = layout.Signatures(sigs, tuf.Limits{}.WithDefaults().Signatures)
	return e, err
}

// Signers counts the distinct keys with a valid signature.
func (e *Envelope) Signers(keys map[string]tuf.Key) int {
	return len(tuf.Signers(e.Signed, e.Signatures, keys))
}

// MemberOf returns a member of a verified role's signed part, or nil if there is none.
func MemberOf(t *tuf.Targets, name string) (m wire.Value, err error) {
	v, err := wire.Canonical(t.Bytes())
	if err != nil {
		return nil, err
	}
	var signed wire.Value
	if err := v.Fields(wire.Field{Name: "signed", To: &signed}); err != nil {
		return nil, err
	}
	err = signed.Fields(wire.Field{Name: name, To: &m})
	return m, err
}

// SHA256 returns the sha256 of data in lower-case hex.
func SHA256(data []byte) string { s := sha256.Sum256(data); return hex.EncodeToString(s[:]) }

// ExpiryOf returns the expiry of a signed part.
func ExpiryOf(signed wire.Value) (time.Time, error) {
	when, err := Member(signed, "expires").Text()
	if err != nil {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339, when)
}
