package fingerprint

import (
	"regexp"
	"testing"
)

func TestNew(t *testing.T) {
	form := regexp.MustCompile(`^[a-z2-7]{4}(-[a-z2-7]{4}){7}$`)
	seen := map[string][]string{}
	for _, list := range [][]string{
		nil, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"ab"}, {"a", "b"}, {"b", "a"}, {"a", "b", ""}, {"a\x00b"},
		{"\x00\x00\x00\x00\x00\x00\x00\x01a"}, {"a\x00\x00\x00\x00\x00\x00\x00\x01b"},
	} {
		got := New(list...)
		if !form.MatchString(got) {
			t.Errorf("%q: %s", list, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q have one fingerprint", list, other)
		}
		seen[got] = list
	}
	if New("a", "b") != New([]byte("a"), []byte("b")) {
		t.Error("strings and bytes differ")
	}
	// sha256(00 00 00 00 00 00 00 01 'a'), computed with another tool.
	if got, want := New("a"), "hmmw-7veq-ppw7-khbq-sduy-gxzp-ps3b-47xb"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
