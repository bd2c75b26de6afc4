package repo

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// draftFile is one metadata file: its canonical signed part and its signatures.
type draftFile struct {
	role    string
	version int64
	expires time.Time
	base    int64    // the version that it follows, 0 for none; unlisted versions may lie between
	under   []string // the delegating roles, outermost first, as the draft states: informative
	signed  wire.Value
	sigs    map[string]string // hex, by key id
	signers []need            // the required signers
}

// bytes returns the file in its published form. It is entirely canonical, so that readers
// need no second copy.
func (f *draftFile) bytes() []byte {
	var b bytes.Buffer
	b.WriteString(`{"signatures":[`)
	for i, id := range slices.Sorted(maps.Keys(f.sigs)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"keyid":`)
		b.Write(metafile.Text(id).JSON())
		b.WriteString(`,"sig":`)
		b.Write(metafile.Text(f.sigs[id]).JSON())
		b.WriteByte('}')
	}
	b.WriteString(`],"signed":`)
	b.Write(f.signed.JSON())
	b.WriteByte('}')
	return b.Bytes()
}

// add adds a signature of s without any check.
func (f *draftFile) add(ctx context.Context, s tuf.Signer) error {
	sig, err := s.Sign(ctx, f.signed)
	if err != nil {
		return fmt.Errorf("repo: %s v%d: %w", roleText(f.role), f.version, err)
	}
	f.sigs[s.Key().ID()] = hex.EncodeToString(sig)
	return nil
}

// missing lists the thresholds that are not met. It counts signatures without verifying
// them; package tuf verifies them at publishing.
func (f *draftFile) missing() (out []Missing) {
	for _, n := range f.signers {
		m := Missing{Role: f.role, Files: 1, Who: n.Who, Want: n.Threshold}
		counted := map[string]bool{}
		for id := range n.Keys {
			if _, ok := f.sigs[id]; ok {
				counted[n.counts(id)] = true
			}
		}
		for _, id := range slices.Sorted(maps.Keys(n.Keys)) {
			if !counted[n.counts(id)] {
				m.KeyIDs = append(m.KeyIDs, id)
			}
		}
		m.Have = len(counted)
		if m.Have < m.Want {
			out = append(out, m)
		}
	}
	return out
}

func (f *draftFile) json() draftFileJSON {
	return draftFileJSON{f.base, f.bytes(), f.signers, f.role, f.under}
}

// isBin reports whether the file has the name of a hash bin.
func (f *draftFile) isBin() bool { return rolelist.InBins.MatchString(f.role) }

// key returns the key with an id, if it may sign the file.
func (f *draftFile) key(id string) (tuf.Key, bool) {
	for _, n := range f.signers {
		if k, ok := n.Keys[id]; ok {
			return k, true
		}
	}
	return tuf.Key{}, false
}

// checkSignature verifies the signature of a key id on the file.
func (f *draftFile) checkSignature(id string) error {
	k, ok := f.key(id)
	if !ok {
		return fmt.Errorf("%s v%d: key %s: %w", roleText(f.role), f.version, text.Name(id), ErrNoPart)
	}
	sig, err := hex.DecodeString(f.sigs[id])
	if err != nil || k.ID() != id || !k.Verifies(f.signed, sig) {
		return fmt.Errorf("%s v%d: key %s: %w", roleText(f.role), f.version, text.Name(id), ErrSignature)
	}
	return nil
}

// renumber changes the version of a file without signatures.
func (f *draftFile) renumber(version int64) {
	out := []byte{'{'}
	for name, v := range f.signed.Members() {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), name...), '"', ':')
		if string(name) == "version" {
			v = strconv.AppendInt(nil, version, 10)
		}
		out = append(out, v...)
	}
	f.signed, f.version = append(out, '}'), version
}

// newDraftFile returns a metadata file with a canonical signed part. The type must be that
// of the role, so that a root can't be presented to signers as a list of releases.
func newDraftFile(role string, base int64, signed wire.Value, needs ...need) (*draftFile, error) {
	return newSigned(role, typeOf(role), base, signed, needs...)
}

// newSigned is newDraftFile with the expected type want.
func newSigned(role, want string, base int64, signed wire.Value, needs ...need) (*draftFile, error) {
	f := &draftFile{role: role, base: base, signed: signed, sigs: map[string]string{}, signers: needs}
	var typ, version, expires wire.Value
	if err := f.signed.Fields(wire.Field{Name: "_type", To: &typ}, wire.Field{Name: "version", To: &version}, wire.Field{Name: "expires", To: &expires}); err != nil {
		return nil, err
	}
	if t, err := typ.Text(); err != nil || t != want {
		return nil, fmt.Errorf("_type is %s, want %q", text.Bytes(typ), want)
	}
	var err error
	if f.version, err = version.Int(); err != nil || f.version < 1 || base < 0 || f.version <= base {
		return nil, fmt.Errorf("version is %s, want more than %d", text.Bytes(version), base)
	}
	when, err := expires.Text()
	if err != nil {
		return nil, err
	}
	if f.expires, err = time.Parse(time.RFC3339, when); err != nil {
		return nil, fmt.Errorf("expires is %s, want a time of RFC 3339", text.Quote(when))
	}
	return f, nil
}

// typeOf returns the _type of a role's metadata.
func typeOf(role string) string {
	switch role {
	case "root", "timestamp", "snapshot":
		return role
	}
	return "targets"
}

// Missing describes the missing signatures of one threshold.
type Missing struct {
	Role   string   `json:"role"`    // the file; "ROLE.b-*" for all hash bins that lack the same signatures
	Files  int      `json:"files"`   // number of files that lack the same signatures
	Who    string   `json:"who"`     // the party or the role whose keys must sign, as the draft states
	Have   int      `json:"have"`    // signatures of distinct keys
	Want   int      `json:"want"`    // the threshold
	KeyIDs []string `json:"key_ids"` // the keys that may still sign
	// Labels has the quoted label and the first digits of the id of each of the keys that
	// is in [Config].Labels. It is empty for a draft that was opened without a handle.
	Labels []string `json:"labels,omitempty"`
}

// unsignedError reports the missing signatures of a draft. It wraps [ErrUnsigned].
type unsignedError struct {
	missing []Missing // as of [Draft.Missing]
}

// counts returns the unit that a signature of a key counts for: the key, or its
// organisation.
func (n need) counts(id string) string {
	if n.Orgs != nil {
		return n.Orgs[id]
	}
	return id
}

type draftFileJSON struct {
	Base    int64           `json:"base"`
	Content json.RawMessage `json:"content"`
	Needs   []need          `json:"needs"`
	Role    string          `json:"role"`
	Under   []string        `json:"under,omitempty"` // informative, human-readable, and for earlier versions
}

func (e *unsignedError) Error() string {
	var lines []string
	for _, m := range e.missing {
		lines = append(lines, m.String())
	}
	return text.Line(fmt.Sprintf("repo: %v: %s", ErrUnsigned, strings.Join(lines, "; ")))
}

func (e *unsignedError) Unwrap() error { return ErrUnsigned }

// String returns one line. It quotes everything that is not a simple name.
func (m Missing) String() string {
	files := ""
	if m.Files > 1 {
		files = fmt.Sprintf(" (%d files)", m.Files)
	}
	who := ""
	if len(m.Labels) > 0 {
		who = ", missing: " + strings.Join(m.Labels, ", ")
	}
	return text.Line(fmt.Sprintf("%s%s: %d of %d signatures of %s%s", roleText(m.Role), files, m.Have, m.Want, whoText(m.Who), who))
}
