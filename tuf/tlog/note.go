package tlog

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"github.com/visum-dev/visum/internal/text"
)

const (
	sigPrefix = "— "
	// MaxNote is the maximum number of bytes of a signed checkpoint.
	MaxNote = 16 << 10
	// maxSize is the maximum number of entries of a log.
	maxSize = 1 << 56
	// maxSignatures is the maximum number of signatures of a note, as for x/mod.
	maxSignatures = 100
)

// Hash is a hash of a tree, RFC 6962 with SHA-256.
type Hash = [32]byte

// Checkpoint is a checkpoint whose signatures are verified.
type Checkpoint struct {
	Origin string // the name of the log's key
	Size   int64  // entries
	Root   Hash   // of the tree of this size
	// Time is the quorum time: the latest time for which the cosignatures of that time or
	// later are a quorum. It is zero if there is none.
	Time time.Time
	// Cosigners are the cosigners of the policy that have signed, in its order.
	Cosigners []Cosigner
}

// Cosigner is one verified cosignature.
type Cosigner struct {
	Name string    `json:"name"` // in the policy
	Time time.Time `json:"time"` // of the signature, by the cosigner's clock
}

// CheckpointText is the text of a checkpoint, which the log signs.
func CheckpointText(origin string, size int64, root Hash) string {
	return origin + "\n" + strconv.FormatInt(size, 10) + "\n" + base64.StdEncoding.EncodeToString(root[:]) + "\n"
}

// ParseCheckpointText reads the text of a checkpoint, without signatures. Extension lines
// are refused. The error wraps [ErrMalformed].
func ParseCheckpointText(s string) (origin string, size int64, root Hash, err error) {
	fail := func() (string, int64, Hash, error) {
		return "", 0, Hash{}, malformed("checkpoint %s: want an origin, a size and a hash", quote(s))
	}
	if len(s) > MaxNote {
		return fail()
	}
	lines := strings.SplitN(s, "\n", 4)
	if len(lines) != 4 {
		return fail()
	}
	size, ok := parseNumber(lines[1])
	raw, err := base64.StdEncoding.DecodeString(lines[2])
	if !ok || size > maxSize || err != nil || len(raw) != len(root) {
		return fail()
	}
	root = Hash(raw)
	if origin = lines[0]; !isName(origin) || CheckpointText(origin, size, root) != s {
		return fail()
	}
	return origin, size, root, nil
}

// SplitNote returns the text of a note and its signature lines, at most 100, unverified. The
// error wraps [ErrMalformed].
func SplitNote(data []byte) (text string, lines []SignatureLine, err error) {
	if len(data) > MaxNote {
		return "", nil, malformed("note: %d bytes, at most %d", len(data), MaxNote)
	}
	s := string(data)
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\n' }) {
		return "", nil, malformed("note: it is not UTF-8, or has control characters")
	}
	i := strings.LastIndex(s, "\n\n")
	if i < 0 || !strings.HasSuffix(s, "\n") {
		return "", nil, malformed("note: no signatures")
	}
	text = s[:i+1]
	for line := range strings.Lines(s[i+2:]) {
		name, b64, ok := strings.Cut(strings.TrimPrefix(line, sigPrefix), " ")
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(b64, "\n"))
		if !ok || err != nil || len(raw) < 5 || !isNoteName(name) || sigPrefix+name+" "+base64.StdEncoding.EncodeToString(raw)+"\n" != line {
			return "", nil, malformed("note: signature line %s", quote(line))
		}
		lines = append(lines, SignatureLine{name, binary.BigEndian.Uint32(raw), raw[4:], line})
	}
	if len(lines) == 0 || len(lines) > maxSignatures {
		return "", nil, malformed("note: %d signatures, want from 1 to %d", len(lines), maxSignatures)
	}
	return text, lines, nil
}

// isNoteName reports whether a name is one that signed-note allows for a key.
func isNoteName(s string) bool {
	return s != "" && !strings.ContainsRune(s, '+') && !strings.ContainsFunc(s, unicode.IsSpace)
}

// SignatureLine is one signature of a note.
type SignatureLine struct {
	Name string // of the key
	ID   uint32 // of the key
	Sig  []byte // with the time before it, for a cosigner
	Line string // as in the note, with its line break
}

// By reports whether the line names this key. It verifies nothing.
func (l SignatureLine) By(k Key) bool { return l.Name == k.Name && l.ID == k.ID() }

// openNote returns the text of a note and the verified signatures of known keys, each key
// at most once. A signature of a known key that does not verify is an error.
func openNote(data []byte, known []verifier) (string, []SignatureLine, error) {
	text, lines, err := SplitNote(data)
	if err != nil {
		return "", nil, err
	}
	var verifiers []note.Verifier
	var signed []SignatureLine
	for _, k := range known {
		verifiers = append(verifiers, k)
		n := 0
		for _, l := range lines {
			if l.Name == k.Key.Name && l.ID == k.id {
				signed = append(signed, l)
				n++
			}
		}
		if n > 1 {
			return "", nil, malformed("note: %d signatures of %s", n, quote(k.Key.Name))
		}
	}
	if len(signed) == 0 {
		return "", nil, fmt.Errorf("tlog: note: %w: no key of the policy has signed", ErrSignature)
	}
	n, err := note.Open(data, note.VerifierList(verifiers...))
	switch err := err.(type) {
	case nil:
	case *note.InvalidSignatureError:
		return "", nil, fmt.Errorf("tlog: note: %w: of %s", ErrSignature, quote(err.Name))
	default:
		return "", nil, malformed("note: %v", err)
	}
	if n.Text != text || len(n.Sigs) != len(signed) { // both parsers must read the same
		return "", nil, malformed("note: the text is ambiguous")
	}
	return text, signed, nil
}

// parseNumber reads a decimal number without sign and leading zeros.
func parseNumber(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == s
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("tlog: %w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func quote(s string) string { return text.Quote(s) }
