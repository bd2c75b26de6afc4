package repo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// book is a ledger's document for one repository, decoded.
type book struct {
	raw    []byte // as loaded; nil: there is none yet
	body   bookJSON
	number int64    // of raw
	before []string // of raw
}

// ledgerJSON is the document: the body, and its sha256 to detect corruption.
type ledgerJSON struct {
	Ledger int `json:"visum-ledger"` // 1
	// Number counts the documents. Before has the sha256 of the documents before this one,
	// the newest last; see [signing.MarkedLedger].
	Number int64           `json:"number,omitempty"`
	Before []string        `json:"before,omitempty"`
	SHA256 string          `json:"sha256"` // of Body's bytes
	Body   json.RawMessage `json:"body"`
}

type bookJSON struct {
	RepoID string `json:"repo_id"`
	// Root is the newest regular root seen published; before any root was published, the
	// first root as signed here. Recovered is a recovered root seen published after it.
	Root      *bookRoot `json:"root,omitempty"`
	Published bool      `json:"published"` // Root was seen published
	Recovered *bookRoot `json:"recovered,omitempty"`
	// HighRoot is a newer regular root that a call has read, without its bytes.
	HighRoot *bookRoot `json:"high_root,omitempty"`

	Roles       map[string]*bookRole `json:"roles"`
	TakenBack   []takenBack          `json:"taken_back,omitempty"`
	Checkpoints []signing.Checkpoint `json:"checkpoints,omitempty"`
}

// bookRoot identifies a root by its hash. File may contain its bytes.
type bookRoot struct {
	Version int64  `json:"version"`
	SHA256  string `json:"sha256"` // of the signed part
	File    []byte `json:"file,omitempty"`
}

// bookRole is the record of a role.
type bookRole struct {
	// Seen is the newest content that was published at the last signature of this
	// ledger. Drafts are compared with it.
	Seen *bookContent `json:"seen,omitempty"`
	// High is a newer content that a call has read in a verified snapshot. It protects
	// the role against rollback too, but drafts are not compared with it, because no
	// person has reviewed it.
	High *bookContent `json:"high,omitempty"`
	// Newest is the newest content signed here, if it is newer than Seen.
	Newest *bookContent `json:"newest,omitempty"`
	// Signed are the contents signed here, oldest first. Oldest ones are dropped. At
	// versions up to Floor only listed contents may be signed again.
	Signed []bookSigned `json:"signed,omitempty"`
	Floor  int64        `json:"floor,omitempty"`
	// Keys are the ids of the role's keys when Seen was recorded, sorted.
	Keys []string `json:"keys,omitempty"`
}

// bookContent is one content of a role. Signed is its canonical signed part, empty for
// hash bins, timestamp and snapshot.
type bookContent struct {
	Version int64  `json:"version"`
	SHA256  string `json:"sha256"`
	Signed  []byte `json:"signed,omitempty"`
}

// bookSigned is one signing. Hash bins have neither time nor keys.
type bookSigned struct {
	Version int64    `json:"version"`
	SHA256  string   `json:"sha256"`
	At      string   `json:"at,omitempty"`
	KeyIDs  []string `json:"keyids,omitempty"`
	Draft   string   `json:"draft,omitempty"` // Draft.Digest
}

// takenBack is a recall, a refusal or a hold.
type takenBack struct {
	Kind   string `json:"kind"` // recall, refusal, hold
	Role   string `json:"role"`
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Until  string `json:"until,omitempty"` // holds only
	Reason string `json:"reason,omitempty"`
}

// keptSigned is the maximum number of signings recorded per role.
const keptSigned = 256

// empty reports whether the ledger has no record of the repository.
func (b *book) empty() bool { return b == nil || b.body.Root == nil }

