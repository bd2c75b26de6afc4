package attestation

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// PayloadType is the DSSE payload type of statements.
const PayloadType = "application/vnd.in-toto+json"

// PAE returns the bytes that a signer of a statement's payload signs: DSSE's
// pre-authentication encoding.
func PAE(payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(PayloadType), PayloadType, len(payload), payload)
}

type envelopeJSON struct {
	PayloadType string          `json:"payloadType"`
	Payload     []byte          `json:"payload"`
	Signatures  []signatureJSON `json:"signatures"`
}

type signatureJSON struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// Seal returns the envelope of a payload. sigs holds the signatures of PAE(payload)
// by [tuf.Key.ID]. Seal verifies nothing.
func Seal(payload []byte, sigs map[string][]byte) ([]byte, error) {
	env := envelopeJSON{PayloadType, payload, []signatureJSON{}}
	for _, id := range slices.Sorted(maps.Keys(sigs)) {
		env.Signatures = append(env.Signatures, signatureJSON{id, sigs[id]})
	}
	return json.Marshal(env)
}

// envelope is a parsed envelope that is not verified yet.
type envelope struct {
	payload []byte
	sigs    []signatureJSON
}

func parseEnvelope(data []byte) (*envelope, error) {
	if len(data) > MaxSize {
		return nil, refuse("statement", tuf.ErrTooLarge, "%d bytes, at most %d", len(data), MaxSize)
	}
	v, err := wire.Canonical(data)
	if err != nil {
		return nil, refuse("statement", tuf.ErrMalformed, "%v", err)
	}
	var typ, payload, signatures wire.Value
	if err := v.Fields(wire.Field{Name: "payloadType", To: &typ}, wire.Field{Name: "payload", To: &payload},
		wire.Field{Name: "signatures", To: &signatures}); err != nil {
		return nil, refuse("statement", tuf.ErrMalformed, "%v", err)
	}
	// The type is signed together with the payload.
	if t, err := typ.Text(); err != nil || t != PayloadType {
		return nil, refuse("statement", tuf.ErrMalformed, "payloadType is %s, want %q", typ, PayloadType)
	}
	e := &envelope{}
	if text, err := payload.Text(); err != nil {
		return nil, refuse("statement", tuf.ErrMalformed, "payload: %v", err)
	} else if e.payload, err = decode(text); err != nil {
		return nil, refuse("statement", tuf.ErrMalformed, "payload is not base64")
	}
	if signatures.Kind() != '[' {
		return nil, refuse("statement", tuf.ErrMalformed, "signatures must be an array")
	}
	n := 0
	for s := range signatures.Elements() {
		if n++; n > maxSignatures {
			return nil, refuse("statement", tuf.ErrTooLarge, "more than %d signatures", maxSignatures)
		}
		var vID, vSig wire.Value
		if s.Fields(wire.Field{Name: "keyid", To: &vID}, wire.Field{Name: "sig", To: &vSig}) != nil {
			continue
		}
		id, _ := vID.Text()
		text, _ := vSig.Text()
		if sig, err := decode(text); err == nil && len(sig) > 0 {
			e.sigs = append(e.sigs, signatureJSON{id, sig})
		}
	}
	return e, nil
}

// decode reads base64 in either alphabet, as DSSE requires.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "-_") {
		return base64.URLEncoding.Strict().DecodeString(s)
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// signed returns the keys of the role that signed, each counted once.
func (e *envelope) signed(root *tuf.Root, role tuf.ReleaseRole) []string {
	message := PAE(e.payload)
	keys := root.Keys(role.KeyIDs)
	valid := map[string][]byte{}
	for _, id := range role.KeyIDs {
		k, ok := keys[id]
		if !ok {
			continue
		}
		for _, s := range e.sigs {
			// A known key id selects its key; with an unknown or missing id every key is tried.
			if _, ours := keys[s.KeyID]; (s.KeyID == id || !ours) && k.Verifies(message, s.Sig) {
				valid[id] = s.Sig
				break
			}
		}
	}
	return root.Signed(message, valid, role.KeyIDs)
}
