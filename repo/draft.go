package repo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Draft is a set of metadata files that wait for signatures. It travels as
// bytes ([Draft.Bytes], [OpenDraft]) between people who share nothing else.
type Draft struct {
	files      map[string]*draftFile // by role name
	statements map[string]*statement // by name in storage
	recovery   *draftFile            // the statement of a recovery; nil: none

	repo     *Repo // the handle that opened or staged it; nil: it can be looked at, and no more
	staged   *Repo // the handle that staged it; nil: another one did
	override override
}

func newDraft() *Draft {
	return &Draft{files: map[string]*draftFile{}, statements: map[string]*statement{}}
}

// ErrNoPart: the key signs nothing in this draft.
var ErrNoPart = errors.New("the key has no part in the draft")

// draftFile is one metadata file: its canonical signed part and the signatures
// so far.
type draftFile struct {
	role    string
	version int64
	expires time.Time
	base    int64    // the version that it follows, 0 for none; orphans may lie between
	under   []string // the roles that lead to it, outermost first, as the draft states: a hint for other readers
	signed  wire.Value
	sigs    map[string]string // hex, by key id
	signers []need            // who must sign
}

// need is a rule that a file's signatures must meet.
type need struct {
	Who       string             `json:"who"` // party or role, for people
	Keys      map[string]tuf.Key `json:"keys"`
	Threshold int                `json:"threshold"`
	// Orgs are the keys' organisations, by key id: then not keys are counted but them.
	Orgs map[string]string `json:"orgs,omitempty"`
}

// Missing says what a draft still lacks.
type Missing struct {
	Role   string   // the file; of hash bins "ROLE.b-*", for all that lack the same
	Files  int      // how many files lack the same
	Who    string   // the party, or the role whose keys must sign: the draft's word
	Have   int      // signatures of distinct keys
	Want   int      // how many there must be
	KeyIDs []string // the keys that may still sign
	// Labels are what people call those of the keys that have a name in [Config].Labels,
	// quoted, each with the first digits of its id; of a draft that no handle opened there
	// are none.
	Labels []string
}

// UnsignedError says what a draft still lacks. It wraps [ErrUnsigned].
type UnsignedError struct{ Missing []Missing }

// Error is one line of at most 4 kB.
func (e *UnsignedError) Error() string {
	return text.Line(fmt.Sprintf("repo: %v: %s", ErrUnsigned, strings.ReplaceAll(e.Lines(), "\n", "; ")))
}

// Lines has a sentence in a line of its own for each thing that is missing.
func (e *UnsignedError) Lines() string {
	var lines []string
	for _, m := range e.Missing {
		lines = append(lines, m.String())
	}
	return strings.Join(lines, "\n")
}

// Unwrap is [ErrUnsigned].
func (e *UnsignedError) Unwrap() error { return ErrUnsigned }

// String is one line. What is not a plain name is quoted.
func (m Missing) String() string {
	files := ""
	if m.Files > 1 {
		files = fmt.Sprintf(" (%d files)", m.Files)
	}
	who := ""
	if len(m.Labels) > 0 {
		who = ", not yet of " + strings.Join(m.Labels, ", ")
	}
	return text.Line(fmt.Sprintf("%s%s: %d of %d signatures of %s%s", roleText(m.Role), files, m.Have, m.Want, whoText(m.Who), who))
}

// roleText shows the name of a role, or of a statement's file. That of a recovery
// statement is ours: no role can have it.
func roleText(role string) string {
	if role == recoveryRole {
		return role
	}
	return text.Name(role)
}

// ownWho is how this package describes signers: names in a few fixed sentences.
var ownWho = regexp.MustCompile(`^(?:[a-z0-9._-]{1,64}(?: \([a-z0-9._-]{1,64}\))?|the hold of [a-z0-9._-]{1,64}|` +
	`(?:party [a-z0-9._-]{1,64}|all parties) of the (?:root|present root|new root)|the recovery (?:keys|organisations))$`)

