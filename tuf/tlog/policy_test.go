package tlog_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/tuf/tlog"
)

const origin = "vendor.example/visum/0f6c/1"

func key(name string) string {
	kind := byte(tlog.TypeCosigner)
	if name == origin {
		kind = tlog.TypeLog
	}
	return rawlog.NewSigner(name, kind).String()
}

// twoOfThree is the policy of transparency.md's default.
func twoOfThree() string {
	return "log " + key(origin) + "\nwitness third " + key("third.example") + "\nwitness cert " + key("cert.example") +
		"\nwitness public " + key("witness.example") + "\ngroup q 2 third cert public\nquorum q\n"
}

func parsed(t testing.TB, s string) *tlog.Policy {
	t.Helper()
	p, err := tlog.ParsePolicy(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The lines of a policy; and another text for it with the same meaning.
func TestPolicy(t *testing.T) {
	p := parsed(t, twoOfThree())
	if p.Log().Name != origin || len(p.Cosigners()) != 3 || p.Cosigners()[2].Name != "public" || p.Overlap() != 1 || p.Spare() != 1 || p.String() != twoOfThree() {
		t.Errorf("%+v, overlap %d, spare %d:\n%s", p.Cosigners(), p.Overlap(), p.Spare(), p)
	}
	other := "# who watches\n\n  log\t" + key(origin) + " https://log.example/  \nwitness third " + key("third.example") + "  https://third.example/w\nwitness cert " + key("cert.example") +
		"\nwitness public " + key("witness.example") + "\n\t# two\ngroup q 2 third cert public\nquorum  q"
	p = parsed(t, other)
	if p.String() != twoOfThree() || p.LogURL() != "https://log.example/" || p.Cosigners()[0].URL != "https://third.example/w" || p.Cosigners()[1].URL != "" {
		t.Errorf("%+v:\n%s", p.Cosigners(), p)
	}
	for text, want := range map[string]string{"any": "group q 1 ", "all": "group q 3 "} {
		if got := parsed(t, strings.Replace(twoOfThree(), "group q 2", "group q "+text, 1)).String(); !strings.Contains(got, want) {
			t.Errorf("%s:\n%s", text, got)
		}
	}
}

// How many cosigners two quorums share, and how many may be out of service.
func TestOverlapAndSpare(t *testing.T) {
	for _, tt := range []struct {
		groups         string
		overlap, spare int
	}{
		{"quorum a", 1, 0},
		{"group q any a b\nquorum q", 0, 1},
		{"group q all a b\nquorum q", 2, 0},
		{"group q 2 a b c\nquorum q", 1, 1},
		{"group q 3 a b c d e\nquorum q", 1, 2},
		{"group q 5 a b c d e f g\nquorum q", 3, 2},
		{"group x any a b\ngroup q all x c\nquorum q", 1, 0},
		{"group x 2 a b c\ngroup y 2 d e f\ngroup q all x y\nquorum q", 2, 1},
		{"group x 2 a b c\ngroup y 2 d e f\ngroup q any x y\nquorum q", 0, 3},
		{"group x all a b c\ngroup q 2 x d e\nquorum q", 1, 1},
		{"group x 2 a b c\nquorum d", 1, 0},
		{"group q 2 a b quantum\nquorum q", 1, 0}, // the third can't be verified
		{"group q all a quantum\nquorum q", 2, -1},
		{"quorum quantum", 1, -1},
	} {
		s := "log " + key(origin) + "\n"
		for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
			s += "witness " + name + " " + key(name+".example") + "\n"
		}
		quantum := tlog.Key{Name: "quantum.example", Type: 6, Public: make([]byte, 1312)}
		p := parsed(t, s+"witness quantum "+quantum.String()+"\n"+tt.groups)
		if p.Overlap() != tt.overlap || p.Spare() != tt.spare {
			t.Errorf("%s: overlap %d, spare %d, want %d, %d", tt.groups, p.Overlap(), p.Spare(), tt.overlap, tt.spare)
		}
	}
}

func TestPoliciesThatAreRefused(t *testing.T) {
	good := twoOfThree()
	replace := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	weak := tlog.Key{Name: "weak.example", Type: tlog.TypeCosigner, Public: append([]byte{1}, make([]byte, 31)...)}
	short := tlog.Key{Name: "short.example", Type: tlog.TypeCosigner, Public: make([]byte, 31)}
	renamed := rawlog.NewSigner("cert.example", tlog.TypeCosigner).Key
	renamed.Name = "again.example"
	logAsWitness := rawlog.NewSigner(origin, tlog.TypeLog).Key
	logAsWitness.Type = tlog.TypeCosigner
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "witness w%d %s\n", i, key(fmt.Sprintf("w%d", i)))
		}
		return b.String()
	}
	parsed(t, "log "+key(origin)+"\n"+many(32)+"quorum w0\n")
	for name, s := range map[string]string{
		"empty":                      "",
		"no log":                     replace("log ", "# log "),
		"two logs":                   good + "log " + key("x.example"),
		"the log has a cosigner key": replace(key(origin), key("x.example")),
		"a cosigner has a log key":   replace(key("cert.example"), rawlog.NewSigner("x", tlog.TypeLog).String()),
		"no quorum":                  replace("quorum q", ""),
		"quorum none":                replace("quorum q", "quorum none"),
		"two quorums":                good + "quorum q\n",
		"quorum before":              "quorum q\n" + replace("quorum q", ""),
		"quorum of two":              replace("quorum q", "quorum q third"),
		"unknown member":             replace("third cert public", "third cert private"),
		"a member twice":             replace("third cert public", "third cert cert"),
		"member of two":              replace("quorum q", "group r any third\nquorum q"),
		"member of itself":           replace("third cert public", "third cert q"),
		"no members":                 replace("third cert public", ""),
		"0 of 3":                     replace("group q 2", "group q 0"),
		"4 of 3":                     replace("group q 2", "group q 4"),
		"02 of 3":                    replace("group q 2", "group q 02"),
		"-1 of 3":                    replace("group q 2", "group q -1"),
		"a name twice":               replace("witness cert", "witness third"),
		"a group like a witness":     replace("group q", "group third"),
		"a name of one character +":  replace("witness cert", "witness +"),
		"a name that is not ASCII":   replace("witness cert", "witness cért"),
		"a group none":               replace("group q", "group none"),
		"a key twice":                replace("quorum q", "witness again "+key("cert.example")+"\nquorum q"),
		"a key under another name":   replace("quorum q", "witness again "+renamed.String()+"\nquorum q"),
		"the log as cosigner":        replace("quorum q", "witness again "+logAsWitness.String()+"\nquorum q"),
		"a weak key":                 replace(key("cert.example"), weak.String()),
		"a short key":                replace(key("cert.example"), short.String()),
		"a key id of another":        replace(key("cert.example"), strings.Replace(key("cert.example"), "+", "+0", 1)),
		"another key id":             replace(key("cert.example"), strings.Replace(key("cert.example"), "cert.example+", "cert.example+00000000+", 1)),
		"capital key id":             replace(key("cert.example"), upper(key("cert.example"))),
		"an unknown keyword":         good + "server x\n",
		"a carriage return":          replace("quorum q\n", "quorum q\r\n"),
		"too many words":             replace("quorum q", "witness x "+key("x")+" https://x/ y\nquorum q"),
		"33 cosigners":               "log " + key(origin) + "\n" + many(33) + "quorum w0\n",
		"33 groups":                  "log " + key(origin) + "\nwitness a " + key("a") + "\ngroup g0 1 a\n" + groups(33) + "quorum g0\n",
		"too long":                   good + strings.Repeat("#\n", tlog.MaxPolicy/2),
	} {
		if p, err := tlog.ParsePolicy(s); !errors.Is(err, tlog.ErrMalformed) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

func groups(n int) string {
	var b strings.Builder
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "group g%d 1 g%d\n", i, i-1)
	}
	return b.String()
}

