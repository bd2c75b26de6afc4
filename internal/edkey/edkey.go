// Package edkey recognises Ed25519 public keys that must not be trusted.
package edkey

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
)

// SmallOrder reports whether an Ed25519 public key of 32 bytes is a point of small order:
// for such a key a signature of any message can be computed without a private key. The
// point also has several encodings, so it would count more than once.
func SmallOrder(key []byte) bool {
	y := bytes.Clone(key)
	y[31] &= 0x7f // the sign of x
	return slices.Contains(smallOrder, hex.EncodeToString(y))
}

// smallOrder holds the y coordinates of the points of small order, little-endian,
// including the non-canonical encodings.
var smallOrder = []string{
	strings.Repeat("00", 32),                                           // order 4
	"01" + strings.Repeat("00", 31),                                    // order 1
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
	"ec" + strings.Repeat("ff", 30) + "7f",                             // order 2
	"ed" + strings.Repeat("ff", 30) + "7f",                             // 0 + p
	"ee" + strings.Repeat("ff", 30) + "7f",                             // 1 + p
}