// whoText shows who must sign. A draft may say so in words of its own, which are
// quoted then.
func whoText(who string) string {
	if ownWho.MatchString(who) {
		return who
	}
	return text.Quote(who)
}

// newDraftFile prepares the canonical signed part of a metadata file for
// signing. Its type must be that of the role: nobody shall sign a root who was
// told that it is a list of releases.
func newDraftFile(role string, base int64, signed wire.Value, needs ...need) (*draftFile, error) {
	return newSigned(role, typeOf(role), base, signed, needs...)
}

// typeOf is the _type of a role's metadata.
func typeOf(role string) string {
	switch role {
	case "root", "timestamp", "snapshot":
		return role
	}
	return "targets"
}

// newSigned is newDraftFile for a file whose type is not named as its role.
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
		return nil, fmt.Errorf("version is %s, after %d", text.Bytes(version), base)
	}
	when, err := expires.Text()
	if err != nil {
		return nil, err
	}
	if f.expires, err = time.Parse(time.RFC3339, when); err != nil {
		return nil, fmt.Errorf("expires is %s", text.Quote(when))
	}
	return f, nil
}

// bytes is the file as it is published: canonical all through, which costs
// readers no second copy.
func (f *draftFile) bytes() []byte {
	var b bytes.Buffer
	b.WriteString(`{"signatures":[`)
	for i, id := range slices.Sorted(maps.Keys(f.sigs)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"keyid":`)
		b.Write(canonicalText(id).JSON())
		b.WriteString(`,"sig":`)
		b.Write(canonicalText(f.sigs[id]).JSON())
		b.WriteByte('}')
	}
	b.WriteString(`],"signed":`)
	b.Write(f.signed.JSON())
	b.WriteByte('}')
	return b.Bytes()
}

// add signs for whatever reason the caller has.
func (f *draftFile) add(ctx context.Context, s tuf.Signer) error {
	sig, err := s.Sign(ctx, f.signed)
	if err != nil {
		return fmt.Errorf("repo: %s v%d: %w", roleText(f.role), f.version, err)
	}
	f.sigs[s.Key().ID()] = hex.EncodeToString(sig)
	return nil
}

// missing lists the rules that are not met. It counts signatures; whether they
// are valid is package tuf's to say, at publishing.
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

// counts is what a signature of a key counts for: the key, or its organisation.
func (n need) counts(id string) string {
	if n.Orgs != nil {
		return n.Orgs[id]
	}
	return id
}

// Sign signs every file and statement of the draft that s has a part in, by the
// published root and by the root that the draft proposes. A second signature by
// one key replaces the first. A signer without any part is an error that wraps
// [ErrNoPart]: it is most likely the wrong key.
//
// The draft must have been opened or staged by a handle ([Repo.OpenDraft],
// [Repo.LoadDraft], [Repo.Stage]), whose trust anchor and ledger decide. Nothing is
// signed where one of these rules is broken:
//
//   - K1 [ErrRootBehind], [ErrSecondContent]: the published chain of roots ends
//     below, or forks from, the newest root that the ledger has seen; or another
//     root of this version was signed before ([Draft.Supersede]).
//   - K2 [ErrSecondContent]: other content of a role was signed under its version.
//   - K3 [ErrRoleBehind]: what is published of a role is older or other than what
//     the ledger has seen published ([Draft.Compromised]).
//   - K4 [ErrTakenBack]: a role lists again the bytes that a recall or refusal of its party
//     names ([Examined].Reinstate), or lacks a hold that was signed.
//   - K5 [ErrDate]: signed_at is ahead of this machine's clock by more than
//     [Config].ClockTolerance, the clock is behind the published root's
//     ([Draft.Supersede]), an expiry has passed, or a root or a party's role expires more than an hour before what
//     it replaces ([Draft.ShorterExpiry]).
//   - [ErrSequence]: a list of a party states a lower highest sequence number of a
//     product than is published; [tuf.ErrRelease]: it lists release fields anew that
//     clients refuse.
//
// The ledger has recorded the signatures, durably, before any of them is made.
// First roots are signed with [Draft.SignFirst].
func (d *Draft) Sign(ctx context.Context, s tuf.Signer) (err error) {
	defer oneLine(&err)
	return d.sign(ctx, s, false)
}

// SignFirst is Sign for a draft with the first root of a repository that was
// staged elsewhere. Nothing comes before a first root, so what stands in for a
// trust anchor is digest: what [Draft.Digest] showed on the machine that staged
// it, brought here by two people. Another digest is an error that wraps
// [ErrOtherDraft]. The root is the anchor of the ledger from then on.
func (d *Draft) SignFirst(ctx context.Context, s tuf.Signer, digest string) (err error) {
	defer oneLine(&err)
	if err := d.first(digest); err != nil {
		return err
	}
	return d.sign(ctx, s, true)
}

// first checks that the draft is that of a first root with this digest.
func (d *Draft) first(digest string) error {
	if f := d.files["root"]; f == nil || f.version != 1 {
		return fmt.Errorf("repo: the draft has no first root: %w", ErrNoPart)
	}
	if have := d.Digest(); digest != have {
		return fmt.Errorf("repo: %w: its digest is %s, expected is %s", ErrOtherDraft, have, text.Quote(digest))
	}
	return nil
}

func (d *Draft) sign(ctx context.Context, s tuf.Signer, firstRoot bool) error {
	p, err := d.handle(ctx)
	if err != nil {
		return err
	}
	n, err := d.repo.signDraft(ctx, p, d, d.parts(), []tuf.Signer{s}, false, firstRoot)
	if err == nil && n == 0 {
		err = fmt.Errorf("repo: key %.16s: %w (%s)", s.Key().ID(), ErrNoPart, d)
	}
	return err
}

// handle loads the repository that the draft is for.
func (d *Draft) handle(ctx context.Context) (*present, error) {
	if d.repo == nil {
		return nil, fmt.Errorf("repo: the draft was opened without a repository, to be looked at; to sign it open it with Repo.OpenDraft or Repo.LoadDraft: %w", ErrNoPin)
	}
	return d.repo.loadFor(ctx, d)
}

var inBins = regexp.MustCompile(`^(.+\.b-)[0-9a-f]+$`)

// Supersede is [Tx.Supersede] for a draft that was staged elsewhere.
func (d *Draft) Supersede(sha256 string) { d.override.supersede = sha256 }

// ShorterExpiry is [Tx.ShorterExpiry] for a draft that was staged elsewhere.
func (d *Draft) ShorterExpiry() { d.override.shorterExpiry = true }

// OpenDraft is [OpenDraft] for a draft that is to be signed: by this handle's
// trust anchor and ledger.
func (r *Repo) OpenDraft(data []byte) (*Draft, error) {
	d, err := OpenDraft(data)
	if err == nil {
		d.repo = r
	}
	return d, err
}

// LoadDraft is [LoadDraft] for a draft that is to be signed: by this handle's
// trust anchor and ledger.
func (r *Repo) LoadDraft(path string) (*Draft, error) {
	d, err := LoadDraft(path)
	if err == nil {
		d.repo = r
	}
	return d, err
}

// Missing lists what the draft still lacks; empty when it can be published.
func (d *Draft) Missing() []Missing {
	var out []Missing
	for _, f := range d.parts() {
		for _, m := range f.missing() {
			if b := inBins.FindStringSubmatch(m.Role); b != nil {
				m.Role = b[1] + "*"
			}
			i := slices.IndexFunc(out, func(x Missing) bool {
				return x.Role == m.Role && x.Who == m.Who && x.Have == m.Have && x.Want == m.Want && slices.Equal(x.KeyIDs, m.KeyIDs)
			})
			if i < 0 {
				m.Labels = d.labels(m.KeyIDs)
				out = append(out, m)
			} else {
				out[i].Files++
			}
		}
	}
	return out
}

// labels are what people call those keys that have a name.
func (d *Draft) labels(keyIDs []string) (out []string) {
	if d.repo == nil {
		return nil
	}
	for _, id := range keyIDs {
		if label, ok := d.repo.cfg.Labels[id]; ok {
			out = append(out, fmt.Sprintf("%s %.16s", text.Quote(label), id))
		}
	}
	return out
}

// Empty reports whether the draft changes nothing.
func (d *Draft) Empty() bool {
	return len(d.files) == 0 && len(d.statements) == 0 && d.recovery == nil
}

// File returns a metadata file of the draft as it would be published, nil where
// the draft does not change that role. It is for those who look ahead, such as a
// rehearsal against clients; [Repo.Publish] alone publishes.
func (d *Draft) File(role string) []byte {
	if f := d.files[role]; f != nil {
		return f.bytes()
	}
	return nil
}

// String names the files of the draft, and its statements, in one line of at most
// 4 kB.
func (d *Draft) String() string {
	var b bytes.Buffer
	files := d.sorted()
	if d.recovery != nil {
		files = append(files, d.recovery)
	}
	for i, f := range files {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s v%d", roleText(f.role), f.version)
	}
	for i, name := range slices.Sorted(maps.Keys(d.statements)) {
		if i > 0 || len(files) > 0 {
			b.WriteString(", ")
		}
		s := d.statements[name]
		fmt.Fprintf(&b, "%s of %s", s.what(), text.Name(s.claim.Subject.Path))
	}
	return text.Line(b.String())
}

// parts are all that is signed: the files, then the statements.
func (d *Draft) parts() []*draftFile {
	out := d.sorted()
	if d.recovery != nil {
		out = append(out, d.recovery)
	}
	for _, name := range slices.Sorted(maps.Keys(d.statements)) {
		out = append(out, d.statements[name].file)
	}
	return out
}

// part is a file or statement by its role or name, nil where there is none.
func (d *Draft) part(role string) *draftFile {
	if s := d.statements[role]; s != nil {
		return s.file
	}
	if role == recoveryRole {
		return d.recovery
	}
	return d.files[role]
}

func (d *Draft) sorted() []*draftFile {
	return slices.SortedFunc(maps.Values(d.files), func(a, b *draftFile) int { return cmp.Compare(a.role, b.role) })
}

// draftJSON is a draft on its way. Members stand in canonical order, here and
// below: what reads it need not sort, which would take copies.
type draftJSON struct {
	Files      []draftFileJSON `json:"files"`
	Recovery   *draftFileJSON  `json:"recovery,omitempty"`
	Statements []statementJSON `json:"statements,omitempty"`
	Draft      int             `json:"visum-draft"` // 1
}

type draftFileJSON struct {
	Base    int64           `json:"base"`
	Content json.RawMessage `json:"content"`
	Needs   []need          `json:"needs"`
	Role    string          `json:"role"`
	Under   []string        `json:"under,omitempty"` // a hint for people and for readers of earlier versions
}

// Bytes returns the draft in a form that can travel.
func (d *Draft) Bytes() ([]byte, error) {
	out := draftJSON{Draft: 1}
	for _, f := range d.sorted() {
		out.Files = append(out.Files, f.json())
	}
	if d.recovery != nil {
		out.Recovery = new(d.recovery.json())
	}
	for _, name := range slices.Sorted(maps.Keys(d.statements)) {
		out.Statements = append(out.Statements, d.statements[name].json())
	}
	return json.MarshalIndent(out, "", " ")
}

func (f *draftFile) json() draftFileJSON {
	return draftFileJSON{f.base, f.bytes(), f.signers, f.role, f.under}
}

// OpenDraft reads a draft that travelled. What it states beside the signed parts,
// such as who must sign or which role leads to which, is a help for people and
// decides nothing: at publishing the repository's root decides. What it states of
// a statement must be what the statement's payload states; otherwise the error
// wraps [tuf.ErrMismatch].
func OpenDraft(data []byte) (d *Draft, err error) {
	defer oneLine(&err)
	if d, err = parseDraft(data); err != nil {
		return nil, fmt.Errorf("repo: draft: %w", err)
	}
	return d, nil
}