// loadBook reads the ledger's document of a repository. Without a document the book is
// empty.
func (r *Repo) loadBook(ctx context.Context, repoID string) (*book, error) {
	data, err := r.ledger.Load(ctx, repoID)
	if errors.Is(err, fs.ErrNotExist) {
		return &book{body: bookJSON{RepoID: repoID, Roles: map[string]*bookRole{}}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("repo: ledger: %w", err)
	}
	return openBook(data, repoID)
}

// openBook decodes a document. It refuses documents of later versions of this package,
// because writing them back would lose members that this version does not know.
func openBook(data []byte, repoID string) (*book, error) {
	fail := func(format string, args ...any) (*book, error) {
		return nil, fmt.Errorf("repo: %w: %s; restore it from a copy, or import the ledger of another machine", signing.ErrLedger, fmt.Sprintf(format, args...))
	}
	if _, err := wire.Canonical(data); err != nil {
		return fail("it is damaged: %v", err)
	}
	var doc ledgerJSON
	if err := strict(data, &doc); err != nil {
		return fail("it is damaged, or written by a later version: %v", err)
	}
	if doc.Ledger != 1 {
		return fail("format is %d, want 1", doc.Ledger)
	}
	if sum := metafile.SHA256(doc.Body); sum != doc.SHA256 {
		return fail("it is damaged: its content has sha256 %.16s, it states %.16q", sum, doc.SHA256)
	}
	b := &book{raw: data, number: doc.Number, before: doc.Before}
	if err := strict(doc.Body, &b.body); err != nil {
		return fail("it was written by a later version: %v", err)
	}
	if b.body.RepoID != repoID {
		return fail("it belongs to repository %.40q, want %s", b.body.RepoID, repoID)
	}
	if b.body.Roles == nil {
		b.body.Roles = map[string]*bookRole{}
	}
	return b, nil
}

func strict(data []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(to)
}

// bytes encodes the next document; the one that was loaded if the body has not changed.
func (b *book) bytes() ([]byte, error) {
	body, err := json.Marshal(b.body)
	if err != nil {
		return nil, err
	}
	same := ledgerJSON{1, b.number, b.before, metafile.SHA256(body), body}
	if data, err := json.Marshal(same); err != nil || bytes.Equal(data, b.raw) {
		return data, err
	}
	next := same
	next.Number++
	if b.raw != nil && b.number > 0 {
		next.Before = append(slices.Clone(b.before), metafile.SHA256(b.raw))
		next.Before = next.Before[max(0, len(next.Before)-signing.KeptPredecessors):]
	}
	return json.Marshal(next)
}

// change edits the ledger's document durably. If another process was faster, fn is
// called again with the newest content. If fn returns an error, nothing is written.
func (r *Repo) change(ctx context.Context, repoID string, fn func(*book) error) error {
	for range maxSwaps {
		b, err := r.loadBook(ctx, repoID)
		if err != nil {
			return err
		}
		if err := fn(b); err != nil {
			return err
		}
		data, err := b.bytes()
		if err != nil {
			return fmt.Errorf("repo: ledger: %w", err)
		}
		if bytes.Equal(data, b.raw) {
			return nil
		}
		err = r.ledger.Swap(ctx, repoID, b.raw, data)
		if !errors.Is(err, ErrConflict) {
			if err != nil {
				err = fmt.Errorf("repo: ledger: %w", err)
			}
			return err
		}
	}
	return fmt.Errorf("repo: ledger: the document kept changing during %d attempts: %w", maxSwaps, ErrConflict)
}

// maxSwaps is the maximum number of attempts to change the ledger.
const maxSwaps = 100

// points returns the roots that every root chain must contain. They do not include a
// recovered root: until it has a regular successor, a regular root of the same version
// cancels the recovery.
func (b *book) points() []point {
	var out []point
	for _, x := range []*bookRoot{b.body.Root, b.body.HighRoot} {
		if x != nil {
			out = append(out, point{x.Version, x.SHA256, "ledger"})
		}
	}
	return out
}

// high returns the newest content ever seen of a role, nil for none.
func (r *bookRole) high() *bookContent {
	if r.High != nil && (r.Seen == nil || r.High.Version > r.Seen.Version) {
		return r.High
	}
	return r.Seen
}

// leaves returns the recovered root that the ledger has seen in use and that a chain
// lacks although no regular root has cancelled the recovery; nil if there is none.
func (b *book) leaves(c *chain.Chain) *bookRoot {
	x := b.body.Recovered
	if x == nil || c.Regular > b.body.Root.Version {
		return nil
	}
	if root := c.At(x.Version); root != nil && root.SHA256() == x.SHA256 {
		return nil
	}
	return x
}

// role returns the record of a role, and creates it if necessary.
func (b *book) role(name string) *bookRole {
	r := b.body.Roles[name]
	if r == nil {
		r = &bookRole{}
		b.body.Roles[name] = r
	}
	return r
}

// highest returns the highest version of a role that was signed or seen.
func (b *book) highest(role string) int64 {
	if b == nil || b.body.Roles[role] == nil {
		return 0
	}
	r := b.body.Roles[role]
	high := r.Floor
	if h := r.high(); h != nil {
		high = max(high, h.Version)
	}
	for _, s := range r.Signed {
		high = max(high, s.Version)
	}
	return high
}

// lastSeen returns the newest content of a role that the ledger has seen published; nil
// if there is none, or if only its hash is recorded.
func (b *book) lastSeen(role string) (wire.Value, error) {
	if b == nil || b.body.Roles[role] == nil || b.body.Roles[role].Seen == nil || b.body.Roles[role].Seen.Signed == nil {
		return nil, nil
	}
	return b.body.Roles[role].Seen.read(role)
}

// signedHere reports whether this ledger has signed a content of a role.
func (b *book) signedHere(role string, version int64, signed wire.Value) bool {
	if b == nil || b.body.Roles[role] == nil || signed == nil {
		return false
	}
	same, _ := b.body.Roles[role].signedBefore(version, metafile.SHA256(signed))
	return same
}

// read returns the recorded signed part of a role. It checks the hash, because the
// record was stored outside this process.
func (c *bookContent) read(role string) (wire.Value, error) {
	v, err := wire.Canonical(c.Signed)
	if err != nil || metafile.SHA256(v) != c.SHA256 {
		return nil, fmt.Errorf("repo: %w: %s v%d is damaged", signing.ErrLedger, roleText(role), c.Version)
	}
	return v, nil
}

// keys compares a role's keys with those under which it was seen. If none of those keys
// is left, no seen content can verify any more, so its records are dropped: a new epoch,
// or a cancelled recovery, starts new versions. Records of signed content stay.
func (b *book) keys(role string, keys []tuf.Key) *bookRole {
	r := b.role(role)
	now := ids(keys)
	if len(now) == 0 {
		return r
	}
	if !slices.ContainsFunc(r.Keys, func(id string) bool { return slices.Contains(now, id) }) {
		r.Seen, r.High, r.Newest = nil, nil, nil
	}
	slices.Sort(now)
	r.Keys = now
	return r
}

// see records the content of a role with these keys that a verified snapshot lists. If
// whole is false, only its hash is recorded.
func (b *book) see(role string, keys []tuf.Key, version int64, signed wire.Value, whole bool) {
	r := b.keys(role, keys)
	if r.Seen != nil && r.Seen.Version >= version {
		return
	}
	r.Seen = &bookContent{Version: version, SHA256: metafile.SHA256(signed)}
	if r.High != nil && r.High.Version <= version {
		r.High = nil
	}
	if whole {
		r.Seen.Signed = signed
	}
	if r.Newest != nil && r.Newest.Version <= version {
		r.Newest = nil
	}
	// Own recalls that were seen stay in force, whatever is published later.
	for _, t := range recalledIn(role, signed) {
		b.take(t)
	}
}

// sign records one signing under a name.
func (b *book) sign(name string, f *draftFile, s bookSigned, whole bool) {
	r := b.role(name)
	for i, x := range r.Signed {
		if x.Version == s.Version && x.SHA256 == s.SHA256 {
			s.KeyIDs = slices.Compact(slices.Sorted(slices.Values(append(x.KeyIDs, s.KeyIDs...))))
			r.Signed = slices.Delete(r.Signed, i, i+1)
			break
		}
	}
	r.Signed = append(r.Signed, s)
	keep := keptSigned
	if !whole {
		keep = 2
	}
	for len(r.Signed) > keep {
		r.Floor = max(r.Floor, r.Signed[0].Version)
		r.Signed = r.Signed[1:]
	}
	if whole && (r.Seen == nil || s.Version > r.Seen.Version) && (r.Newest == nil || s.Version >= r.Newest.Version) {
		r.Newest = &bookContent{s.Version, s.SHA256, f.signed}
	}
}

// signedBefore finds the last signing of a version. It reports whether the content was
// the same, and otherwise returns the other signing, whose hash is "" if its record was
// dropped.
func (r *bookRole) signedBefore(version int64, sum string) (same bool, other *bookSigned) {
	for _, s := range slices.Backward(r.Signed) {
		if s.Version == version && s.SHA256 == sum {
			return true, nil
		}
		if s.Version == version {
			return false, &s
		}
	}
	if version <= r.Floor {
		return false, &bookSigned{Version: version}
	}
	return false, nil
}

// take records a recall, a refusal or a hold.
func (b *book) take(t takenBack) {
	for i, have := range b.body.TakenBack {
		if have.Kind == t.Kind && have.Role == t.Role && have.Path == t.Path && have.SHA256 == t.SHA256 {
			b.body.TakenBack[i] = t
			return
		}
	}
	b.body.TakenBack = append(b.body.TakenBack, t)
}

// release removes the recalls, refusals or holds of these bytes by a role.
func (b *book) release(role, sha256 string, kinds ...string) {
	b.body.TakenBack = slices.DeleteFunc(b.body.TakenBack, func(t takenBack) bool {
		return t.Role == role && t.SHA256 == sha256 && slices.Contains(kinds, t.Kind)
	})
}

// seeRoots records the newest roots of a verified chain.
func (b *book) seeRoots(c *chain.Chain) {
	if len(c.Roots) == 0 {
		return
	}
	regular := c.At(c.Regular)
	if regular == nil {
		regular = c.Last()
	}
	if have := b.body.Root; have == nil || !b.body.Published || regular.Version() > have.Version {
		b.body.Root = newBookRoot(regular)
	}
	b.body.Published = true
	if h := b.body.HighRoot; h != nil && h.Version <= b.body.Root.Version {
		b.body.HighRoot = nil
	}
	b.body.Recovered = nil
	if last := c.Last(); last.Version() > regular.Version() {
		b.body.Recovered = newBookRoot(last)
	}
}

// seeRoot records one published root.
func (b *book) seeRoot(root *tuf.Root, recovered bool) {
	switch have := b.body.Root; {
	case recovered:
		b.body.Recovered = newBookRoot(root)
	case have == nil || !b.body.Published || root.Version() > have.Version:
		b.body.Root, b.body.Published, b.body.Recovered = newBookRoot(root), true, nil
	}
}

func newBookRoot(r *tuf.Root) *bookRoot { return &bookRoot{r.Version(), r.SHA256(), r.Bytes()} }

// recalledIn returns the recalls that a role's signed part lists.
func recalledIn(role string, signed wire.Value) (out []takenBack) {
	for r := range metafile.Recalls(metafile.Member(signed, layout.RecallMember)) {
		if r.SHA256 != "" {
			out = append(out, takenBack{Kind: "recall", Role: role, Path: r.Path, SHA256: r.SHA256, Reason: r.Reason})
		}
	}
	return out
}

// heldIn returns the holds of a hold role's signed part that end after now.
func heldIn(role string, signed wire.Value, now time.Time) (out []takenBack) {
	for path, v := range metafile.Member(signed, "targets").Members() {
		until, ok := heldUntil(v)
		if !ok || !until.After(now) {
			continue
		}
		e, err := rolelist.ParseEntry(v)
		if err != nil {
			continue
		}
		reason, _ := metafile.Member(e.Release, "reason").Text()
		out = append(out, takenBack{Kind: "hold", Role: role, Path: path.String(), SHA256: e.Hashes.SHA256, Until: text.Time(until), Reason: reason})
	}
	return out
}

func heldUntil(v wire.Value) (time.Time, bool) {
	e, err := rolelist.ParseEntry(v)
	if err != nil {
		return time.Time{}, false
	}
	var until wire.Value
	if e.Release.Fields(wire.Field{Name: "until", To: &until}) != nil {
		return time.Time{}, false
	}
	s, err := until.Text()
	if err != nil {
		return time.Time{}, false
	}
	end, err := time.Parse(time.RFC3339, s)
	return end, err == nil
}
