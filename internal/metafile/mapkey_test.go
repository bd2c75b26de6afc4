package metafile

import "testing"

// Strings that are equal when joined have different keys.
func TestKey(t *testing.T) {
	seen := map[[16]byte][]string{}
	for _, parts := range [][]string{nil, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab"}, {"a\nb"}, {"a\n", "b"}, {"\x01a"}} {
		if other, twice := seen[Key(parts...)]; twice {
			t.Errorf("%q and %q have the same key", parts, other)
		}
		seen[Key(parts...)] = parts
	}
}
