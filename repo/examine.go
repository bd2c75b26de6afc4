package repo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// Pending is a target that another party lists and this party does not list, or lists
// differently, with what a reviewer needs to examine it. [Repo.OpenPending] returns its
// bytes. If Recalled or Refused is set, the party has already decided.
type Pending struct {
	Path     string       `json:"path"`              // of the target
	Name     string       `json:"name"`              // of the file in storage and below a location
	Length   int64        `json:"length"`            // in bytes
	SHA256   string       `json:"sha256"`            // lower-case hex
	Release  *tuf.Release `json:"release,omitempty"` // Changes reports invalid fields; nil for a target without release data
	ListedBy []string     `json:"listed_by"`         // roles that list this version of the entry, in the order of the class
	// Previous is the release that the party approved before this one: the highest
	// lower version of the same product, channel and platform; nil if there is none.
	Previous *Target `json:"previous,omitempty"`
	// Changes is human-readable. It describes the differences from Previous, what the
	// party already lists under the path, other paths with the same bytes, other bytes
	// for the same release, and any invalid release data, which makes approval
	// impossible.
	Changes []string `json:"changes,omitempty"`
	// Refused is the party's latest statement on these bytes if that is a refusal:
	// published, in the draft, or recorded in the ledger (then At is zero). Its Path
	// may differ. [Tx.Approve] needs a reason to reinstate the bytes.
	Refused *attestation.Refusal `json:"refused,omitempty"`
	// Recalled is the party's recall of these bytes under any path: published, in the
	// draft, or recorded in the ledger (then At is zero). Class and Version are not
	// set. [Tx.Approve] needs a reason to reinstate the bytes.
	Recalled *tuf.Recall `json:"recalled,omitempty"`
}

// Target is a target as a party lists it.
type Target struct {
	Path    string       `json:"path"`              // of the target
	Name    string       `json:"name"`              // of the file in storage and below a location
	Length  int64        `json:"length"`            // in bytes
	SHA256  string       `json:"sha256"`            // lower-case hex
	Release *tuf.Release `json:"release,omitempty"` // nil for a target without release data
}

// Pending returns the targets that wait for the party's decision, sorted by path, with
// the party's earlier decisions. If other parties list a path differently, each variant
// has an entry of its own. Pending needs no key.
func (r *Repo) Pending(ctx context.Context, party string) ([]Pending, error) {
	return r.PendingIn(ctx, party, nil)
}

