package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// publishTolerance is how far ahead signed_at of a root that is published may be.
const publishTolerance = 5 * time.Minute

// ahead is how far signed_at of a root is ahead of this machine's clock; 0 where that
// may be published. Clients take the date of their newest root for the present, so
// that what ends before it has expired for them.
func (r *Repo) ahead(root before) time.Duration {
	c := root.Charter()
	if c == nil {
		return 0
	}
	if d := c.SignedAt().Sub(r.now()); d > publishTolerance {
		return d
	}
	return 0
}

// oneHour is how much earlier an expiry may be than that of what it replaces.
const oneHour = time.Hour

// override is what a person spelled out for one draft. It does not travel.
type override struct {
	supersede     string          // sha256 of the root that was signed first
	shorterExpiry bool            // rule K5
	compromised   []tuf.Key       // rule K3
	lift          map[string]bool // paths whose hold was lifted
}

// signing is one request for signatures: what shall be signed with which keys.
// Its rules are the only way to a signature of a draft, timestamp or snapshot.
type signing struct {
	repo          *Repo
	ctx           context.Context
	tx            *Tx // over what is published
	draft         *Draft
	tip           *tuf.Root // the root that the draft's root follows; nil for the first root
	root          before    // the draft's root; nil where root stays
	layout        *Root     // as it will be; nil for timestamp and snapshot
	items         []*item
	before, after *edition               // of the draft
	restored      map[string]wire.Value  // signed parts in place of what compromised keys published
	parties       map[tuf.Key]string     // of keys that root names, their party
	recalls       map[string][]takenBack // by party
	compromised   []tuf.Key              // of timestamp and snapshot
	ends          bool                   // timestamp and snapshot go with a root that ends or replaces a recovery
}

// item is one file that shall be signed.
type item struct {
	file    *draftFile
	role    named // of a targets role
	top     string
	bin     bool // a hash bin
	online  bool // timestamp or snapshot
	fresh   bool // staged in this very call, so that its version can still be chosen
	keyIDs  []string
	signers []tuf.Signer
	was     wire.Value // signed part that is published; nil for none
	wasKeys []tuf.Key  // the role's keys where it is published
	expires time.Time  // of what is published; zero for none
	version int64      // that is published; 0 for none
}

// choose says who signs the item: those signers that have a part in it, and those
// of the bridge, which has none in root.
func (x *item) choose(signers []tuf.Signer, b *Bridge, part func(tuf.Key) bool) {
	add := func(s tuf.Signer) {
		x.signers, x.keyIDs = append(x.signers, s), append(x.keyIDs, s.Key().ID())
	}
	for _, s := range signers {
		if part(s.Key()) {
			add(s)
		}
	}
	if b == nil || x.file.role == "root" {
		return
	}
	for _, s := range b.Signers {
		if b.part(cmp.Or(x.top, x.file.role), s.Key().ID()) {
			add(s)
		}
	}
}

// newSigning prepares a request for a draft against what is published.
func (r *Repo) newSigning(ctx context.Context, p *present, d *Draft) (*signing, error) {
	s := &signing{repo: r, ctx: ctx, tx: r.newTx(ctx, p), draft: d, tip: p.root, parties: map[tuf.Key]string{}}
	if d.recovery != nil {
		says, err := readRecovery(d.recovery)
		if err != nil {
			return nil, err
		}
		if s.tip = p.chain.at(says.Tip.Version); s.tip == nil || s.tip.SHA256() != says.Tip.SHA256 {
			return nil, fmt.Errorf("repo: %s: %w: it follows a root v%d that is not published", recoveryRole, tuf.ErrMismatch, says.Tip.Version)
		}
	}
	f := d.files["root"]
	switch {
	case f == nil && p.root == nil:
		return nil, errEmpty
	case f == nil:
		s.layout = rootOf(p.root)
	case s.tip != nil && f.version == s.tip.Version() && sum256(f.signed) == s.tip.SHA256():
		s.root, s.layout = s.tip, rootOf(s.tip) // published already
	default:
		// Checked as a client will, before anything is signed.
		var proposal *tuf.Proposal
		var err error
		if s.tip == nil {
			proposal, err = tuf.ProposeFirst(f.bytes(), r.judge())
		} else {
			proposal, err = s.tip.Propose(f.bytes())
		}
		if err != nil {
			if s.tip != nil && f.base != s.tip.Version() {
				err = fmt.Errorf("%w: %w", f.behindRoot(p.chain), err)
			}
			return nil, fmt.Errorf("repo: %w", err)
		}
		if proposal.Charter() == nil {
			return nil, fmt.Errorf("repo: %w", errNoCharter)
		}
		s.root, s.layout = proposal, rootOf(proposal)
	}
	for _, p := range s.layout.Parties {
		for _, k := range p.Keys {
			s.parties[k] = p.Name
		}
	}
	for _, x := range s.layout.lists() {
		for _, k := range x.keys.Keys {
			if x.party != "" {
				s.parties[k] = x.party
			}
		}
	}
	return s, s.trace()
}

