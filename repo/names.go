package repo

import (
	"crypto/sha256"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/proof"
)

func rootName(n int64) string { return roleName("root", n) }

func roleName(role string, version int64) string {
	return fmt.Sprintf("metadata/%d.%s.json", version, role)
}

const timestampName = "metadata/timestamp.json"

// fileName returns the storage name of a file that a timestamp or snapshot lists, with
// or without consistent snapshots.
func fileName(f tuf.RoleFile) string { return "metadata/" + f.Name() }

// longAgo is a reference time at which no metadata has expired.
var longAgo = time.Unix(0, 0)

// maxRoots bounds the length of a root chain.
const maxRoots = 1 << 16

// TargetName returns the name under which a target's file is stored and served: the
// path with its sha256 (lower-case hex) before the last element (TUF 6.2).
func TargetName(target, sha256 string) string {
	dir, base := path.Split(target)
	return "targets/" + dir + sha256 + "." + base
}

// splitRoleName splits the storage name of a metadata file; role is "" for other names.
func splitRoleName(name string) (role string, version int64) {
	m := metaName.FindStringSubmatch(name)
	if m == nil {
		return "", 0
	}
	version, _ = strconv.ParseInt(m[1], 10, 64)
	return m[2], version
}

func isRootName(name string) bool {
	role, _ := splitRoleName(name)
	return role == "root"
}

// isTargetName reports whether TargetName can produce a storage name.
func isTargetName(name string) bool {
	_, base, ok := strings.Cut(name[strings.LastIndexByte(name, '/'):], "/")
	sum, _, dot := strings.Cut(base, ".")
	return ok && dot && (len(sum) == 64 || len(sum) == 128) && strings.Trim(sum, "0123456789abcdef") == ""
}

// statementName returns the storage name of a role's n-th statement.
func statementName(s proof.Subject, role string, n int) string {
	return "targets/" + proof.Name(s, role, n)
}

// splitStatement splits the last element of a statement's name; n is 0 for other names.
func splitStatement(name string) (role string, n int) {
	base := name[strings.LastIndexByte(name, '/')+1:]
	base, ok := strings.CutSuffix(base, ".json")
	i := strings.LastIndexByte(base, '.')
	if !ok || i < 1 {
		return "", 0
	}
	if _, err := fmt.Sscanf(base[i+1:], "%d", &n); err != nil || fmt.Sprint(n) != base[i+1:] {
		return "", 0
	}
	return base[:i], n
}

// maxStatements bounds a role's statements on the same bytes.
const maxStatements = 1000

// recoveryFolder contains the recovery statements and recovery roots.
const recoveryFolder = "metadata/recovery/"

// A recovery statement as a part of a draft. Role names have no spaces, so it can't
// collide.
const (
	recoveryRole = "recovery statement"
	recoveryType = "x-visum-recovery"
)

func short(parts ...string) [16]byte {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return [16]byte(sum[:16])
}

// roleText formats the name of a role or of a statement's file. The name of a recovery
// statement is this package's own, since no role can have it.
func roleText(role string) string {
	if role == recoveryRole {
		return role
	}
	return text.Name(role)
}

// restRole names the role for targets without release data of a role that has products.
func restRole(role string) string { return role + ".rest" }

// binPrefix is short, because the snapshot lists every bin.
func binPrefix(role string) string { return role + ".b" }

// isBin reports whether a role is one of the hash bins.
func isBin(s *metadata.SuccinctRoles, role string) bool {
	if s == nil {
		return false
	}
	digits, ok := strings.CutPrefix(role, s.NamePrefix+"-")
	if !ok || len(digits) != (s.BitLength+3)/4 || strings.Trim(digits, "0123456789abcdef") != "" {
		return false
	}
	bin, err := strconv.ParseUint(digits, 16, 64)
	return err == nil && bin>>s.BitLength == 0
}

// child is a role under one delegator. Verification under one delegator does not carry
// over to another.
type child struct{ by, role string }

var metaName = regexp.MustCompile(`^metadata/([1-9][0-9]{0,15})\.(.+)\.json$`)

const maxBits = 16

// pruneMargin allows for clock differences and for publishers at work.
const pruneMargin = time.Hour

// maxSkip is the maximum distance of a new version from the published version of the
// role; [Repo.freeVersion] skips at most that many numbers. Without a bound one signer
// could use up all version numbers of a role (fast-forward attack).
const maxSkip = 1000

var inBins = regexp.MustCompile(`^(.+\.b-)[0-9a-f]+$`)

// maxSequence is the highest integer that every JSON reader represents exactly.
const maxSequence = 1<<53 - 1
