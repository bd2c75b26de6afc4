package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
)

func TestCanonical(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{}`, `{}`},
		{" [ ] \n", `[]`},
		{`{"a":1,"b":[true,false,null,-7]}`, `{"a":1,"b":[true,false,null,-7]}`},
		{"{\"b\" : 1,\n \"a\":2}\n", `{"a":2,"b":1}`},
		{`{"b":{"z":[{"y":1,"x":2}],"a":1},"a":0}`, `{"a":0,"b":{"a":1,"z":[{"x":2,"y":1}]}}`},
		{`"\u0041\/\n\t\"\\\u00e9\ud83d\ude00"`, "\"A/\n\t\\\"\\\\é😀\""},
		{`"\u0022\u005c"`, `"\"\\"`},
		// The order is that of the names, not of their escaped form: " (22) before # (23).
		{`{"a#":1,"a\"":2}`, `{"a\"":2,"a#":1}`},
		{`{"ab":1,"a":2}`, `{"a":2,"ab":1}`},
		{`{"a":1,"a\\":2}`, `{"a":1,"a\\":2}`},
		{`{"\\":1,"[":2}`, `{"[":2,"\\":1}`},
		{`123456789012345678901234567890`, `123456789012345678901234567890`},
	} {
		got, err := Canonical([]byte(tt.in))
		if err != nil || string(got) != tt.want {
			t.Errorf("Canonical(%s) = %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
}

func TestCanonicalCopiesNothingWhenCanonical(t *testing.T) {
	in := []byte("  " + `{"a":"x\\y","b":[1,{"c":"é"}]}` + "\n")
	got, err := Canonical(in)
	if err != nil || &got[0] != &in[2] {
		t.Fatalf("copied, or %v", err)
	}
}

func TestCanonicalRefuses(t *testing.T) {
	for _, in := range []string{
		"", " ", "{", "[", `"`, `{"a"}`, `{"a":}`, `{"a":1,}`, "[1,]", "[,1]", "[1 2]", "tru", "nul", "01", "-", "-0",
		"1.0", "1e3", "+1", `{"a":1,"a":2}`, `{"b":1,"a":2,"b":3}`, `{"a":1,"\u0061":2}`, `{a:1}`, "[1]x", "[1][2]",
		"\"\xff\"", "\"\n\"", `"\x"`, `"\u12"`, `"\ud800"`, `"\ud800\u0041"`, `"\udc00"`, `"\`, `{"a":1`, "\xef\xbb\xbf{}",
		strings.Repeat("[", 10000), strings.Repeat("[", MaxDepth+2) + strings.Repeat("]", MaxDepth+2),
	} {
		if got, err := Canonical([]byte(in)); !errors.Is(err, ErrSyntax) {
			t.Errorf("Canonical(%.40q) = %q, %v; want ErrSyntax", in, got, err)
		}
	}
}

func TestFieldsExactNames(t *testing.T) {
	v, err := Canonical([]byte(`{"version":3,"x":1}`))
	if err != nil {
		t.Fatal(err)
	}
	var version Value
	if err := v.Fields(Field{"version", &version}); err != nil || string(version) != "3" {
		t.Fatal(string(version), err)
	}
	v, _ = Canonical([]byte(`{"Version":3}`))
	if err := v.Fields(Field{"version", &version}); !errors.Is(err, ErrSyntax) {
		t.Fatalf("a case variant was read: %v", err)
	}
}

// Invariants: the canonical form is a fixpoint, its parts add up to it, and it is the form that
// securesystemslib signs, for all input that both accept.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{`{"b":1,"a":[true,null,"\u00e9\n"]}`, `{"a\"":1,"a#":2}`, `[]`, `"x"`, `-12`, ` {"k" : {"z":1,"y":2}} `} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := Canonical(in)
		if err != nil {
			return
		}
		walk(t, got)
		var x any
		d := json.NewDecoder(bytes.NewReader(in))
		d.UseNumber()
		if err := d.Decode(&x); err != nil {
			t.Fatalf("encoding/json refuses what we accept: %v", err)
		}
		theirs, err := cjson.EncodeCanonical(x)
		if err != nil {
			return // integers beyond 64 bits
		}
		if !bytes.Equal(got, theirs) {
			t.Fatalf("ours   %q\ntheirs %q", got, theirs)
		}
		again, err := Canonical(got.JSON())
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("not a fixpoint: %q, %v", again, err)
		}
	})
}

// walk reads all of v through its methods: none may panic.
func walk(t *testing.T, v Value) {
	switch v.Kind() {
	case '{':
		prev, first := "", true
		for n, m := range v.Members() {
			if s := n.String(); !first && s <= prev {
				t.Fatalf("%q after %q", s, prev)
			} else {
				prev, first = s, false
			}
			if n.Compare(prev) != 0 {
				t.Fatal("Compare")
			}
			walk(t, m)
		}
	case '[':
		for e := range v.Elements() {
			walk(t, e)
		}
	case '"':
		s, err := v.Text()
		if err != nil || !bytes.Equal(AppendString(nil, s), v) {
			t.Fatalf("%q: %v", s, err)
		}
	}
}
