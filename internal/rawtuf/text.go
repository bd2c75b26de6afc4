package rawtuf

import (
	"fmt"
	"strings"
)

// Words are a text that an attacker wants to pass off as a message of this module.
const Words = "[ok] all is accepted"

// Hostile are strings that no message may include unquoted.
var Hostile = []string{
	"x\n" + Words, "x\r" + Words, "\x1b[2J" + Words, "\u009b2J" + Words, "\u202e" + Words, "\u2028" + Words, "\x00" + Words, "\x7f" + Words, Words,
	`a": ` + Words, `a\": ` + Words, "ä " + Words, strings.Repeat("x", 100_000) + Words,
}

// BadText returns what is wrong with a message, "" for nothing. A message must be one
// line of printable ASCII of at most 4 kB with foreign text only inside quotes.
func BadText(s string) string {
	if len(s) > 4096 {
		return fmt.Sprintf("%d bytes", len(s))
	}
	quoted, escaped := false, false
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~':
			return fmt.Sprintf("byte %#x at %d", c, i)
		case escaped:
			escaped = false
		case c == '\\' && quoted:
			escaped = true
		case c == '"':
			quoted = !quoted
		case !quoted && strings.HasPrefix(s[i:], Words):
			return "foreign words outside quotes"
		}
	}
	return ""
}
