package metafile

import (
	"crypto/sha256"
	"encoding/binary"
)

// Key returns a map key for a list of strings. It has a constant size, since a
// repository may have a million names, and each string is hashed with its length, so
// that different lists have different keys.
func Key(parts ...string) [16]byte {
	buf := make([]byte, 0, 256)
	for _, p := range parts {
		buf = append(binary.AppendUvarint(buf, uint64(len(p))), p...)
	}
	sum := sha256.Sum256(buf)
	return [16]byte(sum[:16])
}
