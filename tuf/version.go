package tuf

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/visum-dev/visum/internal/text"
)

// MaxVersion is the greatest length of a version, in bytes.
const MaxVersion = 128

// Version is a release's version. It orders the releases of a product. The zero
// Version means no version and is below every other.
type Version struct {
	numbers []string // without leading zeros; the last is not "0"
	pre     []string // identifiers of the pre-release; none for a release
	set     bool
}

// ParseVersion reads a version of at most [MaxVersion] bytes: an optional "v", any
// number of numbers separated by dots, then a pre-release and build metadata as in
// semantic versioning 2.0.0, sections 9 and 10. Errors wrap [ErrMalformed].
func ParseVersion(s string) (Version, error) {
	v, err := parseVersion(s)
	if err != nil {
		return Version{}, malformed("version", 0, err)
	}
	return v, nil
}

func parseVersion(s string) (Version, error) {
	bad := func(why string) (Version, error) { return Version{}, fmt.Errorf("%s: %s", text.Name(s), why) }
	if s == "" {
		return Version{}, errors.New("is missing")
	}
	if len(s) > MaxVersion {
		return bad("too long")
	}
	rest, build, hasBuild := strings.Cut(strings.TrimPrefix(s, "v"), "+")
	numbers, pre, hasPre := strings.Cut(rest, "-")
	v := Version{set: true}
	for n := range strings.SplitSeq(numbers, ".") {
		if !isNumber(n) {
			return bad("not numbers separated by dots, such as 1.2.3")
		}
		v.numbers = append(v.numbers, cmp.Or(strings.TrimLeft(n, "0"), "0"))
	}
	for len(v.numbers) > 0 && v.numbers[len(v.numbers)-1] == "0" {
		v.numbers = v.numbers[:len(v.numbers)-1]
	}
	if hasPre {
		v.pre = strings.Split(pre, ".")
	}
	for _, id := range v.pre {
		if !isIdentifier(id) || isNumber(id) && len(id) > 1 && id[0] == '0' {
			return bad("a pre-release must be identifiers of letters, digits and hyphens, separated by dots, and numbers without leading zeros")
		}
	}
	if hasBuild {
		for id := range strings.SplitSeq(build, ".") {
			if !isIdentifier(id) {
				return bad("build metadata must be identifiers of letters, digits and hyphens, separated by dots")
			}
		}
	}
	return v, nil
}

// IsZero reports whether v is the zero value.
func (v Version) IsZero() bool { return !v.set }

// Compare returns -1 if v is below o, 1 if it is above, and 0 if they are the same
// version. Missing numbers are 0, a pre-release is below its release, and build
// metadata does not count: v1.2, 1.2.0 and 1.2.0+linux are the same version.
func (v Version) Compare(o Version) int {
	if !v.set || !o.set {
		return btoi(v.set) - btoi(o.set)
	}
	for i := range max(len(v.numbers), len(o.numbers)) {
		if c := compareNumbers(at(v.numbers, i), at(o.numbers, i)); c != 0 {
			return c
		}
	}
	if len(v.pre) == 0 || len(o.pre) == 0 {
		return btoi(len(v.pre) == 0) - btoi(len(o.pre) == 0)
	}
	for i := range min(len(v.pre), len(o.pre)) {
		if c := comparePre(v.pre[i], o.pre[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(v.pre), len(o.pre))
}

// Truncate returns the version of v's first n numbers, without a pre-release: for
// 1.10.3-rc.1 and n = 2 it is 1.10, for n = 1 it is 1.
func (v Version) Truncate(n int) Version {
	numbers := v.numbers[:max(0, min(n, len(v.numbers)))]
	for len(numbers) > 0 && numbers[len(numbers)-1] == "0" {
		numbers = numbers[:len(numbers)-1]
	}
	return Version{numbers: numbers, set: v.set}
}

// String returns v without "v", build metadata, leading zeros and trailing zero
// numbers. It is the same for versions that compare equal.
func (v Version) String() string {
	if !v.set {
		return ""
	}
	s := cmp.Or(strings.Join(v.numbers, "."), "0")
	if len(v.pre) > 0 {
		s += "-" + strings.Join(v.pre, ".")
	}
	return s
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func isIdentifier(s string) bool {
	for _, c := range []byte(s) {
		if c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != ""
}

func at(numbers []string, i int) string {
	if i < len(numbers) {
		return numbers[i]
	}
	return "0"
}

// compareNumbers compares numbers of any size, without leading zeros.
func compareNumbers(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// comparePre compares identifiers of pre-releases: numbers are below other identifiers.
func comparePre(a, b string) int {
	switch x, y := isNumber(a), isNumber(b); {
	case x && y:
		return compareNumbers(a, b)
	case x || y:
		return btoi(y) - btoi(x)
	}
	return strings.Compare(a, b)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
