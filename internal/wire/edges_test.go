package wire

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestCanonicalEdges(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`"\b\f\r\n\t"`, "\"\b\f\r\n\t\""},
		{`"\u00E9\u00ff\u00FF\u00Ab\u0bCd\u0009"`, "\"éÿÿ«\u0bcd\t\""},
		{`"\uD83D\uDE00\ud83d\ude01"`, `"😀😁"`},
		{`"\uffff\ufffd"`, "\"\uffff\ufffd\""},
		{`[9]`, `[9]`}, {`[0,-1,10]`, `[0,-1,10]`}, {`9`, `9`}, {`-9`, `-9`}, {`0`, `0`},
		{"[ 1 , 2 ]", `[1,2]`}, {"[1 ,2]", `[1,2]`}, {"[1, 2]", `[1,2]`}, {"[1,2 ]", `[1,2]`}, {"[\t]", `[]`}, {"[\r\n[ ] ]", `[[]]`},
		{`{ "a" : 1 , "b" : 2 }`, `{"a":1,"b":2}`}, {`{"a" :1}`, `{"a":1}`}, {`{"a": 1}`, `{"a":1}`}, {`{"a":1 }`, `{"a":1}`}, {`{ }`, `{}`},
		{`{"a":1, "b":2}`, `{"a":1,"b":2}`}, {`{"a":1 ,"b":2}`, `{"a":1,"b":2}`}, {"\t{} ", `{}`}, {"{}\r\n", `{}`},
		{`[true,false,null]`, `[true,false,null]`},
		{`{"b":[{"d":1,"c":2}],"a":"\u0061"}`, `{"a":"a","b":[{"c":2,"d":1}]}`},
		{strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1), strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)},
	} {
		got, err := Canonical([]byte(tt.in))
		if err != nil || string(got) != tt.want {
			t.Errorf("Canonical(%s) = %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{
		"[1;2]", `{"a";1}`, `{"a":1;"b":2}`, `{"\x":1}`, `{"\u12":1}`, "[nulx]", "[trux]", "[falsy]", "nulx", "[nul]", "[n", "[t", "t",
		`"\u000g"`, `"\u000G"`, "\"\\u000`\"", `"\u000@"`, `"\u000:"`, `"\u000/"`, `"\u 001"`, `"\u-001"`,
		`"\ud83dxude00"`, `"\ud83d\xde00"`, `"\ud83d\\ude00"`, `"\ud83d`, `"\ud83d\ude0`, `"\ud83d\ude0"`, `"\ud83d\`, `"\ud83d\u`, `"\u`, `"\u004`, `"\u0041`,
		"[1", "[1,", "[1 ", "{\"a\":1 ", "{\"a\":1,", "{\"a\"", "{\"a\":", "{", "{ ", "[ ", "- 1", "--1", "[-]", "1 1", "{}{}", "[]]",
		"\"\x1f\"", "\"\x00\"", "\"a", "\"\\", "{\"a\":\"\x01\"}", "{\"a\t:1}", "\v1", "\u00a01",
	} {
		if got, err := Canonical([]byte(in)); !errors.Is(err, ErrSyntax) {
			t.Errorf("Canonical(%.40q) = %q, %v; want ErrSyntax", in, got, err)
		}
	}
	for in, part := range map[string]string{"1.0": "not an integer", "[1.5]": "not an integer", "1e3": "not an integer", `{"a":1E3}`: "not an integer",
		"01": "leading zero", "-0": "negative zero", "-": "without digits", "": "unexpected end", "[1": "expected , or ]", "?": `unexpected "?"`, "n": "not a JSON value",
		"{} x": "at byte 3: data after the end", "\xff": "not UTF-8"} {
		if _, err := Canonical([]byte(in)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("Canonical(%q): %v, want %s", in, err, part)
		}
	}
}

// The order of members, over all pairs of short names of the escaped characters and their
// neighbours.
func TestOrderOfNames(t *testing.T) {
	names := []string{""}
	for from, n := 0, 0; n < 3; n++ {
		to := len(names)
		for _, name := range names[from:to] {
			for _, c := range []string{`"`, `\`, "!", "#", "[", "]", "é"} {
				names = append(names, name+c)
			}
		}
		from = to
	}
	text := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = text(n)
	}
	for i, a := range names {
		for j, b := range names {
			in := "{" + quoted[i] + ":1," + quoted[j] + ":2}"
			v, err := Canonical([]byte(in))
			if i == j {
				if err == nil || !strings.Contains(err.Error(), "duplicate member") {
					t.Fatalf("%s: %v", in, err)
				}
				continue
			}
			var got []string
			for n := range v.Members() {
				got = append(got, n.String())
				if c := n.Compare(a); c != cmp.Compare(n.String(), a) {
					t.Fatalf("%q against %q: %d", n, a, c)
				}
			}
			if want := []string{min(a, b), max(a, b)}; err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s: %q, %v", in, got, err)
			}
		}
	}
	// Three and more members, with duplicates that are not adjacent.
	for _, in := range []string{`{"c":1,"a":2,"b":3,"a":4}`, `{"b":1,"a":1,"b":1}`, `{"\"":1,"a":1,"\u0022":1}`, `{"\\":1,"a":1,"\u005c":1}`} {
		if _, err := Canonical([]byte(in)); err == nil || !strings.Contains(err.Error(), "duplicate member") {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// The methods of a Value of its own kind and of other kinds.
func TestValue(t *testing.T) {
	open := func(s string) Value {
		v, err := Canonical([]byte(s))
		if err != nil {
			t.Fatal(s, err)
		}
		return v
	}
	all := map[string]byte{`{"a":1}`: '{', `[1]`: '[', `"x"`: '"', `true`: 't', `false`: 'f', `null`: 'n', `7`: '7', `-7`: '-', ``: 0}
	for s, kind := range all {
		v := Value(s)
		if v.Kind() != kind {
			t.Errorf("%s is of kind %q", s, v.Kind())
		}
		members, elements := 0, 0
		for range v.Members() {
			members++
		}
		for range v.Elements() {
			elements++
		}
		_, text := v.Text()
		_, number := v.Int()
		_, boolean := v.Bool()
		for what, err := range map[string]error{"Fields": v.Fields(), "Text": text, "Int": number, "Bool": boolean} {
			ok := map[string]bool{"Fields": kind == '{', "Text": kind == '"', "Int": kind == '7' || kind == '-', "Bool": kind == 't' || kind == 'f'}[what]
			if (err == nil) != ok || err != nil && !errors.Is(err, ErrSyntax) {
				t.Errorf("%s of %s: %v", what, s, err)
			}
		}
		if members != map[byte]int{'{': 1}[kind] || elements != map[byte]int{'[': 1}[kind] {
			t.Errorf("%s has %d members, %d elements", s, members, elements)
		}
	}
	for s, want := range map[string]int64{"0": 0, "9": 9, "-9": -9, "9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63} {
		if n, err := open(s).Int(); err != nil || n != want {
			t.Errorf("%s: %d, %v", s, n, err)
		}
	}
	for _, s := range []string{"9223372036854775808", "-9223372036854775809", "99999999999999999999999999999999999999999"} {
		if n, err := open(s).Int(); err == nil || n != 0 {
			t.Errorf("%s: %d, %v", s, n, err)
		}
	}
	if b, err := open("true").Bool(); !b || err != nil {
		t.Error(b, err)
	}
	if b, err := open("false").Bool(); b || err != nil {
		t.Error(b, err)
	}
	// Nested values, strings that contain delimiters, and an early break.
	v := open(`{"a":[[1,[2]],"]}\"\\",{"b":{}}],"c":"}","d":{},"e":[]}`)
	var got []string
	for n, m := range v.Members() {
		got = append(got, fmt.Sprintf("%s=%s", n, string(m)))
		for e := range m.Elements() {
			got = append(got, string(e))
		}
	}
	if want := []string{`a=[[1,[2]],"]}\"\\",{"b":{}}]`, `[1,[2]]`, `"]}\"\\"`, `{"b":{}}`, `c="}"`, `d={}`, `e=[]`}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	n := 0
	for range v.Members() {
		if n++; n == 2 {
			break
		}
	}
	for range open("[1,2,3]").Elements() {
		if n++; n == 4 {
			break
		}
	}
	if n != 4 {
		t.Error(n)
	}
	// Round trip of text.
	for _, s := range []string{"", "a", `"`, `\`, `a"b\c`, "\x00\x1f \x7f", "é😀"} {
		q := Value(AppendString([]byte("x"), s))[1:]
		back, err := q.Text()
		if err != nil || back != s {
			t.Errorf("%q: %q, %v", s, back, err)
		}
		if again := open(string(q.JSON())); string(again) != string(q) {
			t.Errorf("%q: %q", q, again)
		}
		if !json.Valid(q.JSON()) {
			t.Errorf("%q is no JSON", q.JSON())
		}
	}
	// An absent member, one in another case, and an unknown one.
	var a, b Value
	if err := open(`{"a":1,"x":2}`).Fields(Field{"a", &a}, Field{"b", &b}); err != nil || string(a) != "1" || b != nil {
		t.Error(a, b, err)
	}
	for _, s := range []string{`{"A":1}`, `{"a":1,"A":2}`, `{"\u017fig":1}`, `{"SIG":1}`} {
		if err := open(s).Fields(Field{"a", &a}, Field{"sig", &b}); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %v", s, err)
		}
	}
}
