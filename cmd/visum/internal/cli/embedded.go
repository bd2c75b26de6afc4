package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// pinStarts begin every pin: in canonical form locations is its first member. Earlier
// versions wrote the other form.
var pinStarts = [][]byte{[]byte(`{"locations":[`), []byte("{\n \"schema\": 1,")}

const (
	maxPin  = 1 << 20
	overlap = 16 // more than a start has
	// Bounds of one search: bytes that are read, and places that are tried.
	maxPinSearch = 4 << 30
	maxPinTries  = 64
	maxPins      = 8
)

// findPins returns the pins that programs carry, as go:embed stores a pin file. Nothing of them is trusted. It ends after some pins, places or bytes.
func findPins(names []string) (pins [][]byte, err error) {
	left, tries := int64(maxPinSearch), maxPinTries
	for _, name := range names {
		if left <= 0 || tries <= 0 || len(pins) == maxPins {
			break
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		r := &io.LimitedReader{R: f, N: left}
		err = scanPins(r, &tries, func(pin []byte) bool {
			if !slices.ContainsFunc(pins, func(p []byte) bool { return bytes.Equal(p, pin) }) {
				pins = append(pins, pin)
			}
			return len(pins) < maxPins
		})
		f.Close()
		if left = r.N; err != nil {
			return nil, err
		}
	}
	return pins, nil
}

// scanPins calls found for each valid pin, until it returns false or no tries are left.
func scanPins(r io.Reader, tries *int, found func([]byte) bool) error {
	in := bufio.NewReaderSize(r, 2*maxPin)
	for *tries > 0 {
		// A window of at most maxPin bytes from here on; fewer only at the end of the file.
		window, err := in.Peek(maxPin)
		if err != nil && err != io.EOF {
			return err
		}
		i := -1
		for _, start := range pinStarts {
			if n := bytes.Index(window, start); n >= 0 && (i < 0 || n < i) {
				i = n
			}
		}
		if i < 0 {
			if err == io.EOF {
				return nil
			}
			if _, err := in.Discard(len(window) - overlap); err != nil {
				return err
			}
			continue
		}
		if _, err := in.Discard(i); err != nil {
			return err
		}
		if window, err = in.Peek(maxPin); err != nil && err != io.EOF {
			return err
		}
		*tries--
		skip := 1
		if n := jsonEnd(window); n > 0 {
			if _, err := tuf.OpenPin(window[:n], &tuf.Options{UnsafeLoopback: true}); err == nil {
				skip = n
				if !found(bytes.Clone(window[:n])) {
					return nil
				}
			}
		}
		if _, err := in.Discard(skip); err != nil {
			return err
		}
	}
	return nil
}

// jsonEnd returns the length of the object at the start of data; 0 if it does not end.
func jsonEnd(data []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}

// hint is a pin that a file carries.
type hint struct {
	Fingerprint string   `json:"sha256"`
	RepoID      string   `json:"repo_id"`
	Locations   []string `json:"locations"`
	pin         []byte
}

func hintOf(pin []byte) (hint, error) {
	p, err := tuf.OpenPin(pin, &tuf.Options{UnsafeLoopback: true})
	if err != nil {
		return hint{}, err
	}
	h := hint{Fingerprint: p.Fingerprint(), Locations: []string{}, pin: pin}
	if c := p.Root().Charter(); c != nil {
		h.RepoID = c.RepoID()
	}
	for _, l := range p.Locations() {
		h.Locations = append(h.Locations, l.Base)
	}
	return h, nil
}

func (h hint) String() string {
	line := fmt.Sprintf("this file carries a pin (a hint, not trusted): sha256 %s", h.Fingerprint)
	if len(h.Locations) > 0 {
		line += ", repository " + text.Quote(h.Locations[0])
	}
	return line
}

// minFingerprint is the number of hex digits that --fingerprint needs: 128 bits, so that
// no one can make another pin that begins with them.
const minFingerprint = 32

func checkFingerprint(s string) (string, error) {
	s = strings.ToLower(strings.TrimSuffix(s, "…"))
	if len(s) < minFingerprint || len(s) > 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return "", usage("--fingerprint: want the sha256 of the pin, 64 hex digits or the first %d at least", minFingerprint)
	}
	return s, nil
}

// trusted returns the pin whose sha256 begins with the fingerprint.
func trusted(hints []hint, fingerprint string) ([]byte, error) {
	for _, h := range hints {
		if strings.HasPrefix(h.Fingerprint, fingerprint) {
			return h.pin, nil
		}
	}
	if len(hints) == 0 {
		return nil, fmt.Errorf("no pin was found in the file; --pin names the file with the pin of sha256 %s", fingerprint)
	}
	return nil, &tuf.Error{Role: "pin", Err: tuf.ErrMismatch, Detail: fmt.Sprintf("its sha256 is %s, not %s", hints[0].Fingerprint, fingerprint)}
}
