package wire

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// object writes n members, in order or with the first one last.
func object(n int, sorted bool) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		if !sorted && i == n-1 {
			i = -1
		}
		fmt.Fprintf(&b, `"%07d":0`, i+1)
	}
	b.WriteByte('}')
	return b.String()
}

// Members of objects out of order have one common limit. Members in order have none, and objects
// of real writers are within it.
func TestMembersOutOfOrderHaveABudget(t *testing.T) {
	small := strings.TrimSuffix(strings.Repeat(`{"length":1,"hashes":{},"custom":{}},`, MaxUnsorted/3), ",")
	more := strings.TrimSuffix(strings.Repeat(`{"b":1,"a":1},`, MaxUnsorted/2+1), ",")
	for name, tt := range map[string]struct {
		in string
		ok bool
	}{
		"in order":                       {object(4*MaxUnsorted, true), true},
		"at the budget":                  {object(MaxUnsorted, false), true},
		"beyond it":                      {object(MaxUnsorted+1, false), false},
		"87,000 targets of three":        {"[" + small + "]", true},
		"many small ones":                {"[" + more + "]", false},
		"one too many at the end":        {"[" + object(MaxUnsorted-1, false) + `,{"a":1},{"b":1,"a":2}]`, false},
		"none too many at the end":       {"[" + object(MaxUnsorted-2, false) + `,{"a":1},{"b":1,"a":2}]`, true},
		"an object in order between":     {"[" + object(MaxUnsorted, false) + "," + object(1000, true) + "]", true},
		"unsorted within a sorted one":   {`{"a":` + object(MaxUnsorted, false) + `,"b":1}`, true},
		"unsorted within an unsorted":    {`{"b":1,"a":` + object(MaxUnsorted, false) + `}`, false},
		"levels that real metadata have": {strings.Repeat(`{"b":0,"a":`, 7) + `"` + strings.Repeat("x", 1<<20) + `"` + strings.Repeat("}", 7), true},
		"more levels than any has":       {strings.Repeat(`{"b":0,"a":`, 9) + `"` + strings.Repeat("x", 1<<20) + `"` + strings.Repeat("}", 9), false},
	} {
		got, err := Canonical([]byte(tt.in))
		if (err == nil) != tt.ok || err != nil && (!errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), "out of order")) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// Input in order is not copied, and nothing is stored for its members. Other input costs a bounded
// share of its bytes.
func TestMemoryOfCanonical(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		most int // bytes allocated for each of the input
	}{
		"in order":           {object(300_000, true), 0},
		"out of order":       {object(200_000, false), 6},
		"two orders":         {`{` + strings.Repeat(`"b":0,"a":0,`, 100_000) + `"c":0}`, 8},
		"members in reverse": {`{"z":` + strings.Repeat(`{"y":0,"x":`, 6) + `"` + strings.Repeat("x", 1<<20) + `"` + strings.Repeat("}", 6) + `,"a":0}`, 8},
	} {
		in := []byte(tt.in)
		var a, b runtime.MemStats
		runtime.ReadMemStats(&a)
		_, _ = Canonical(in)
		runtime.ReadMemStats(&b)
		if n := int(b.TotalAlloc - a.TotalAlloc); n > tt.most*len(in)+4<<10 {
			t.Errorf("%s: %d bytes for %d", name, n, len(in))
		}
	}
}

// Values and all errors are printable lines with foreign text in quotes.
func TestTexts(t *testing.T) {
	for in, want := range map[string]string{`"x"`: `"x"`, "7": "7", "-7": "-7", "true": "true", "null": "null", `{"a":1}`: `"{\"a\":1}"`, `[]`: `"[]"`, `"\n"`: `"\n"`,
		strings.Repeat("9", 201): `"` + strings.Repeat("9", 200) + `"... (201 bytes, sha256 `} {
		v, err := Canonical([]byte(in))
		if err != nil || !strings.HasPrefix(v.String(), want) || len(want) < 100 && v.String() != want {
			t.Errorf("%s: %s, %v", in, v, err)
		}
	}
	if got := Value(nil).String(); got != "absent" {
		t.Error(got)
	}
	for _, evil := range rawtuf.Hostile {
		quoted := string(Value(AppendString(nil, evil)).JSON())
		for _, in := range []string{evil, quoted, "{" + quoted + ":1," + quoted + ":1}", `{"b":1,` + quoted + ":1," + quoted + ":1}", `"\` + evil + `"`, "[" + evil, quoted + evil, "1" + evil} {
			v, err := Canonical([]byte(in))
			if err == nil {
				if why := rawtuf.BadText(v.String()); why != "" {
					t.Errorf("%.40q: %s: %s", in, why, v)
				}
				_, err = v.Int()
			}
			if why := rawtuf.BadText(err.Error()); why != "" {
				t.Errorf("%.40q: %s: %.200q", in, why, err)
			}
		}
	}
	var to Value
	for _, in := range []string{"{\"\u017fig\":1}", `{"SIG":1}`} {
		v, _ := Canonical([]byte(in))
		if err := v.Fields(Field{"sig", &to}); err == nil || rawtuf.BadText(err.Error()) != "" {
			t.Errorf("%s: %v", in, err)
		}
	}
}
