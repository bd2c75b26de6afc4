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

// fileName is where a file lies that timestamp or snapshot list, in a repository of
// any kind.
func fileName(f tuf.RoleFile) string { return "metadata/" + f.Name() }

// longAgo is a time at which nothing has expired yet.
var longAgo = time.Unix(0, 0)

// maxRoots bounds the chain that is read.
const maxRoots = 1 << 16

// TargetName is where a target's file is stored and served: the path with its
// sha256 (lower-case hex) before the last element.
func TargetName(target, sha256 string) string {
	dir, base := path.Split(target)
	return "targets/" + dir + sha256 + "." + base
}

// splitRoleName takes a storage name apart; role is "" where it is none of metadata.
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

// isTargetName reports whether a name in storage is one that TargetName makes.
func isTargetName(name string) bool {
	_, base, ok := strings.Cut(name[strings.LastIndexByte(name, '/'):], "/")
	sum, _, dot := strings.Cut(base, ".")
	return ok && dot && (len(sum) == 64 || len(sum) == 128) && strings.Trim(sum, "0123456789abcdef") == ""
}

// statementName is where a role's n-th statement is stored.
func statementName(s proof.Subject, role string, n int) string {
	return "targets/" + proof.Name(s, role, n)
}

// splitStatement takes the last element of a statement's name apart; 0 where it is none.
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

// maxStatements bounds a role's words on the same bytes.
const maxStatements = 1000

// recoveryFolder is where recoveries lie.
const recoveryFolder = "metadata/recovery/"

// A recovery statement as a part of a draft. No role's name has a space in it.
const (
	recoveryRole = "recovery statement"
	recoveryType = "x-visum-recovery"
)

func short(parts ...string) [16]byte {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return [16]byte(sum[:16])
}

// roleText shows the name of a role, or of a statement's file. That of a recovery
// statement is ours: no role can have it.
func roleText(role string) string {
	if role == recoveryRole {
		return role
	}
	return text.Name(role)
}

// restRole is where a role with products has its other plain files.
func restRole(role string) string { return role + ".rest" }

// binPrefix is short, for the snapshot lists every bin.
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

// child is a role as one delegator leads to it. What was verified for one
// delegator says nothing for another.
type child struct{ by, role string }

var metaName = regexp.MustCompile(`^metadata/([1-9][0-9]{0,15})\.(.+)\.json$`)

const maxBits = 16

// pruneMargin is for clocks that differ, and for publishers at work.
const pruneMargin = time.Hour

// maxSkip is how far the version of a role may lie beyond the published one.
// [Repo.freeVersion] skips no more numbers than that. Without a bound one signer
// could use up all numbers of a role.
const maxSkip = 1000

var inBins = regexp.MustCompile(`^(.+\.b-)[0-9a-f]+$`)

// maxSequence is the highest number that every reader of JSON takes exactly.
const maxSequence = 1<<53 - 1
