package text

import (
	"strings"
	"testing"
)

func TestQuote(t *testing.T) {
	long := strings.Repeat("ä", MaxQuoted) + "\x1b[2J"
	for _, row := range []struct{ s, want string }{
		{"agent/1.0", `"agent/1.0"`},
		{"", `""`},
		{"a\nb", `"a\nb"`},
		{"\x1b[2J", `"\x1b[2J"`},
		{"a\u202eb", `"a\u202eb"`},
		{"\u0430", `"\u0430"`},
		{"\xff", `"\xff"`},
		{`say "x"`, `"say \"x\""`},
		{long, `"` + strings.Repeat(`\u00e4`, MaxQuoted) + `"... (404 bytes, sha256 `},
	} {
		if got := Quote(row.s); !strings.HasPrefix(got, row.want) {
			t.Errorf("Quote(%q) = %s, want %s", row.s, got, row.want)
		}
		if Bytes([]byte(row.s)) != Quote(row.s) {
			t.Errorf("Bytes(%q) = %s, Quote gives %s", row.s, Bytes([]byte(row.s)), Quote(row.s))
		}
	}
	huge := strings.Repeat("x", 1<<20)
	if Bytes([]byte(huge)) != Quote(huge) {
		t.Error("Bytes and Quote differ on a long string")
	}
}

func TestName(t *testing.T) {
	for s, want := range map[string]string{
		"agent/agent-1.0+b_2@x":   "agent/agent-1.0+b_2@x",
		"":                        `""`,
		"a b":                     `"a b"`,
		"v1: expired":             `"v1: expired"`,
		"é":                       `"\u00e9"`,
		strings.Repeat("a", 201):  Quote(strings.Repeat("a", 201)),
		`"x"`:                     `"\"x\""`,
		strings.Repeat("a", 200):  strings.Repeat("a", 200),
		"agent\u202e/1":           `"agent\u202e/1"`,
		"agent/1.0 (review lists": `"agent/1.0 (review lists"`,
	} {
		if got := Name(s); got != want {
			t.Errorf("Name(%q) = %s, want %s", s, got, want)
		}
	}
}

func TestLine(t *testing.T) {
	for s, want := range map[string]string{
		`tuf: root v2: "a\nb"`: `tuf: root v2: "a\nb"`,
		"a\nb\x1b\u202e\xff":   `a\nb\x1b\u202e\xff`,
	} {
		if got := Line(s); got != want {
			t.Errorf("Line(%q) = %s, want %s", s, got, want)
		}
	}
}

// FuzzText checks the invariants: printable ASCII, one line, bounded; different strings have
// different renderings.
func FuzzText(f *testing.F) {
	f.Add("agent/1.0", "agent/1.1")
	f.Add("a\n", `a\n`)
	f.Add(strings.Repeat("a", 300), strings.Repeat("a", 301))
	f.Add("\xff", "\ufffd")
	f.Add(`""`, ``)
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, s := range []string{Quote(a), Name(a), Line(a)} {
			if !printable(s) || len(s) > MaxLine {
				t.Errorf("%q renders as %q, %d bytes", a, s, len(s))
			}
		}
		if a != b && (Quote(a) == Quote(b) || Name(a) == Name(b)) {
			t.Errorf("%q and %q render the same: %s, %s", a, b, Quote(a), Name(a))
		}
		if Bytes([]byte(a)) != Quote(a) {
			t.Errorf("Bytes(%q) differs from Quote", a)
		}
		if Line(Line(a)) != Line(a) {
			t.Errorf("Line is not a fixpoint for %q", a)
		}
	})
}