// signDraft signs those of a draft's parts that the signers have a part in, once
// the rules allow it and the ledger has recorded it. It returns how many that were.
// fresh says that the parts were staged in this very call.
func (r *Repo) signDraft(ctx context.Context, p *present, d *Draft, parts []*draftFile, signers []tuf.Signer, fresh, firstRoot bool) (int, error) {
	if len(parts) == 0 || len(signers) == 0 && r.cfg.Bridge == nil {
		return 0, nil
	}
	s, err := r.newSigning(ctx, p, d)
	if err != nil {
		return 0, err
	}
	for _, f := range parts {
		x, err := s.item(f)
		if err != nil {
			return 0, err
		}
		x.choose(signers, r.cfg.Bridge, func(k tuf.Key) bool { return s.may(x, k) })
		x.fresh = fresh
		if len(x.signers) > 0 {
			s.items = append(s.items, x)
		}
	}
	if len(s.items) == 0 {
		return 0, nil
	}
	if err := s.permit(firstRoot); err != nil {
		return 0, err
	}
	for _, x := range s.items {
		for _, signer := range x.signers {
			if err := x.file.add(ctx, signer); err != nil {
				return 0, err
			}
		}
	}
	return len(s.items), nil
}

// permit asks the rules and records what will be signed, in one durable step.
func (s *signing) permit(firstRoot bool) error {
	p := s.tx.present
	for _, x := range s.items {
		if err := s.dates(x); err != nil {
			return err
		}
	}
	err := s.repo.change(s.ctx, s.layout.RepoID, func(b *book) error {
		if p.root == nil {
			return s.first(b, firstRoot)
		}
		if err := s.repo.known(s.ctx, p, b); err != nil {
			return err
		}
		if x := b.leaves(p.chain); x != nil && !s.endsRecovery(x) {
			return fmt.Errorf("repo: %w: the ledger has seen the repository go on with the recovered root v%d with sha256 %s, which is not there any more; name it in Supersede to go back behind the recovery",
				ErrRootBehind, x.Version, x.SHA256)
		}
		b.seeRoots(p.chain)
		return s.check(b)
	})
	if errors.Is(err, ErrRootBehind) || errors.Is(err, ErrRoleBehind) {
		// The ledger may know already what was published while this call was at work.
		if moved, again := s.repo.moved(s.ctx, p); again == nil && moved {
			return fmt.Errorf("%w: %w", ErrConflict, err)
		}
	}
	return err
}

// known checks that the ledger knows the repository, and compares the chain of
// roots with it (rule K1).
func (r *Repo) known(ctx context.Context, p *present, b *book) error {
	if b.empty() && r.cfg.UnsafeTrustStorage {
		roles, err := r.ownRoles(ctx, p)
		if err != nil {
			return err
		}
		b.adopt(p, roles)
	}
	if b.empty() {
		digest, err := r.adoptDigest(ctx, p)
		if err != nil {
			return err
		}
		return fmt.Errorf("repo: %w: this machine has no record of repository %s; use or import the ledger of the party, or compare %s with another machine and call Adopt with it",
			ErrNoLedger, p.root.Charter().RepoID(), digest)
	}
	a := &anchor{book: b}
	a.points = b.points()
	return a.check(p.chain)
}

// endsRecovery reports whether the request is one that may leave the recovery that
// the ledger has seen: it replaces the recovery by another, or ends it by a
// regular root that its signers spelled out (rule K1).
func (s *signing) endsRecovery(x *bookRoot) bool {
	if s.draft == nil {
		return s.ends
	}
	return s.draft.recovery != nil || s.draft.override.supersede == x.SHA256
}

