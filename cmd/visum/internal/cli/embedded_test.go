package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/wire"
)

func canonicalPin(t *testing.T) []byte {
	t.Helper()
	v, err := wire.Canonical(rawtuf.Marshal(rawtuf.New().Pin()))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A pin is found wherever it is in a file, whole and once.
func TestFindPins(t *testing.T) {
	pin := canonicalPin(t)
	other := rawtuf.New().Pin()
	rawtuf.At(other, "locations", 0)["priority"] = 11
	second, err := wire.Canonical(rawtuf.Marshal(other))
	if err != nil {
		t.Fatal(err)
	}
	indented, err := json.MarshalIndent(struct {
		Schema   any `json:"schema"`
		RepoID   any `json:"repo_id"`
		Root     any `json:"root"`
		Review   any `json:"review"`
		Location any `json:"locations"`
	}{1, rawtuf.New().Pin()["repo_id"], rawtuf.New().Pin()["root"], rawtuf.New().Pin()["review"], rawtuf.New().Pin()["locations"]}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	start := string(pinStarts[0])
	zeros := func(n int) string { return strings.Repeat("\x00", n) }
	for name, x := range map[string]struct {
		file string
		want int
	}{
		"empty":                 {"", 0},
		"the pin alone":         {string(pin), 1},
		"in the middle":         {zeros(100) + string(pin) + zeros(100), 1},
		"at the end":            {zeros(5*maxPin+3) + string(pin), 1},
		"twice":                 {string(pin) + zeros(2*maxPin) + string(pin), 1},
		"two pins":              {string(pin) + string(second), 2},
		"indented":              {"x" + string(indented) + "\n", 1},
		"cut off":               {string(pin[:len(pin)-1]), 0},
		"changed":               {strings.Replace(string(pin), rawtuf.RepoID, strings.Repeat("0", 32), 1), 0},
		"a start in the pin's":  {start + start + string(pin), 1},
		"many starts":           {strings.Repeat(start, maxPinTries-1) + string(pin), 1},
		"too many starts":       {strings.Repeat(start, maxPinTries) + string(pin), 0},
		"an object that is not": {start + "]}" + string(pin), 1},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(x.file), 0o600); err != nil {
			t.Fatal(err)
		}
		pins, err := findPins([]string{path})
		if err != nil || len(pins) != x.want {
			t.Errorf("%s: %d pins, %v", name, len(pins), err)
		}
	}
	// At each position relative to the borders of the windows.
	for _, at := range []int{maxPin, 2 * maxPin, 3 * maxPin} {
		for _, shift := range []int{0, 1, 7, len(start), overlap, overlap + 1, len(pin) - 1, len(pin)} {
			var found [][]byte
			tries := maxPinTries
			err := scanPins(strings.NewReader(zeros(at-shift)+string(pin)+zeros(at)), &tries, func(p []byte) bool { found = append(found, p); return true })
			if err != nil || len(found) != 1 || !bytes.Equal(found[0], pin) {
				t.Errorf("at %d-%d: %d pins, %v", at, shift, len(found), err)
			}
		}
	}
	for _, start := range pinStarts {
		if len(start) >= overlap {
			t.Errorf("%q has %d bytes, at most %d", start, len(start), overlap-1)
		}
	}
}

func TestFingerprint(t *testing.T) {
	sum := fmt.Sprintf("%064x", 0xabcdef)
	for s, ok := range map[string]bool{sum: true, strings.ToUpper(sum): true, sum[:32]: true, sum[:32] + "…": true, sum[:31]: false, sum + "0": false, "": false, sum[:63] + "g": false} {
		if _, err := checkFingerprint(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}
