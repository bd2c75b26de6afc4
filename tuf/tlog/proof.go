package tlog

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	merkle "golang.org/x/mod/sumdb/tlog"
)

const (
	// MaxProof is the maximum number of bytes of a proof.
	MaxProof  = 16 << 10
	maxHashes = 63
	proofLine = "c2sp.org/tlog-proof@v1\n"
)

// Entry is an entry of a log whose inclusion is verified.
type Entry struct {
	Index int64 // from 0
	Checkpoint
}

// Proof is a proof of one entry, unverified (tlog-proof).
type Proof struct {
	Index      int64  // of the entry, from 0
	Hashes     []Hash // from the leaf to the root, at most 63
	Checkpoint []byte // the signed note
}

// ParseProof reads a proof. The line "extra" is refused. The error wraps [ErrMalformed].
func ParseProof(data []byte) (*Proof, error) {
	if len(data) > MaxProof {
		return nil, malformed("proof: %d bytes, at most %d", len(data), MaxProof)
	}
	fail := func(why string) (*Proof, error) { return nil, malformed("proof: %s", why) }
	rest, ok := strings.CutPrefix(string(data), proofLine)
	if !ok {
		return fail("it does not begin with " + strings.TrimSpace(proofLine))
	}
	line, rest, _ := strings.Cut(rest, "\n")
	number, ok := strings.CutPrefix(line, "index ")
	index, valid := parseNumber(number)
	if !ok || !valid {
		return fail("no index")
	}
	p := &Proof{Index: index}
	for {
		line, rest, ok = strings.Cut(rest, "\n")
		if !ok {
			return fail("no checkpoint")
		}
		if line == "" {
			p.Checkpoint = []byte(rest)
			return p, nil
		}
		raw, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(raw) != len(Hash{}) || base64.StdEncoding.EncodeToString(raw) != line || len(p.Hashes) == maxHashes {
			return fail("want at most 63 hashes")
		}
		p.Hashes = append(p.Hashes, Hash(raw))
	}
}

// Marshal returns the proof as [ParseProof] reads it.
func (p *Proof) Marshal() []byte {
	b := []byte(proofLine + "index " + strconv.FormatInt(p.Index, 10) + "\n")
	for _, h := range p.Hashes {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return append(append(b, '\n'), p.Checkpoint...)
}

// Verify verifies that leaf is an entry of the policy's log: the signature of the log, a
// quorum of cosignatures, and the inclusion of the leaf. Proofs of more than [MaxProof]
// bytes are refused. The caller decides whether the time is recent enough and whether the
// entry must be the last one.
func (p *Policy) Verify(leaf, proof []byte) (*Entry, error) {
	parsed, err := ParseProof(proof)
	if err != nil {
		return nil, err
	}
	c, err := p.Checkpoint(parsed.Checkpoint)
	if err != nil {
		return nil, err
	}
	if c.Time.IsZero() {
		return nil, fmt.Errorf("tlog: %w: %d of %d have signed the tree of %d entries", ErrQuorum, len(c.Cosigners), len(p.cosigners), c.Size)
	}
	hashes := make(merkle.RecordProof, len(parsed.Hashes))
	for i, h := range parsed.Hashes {
		hashes[i] = merkle.Hash(h)
	}
	if parsed.Index >= c.Size {
		return nil, fmt.Errorf("tlog: %w: entry %d of a tree of %d entries", ErrInclusion, parsed.Index, c.Size)
	}
	if err := merkle.CheckRecord(hashes, c.Size, merkle.Hash(c.Root), parsed.Index, merkle.RecordHash(leaf)); err != nil {
		return nil, fmt.Errorf("tlog: %w: entry %d of the tree of %d entries is another one", ErrInclusion, parsed.Index, c.Size)
	}
	return &Entry{parsed.Index, *c}, nil
}

// Checkpoint verifies a signed checkpoint: it must have the signature of the policy's log,
// and the cosignatures of the policy's cosigners must verify; they need not be a quorum.
// Signatures of other keys are ignored.
func (p *Policy) Checkpoint(data []byte) (*Checkpoint, error) {
	known := []verifier{logVerifier(p.log)}
	for _, c := range p.cosigners {
		if c.Key.Type == TypeCosigner {
			known = append(known, cosignerVerifier(c.Key))
		}
	}
	s, signed, err := openNote(data, known)
	if err != nil {
		return nil, err
	}
	out := &Checkpoint{}
	if out.Origin, out.Size, out.Root, err = ParseCheckpointText(s); err != nil {
		return nil, err
	}
	if out.Size == 0 && out.Root != EmptyRoot {
		return nil, fmt.Errorf("tlog: checkpoint: %w: a tree of no entries has another root", ErrInclusion)
	}
	if out.Origin != p.log.Name {
		return nil, malformed("checkpoint of %s, want %s", quote(out.Origin), quote(p.log.Name))
	}
	if !signed[0].By(p.log) {
		return nil, fmt.Errorf("tlog: checkpoint: %w: the log has not signed", ErrSignature)
	}
	times := make([]time.Time, len(p.cosigners))
	for i, c := range p.cosigners {
		for _, l := range signed {
			if at, _, ok := cutTime(l.Sig); ok && l.By(c.Key) {
				times[i] = at
				out.Cosigners = append(out.Cosigners, Cosigner{c.Name, at})
			}
		}
	}
	out.Time, _ = p.quorumTime(times)
	return out, nil
}
