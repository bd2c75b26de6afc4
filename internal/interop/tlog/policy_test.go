package tlog_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/transparency-dev/formats/witness"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/tuf/tlog"
)

// withURLs is a policy as formats needs it: each cosigner has a URL.
func withURLs(p *tlog.Policy) string {
	var b strings.Builder
	for line := range strings.Lines(p.String()) {
		if strings.HasPrefix(line, "witness ") {
			line = strings.TrimSuffix(line, "\n") + " https://w.example/\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// quorum is the quorum of a policy as one expression, such as 2(a+1a2b3c4d 1(b+… c+…)), of
// the names and ids of keys.
func quorum(t testing.TB, p *tlog.Policy) string {
	keys := map[string]string{}
	for _, c := range p.Cosigners() {
		keys[c.Name] = fmt.Sprintf("%s+%08x", c.Key.Name, c.Key.ID())
	}
	of := map[string]string{}
	for line := range strings.Lines(p.String()) {
		switch f := strings.Fields(line); f[0] {
		case "witness":
			of[f[1]] = keys[f[1]]
		case "group":
			var members []string
			for _, m := range f[3:] {
				members = append(members, of[m])
			}
			of[f[1]] = f[2] + "(" + strings.Join(members, " ") + ")"
		case "quorum":
			if s := of[f[1]]; keys[f[1]] == "" {
				return s
			}
			return "1(" + of[f[1]] + ")"
		}
	}
	t.Fatalf("no quorum in %q", p)
	return ""
}

// theirQuorum is the same of a policy of formats.
func theirQuorum(component any) string {
	switch c := component.(type) {
	case witness.Witness:
		return fmt.Sprintf("%s+%08x", c.Key.Name(), c.Key.KeyHash())
	case witness.Group:
		var members []string
		for _, m := range c.Components {
			members = append(members, theirQuorum(m))
		}
		return fmt.Sprintf("%d(%s)", c.N, strings.Join(members, " "))
	}
	return fmt.Sprintf("%T", component)
}

// vendor is a policy of two groups that both parsers accept.
func vendor() string {
	s := "log " + rawlog.NewSigner(origin, tlog.TypeLog).String() + "\n"
	for _, name := range []string{"a", "b", "c"} {
		s += "witness " + name + " " + cosigner(name+".example").String() + " https://" + name + ".example/\n"
	}
	return s + "group ab any a b\ngroup q 2 ab c\nquorum q\n"
}

// The list of what only one of the two parsers of policies accepts. Where both do, they
// read the same quorum (FuzzPolicies). The specification is on the side of package tlog in
// all rows but those marked: there it is stricter than the specification.
func TestDifferencesOfPolicies(t *testing.T) {
	good := vendor()
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the policy", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	a, b, q := cosigner("a.example").String(), cosigner("b.example").String(), rawlog.NewSigner(origin, tlog.TypeLog).String()
	id := strings.Split(a, "+")[1]
	asLog := cosigner("a.example").Key
	asLog.Type = tlog.TypeLog
	many := strings.Builder{}
	for i := range 30 {
		fmt.Fprintf(&many, "witness w%d %s https://w.example/\n", i, cosigner(fmt.Sprint("w", i)))
	}
	for what, row := range map[string]struct {
		policy        string
		ours, formats bool
	}{
		"both":                     {good, true, true},
		"no URL":                   {replace(a+" https://a.example/", a), true, false},
		"a URL of another form":    {replace("https://a.example/", "https://[::1"), true, false},
		"a keyword as a name":      {strings.ReplaceAll(good, " ab ", " any "), true, false},
		"# in a name":              {strings.ReplaceAll(good, " ab ", " a#b "), true, false},
		"# in the name of a key":   {replace(a, cosigner("a#").String()), true, false},
		"a key of unknown type":    {replace(a, tlog.Key{Name: "a.example", Type: 0x77, Public: []byte("x")}.String()), true, false},
		"no log":                   {replace("log "+q+"\n", ""), false, true}, // stricter
		"two logs":                 {good + "log " + rawlog.NewSigner("x", tlog.TypeLog).String(), false, true},
		"a log that is no key":     {replace("log "+q, "log x"), false, true},
		"no quorum is asked for":   {replace("quorum q", "quorum none"), false, true}, // stricter
		"two quorums":              {good + "quorum a\n", false, true},
		"quorum before the group":  {"quorum q\n" + replace("quorum q\n", ""), false, true},
		"0 of 2":                   {replace("group q 2", "group q 0"), false, true},
		"all of none":              {replace("quorum q", "group r all\nquorum r"), false, true},
		"02 of 2":                  {replace("group q 2", "group q 02"), false, true}, // stricter
		"a member twice":           {replace("ab any a b", "ab any a a"), false, true},
		"a member of two groups":   {replace("group q 2 ab c", "group q 2 ab a"), false, true},
		"a key twice":              {replace(b, a), false, true},
		"a key of another name":    {replace(b, renamed(cosigner("a.example").Key, "b.example")), false, true},
		"a key of a log":           {replace(a, asLog.String()), false, true},
		"a key with another id":    {replace("+"+id+"+", "+00000000+"), false, true},
		"capitals in the id":       {replace("+"+id+"+", "+"+strings.ToUpper(id)+"+"), false, strings.ToUpper(id) != id},
		"a key of order 1":         {replace(a, tlog.Key{Name: "a.example", Type: tlog.TypeCosigner, Public: append([]byte{1}, make([]byte, 31)...)}.String()), false, true}, // stricter
		"a comment after a line":   {replace("quorum q", "quorum q # of two"), false, true},
		"carriage returns":         {strings.ReplaceAll(good, "\n", "\r\n"), false, true},
		"a vertical tab":           {replace("group q 2", "group\vq 2"), false, true},
		"a name beyond ASCII":      {strings.ReplaceAll(good, " ab ", " é "), false, true},        // stricter
		"a name with +":            {strings.ReplaceAll(good, " ab ", " a+b "), false, true},      // stricter
		"33 cosigners":             {many.String() + good, false, true},                           // stricter
		"more than 8 KiB":          {good + strings.Repeat("#\n", tlog.MaxPolicy/2), false, true}, // stricter
		"no key":                   {replace(a, "x"), false, false},
		"3 of 2":                   {replace("group q 2", "group q 3"), false, false},
		"a name twice":             {replace("group ab", "group a"), false, false},
		"a member that is unknown": {replace("ab any a b", "ab any a x"), false, false},
		"an unknown keyword":       {good + "server x\n", false, false},
	} {
		_, ours := tlog.ParsePolicy(row.policy)
		_, theirs := witness.ParsePolicy([]byte(row.policy))
		if (ours == nil) != row.ours || (theirs == nil) != row.formats {
			t.Errorf("%s: tlog: %v; formats: %v", what, ours, theirs)
		}
	}
}

func renamed(k tlog.Key, name string) string {
	k.Name = name
	return k.String()
}

// stricter are the reasons for which package tlog refuses what formats accepts, all of which
// are in the table above.
var stricter = regexp.MustCompile(`want one line|occurs twice|has type|is not defined before, or already a member|want a number from 1|is defined twice or not allowed|: key "|at most (32 lines|8192)`)

// only formats treats these as separators, and # as the beginning of a comment, anywhere.
var otherText = regexp.MustCompile("[^\t\n !\"$-~]|[^\n\t ][ \t]*#")

// FuzzPolicies checks that the two parsers read the same quorum where both accept a policy,
// and that they differ for the reasons in the table alone.
func FuzzPolicies(f *testing.F) {
	f.Add(vendor())
	f.Add(strings.Replace(vendor(), "quorum q", "quorum c", 1))
	f.Add(strings.Replace(vendor(), "group q 2", "group q all", 1))
	f.Add(strings.Replace(vendor(), "https://a.example/", "https://a.example/#w", 1))
	f.Add(strings.Replace(vendor(), "https://a.example/", "", 1))
	f.Add(strings.ReplaceAll(vendor(), " ab ", " any "))
	f.Add("# comment\n\t" + strings.ReplaceAll(vendor(), " ", " \t") + "\n")
	f.Add(strings.Replace(vendor(), "group ab any", "group q all", 1))
	f.Fuzz(func(t *testing.T, s string) {
		ours, err := tlog.ParsePolicy(s)
		theirs, terr := witness.ParsePolicy([]byte(s))
		if err != nil {
			if terr == nil && !stricter.MatchString(err.Error()) && !otherText.MatchString(s) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		want := quorum(t, ours)
		if got := theirQuorum(theirs); terr == nil && got != want {
			t.Fatalf("%q: %s and %s", s, want, got)
		}
		normal := withURLs(ours)
		theirs, terr = witness.ParsePolicy([]byte(normal))
		if got := theirQuorum(theirs); terr == nil && got != want {
			t.Fatalf("%q: %s and %s", normal, want, got)
		} else if terr != nil && !otherText.MatchString(normal) && !keyword(normal) && !otherKey(ours) {
			t.Fatalf("%q: %v", normal, terr)
		}
	})
}

// keyword reports whether a name is one of those that formats reserves.
func keyword(policy string) bool {
	return regexp.MustCompile(`(?m)^(witness|group) (any|all|log|group|witness|quorum) `).MatchString(policy)
}

// otherKey reports whether a key has a type other than those that formats knows.
func otherKey(p *tlog.Policy) bool {
	for _, c := range p.Cosigners() {
		if c.Key.Type != tlog.TypeCosigner {
			return true
		}
	}
	return false
}
