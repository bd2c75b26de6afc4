package tlog

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/edkey"
)

// The types of keys whose signatures are verified, by the numbers of signed-note.
const (
	TypeLog      = 0x01 // Ed25519 over the text of a note
	TypeCosigner = 0x04 // Ed25519 over a time and the text, tlog-cosignature
)

const (
	maxName = 255
	maxKey  = 4096 // bytes; an ML-DSA-44 key has 1312
)

// Key is the public key of a log or of a cosigner.
type Key struct {
	Name   string // of a log, its origin
	Type   byte   // TypeLog, TypeCosigner, or one that this package does not verify
	Public []byte // 32 bytes for the types above
}

// ParseKey reads the text of a key: name, key id and public key, joined by "+". Keys of
// unknown types are read, too. It refuses Ed25519 keys for which signatures can be
// computed without the private key. The error wraps [ErrMalformed].
func ParseKey(s string) (Key, error) {
	fail := func(why string) (Key, error) { return Key{}, malformed("key %s: %s", quote(s), why) }
	name, rest, ok := strings.Cut(s, "+")
	if !ok || !isName(name) {
		return fail("no name")
	}
	_, b64, ok := strings.Cut(rest, "+")
	if !ok || len(b64) > base64.StdEncoding.EncodedLen(maxKey+1) {
		return fail("no public key")
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil || len(raw) < 2 {
		return fail("no public key")
	}
	k := Key{name, raw[0], raw[1:]}
	if k.Type == TypeLog || k.Type == TypeCosigner {
		if len(k.Public) != ed25519.PublicKeySize || edkey.SmallOrder(k.Public) {
			return fail("not an Ed25519 key")
		}
	}
	if k.String() != s {
		return fail("the key id is another one, or the encoding is not canonical")
	}
	return k, nil
}

// Clone returns a copy that shares no memory.
func (k Key) Clone() Key {
	k.Public = bytes.Clone(k.Public)
	return k
}

// String is the text that [ParseKey] reads.
func (k Key) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.Name, k.ID(), base64.StdEncoding.EncodeToString(append([]byte{k.Type}, k.Public...)))
}

// ID is the key id of signed-note.
func (k Key) ID() uint32 {
	h := sha256.New()
	h.Write([]byte(k.Name))
	h.Write([]byte{'\n', k.Type})
	h.Write(k.Public)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// SignatureLine is the line of a note for a signature of the key over the text of the note.
func (k Key) SignatureLine(sig []byte) string {
	data := append(binary.BigEndian.AppendUint32(nil, k.ID()), sig...)
	return sigPrefix + k.Name + " " + base64.StdEncoding.EncodeToString(data) + "\n"
}

// CosignatureLine is the line of a note for a signature of the key over
// [CosignatureMessage] with this time, in whole seconds.
func (k Key) CosignatureLine(at time.Time, sig []byte) string {
	return k.SignatureLine(append(binary.BigEndian.AppendUint64(nil, uint64(at.Unix())), sig...))
}

// CosignatureMessage is what a cosigner signs: it has seen this text of a checkpoint, and
// no larger tree of the log, at this time, in whole seconds.
func CosignatureMessage(at time.Time, text string) []byte {
	return []byte("cosignature/v1\ntime " + strconv.FormatInt(at.Unix(), 10) + "\n" + text)
}

// verifier implements note.Verifier.
type verifier struct {
	Key
	id     uint32 // of the key
	verify func(msg, sig []byte) bool
}

func (v verifier) Name() string                { return v.Key.Name }
func (v verifier) KeyHash() uint32             { return v.id }
func (v verifier) Verify(msg, sig []byte) bool { return v.verify(msg, sig) }

// logVerifier and cosignerVerifier need keys of their type.
func logVerifier(k Key) verifier {
	return verifier{k, k.ID(), func(msg, sig []byte) bool { return ed25519.Verify(k.Public, msg, sig) }}
}

func cosignerVerifier(k Key) verifier {
	return verifier{k, k.ID(), func(msg, sig []byte) bool {
		at, sig, ok := cutTime(sig)
		return ok && ed25519.Verify(k.Public, CosignatureMessage(at, string(msg)), sig)
	}}
}

// lastTime is the end of the year 9999, which all formats of a time can express.
const lastTime = 253402300799

func cutTime(data []byte) (at time.Time, sig []byte, ok bool) {
	if len(data) != 8+ed25519.SignatureSize {
		return at, nil, false
	}
	seconds := binary.BigEndian.Uint64(data)
	if seconds == 0 || seconds > lastTime {
		return at, nil, false
	}
	return time.Unix(int64(seconds), 0).UTC(), data[8:], true
}

// isName reports whether s can be the name of a key, a cosigner or a group.
func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '+' {
			return false
		}
	}
	return true
}
