// Package text renders foreign strings, such as names in metadata or messages of a
// server, so that they are safe in an error, in a log line and on a terminal.
//
// The tests of the package check its invariants: the output is printable ASCII on
// one line; it is bounded; different strings have different renderings; and a
// foreign string can't look like text of this module, because everything except
// plain tokens is quoted.
package text

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MaxQuoted is the greatest number of characters of a string in a message, before escaping.
	MaxQuoted = 200
	// MaxLine is the greatest length of a message in bytes: 4 kB.
	MaxLine = 4096
)

// Quote returns s as a Go string literal in ASCII: it escapes control characters,
// line breaks, bidi marks and all non-ASCII characters. After [MaxQuoted] characters
// it cuts s and adds the length and the sha256 of the whole.
func Quote(s string) string {
	cut, more := head(s)
	q := strconv.QuoteToASCII(cut)
	if more {
		q += tail(s)
	}
	return q
}

// Bytes is [Quote] for bytes. It copies only the head of a long slice.
func Bytes(b []byte) string {
	const most = MaxQuoted * utf8.UTFMax
	if len(b) <= most {
		return Quote(string(b))
	}
	cut, _ := head(string(b[:most+utf8.UTFMax]))
	return strconv.QuoteToASCII(cut) + tail(b)
}

func tail[T string | []byte](s T) string {
	return fmt.Sprintf("... (%d bytes, sha256 %x)", len(s), sha256.Sum256([]byte(s)))
}

// head returns the first characters of s and whether there are more.
func head(s string) (string, bool) {
	n := 0
	for i := range s {
		if n == MaxQuoted {
			return s[:i], true
		}
		n++
	}
	return s, false
}

// Name returns s unchanged if it is a plain token of ASCII letters, digits and
// _ . / + @ -, and quoted as by [Quote] otherwise. Names of roles, targets,
// locations and versions are usually plain.
func Name(s string) string {
	if s == "" || len(s) > MaxQuoted {
		return Quote(s)
	}
	for i := range len(s) {
		if !plain(s[i]) {
			return Quote(s)
		}
	}
	return s
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_./+@-", c) >= 0
}

// Line returns a whole message as one bounded line. It covers messages that include
// text of other packages: it escapes characters that are not printable ASCII, cuts
// after [MaxLine] bytes and adds the length and the sha256 of the whole. A message
// without foreign text is returned unchanged.
func Line(s string) string {
	if len(s) <= MaxLine && printable(s) {
		return s
	}
	const room = MaxLine - 120 // for the tail
	var b strings.Builder
	for i, r := range s {
		var piece string
		switch {
		case r >= ' ' && r <= '~':
			piece = s[i : i+1]
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			piece = fmt.Sprintf(`\x%02x`, s[i])
		default:
			q := strconv.QuoteRuneToASCII(r)
			piece = q[1 : len(q)-1]
		}
		if b.Len()+len(piece) > room {
			return b.String() + tail(s)
		}
		b.WriteString(piece)
	}
	return b.String()
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Time formats a time as TUF metadata does (RFC 3339): in UTC, with whole seconds.
func Time(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Duration formats a duration approximately: in days, hours or minutes.
func Duration(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return fmt.Sprintf("%d minutes", d/time.Minute)
}
