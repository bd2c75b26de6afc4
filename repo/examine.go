package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/proof"
)

// Pending is a target that another party lists and one party does not list, or
// lists otherwise: what a reviewer needs to know to examine it. [Repo.OpenPending] has
// the bytes. Where Recalled or Refused is not nil the party has decided already.
type Pending struct {
	Path     string
	Name     string // of the file in storage and below a location
	Length   int64
	SHA256   string       // lower-case hex
	Release  *tuf.Release // of fields that are bad Changes tells; nil for a plain file
	ListedBy []string     // roles that list it so, sorted by class order
	// Previous is what the party approved of last before this: of the release's
	// product, channel and platform, the one with the highest version below its own;
	// nil where there is none.
	Previous *Target
	// Changes says in words what is new against Previous, what the party lists under
	// the path already, under which other paths it lists the same bytes, or others
	// as the same release, and what is wrong with the release fields, so that it
	// can't be approved.
	Changes []string
	// Refused is the party's last word on these very bytes, where it was a refusal,
	// published, in the draft, or remembered by the ledger (then At is zero). Its Path
	// may be another one. [Tx.Approve] needs a reason to reinstate them.
	Refused *proof.Refusal
	// Recalled is the party's recall of these very bytes, under whatever path, published,
	// in the draft, or remembered by the ledger (then At is zero); Class and Version are
	// not filled in. [Tx.Approve] needs a reason to reinstate them.
	Recalled *tuf.Recall
}

// Target is a target as a party lists it.
type Target struct {
	Path, Name string
	Length     int64
	SHA256     string // lower-case hex
	Release    *tuf.Release
}

// Pending returns what waits for the party's decision, in order of paths, with what
// it decided before. Where other parties list a path differently there is one entry
// for each. It needs no key.
func (r *Repo) Pending(ctx context.Context, party string) ([]Pending, error) {
	return r.PendingIn(ctx, party, nil)
}

// PendingIn is [Repo.Pending] as it would be if a draft were published, which must not
// have a new root. What the draft lists counts only where the role's own keys, as root
// names them, have signed it. draft may be nil and is not changed.
func (r *Repo) PendingIn(ctx context.Context, party string, draft *Draft) (_ []Pending, err error) {
	defer oneLine(&err)
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
	found := map[string][]waiting{} // by path, one for each way in which it is listed
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
			if err := judged(path, v); err != nil {
				p.Changes = append(p.Changes, text.Line(err.Error()))
			}
			if other != nil {
				was, err := listedAs(path, other)
				if err != nil {
					return err
				}
				p.Changes = append(p.Changes, fmt.Sprintf("%s lists it already, otherwise: %s", text.Name(party), strings.Join(changes(was, l), ", ")))
			}
			for _, w := range found[path] {
				p.Changes = append(p.Changes, roleText(w.ListedBy[0])+" lists it otherwise")
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
			p.Recalled, p.Refused, err = tx.tookBack(party, mine, proof.Subject{Path: p.Path, Length: p.Length, SHA256: p.SHA256})
		}
		if err != nil {
			return nil, err
		}
		out = append(out, *p)
	}
	return out, nil
}

// releaseSlot is what releases of one product replace each other in.
type releaseSlot struct{ product, channel, platform string }

// previous finds what the role approved of last before each of the releases, and
// what it lists with the same bytes.
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
			same[p.SHA256] = append(same[p.SHA256], p) // not known under its own path
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	err := tx.each(role, func(path string, v wire.Value) error {
		rel, ok := releaseOf(v)
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
				p.Changes = append(p.Changes, fmt.Sprintf("other bytes are listed already as %s, with the same version, channel and platform: machines that have those do not get these", text.Name(path)))
			}
		}
		for _, p := range same[l.SHA256] {
			if p.Path != path {
				p.Changes = append(p.Changes, fmt.Sprintf("the same bytes are listed already as %s: version %s, channel %s, platform %s",
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
	e, err := parseEntry(v)
	if err != nil {
		return Target{}, fmt.Errorf("repo: %s: %w", text.Name(path), err)
	}
	sum := strings.ToLower(e.sha256)
	l := Target{Path: path, Name: TargetName(path, sum), Length: e.length, SHA256: sum}
	if rel, ok := releaseOf(v); ok {
		l.Release = &rel
	}
	return l, nil
}

// changes says in words what differs.
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
			out = append(out, "only one of both is a release")
		}
		return out
	}
	a, b := was.Release, is.Release
	say("product", text.Quote(a.Product), text.Quote(b.Product))
	say("version", text.Quote(a.Version), text.Quote(b.Version))
	say("channel", text.Quote(a.Channel), text.Quote(b.Channel))
	say("platform", text.Quote(a.Platform), text.Quote(b.Platform))
	if !lowerVersion(a.Version, b.Version) || b.Sequence <= a.Sequence { // a later version has a later number
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
		out = append(out, "other notes")
	}
	return out
}

