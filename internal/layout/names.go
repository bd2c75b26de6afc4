package layout

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// RootName returns the storage name of a root.
func RootName(version int64) string { return RoleName("root", version) }

// RoleName returns the storage name of a role's metadata file with consistent snapshots
// (TUF 6.2).
func RoleName(role string, version int64) string {
	return fmt.Sprintf("metadata/%d.%s.json", version, role)
}

// MetadataName returns the storage name of a file that a timestamp or snapshot lists.
func MetadataName(file string) string { return "metadata/" + file }

// TimestampName is the storage name of the timestamp.
const TimestampName = "metadata/timestamp.json"

// TargetName returns the name under which a target's file is stored and served: the
// path with its hash (lower-case hex) before the last element (TUF 6.2).
func TargetName(target, hash string) string {
	dir, base := path.Split(target)
	return "targets/" + dir + hash + "." + base
}

// SplitRoleName splits the storage name of a metadata file; role is "" for other names.
func SplitRoleName(name string) (role string, version int64) {
	m := metaName.FindStringSubmatch(name)
	if m == nil {
		return "", 0
	}
	version, _ = strconv.ParseInt(m[1], 10, 64)
	return m[2], version
}

// IsRootName reports whether a storage name is that of a root.
func IsRootName(name string) bool {
	role, _ := SplitRoleName(name)
	return role == "root"
}

// IsTargetName reports whether TargetName can produce a storage name.
func IsTargetName(name string) bool {
	_, base, ok := strings.Cut(name[strings.LastIndexByte(name, '/'):], "/")
	sum, _, dot := strings.Cut(base, ".")
	return ok && dot && (len(sum) == 64 || len(sum) == 128) && strings.Trim(sum, "0123456789abcdef") == ""
}

// RecoveryFolder contains the recovery statements and recovery roots.
const RecoveryFolder = "metadata/recovery/"

var metaName = regexp.MustCompile(`^metadata/([1-9][0-9]{0,15})\.(.+)\.json$`)

// SplitStatement splits the last element of a statement's name; n is 0 for other names.
func SplitStatement(name string) (role string, n int) {
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

// IsRepoID reports whether s is a repository id: 32 lower-case hex digits.
func IsRepoID(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 32
}