func upper(key string) string {
	name, rest, _ := strings.Cut(key, "+")
	id, b64, _ := strings.Cut(rest, "+")
	return name + "+" + strings.ToUpper(id) + "+" + b64
}

// A proof by two of three, the report of it, and each way in which it can be wrong.
func TestProof(t *testing.T) {
	p := parsed(t, twoOfThree())
	l := rawlog.NewLog(origin)
	third, cert, public := rawlog.NewSigner("third.example", tlog.TypeCosigner), rawlog.NewSigner("cert.example", tlog.TypeCosigner), rawlog.NewSigner("witness.example", tlog.TypeCosigner)
	stranger := rawlog.NewSigner("stranger.example", tlog.TypeCosigner)
	for i := range 5 {
		l.Append(leaf(i))
	}
	early, late := time.Date(2026, 3, 14, 9, 12, 0, 0, time.UTC), time.Date(2026, 3, 14, 9, 13, 0, 0, time.UTC)
	text := l.Text()
	base := text + "\n" + l.Sign(text, early)
	note := func(lines ...string) []byte { return []byte(base + strings.Join(lines, "")) }
	good := l.Proof(4, note(cert.Sign(text, early), third.Sign(text, late), stranger.Sign(text, late)))
	got, err := p.Verify(leaf(4), good)
	if err != nil || got.Index != 4 || got.Size != 5 || got.Root != l.Tree.Root || got.Origin != origin || !got.Time.Equal(early) ||
		fmt.Sprint(got.Cosigners) != fmt.Sprint([]tlog.Cosigner{{Name: "third", Time: late}, {Name: "cert", Time: early}}) {
		t.Fatalf("%+v, %v", got, err)
	}
	// The third moves the quorum time to the second latest one.
	if got, err := p.Verify(leaf(4), l.Proof(4, note(cert.Sign(text, early), third.Sign(text, late), public.Sign(text, late)))); err != nil || !got.Time.Equal(late) {
		t.Errorf("%+v, %v", got, err)
	}
	forged := func(s *rawlog.Signer) string {
		line := s.Sign(text, late)
		raw, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(line[strings.LastIndex(line, " ")+1:]))
		raw[20] ^= 1
		return s.SignatureLine(raw[4:])
	}
	edit := func(old, new string) []byte {
		out := strings.Replace(string(good), old, new, 1)
		if out == string(good) {
			t.Fatalf("%q is not in the proof", old)
		}
		return []byte(out)
	}
	first := l.Proof(3, note(cert.Sign(text, early), third.Sign(text, late)))
	again := rawlog.NewLog(origin) // another tree of the same size
	for i := range 5 {
		again.Append(leaf(i + 1))
	}
	zero := rawlog.NewSigner("cert.example", tlog.TypeCosigner)
	for name, tt := range map[string]struct {
		proof []byte
		want  error
	}{
		"empty":                        {nil, tlog.ErrMalformed},
		"another format":               {edit("@v1", "@v2"), tlog.ErrMalformed},
		"extra":                        {edit("index", "extra AA==\nindex"), tlog.ErrMalformed},
		"no index":                     {edit("index 4\n", ""), tlog.ErrMalformed},
		"index 04":                     {edit("index 4", "index 04"), tlog.ErrMalformed},
		"index +4":                     {edit("index 4", "index +4"), tlog.ErrMalformed},
		"index -1":                     {edit("index 4", "index -1"), tlog.ErrMalformed},
		"index of another entry":       {edit("index 4", "index 3"), tlog.ErrInclusion},
		"index beyond the tree":        {edit("index 4", "index 5"), tlog.ErrInclusion},
		"a hash less":                  {edit("index 4\n"+base64.StdEncoding.EncodeToString(hashOf(l, 4)), "index 4"), tlog.ErrInclusion},
		"carriage return":              {edit("index 4\n", "index 4\r\n"), tlog.ErrMalformed},
		"another entry":                {first, tlog.ErrInclusion},
		"one cosigner":                 {l.Proof(4, note(cert.Sign(text, early))), tlog.ErrQuorum},
		"one cosigner and a stranger":  {l.Proof(4, note(cert.Sign(text, early), stranger.Sign(text, early))), tlog.ErrQuorum},
		"the log alone":                {l.Proof(4, note()), tlog.ErrQuorum},
		"a cosigner twice":             {l.Proof(4, note(cert.Sign(text, early), cert.Sign(text, late))), tlog.ErrMalformed},
		"without the log":              {l.Proof(4, []byte(text+"\n"+cert.Sign(text, early)+third.Sign(text, late))), tlog.ErrSignature},
		"strangers only":               {l.Proof(4, []byte(text+"\n"+stranger.Sign(text, early))), tlog.ErrSignature},
		"no signatures":                {l.Proof(4, []byte(text+"\n")), tlog.ErrMalformed},
		"forged signature of the log":  {l.Proof(4, []byte(text+"\n"+forged(l.Signer)+cert.Sign(text, early)+third.Sign(text, late))), tlog.ErrSignature},
		"forged signature of a third":  {l.Proof(4, note(cert.Sign(text, early), third.Sign(text, late), forged(public))), tlog.ErrSignature},
		"a cosigner at time zero":      {l.Proof(4, note(third.Sign(text, late), zero.Sign(text, time.Unix(0, 0)))), tlog.ErrSignature},
		"a cosigner beyond year 9999":  {l.Proof(4, note(third.Sign(text, late), zero.Sign(text, time.Unix(253402300800, 0)))), tlog.ErrSignature},
		"a cosigner signs as the log":  {l.Proof(4, note(third.Sign(text, late), cert.SignatureLine(make([]byte, 64)))), tlog.ErrSignature},
		"cosignature of another tree":  {l.Proof(4, note(third.Sign(text, late), cert.Sign(again.Text(), late))), tlog.ErrSignature},
		"checkpoint of another tree":   {l.Proof(4, again.Note(early, cert, third)), tlog.ErrInclusion},
		"checkpoint of another origin": {l.Proof(4, relabelled(l, "other.example/log", early, cert, third)), tlog.ErrMalformed},
		"extension line":               {l.Proof(4, extended(l, "x\n", early, cert, third)), tlog.ErrMalformed},
		"nothing after the proof":      {edit("\n\n"+origin, "\n"+origin), tlog.ErrMalformed},
		"text after the proof":         {append([]byte(string(good)), "x"...), tlog.ErrMalformed},
		"too long":                     {append([]byte(string(good)), strings.Repeat(stranger.Sign(text, late), 200)...), tlog.ErrMalformed},
		"64 hashes":                    {edit("index 4\n", "index 4\n"+strings.Repeat(strings.Repeat("A", 43)+"=\n", 63)), tlog.ErrMalformed},
		"base64 with other bits":       {edit(base64.StdEncoding.EncodeToString(hashOf(l, 4)), loose(base64.StdEncoding.EncodeToString(hashOf(l, 4)))), tlog.ErrMalformed},
	} {
		if got, err := p.Verify(leaf(4), tt.proof); !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := p.Verify(leaf(3), good); !errors.Is(err, tlog.ErrInclusion) {
		t.Errorf("another leaf: %v", err)
	}
	if _, err := p.Verify(leaf(4), good); err != nil {
		t.Errorf("healed: %v", err)
	}
	// A checkpoint needs no quorum; its time is zero then.
	c, err := p.Checkpoint(note(cert.Sign(text, early)))
	if err != nil || !c.Time.IsZero() || len(c.Cosigners) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

func hashOf(l *rawlog.Log, i int64) []byte {
	hashes, err := l.Tree.Inclusion(i)
	if err != nil {
		panic(err)
	}
	return hashes[0][:]
}

// loose is base64 of the same bytes, with bits in the last character that are ignored.
func loose(b64 string) string {
	i := strings.IndexByte(b64, '=') - 1
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return b64[:i] + string(alphabet[strings.IndexByte(alphabet, b64[i])|1]) + b64[i+1:]
}

func relabelled(l *rawlog.Log, name string, at time.Time, by ...*rawlog.Signer) []byte {
	return signedText(l, tlog.CheckpointText(name, l.Tree.Size, l.Tree.Root), at, by...)
}

func extended(l *rawlog.Log, more string, at time.Time, by ...*rawlog.Signer) []byte {
	return signedText(l, l.Text()+more, at, by...)
}

func signedText(l *rawlog.Log, text string, at time.Time, by ...*rawlog.Signer) []byte {
	out := text + "\n" + l.Sign(text, at)
	for _, s := range by {
		out += s.Sign(text, at)
	}
	return []byte(out)
}
