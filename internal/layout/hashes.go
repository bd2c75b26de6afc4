package layout

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"strings"

	"github.com/visum-dev/visum/internal/wire"
)

// Hashes are the listed hashes of known algorithms, in lower-case hex; "" if not
// listed.
type Hashes struct{ SHA256, SHA512 string }

// ParseHashes reads a hashes object, which may be absent or empty. It refuses one
// with only unknown algorithms, because nothing could be checked.
func ParseHashes(v wire.Value) (h Hashes, err error) {
	if v == nil || v.Kind() == 'n' { // null is an absent member
		return h, nil
	}
	if v.Kind() != '{' {
		return h, fmt.Errorf("%w: hashes must be an object", wire.ErrSyntax)
	}
	unknown := false
	for name, val := range v.Members() {
		var to *string
		size := 0
		switch string(name) {
		case "sha256":
			to, size = &h.SHA256, sha256.Size
		case "sha512":
			to, size = &h.SHA512, sha512.Size
		default:
			unknown = true
			continue
		}
		s, err := val.Text()
		if err != nil {
			return h, err
		}
		if len(s) != 2*size || strings.Trim(s, "0123456789abcdefABCDEF") != "" {
			return h, fmt.Errorf("%w: %s is not %d hex digits", wire.ErrSyntax, name, 2*size)
		}
		*to = strings.ToLower(s)
	}
	if unknown && h == (Hashes{}) {
		return h, fmt.Errorf("%w: no hash of a known algorithm", wire.ErrSyntax)
	}
	return h, nil
}

// Name is the name of the preferred listed hash.
func (h Hashes) Name() string {
	if h.SHA256 == "" {
		return "sha512"
	}
	return "sha256"
}