// percentOf is the share of the machines that shall have a release.
func percentOf(rel *tuf.Release) int {
	if rel.Rollout == nil {
		return 100
	}
	return rel.Rollout.Percent
}

// OpenPending returns the bytes of what is pending, from the repository's storage. They
// are checked as they are read: at their end, in place of io.EOF, the error wraps
// [tuf.ErrMismatch] where they are not what is listed, and so does more than the
// listed length. The caller closes it.
func (r *Repo) OpenPending(ctx context.Context, p Pending) (_ io.ReadCloser, err error) {
	defer oneLine(&err)
	f, err := storage.SourceOf(r.storage).Open(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	return &listedFile{f, sha256.New(), p.Length, p}, nil
}

// listedFile is a file that must be what is listed.
type listedFile struct {
	io.ReadCloser
	hash hash.Hash
	left int64
	want Pending
}

func (f *listedFile) Read(b []byte) (int, error) {
	n, err := f.ReadCloser.Read(b)
	f.hash.Write(b[:n])
	if f.left -= int64(n); f.left < 0 {
		return 0, fmt.Errorf("repo: %s: %w: more than %d bytes", text.Name(f.want.Path), tuf.ErrMismatch, f.want.Length)
	}
	if err == io.EOF && (f.left > 0 || hex.EncodeToString(f.hash.Sum(nil)) != f.want.SHA256) {
		err = fmt.Errorf("repo: %s: %w: not the bytes that are listed", text.Name(f.want.Path), tuf.ErrMismatch)
	}
	return n, err
}

// StageOn is [Repo.Stage] on top of a draft that is not published yet: fn sees
// the repository as the draft would make it, and what is returned is one draft of
// both, with the signatures that the first one had. So a reviewer approves of what
// the vendor hands over, before anybody publishes it. The draft must not have a
// new root or a recovery, and each of its roles must have been signed by enough of the keys that
// root names for it; else the error wraps [ErrUnsigned]. draft is not changed.
func (r *Repo) StageOn(ctx context.Context, draft *Draft, fn func(*Tx) error) (_ *Draft, err error) {
	defer oneLine(&err)
	tx, err := r.over(ctx, draft)
	if err != nil {
		return nil, err
	}
	if err := fn(tx); err != nil {
		return nil, err
	}
	return r.stage(ctx, tx, draft)
}

// over begins to edit what the repository would be were a draft published; nil: as it is.
func (r *Repo) over(ctx context.Context, d *Draft) (*Tx, error) {
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	if p.root == nil {
		return nil, errEmpty
	}
	tx := r.newTx(ctx, p)
	if d == nil {
		return tx, nil
	}
	if d.files["root"] != nil || d.recovery != nil {
		return nil, fmt.Errorf("repo: a draft with a new root, or a recovery, is signed and published before releases are examined: %w", errors.ErrUnsupported)
	}
	if err := tx.layAll(d); err != nil {
		return nil, err
	}
	tx.drafts = append(tx.drafts, d)
	return tx, nil
}

// layAll puts a draft's files over the published ones, each after those that lead
// to it. Which these are is read from the files themselves.
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

// lay puts a draft's file over the published one, where its keys have signed it.
func (tx *Tx) lay(e *edition, f *draftFile) error {
	keys, from, err := tx.keysFor(e, f)
	if err != nil {
		return err
	}
	if tx.present.listed(f.role) != f.base {
		return tx.behind(f)
	}
	signed := envelope{signed: f.signed, sigs: map[string][]byte{}}
	for id, digits := range f.sigs {
		signed.sigs[id], _ = hex.DecodeString(digits)
	}
	if have, want := signed.signers(keyMap(keys.Keys)), max(keys.Threshold, 1); have < want {
		return fmt.Errorf("repo: %s v%d: %w: %d of %d of its keys", roleText(f.role), f.version, ErrUnsigned, have, want)
	}
	l, err := e.instead(f.role)
	if err != nil {
		return err
	}
	l.from = from
	tx.lists[f.role] = l
	if !e.named[f.role] {
		tx.parents[f.role] = e.via[f.role]
	}
	return nil
}

// keysFor returns who must sign a draft's file, and the role as it is published.
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
			return x.keys, was.from, nil
		}
	}
	switch leads := e.parents[f.role]; {
	case len(leads) == 0:
		return Keys{}, nil, fmt.Errorf("repo: neither root nor another role leads to %s: %w", roleText(f.role), tuf.ErrUntrusted)
	case len(leads) > 1:
		return Keys{}, nil, twoParents(leads[0], leads[1], f.role)
	}
	by, err := tx.keepWay(e.way(f.role))
	if err != nil {
		return Keys{}, nil, err
	}
	keys := by.keysFor(f.role)
	if f.base == 0 || by.from == nil {
		return keys, nil, nil
	}
	was, err := tx.readBelow(by, f.role)
	if err != nil {
		return keys, nil, err
	}
	return keys, was.from, nil
}

// keepWay reads the roles that lead to another, outermost first, and returns the last.
func (tx *Tx) keepWay(way []string) (*listing, error) {
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
