// Package layout has the rules that the authoring tools and the verifier must share:
// which paths a delegation covers, which hash bin has a target, and when two sets of
// keys are equal.
package layout

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Match reports whether a shell pattern covers a target path (PATHPATTERN, TUF 4.5): a
// wildcard matches no slash. spend is called for each pair of path elements with the
// product of their lengths, which is the worst-case time of the comparison; if it
// returns false nothing matches. nil: no limit.
func Match(pattern, target string, spend func(cost int) bool) bool {
	for {
		p, patterns, more := strings.Cut(pattern, "/")
		t, rest, deeper := strings.Cut(target, "/")
		if spend != nil && !spend(len(p)*len(t)) || more != deeper {
			return false
		}
		if ok, err := path.Match(p, t); err != nil || !ok {
			return false
		}
		if !more {
			return true
		}
		pattern, target = patterns, rest
	}
}

// Bin returns the hash bin of a target (TAP 15): the first bits of the sha256 of its
// path. bits is 1 to 32.
func Bin(target string, bits int) uint32 {
	sum := sha256.Sum256([]byte(target))
	return binary.BigEndian.Uint32(sum[:]) >> (32 - bits)
}

// BinName returns the role name of a hash bin (TAP 15): the number of the bin in as many
// hexadecimal digits as the last bin needs.
func BinName(prefix string, bits int, bin uint32) string {
	return fmt.Sprintf("%s-%0*x", prefix, (bits+3)/4, bin)
}

// SameSet reports whether two lists without duplicates have the same elements, such as
// the keys of a role before and after.
func SameSet[T comparable](a, b []T) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x T) bool { return !slices.Contains(b, x) })
}
