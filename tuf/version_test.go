package tuf

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/quick"

	"golang.org/x/mod/semver"
)

func version(t *testing.T, s string) Version {
	t.Helper()
	v, err := ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Each line is above the previous ones; the versions in one line are equal.
var inOrder = []string{
	"0 v0 0.0.0 00",
	"0.0.0.1",
	"0.9",
	"1-alpha 1.0-alpha v1.0.0-alpha+x",
	"1.0.0-alpha.1",
	"1.0.0-alpha.beta",
	"1.0.0-beta",
	"1.0.0-beta.2",
	"1.0.0-beta.11",
	"1.0.0-beta.99999999999999999999999",
	"1.0.0-rc.1",
	"1 1.0 1.0.0 v1.0.0.0.0 1.0.0+20130313144700 1+a-b.c-d.007",
	"1.2.9",
	"v1.4 1.4.0 1.04",
	"1.10",
	"2.1.0.4",
	"2.1.0.10",
	"2024.01.05 2024.1.5",
	"99999999999999999999.0.0",
	"100000000000000000000",
}

func TestVersionsInOrder(t *testing.T) {
	for i, line := range inOrder {
		for _, a := range strings.Fields(line) {
			for j, other := range inOrder {
				for _, b := range strings.Fields(other) {
					want := 0
					if i != j {
						want = 1 - 2*btoi(i < j)
					}
					v, o := version(t, a), version(t, b)
					if got := v.Compare(o); got != want {
						t.Errorf("%s and %s: got %d, want %d", a, b, got, want)
					}
					if same := v.String() == o.String(); same != (want == 0) {
						t.Errorf("%s is %s, %s is %s", a, v, b, o)
					}
				}
			}
			if v := version(t, a); v.Compare(version(t, v.String())) != 0 || v.IsZero() || v.Compare(Version{}) != 1 || (Version{}).Compare(v) != -1 {
				t.Errorf("%s: %s", a, v)
			}
		}
	}
	if !(Version{}).IsZero() || (Version{}).Compare(Version{}) != 0 || (Version{}).String() != "" {
		t.Error("the zero version is none")
	}
}

func TestTruncate(t *testing.T) {
	for _, tt := range []struct {
		version string
		n       int
		want    string
	}{
		{"1.10.3-rc.1+x", 9, "1.10.3"}, {"1.10.3", 3, "1.10.3"}, {"1.10.3", 2, "1.10"}, {"1.10.3-rc.1", 1, "1"}, {"1.10.3", 0, "0"}, {"1.10.3", -1, "0"},
		{"1.0.3", 2, "1"}, {"0.0.3-a", 2, "0"}, {"v7", 3, "7"},
	} {
		v := version(t, tt.version)
		if got := v.Truncate(tt.n); got.String() != tt.want || got.Compare(version(t, tt.want)) != 0 {
			t.Errorf("%s to %d: got %s, want %s", tt.version, tt.n, got, tt.want)
		}
		if v.Compare(version(t, tt.version)) != 0 {
			t.Errorf("%s became %s", tt.version, v)
		}
	}
	if !(Version{}).Truncate(2).IsZero() {
		t.Error("no version has become one")
	}
}

func TestNoVersion(t *testing.T) {
	for _, s := range []string{
		"", "v", "V1", "1.", ".1", "1..2", "1.x", " 1.0", "1.0 ", "1.0\n", "-1", "1.-1", "1,0", "1.0-", "1.0-a..b", "1.0-01", "1.0-rc.01", "1.0-é",
		"1.0+", "1.0+a..b", "1.0+a+b", "1.0+a_b", "vv1", "1.0-a_b", "latest", "0x10", "١", "1" + strings.Repeat(".1", 64),
	} {
		if v, err := ParseVersion(s); !errors.Is(err, ErrMalformed) || !v.IsZero() {
			t.Errorf("%q: got %v, %v", s, v, err)
		}
	}
	long := strings.Repeat("1", MaxVersion)
	if v := version(t, long); v.String() != long {
		t.Errorf("%s", v)
	}
}

// A version of semantic versioning is accepted and has the same order.
func TestVersionsAreSemantic(t *testing.T) {
	pick := func(n uint8, of ...string) string { return of[int(n)%len(of)] }
	make := func(a, b, c, p, q uint8) string {
		return "v" + pick(a, "0", "1", "9", "10") + "." + pick(b, "0", "2", "10") + "." + pick(c, "0", "3", "21") +
			pick(p, "", "-alpha", "-1", "-2", "-10", "-rc.1", "-rc-1", "-A", "-a") + pick(q, "", "", "+b")
	}
	if err := quick.Check(func(x, y [5]uint8) bool {
		a, b := make(x[0], x[1], x[2], x[3], x[4]), make(y[0], y[1], y[2], y[3], y[4])
		return semver.IsValid(a) && version(t, a).Compare(version(t, b)) == semver.Compare(a, b)
	}, &quick.Config{MaxCount: 20000}); err != nil {
		t.Error(err)
	}
}

// The order is total: sorting any permutation of versions gives the same list.
func FuzzVersion(f *testing.F) {
	for _, line := range inOrder {
		f.Add(line, "1.0-x", "v2+y")
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var list []Version
		for _, s := range []string{a, b, c} {
			if v, err := ParseVersion(s); err == nil {
				if again, err := ParseVersion(v.String()); err != nil || again.Compare(v) != 0 || again.String() != v.String() {
					t.Fatalf("%q is %s, which is %s, %v", s, v, again, err)
				}
				list = append(list, v)
			}
		}
		slices.SortFunc(list, Version.Compare)
		for i, v := range list {
			for j, o := range list {
				if c := v.Compare(o); c != -o.Compare(v) || i < j && c > 0 || (c == 0) != (v.String() == o.String()) {
					t.Fatalf("%s and %s: %d", v, o, c)
				}
			}
		}
	})
}