// first checks the request for the first root of a repository.
func (s *signing) first(b *book, allowed bool) error {
	have := b.body.Root
	if s.draft == nil { // timestamp and snapshot of a first root that is published now
		pin, err := s.repo.pinRoot()
		switch {
		case err != nil:
			return err
		case have != nil && have.SHA256 == s.tip.SHA256() && !b.body.Published:
		case have == nil && (s.repo.cfg.UnsafeTrustStorage || pin != nil && pin.SHA256() == s.tip.SHA256()):
		default:
			return fmt.Errorf("repo: root v1: %w: this handle did not sign it; publish it with a handle that did, or with Config.Pin set to it", ErrNoPin)
		}
		return s.check(b)
	}
	f := s.draft.files["root"]
	sum := sum256(f.signed)
	switch {
	case have != nil && b.body.Published:
		return fmt.Errorf("repo: %w: the ledger has seen root v%d published, the storage is empty", ErrRootBehind, have.Version)
	case have != nil && have.SHA256 == sum:
	case have != nil && s.draft.override.supersede != have.SHA256:
		return fmt.Errorf("repo: root v1: %w: another first root was signed, with sha256 %s; name it in Supersede to replace it", ErrSecondContent, have.SHA256)
	case !allowed && s.draft.staged != s.repo:
		return fmt.Errorf("repo: root v1: %w: nothing comes before a first root, so it is signed with SignFirst and the digest that two people compared (%s)", ErrNoPin, s.draft.Digest())
	}
	b.body.Root = &bookRoot{1, sum, f.bytes()}
	return s.check(b)
}

// check asks rules K1 to K4 of each file, and records the signing.
func (s *signing) check(b *book) error {
	now := s.repo.now()
	reinstated := s.reinstated()
	for _, x := range s.items {
		f := x.file
		sum := sum256(f.signed)
		r := b.keys(s.recordName(f), x.wasKeys)
		if h := r.high(); f.role != "root" && h != nil && !s.excused(x) && (x.version < h.Version || x.version == h.Version && x.was != nil && sum256(x.was) != h.SHA256) {
			return fmt.Errorf("repo: %s: %w: published is v%d, the ledger has seen v%d with sha256 %.16s: the storage is old, or shows another content",
				text.Name(f.role), ErrRoleBehind, x.version, h.Version, h.SHA256)
		}
		same, other := r.signedBefore(f.version, sum)
		if !same && other != nil && x.fresh && f.role != "root" && !s.unnumbered(f) {
			// Another process with this ledger took the number first.
			f.renumber(b.highest(f.role) + 1)
			other = nil
		}
		if !same && other != nil && !s.unnumbered(f) {
			if f.role != "root" || s.draft.override.supersede != other.SHA256 || other.SHA256 == "" {
				return s.second(f, sum, other)
			}
		}
		if err := s.takenBack(b, x, reinstated, now); err != nil {
			return err
		}
		if err := errors.Join(s.sequences(x), s.releases(x)); err != nil {
			return err
		}
		if err := s.automatic(b, x); err != nil {
			return err
		}
	}
	for _, x := range s.items {
		s.record(b, x, reinstated, now)
	}
	return nil
}

// excused reports whether rule K3 does not hold for what is published, since
// compromised keys signed it: what the ledger signed stands in its place, or, of
// timestamp and snapshot, the draft that is published names their key.
func (s *signing) excused(x *item) bool {
	return s.restored[x.file.role] != nil || x.online && slices.ContainsFunc(x.wasKeys, func(k tuf.Key) bool { return slices.Contains(s.compromised, k) })
}

// renumber gives a file that nobody has signed yet another version.
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

// unnumbered reports whether a part has no version of its own: a statement of a
// reviewer, whose number only orders them, and a recovered root, which its
// statement names and whose statement is numbered.
func (s *signing) unnumbered(f *draftFile) bool {
	return s.draft != nil && (s.draft.statements[f.role] != nil || f.role == "root" && s.draft.recovery != nil)
}

// recordName is the name under which the ledger records a part. A recovered root
// is no second content of the regular one.
func (s *signing) recordName(f *draftFile) string {
	if s.draft != nil && f.role == "root" && s.draft.recovery != nil {
		return "recovered root"
	}
	return f.role
}

// second words a second content under one version.
func (s *signing) second(f *draftFile, sum string, other *bookSigned) error {
	hint := "stage the draft again: it takes the next free version"
	if f.role == "root" {
		hint = "name the first in Supersede to replace it"
	}
	if other.SHA256 == "" {
		return fmt.Errorf("repo: %s v%d: %w: later versions were signed; %s", text.Name(f.role), f.version, ErrSecondContent, hint)
	}
	return fmt.Errorf("repo: %s v%d with sha256 %.16s: %w: sha256 %s on %s; %s", text.Name(f.role), f.version, sum, ErrSecondContent, other.SHA256, other.At, hint)
}
