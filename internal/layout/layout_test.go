package layout

import "testing"

func TestMatch(t *testing.T) {
	for _, x := range []struct {
		pattern, target string
		want            bool
	}{
		{"agent/*", "agent/1.0", true},
		{"agent/*", "agent/1.0/x", false},
		{"agent/*", "agent/", true},
		{"agent/*", "agent", false},
		{"*", "a/b", false},
		{"*/*", "a/b", true},
		{"agent/?.bin", "agent/1.bin", true},
		{"agent/?.bin", "agent/10.bin", false},
		{"agent/[12].bin", "agent/2.bin", true},
		{"agent/[", "agent/[", false}, // malformed
		{"", "", true},
		{"", "a", false},
		{"Agent/*", "agent/1", false},
		{`agent/\*`, "agent/*", true},
	} {
		if got := Match(x.pattern, x.target, nil); got != x.want {
			t.Errorf("%q, %q: %v", x.pattern, x.target, got)
		}
		if Match(x.pattern, x.target, func(int) bool { return false }) {
			t.Errorf("%q matches %q without a budget", x.pattern, x.target)
		}
	}
}

// The costs of one comparison are those of its elements.
func TestMatchCosts(t *testing.T) {
	var costs []int
	Match("abc/d*", "abc/defg", func(n int) bool { costs = append(costs, n); return true })
	if len(costs) != 2 || costs[0] != 9 || costs[1] != 8 {
		t.Errorf("%v", costs)
	}
}

// Names of bins have one length, and more bits refine the bins.
func TestBins(t *testing.T) {
	for bits, last := range map[int]string{1: "b-1", 4: "b-f", 5: "b-1f", 8: "b-ff", 14: "b-3fff", 20: "b-fffff", 32: "b-ffffffff"} {
		if got := BinName("b", bits, uint32(1<<bits-1)); got != last {
			t.Errorf("%d bits: %s, want %s", bits, got, last)
		}
		if got := BinName("b", bits, 0); len(got) != len(last) {
			t.Errorf("%d bits: the first is %s, the last %s", bits, got, last)
		}
		if n := Bin("agent/1.0", bits); bits < 32 && n>>bits != 0 {
			t.Errorf("%d bits: bin %d", bits, n)
		}
		if bits > 1 && Bin("agent/1.0", bits)>>1 != Bin("agent/1.0", bits-1) {
			t.Errorf("%d bits: not within the bin of one bit less", bits)
		}
	}
	if Bin("", 8) != 0xe3 { // sha256 of nothing is e3b0c442...
		t.Errorf("%x", Bin("", 8))
	}
}

func TestSameSet(t *testing.T) {
	for _, x := range []struct {
		a, b string
		want bool
	}{{"", "", true}, {"ab", "ba", true}, {"ab", "a", false}, {"a", "ab", false}, {"ab", "ac", false}} {
		if got := SameSet([]byte(x.a), []byte(x.b)); got != x.want {
			t.Errorf("%q, %q: %v", x.a, x.b, got)
		}
	}
}