// PendingIn is [Repo.Pending] for the state after a draft is published. The draft must
// not have a new root. Its lists count only if the role's own keys, as the root names
// them, have signed them. draft may be nil and is not changed.
func (r *Repo) PendingIn(ctx context.Context, party string, draft *Draft) (_ []Pending, err error) {
	defer text.OneLine(&err)
	tx, err := r.over(ctx, draft)
	if err != nil {
		return nil, err
	}
	var out []Pending
	for _, c := range tx.layout().Classes {
		list, err := tx.pending(c, party)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	slices.SortStableFunc(out, func(a, b Pending) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

func (tx *Tx) pending(c Class, party string) ([]Pending, error) {
	type waiting struct {
		entry wire.Value
		*Pending
	}
	found := map[string][]waiting{} // by path, one for each variant of the entry
	var list []*Pending
	mine := c.rolesOf(party)
	for _, role := range c.Roles {
		if role.Party == party {
			continue
		}
		err := tx.each(role.Role, func(path string, v wire.Value) error {
			for _, w := range found[path] {
				if string(w.entry) == string(v) {
					w.ListedBy = append(w.ListedBy, role.Role)
					return nil
				}
			}
			var other wire.Value
			waits := len(mine) == 0
			for _, m := range mine {
				have, err := tx.find(m.Role, path)
				if err != nil {
					return err
				}
				waits = waits || string(have) != string(v)
				other = have
			}
			if !waits {
				return nil
			}
			l, err := listedAs(path, v)
			if err != nil {
				return err
			}
			p := &Pending{Path: path, Name: l.Name, Length: l.Length, SHA256: l.SHA256, Release: l.Release, ListedBy: []string{role.Role}}
			if err := rolelist.CheckRelease(path, v); err != nil {
				p.Changes = append(p.Changes, text.Line(err.Error()))
			}
			if other != nil {
				was, err := listedAs(path, other)
				if err != nil {
					return err
				}
				p.Changes = append(p.Changes, fmt.Sprintf("%s already lists it differently: %s", text.Name(party), strings.Join(changes(was, l), ", ")))
			}
			for _, w := range found[path] {
				p.Changes = append(p.Changes, roleText(w.ListedBy[0])+" lists it differently")
			}
			found[path] = append(found[path], waiting{v, p})
			list = append(list, p)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(list) > 0 && len(mine) > 0 {
		if err := tx.previous(mine[0].Role, list); err != nil {
			return nil, err
		}
	}
	var out []Pending
	for _, p := range list {
		var err error
		if len(mine) > 0 {
			p.Recalled, p.Refused, err = tx.tookBack(party, mine, attestation.Subject{Path: p.Path, Length: p.Length, SHA256: p.SHA256})
		}
		if err != nil {
			return nil, err
		}
		out = append(out, *p)
	}
	return out, nil
}

// releaseSlot identifies a sequence of releases that replace each other.
type releaseSlot struct{ product, channel, platform string }

// previous sets, for each release, what the role approved before, and reports what the
// role already lists with the same bytes.
func (tx *Tx) previous(role string, found []*Pending) error {
	waiting, same := map[releaseSlot][]*Pending{}, map[string][]*Pending{}
	of := func(r *tuf.Release) releaseSlot { return releaseSlot{r.Product, r.Channel, r.Platform} }
	for _, p := range found {
		if p.Release == nil {
			continue
		}
		waiting[of(p.Release)] = append(waiting[of(p.Release)], p)
		mine, err := tx.find(role, p.Path)
		if err != nil {
			return err
		}
		if l, err := listedAs(p.Path, mine); mine == nil || err != nil || l.SHA256 != p.SHA256 {
			same[p.SHA256] = append(same[p.SHA256], p) // the role does not list it under its own path
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	err := tx.each(role, func(path string, v wire.Value) error {
		rel, ok := rolelist.ReleaseOf(v)
		if !ok {
			return nil
		}
		l, err := listedAs(path, v)
		if err != nil {
			return err
		}
		for _, p := range waiting[of(&rel)] {
			if lowerVersion(rel.Version, p.Release.Version) && (p.Previous == nil || lowerVersion(p.Previous.Release.Version, rel.Version)) {
				p.Previous = &l
			}
			if p.Path != path && p.SHA256 != l.SHA256 && sameVersion(rel.Version, p.Release.Version) {
				p.Changes = append(p.Changes, fmt.Sprintf("other bytes are already listed as %s, with the same version, channel and platform: machines that installed those will not install these", text.Name(path)))
			}
		}
		for _, p := range same[l.SHA256] {
			if p.Path != path {
				p.Changes = append(p.Changes, fmt.Sprintf("the same bytes are already listed as %s: version %s, channel %s, platform %s",
					text.Name(path), text.Name(rel.Version), text.Name(rel.Channel), text.Name(rel.Platform)))
			}
		}
		return nil
	})
	for _, p := range found {
		if p.Previous != nil {
			p.Changes = append(p.Changes, changes(*p.Previous, Target{p.Path, p.Name, p.Length, p.SHA256, p.Release})...)
		}
	}
	return err
}

func listedAs(path string, v wire.Value) (Target, error) {
	e, err := rolelist.ParseEntry(v)
	if err != nil {
		return Target{}, fmt.Errorf("repo: %s: %w", text.Name(path), err)
	}
	sum := e.Hashes.SHA256
	l := Target{Path: path, Name: layout.TargetName(path, sum), Length: e.Length, SHA256: sum}
	if rel, ok := rolelist.ReleaseOf(v); ok {
		l.Release = &rel
	}
	return l, nil
}

// changes describes the differences between two listings of a target.
func changes(was, is Target) (out []string) {
	say := func(what string, a, b any) {
		if a != b {
			out = append(out, fmt.Sprintf("%s %v, was %v", what, b, a))
		}
	}
	if was.SHA256 == is.SHA256 {
		out = append(out, "the same bytes")
	}
	say("length", was.Length, is.Length)
	if was.Release == nil || is.Release == nil {
		if (was.Release == nil) != (is.Release == nil) {
			out = append(out, "only one of the two is a release")
		}
		return out
	}
	a, b := was.Release, is.Release
	say("product", text.Quote(a.Product), text.Quote(b.Product))
	say("version", text.Quote(a.Version), text.Quote(b.Version))
	say("channel", text.Quote(a.Channel), text.Quote(b.Channel))
	say("platform", text.Quote(a.Platform), text.Quote(b.Platform))
	if !lowerVersion(a.Version, b.Version) || b.Sequence <= a.Sequence { // a higher version is expected to have a higher sequence number
		say("sequence", a.Sequence, b.Sequence)
	}
	say("min_version", text.Quote(a.MinVersion), text.Quote(b.MinVersion))
	say("source", text.Quote(a.Source.URI), text.Quote(b.Source.URI))
	say("revision", text.Quote(a.Source.Revision), text.Quote(b.Source.Revision))
	say("critical", a.Critical, b.Critical)
	if x, y := percentOf(a), percentOf(b); x != y {
		out = append(out, fmt.Sprintf("rollout %d -> %d %%", x, y))
	}
	if a.Notes != b.Notes {
		out = append(out, "release notes differ")
	}
	return out
}

// percentOf returns the share of machines that should install a release, in percent.
func percentOf(rel *tuf.Release) int {
	if rel.Rollout == nil {
		return 100
	}
	return rel.Rollout.Percent
}

// OpenPending returns the bytes of a pending target from the repository's storage. The
// reader verifies length and hash. If they do not match, it ends with an error that
// wraps [tuf.ErrMismatch] in place of io.EOF. The caller closes it.
func (r *Repo) OpenPending(ctx context.Context, p Pending) (_ io.ReadCloser, err error) {
	defer text.OneLine(&err)
	f, err := storage.SourceOf(r.storage).Open(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	x := metafile.Target{Path: p.Path, Name: p.Path, Length: p.Length, SHA256: p.SHA256}
	return pendingFile{metafile.NewReader(f, x, func(int64) {}), f}, nil
}

// pendingFile is a reader that verifies a file against its listing.
type pendingFile struct {
	*metafile.Reader
	io.Closer
}

// StageOn is [Repo.Stage] on top of an unpublished draft: fn sees the repository as it
// would be after publication of the draft. The result is one draft with both changes
// and the existing signatures, so a reviewer can approve a vendor's draft before it is
// published. The draft must not have a new root or a recovery, and each of its roles
// must be signed by a threshold of the keys that the root names; otherwise the error
// wraps [ErrUnsigned]. draft is not changed.
func (r *Repo) StageOn(ctx context.Context, draft *Draft, fn func(*Tx) error) (_ *Draft, err error) {
	defer text.OneLine(&err)
	tx, err := r.over(ctx, draft)
	if err != nil {
		return nil, err
	}
	if err := fn(tx); err != nil {
		return nil, err
	}
	return r.stage(ctx, tx, draft)
}

// over begins a transaction on the state after publication of d; nil: on the published
// state.
func (r *Repo) over(ctx context.Context, d *Draft) (*Tx, error) {
	p, err := r.loadPublished(ctx)
	if err != nil {
		return nil, err
	}
	tx := r.newTx(ctx, p)
	if d == nil {
		return tx, nil
	}
	if d.files["root"] != nil || d.recovery != nil {
		return nil, fmt.Errorf("repo: a draft with a new root or a recovery must be published before releases are examined: %w", errors.ErrUnsupported)
	}
	if err := tx.layAll(d); err != nil {
		return nil, err
	}
	tx.drafts = append(tx.drafts, d)
	return tx, nil
}

// layAll replaces published files by those of a draft, delegators first. The
// delegations are read from the files themselves.
func (tx *Tx) layAll(d *Draft) error {
	e := newEdition(tx, tx.layout(), func(role string) wire.Value {
		if f := d.files[role]; f != nil {
			return f.signed
		}
		return nil
	})
	var wanted []string
	for _, f := range d.sorted() {
		if !e.named[f.role] {
			wanted = append(wanted, f.role)
		}
	}
	if err := e.trace(wanted); err != nil {
		return err
	}
	files := d.sorted()
	slices.SortStableFunc(files, func(a, b *draftFile) int { return len(e.way(a.role)) - len(e.way(b.role)) })
	for _, f := range files {
		if err := tx.lay(e, f); err != nil {
			return err
		}
	}
	return nil
}

// lay replaces a published file by that of a draft if the role's keys have signed it.
func (tx *Tx) lay(e *edition, f *draftFile) error {
	keys, from, err := tx.keysFor(e, f)
	if err != nil {
		return err
	}
	if tx.present.listed(f.role) != f.base {
		return tx.behind(f)
	}
	signed := metafile.Envelope{Signed: f.signed, Signatures: map[string][]byte{}}
	for id, digits := range f.sigs {
		signed.Signatures[id], _ = hex.DecodeString(digits)
	}
	if have, want := signed.Signers(keyMap(keys.Keys)), max(keys.Threshold, 1); have < want {
		return fmt.Errorf("repo: %s v%d: %w: %d of %d needed keys of the role signed", roleText(f.role), f.version, ErrUnsigned, have, want)
	}
	l, err := e.instead(f.role)
	if err != nil {
		return err
	}
	l.From = from
	tx.lists[f.role] = l
	if !e.named[f.role] {
		tx.parents[f.role] = e.via[f.role]
	}
	return nil
}

// keysFor returns the keys that must sign a draft's file, and the published role.
func (tx *Tx) keysFor(e *edition, f *draftFile) (Keys, *tuf.Targets, error) {
	if e.named[f.role] {
		for _, x := range tx.layout().lists() {
			if x.role != f.role {
				continue
			}
			was, err := tx.read(f.role)
			if err != nil || was == nil {
				return x.keys, nil, err
			}
			return x.keys, was.From, nil
		}
	}
	switch leads := e.parents[f.role]; {
	case len(leads) == 0:
		return Keys{}, nil, fmt.Errorf("repo: neither the root nor another role delegates to %s: %w", roleText(f.role), tuf.ErrUntrusted)
	case len(leads) > 1:
		return Keys{}, nil, twoParents(leads[0], leads[1], f.role)
	}
	by, err := tx.keepWay(e.way(f.role))
	if err != nil {
		return Keys{}, nil, err
	}
	keys := keysFor(by, f.role)
	if f.base == 0 || by.From == nil {
		return keys, nil, nil
	}
	was, err := tx.readBelow(by, f.role)
	if err != nil {
		return keys, nil, err
	}
	return keys, was.From, nil
}

// keepWay reads a path of delegators, outermost first, and returns the last.
func (tx *Tx) keepWay(way []string) (*rolelist.List, error) {
	l, err := tx.read(way[0])
	if err == nil && l == nil {
		err = fmt.Errorf("repo: no role %s: %w", roleText(way[0]), tuf.ErrUntrusted)
	}
	for _, name := range way[1:] {
		if err != nil {
			break
		}
		l, err = tx.keepBelow(l, name)
	}
	return l, err
}
