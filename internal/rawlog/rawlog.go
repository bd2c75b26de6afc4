// Package rawlog makes logs, cosignatures and proofs for tests, also malformed ones. Keys
// are derived from names, so that they are the same in each process.
package rawlog

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/visum-dev/visum/tuf/tlog"
)

// Signer is a key of a log or of a cosigner.
type Signer struct {
	tlog.Key
	private ed25519.PrivateKey
}

// NewSigner returns a key of a type: tlog.TypeLog or tlog.TypeCosigner.
func NewSigner(name string, kind byte) *Signer {
	seed := sha256.Sum256([]byte(name))
	private := ed25519.NewKeyFromSeed(seed[:])
	return &Signer{tlog.Key{Name: name, Type: kind, Public: private.Public().(ed25519.PublicKey)}, private}
}

// Sign returns a line of signature over the text of a note. The time is for cosigners.
func (s *Signer) Sign(text string, at time.Time) string {
	if s.Type == tlog.TypeCosigner {
		return s.CosignatureLine(at, ed25519.Sign(s.private, tlog.CosignatureMessage(at, text)))
	}
	return s.SignatureLine(ed25519.Sign(s.private, []byte(text)))
}

// Log is a log in memory.
type Log struct {
	*Signer
	Tree   *tlog.Tree
	Leaves [][]byte
	Files  map[string][]byte // tiles and bundles, by path
}

// NewLog returns an empty log.
func NewLog(origin string) *Log {
	l := &Log{Signer: NewSigner(origin, tlog.TypeLog), Files: map[string][]byte{}}
	l.Tree = &tlog.Tree{Root: tlog.EmptyRoot, Read: l.Read}
	return l
}

// Read returns a file.
func (l *Log) Read(path string) ([]byte, error) {
	if data, ok := l.Files[path]; ok {
		return data, nil
	}
	return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
}

// Append appends entries. It panics if a file would change.
func (l *Log) Append(entries ...[]byte) {
	next, files, err := l.Tree.Append(entries)
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		if old, ok := l.Files[f.Path]; ok && string(old) != string(f.Data) {
			panic(f.Path + " changes")
		}
		l.Files[f.Path] = f.Data
	}
	l.Tree, l.Leaves = next, append(l.Leaves, entries...)
}

// Text is the text of the checkpoint.
func (l *Log) Text() string { return tlog.CheckpointText(l.Name, l.Tree.Size, l.Tree.Root) }

// Note is the checkpoint with the signature of the log and others, signed at a time.
func (l *Log) Note(at time.Time, cosigners ...*Signer) []byte {
	var b strings.Builder
	b.WriteString(l.Text() + "\n" + l.Sign(l.Text(), at))
	for _, c := range cosigners {
		b.WriteString(c.Sign(l.Text(), at))
	}
	return []byte(b.String())
}

// Proof is the proof of an entry with a checkpoint.
func (l *Log) Proof(index int64, note []byte) []byte {
	hashes, err := l.Tree.Inclusion(index)
	if err != nil {
		panic(err)
	}
	return (&tlog.Proof{Index: index, Hashes: hashes, Checkpoint: note}).Marshal()
}
