package layout

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// ErrManySignatures: a file has more signatures than allowed.
var ErrManySignatures = errors.New("too many signatures")

// Signatures reads the signatures of a metadata file by key id, at most max, in one
// pass. It refuses a repeated key id (TUF 4.2.1). A signature that can't be decoded is
// nil, and an element without a key id is skipped: neither counts.
func Signatures(v wire.Value, max int) (map[string][]byte, error) {
	sigs := map[string][]byte{}
	n := 0
	for s := range v.Elements() {
		if n++; n > max {
			return nil, fmt.Errorf("%w: more than %d", ErrManySignatures, max)
		}
		var vID, vSig wire.Value
		if s.Kind() != '{' {
			continue
		}
		if err := s.Fields(wire.Field{Name: "keyid", To: &vID}, wire.Field{Name: "sig", To: &vSig}); err != nil {
			return nil, err
		}
		id, err := vID.Text()
		if err != nil {
			continue
		}
		if _, twice := sigs[id]; twice {
			return nil, fmt.Errorf("two signatures of key id %s", text.Name(id))
		}
		encoded, _ := vSig.Text()
		sig, err := hex.DecodeString(encoded)
		if err != nil {
			sig = nil
		}
		sigs[id] = sig
	}
	return sigs, nil
}
