package client

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/visum-dev/visum/tuf"
)

func rootName(root int64) string { return fmt.Sprintf("%d.root.json", root) }

func recoveryName(trusted *tuf.Root) string {
	return fmt.Sprintf("recovery/%d.statement.json", trusted.Version())
}

// keptRole is the role's file name in the store; below roles/ the names of two versions
// differ in the number alone.
func keptRole(f tuf.RoleFile) string { return "roles/" + keptName(f) }

func keptName(f tuf.RoleFile) string { return fmt.Sprintf("%d.%s.json", f.Version, diskName(f.Role)) }

// diskName encodes a name from metadata so that it is safe on every file system.
func diskName(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' && b.Len() > 0 || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() > 120 {
		return b.String()[:80] + hexSum([]byte(name))[:32]
	}
	return b.String()
}

func locationKey(of string) string { return hexSum([]byte(of))[:16] }

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
