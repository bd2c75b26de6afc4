package rolelist

import "regexp"

// RestRole names the role for targets without release data of a role that has products.
func RestRole(role string) string { return role + ".rest" }

// BinPrefix names the hash bins of a role. It is short, because the snapshot lists every bin.
func BinPrefix(role string) string { return role + ".b" }

// MaxBits is the maximum number of bits of hash bins.
const MaxBits = 16

// InBins matches the names of hash bins; its first group is the part before the number.
var InBins = regexp.MustCompile(`^(.+\.b-)[0-9a-f]+$`)

// MaxSequence is the highest integer that every JSON reader represents exactly.
const MaxSequence = 1<<53 - 1
