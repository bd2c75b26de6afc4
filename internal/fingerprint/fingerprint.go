// Package fingerprint makes the fingerprints that people read to each other,
// such as that of a draft.
package fingerprint

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"
)

// size is how many bytes of the sha256 are shown: 160 bits, so that finding two
// lists with one fingerprint costs an attacker 2^80 hashes.
const size = 20

var alphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// New returns the fingerprint of a list of byte strings, whose order counts: the
// sha256 over each string after its length (8 bytes, big endian), cut to 160
// bits, in lower-case base32 (RFC 4648), eight groups of four characters. No two
// lists are encoded alike, whatever is in their strings. A caller whose list has
// no order sorts it first; the first string should name what the list is.
func New[T ~string | ~[]byte](parts ...T) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	s := alphabet.EncodeToString(h.Sum(nil)[:size])
	groups := make([]string, 0, len(s)/4)
	for ; s != ""; s = s[4:] {
		groups = append(groups, s[:4])
	}
	return strings.Join(groups, "-")
}
