package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// publishTolerance is how far ahead signed_at of a root that is published may be.
const publishTolerance = 5 * time.Minute

// oneHour is how much earlier an expiry may be than that of what it replaces.
const oneHour = time.Hour

// override is what a person spelled out for one draft. It does not travel.
type override struct {
	supersede     string          // sha256 of the root that was signed first
	shorterExpiry bool            // rule K5
	lift          map[string]bool // paths whose hold was lifted
}

// signing is one request for signatures: what shall be signed with which keys.
// Its rules are the only way to a signature of a draft, timestamp or snapshot.
type signing struct {
	repo    *Repo
	ctx     context.Context
	tx      *Tx // over what is published
	draft   *Draft
	tip     *tuf.Root // the root that the draft's root follows; nil for the first root
	root    before    // the draft's root; nil where root stays
	layout  *Root     // as it will be; nil for timestamp and snapshot
	items   []*item
	parents map[string]*listing // of the draft, by role
	above   map[string]*listing // the same roles as they are published
	parties map[tuf.Key]string  // of keys that root names, their party
	ends    bool                // timestamp and snapshot go with a root that ends or replaces a recovery
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

// newSigning prepares a request for a draft against what is published.
func (r *Repo) newSigning(ctx context.Context, p *present, d *Draft) (*signing, error) {
	s := &signing{repo: r, ctx: ctx, tx: r.newTx(ctx, p), draft: d, tip: p.root, parents: map[string]*listing{}, above: map[string]*listing{}, parties: map[tuf.Key]string{}}
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
				err = fmt.Errorf("%w: root v%d is published, the draft follows v%d: %w", ErrConflict, s.tip.Version(), f.base, err)
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
	return s, nil
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
		for _, signer := range signers {
			if s.may(x, signer.Key()) {
				x.signers, x.keyIDs = append(x.signers, signer), append(x.keyIDs, signer.Key().ID())
			}
		}
		if b := r.cfg.Bridge; b != nil && f.role != "root" {
			for _, signer := range b.Signers {
				if b.part(f, signer.Key().ID()) {
					x.signers, x.keyIDs = append(x.signers, signer), append(x.keyIDs, signer.Key().ID())
				}
			}
		}
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
	reinstated, err := s.reinstated()
	if err != nil {
		return err
	}
	for _, x := range s.items {
		f := x.file
		sum := sum256(f.signed)
		r := b.keys(s.recordName(f), x.wasKeys)
		if f.role != "root" && r.Seen != nil && (x.version < r.Seen.Version || x.version == r.Seen.Version && x.was != nil && sum256(x.was) != r.Seen.SHA256) {
			return fmt.Errorf("repo: %s: %w: published is v%d, the ledger has seen v%d with sha256 %.16s: the storage is old, or shows another content",
				text.Name(f.role), ErrRoleBehind, x.version, r.Seen.Version, r.Seen.SHA256)
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
		if err := s.automatic(b, x); err != nil {
			return err
		}
	}
	for _, x := range s.items {
		s.record(b, x, reinstated, now)
	}
	return nil
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

// dates is rule K5.
func (s *signing) dates(x *item) error {
	f, now, tolerance := x.file, s.repo.now(), s.repo.cfg.ClockTolerance
	if s.draft != nil && s.draft.statements[f.role] != nil {
		return nil
	}
	no := func(format string, args ...any) error {
		return fmt.Errorf("repo: %s v%d: %w: %s", text.Name(f.role), f.version, ErrDate, fmt.Sprintf(format, args...))
	}
	if s.tip != nil {
		if at := s.tip.Charter().SignedAt(); at.After(now.Add(tolerance)) {
			return no("the published root v%d was signed at %s, this machine's clock is %s", s.tip.Version(), stamp(at), stamp(now))
		}
	}
	if f.role == "root" {
		if at := s.root.Charter().SignedAt(); at.After(now.Add(tolerance)) {
			return no("signed_at is %s, this machine's clock is %s, at most %s ahead is allowed", stamp(at), stamp(now), tolerance)
		}
	}
	if !f.expires.After(now) {
		return no("it expires on %s, this machine's clock is %s", stamp(f.expires), stamp(now))
	}
	if s.draft != nil && s.draft.override.shorterExpiry || x.expires.IsZero() {
		return nil
	}
	if f.role == "root" || x.role.party != "" {
		if f.expires.Before(x.expires.Add(-oneHour)) {
			return no("it expires on %s, before v%d which it replaces, on %s; ShorterExpiry allows it", stamp(f.expires), x.version, stamp(x.expires))
		}
	}
	return nil
}

// takenBack is rule K4.
func (s *signing) takenBack(b *book, x *item, reinstated map[subjectOfRole]bool, now time.Time) error {
	if s.layout == nil || x.top == "" || len(b.body.TakenBack) == 0 {
		return nil
	}
	after, before := newListing(x.file.role), newListing(x.file.role)
	if err := after.take(x.file.signed); err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(x.file.role), err)
	}
	if x.was != nil {
		if err := before.take(x.was); err != nil {
			return fmt.Errorf("repo: %s: %w", text.Name(x.file.role), err)
		}
	}
	sums := map[string][]string{} // paths by sha256
	for path, v := range after.targets {
		if e, err := parseEntry(v); err == nil {
			sums[strings.ToLower(e.sha256)] = append(sums[strings.ToLower(e.sha256)], path)
		}
	}
	for _, t := range b.body.TakenBack {
		if t.Role != x.top {
			continue
		}
		if t.Kind == "hold" {
			until, err := time.Parse(time.RFC3339, t.Until)
			if err != nil || !until.After(now) || after.targets[t.Path] != nil || s.draft.override.lift[t.Path] {
				continue
			}
			return fmt.Errorf("repo: %s v%d: %w: the hold of %s until %s was signed and is not published yet: hold it in this draft too, or lift it",
				text.Name(x.file.role), x.file.version, ErrTakenBack, text.Name(t.Path), t.Until)
		}
		if reinstated[subjectOfRole{x.top, t.SHA256}] {
			continue
		}
		slices.Sort(sums[t.SHA256])
		for _, path := range sums[t.SHA256] {
			if path != t.Path && string(before.targets[path]) == string(after.targets[path]) {
				continue // the same bytes under another path, listed all along
			}
			return fmt.Errorf("repo: %s v%d: %w: a %s names the bytes of %s (sha256 %.16s: %s); Reinstate approves them again",
				text.Name(x.file.role), x.file.version, ErrTakenBack, t.Kind, text.Name(path), t.SHA256, text.Quote(t.Reason))
		}
	}
	return nil
}

// subjectOfRole is the bytes that a role speaks of.
type subjectOfRole struct{ role, sha256 string }

// reinstated are the bytes that reviews in the draft approve again in spite of a
// recall or a refusal, with a reason.
func (s *signing) reinstated() (map[subjectOfRole]bool, error) {
	out := map[subjectOfRole]bool{}
	if s.draft == nil {
		return out, nil
	}
	for _, st := range s.draft.statements {
		c, err := st.read()
		if err != nil {
			return nil, err
		}
		if c.Review != nil && c.Review.Reinstate != "" {
			out[subjectOfRole{c.Reviewer.Role, c.Subject.SHA256}] = true
		}
	}
	return out, nil
}

// automatic applies Config.Automation.
func (s *signing) automatic(b *book, x *item) error {
	a := s.repo.cfg.Automation
	if a == nil {
		return nil
	}
	f := x.file
	no := func(why string) error { return fmt.Errorf("repo: %s: %w: %s", text.Name(f.role), ErrNotAutomatic, why) }
	switch {
	case f.role == "root" || f.role == recoveryRole:
		return no("roots and recoveries are signed by people")
	case !s.repo.cfg.SharedLedger && !s.holdsAll(x.role.keys.Keys):
		return fmt.Errorf("repo: %s: %w: others hold keys of the role; declare Config.SharedLedger where all of them use this ledger", text.Name(f.role), ErrLedgerNotShared)
	case x.online:
		return nil
	case s.draft.statements[f.role] != nil:
		c, err := s.draft.statements[f.role].read()
		if err != nil {
			return err
		}
		if c.Review == nil || c.Review.Reinstate != "" ||
			!slices.ContainsFunc(a.Releases, func(p string) bool { return p != "" && strings.HasPrefix(c.Subject.Path, p) }) {
			return no("a statement about " + text.Name(c.Subject.Path))
		}
		return nil
	}
	was := b.lastWord(f.role)
	if x.bin {
		was = x.was
	}
	return a.automatic(x, was)
}

// holdsAll reports whether this handle's own signers hold every one of the keys.
func (s *signing) holdsAll(keys []tuf.Key) bool {
	for _, k := range keys {
		if !slices.ContainsFunc(s.repo.cfg.Signers, func(o tuf.Signer) bool { return o.Key() == k }) {
			return false
		}
	}
	return true
}

// record writes a signing into the book, with what was seen of the role.
func (s *signing) record(b *book, x *item, reinstated map[subjectOfRole]bool, now time.Time) {
	f := x.file
	if s.draft != nil && s.draft.statements[f.role] != nil {
		if c, err := s.draft.statements[f.role].read(); err == nil && c.Refusal != nil {
			b.take(takenBack{Kind: "refusal", Role: c.Reviewer.Role, Path: c.Subject.Path, SHA256: c.Subject.SHA256, Reason: c.Refusal.Reason})
		}
		return
	}
	whole := !x.bin && !x.online && f.role != recoveryRole && f.role != "root"
	if x.version > 0 && x.was != nil && f.role != "root" {
		b.see(f.role, x.wasKeys, x.version, x.was, whole)
	}
	signed := bookSigned{Version: f.version, SHA256: sum256(f.signed)}
	if !x.bin {
		signed.At, signed.KeyIDs = stamp(now), slices.Sorted(slices.Values(x.keyIDs))
		if s.draft != nil {
			signed.Draft = s.draft.Digest()
		}
	}
	b.sign(s.recordName(f), f, signed, whole)
	if x.top == "" {
		return
	}
	for _, t := range recalledIn(x.top, f.signed) {
		b.take(t)
	}
	if x.role.party == "" && x.role.class != "" {
		for _, t := range heldIn(x.top, f.signed, now) {
			b.take(t)
		}
	}
	for r := range reinstated {
		if r.role == x.top {
			b.release(r.role, r.sha256, "recall", "refusal")
		}
	}
}

// item says what a part of the draft is, by the verified root and what leads to
// the role from there; what the draft says of it is not believed.
func (s *signing) item(f *draftFile) (*item, error) {
	x := &item{file: f}
	p := s.tx.present
	switch {
	case f.role == recoveryRole || s.draft.statements[f.role] != nil:
		return x, s.statementKeys(x)
	case f.role == "root":
		if s.tip != nil && s.draft.recovery == nil {
			env, err := openEnvelope(s.tip.Bytes())
			if err != nil {
				return nil, err
			}
			x.was, x.version, x.expires = env.signed, s.tip.Version(), s.tip.Expires()
		}
		return x, nil
	}
	if i := slices.IndexFunc(s.layout.lists(), func(n named) bool { return n.role == f.role }); i >= 0 {
		x.role, x.top = s.layout.lists()[i], f.role
		if p.under != nil {
			was := rootOf(p.under).lists()
			if i := slices.IndexFunc(was, func(n named) bool { return n.role == f.role }); i >= 0 {
				x.wasKeys = was[i].keys.Keys
			}
		}
	} else if err := s.delegated(x); err != nil {
		return nil, err
	}
	if x.version = p.listed(f.role); x.version > 0 {
		t, err := s.publishedRole(x)
		if err != nil {
			return nil, err
		}
		if t != nil {
			if x.was, err = signedOf(t); err != nil {
				return nil, err
			}
			x.expires = t.Expires()
		}
	}
	if f.base != x.version && !(f.version == x.version && string(x.was) == string(f.signed)) {
		return nil, fmt.Errorf("repo: %s v%d is published, the draft follows v%d: %w", text.Name(f.role), x.version, f.base, ErrConflict)
	}
	return x, nil
}

// statementKeys finds who signs a reviewer's statement: the role that the payload
// names.
func (s *signing) statementKeys(x *item) error {
	st := s.draft.statements[x.file.role]
	if st == nil {
		return nil
	}
	c, err := st.read()
	if err != nil {
		return err
	}
	if repoID := c.RepoID(); repoID != s.layout.RepoID {
		return fmt.Errorf("repo: %s: %w: it is about repository %s", text.Name(x.file.role), tuf.ErrMismatch, text.Name(repoID))
	}
	for _, n := range s.layout.lists() {
		if n.role == c.Reviewer.Role && n.party == c.Reviewer.Party {
			x.role = n
		}
	}
	return nil
}

// delegated finds who signs a role that root does not name: the listing of the
// role above it, in the draft or else as it is published, up to one that root names.
func (s *signing) delegated(x *item) error {
	f := x.file
	if len(f.under) == 0 {
		return fmt.Errorf("repo: %s: %w: root has no such role", text.Name(f.role), tuf.ErrUntrusted)
	}
	if slices.Contains([]string{"root", "timestamp", "snapshot"}, f.role) {
		return fmt.Errorf("repo: %s: %w: root has a role of that name", text.Name(f.role), tuf.ErrUntrusted)
	}
	i := slices.IndexFunc(s.layout.lists(), func(n named) bool { return n.role == f.under[0] && n.party != "" })
	if i < 0 {
		return fmt.Errorf("repo: %s: %w: %s is no role of a party", text.Name(f.role), tuf.ErrUntrusted, text.Name(f.under[0]))
	}
	top := s.layout.lists()[i]
	var by *listing
	for depth, name := range f.under {
		if depth > 0 && names(s.layout, name) {
			return fmt.Errorf("repo: %s: %w: root names %s, nothing else leads to it", text.Name(f.role), tuf.ErrUntrusted, text.Name(name))
		}
		next, err := s.parent(by, name)
		if err != nil {
			return err
		}
		by = next
	}
	if !by.leadsTo(f.role) {
		return fmt.Errorf("repo: %s does not delegate to %s: %w", text.Name(by.role), text.Name(f.role), tuf.ErrUntrusted)
	}
	x.role = named{f.role, top.class, top.party, by.keysFor(f.role)}
	x.top, x.bin = top.role, by.bits() > 0
	if was := s.above[by.role]; was != nil && was.leadsTo(f.role) {
		x.wasKeys = was.keysFor(f.role).Keys
	}
	return nil
}

// parent reads one listing on the way to a delegated role.
func (s *signing) parent(by *listing, name string) (*listing, error) {
	if l := s.parents[name]; l != nil {
		return l, nil
	}
	if by != nil && !by.leadsTo(name) {
		return nil, fmt.Errorf("repo: %s does not delegate to %s: %w", text.Name(by.role), text.Name(name), tuf.ErrUntrusted)
	}
	var l *listing // as it is published; nil for none
	var err error
	if by == nil {
		l, err = s.tx.read(name)
	} else if by.from != nil {
		l, err = s.tx.readBelow(by, name)
	}
	if s.above[name] = l; err != nil {
		s.above[name] = nil
	}
	f := s.draft.files[name]
	if err != nil && !(f != nil && errors.Is(err, tuf.ErrUntrusted)) {
		return nil, err
	}
	if f != nil {
		published := l
		l = newListing(name)
		if err := l.take(f.signed); err != nil {
			return nil, fmt.Errorf("repo: %s: %w", text.Name(name), err)
		}
		if published != nil {
			l.from = published.from
		}
	}
	if l == nil {
		return nil, fmt.Errorf("repo: no role %s: %w", text.Name(name), tuf.ErrUntrusted)
	}
	s.parents[name] = l
	return l, nil
}

// leadsTo reports whether l delegates to a role.
func (l *listing) leadsTo(role string) bool {
	if l.delegations == nil {
		return false
	}
	if b := l.delegations.SuccinctRoles; b != nil {
		digits, ok := strings.CutPrefix(role, b.NamePrefix+"-")
		return ok && len(digits) == (b.BitLength+3)/4 && isBin(digits, b.BitLength)
	}
	return l.product(role) >= 0
}

// isBin reports whether hex digits name one of 2^bits bins.
func isBin(digits string, bits int) bool {
	n := uint64(0)
	for i := range len(digits) {
		d := strings.IndexByte("0123456789abcdef", digits[i])
		if d < 0 {
			return false
		}
		n = n<<4 | uint64(d)
	}
	return n < 1<<bits
}

// publishedRole opens the published version of a role, nil where what is listed
// under its name belongs to no role of today.
func (s *signing) publishedRole(x *item) (*tuf.Targets, error) {
	p := s.tx.present
	t, err := p.snap.Role(x.top, s.tx.fetch)
	if x.top != x.file.role {
		for _, name := range append(slices.Clone(x.file.under[1:]), x.file.role) {
			if err != nil {
				break
			}
			t, err = p.snap.Delegated(t, name, s.tx.fetch)
		}
	}
	if errors.Is(err, tuf.ErrUntrusted) {
		return nil, nil // it was not there, or stood elsewhere
	}
	return t, err
}

// may reports whether a key has a part in a file, by the verified roots and by
// the root that the draft proposes.
func (s *signing) may(x *item, key tuf.Key) bool {
	in := func(parties []Party) bool {
		return slices.ContainsFunc(parties, func(p Party) bool { return slices.Contains(p.Keys, key) })
	}
	switch {
	case x.file.role == recoveryRole:
		return slices.ContainsFunc(rootOf(s.tip).recoveryKeys(), func(k tuf.Key) bool { return k == key })
	case x.file.role == "root":
		return in(s.layout.Parties) || s.tip != nil && s.draft.recovery == nil && in(rootOf(s.tip).Parties)
	}
	if !slices.Contains(x.role.keys.Keys, key) {
		return false
	}
	// A role below another party's one is not this key's, whatever it says there.
	party, known := s.parties[key]
	return !known || x.top == x.file.role || x.top == "" || party == x.role.party
}

func (r *Root) recoveryKeys() (keys []tuf.Key) {
	if r.Recovery != nil {
		for _, o := range r.Recovery.Orgs {
			keys = append(keys, o.Keys...)
		}
	}
	return keys
}

// signFile signs a timestamp or snapshot that a publish makes, by the same rules
// as a draft.
func (n *publication) signFile(ctx context.Context, f *draftFile, keys Keys) error {
	x := &item{file: f, online: true, fresh: true, role: named{role: f.role, keys: keys}}
	signers := n.repo.cfg.Signers
	for _, s := range signers {
		if slices.Contains(keys.Keys, s.Key()) {
			x.signers, x.keyIDs = append(x.signers, s), append(x.keyIDs, s.Key().ID())
		}
	}
	if b := n.repo.cfg.Bridge; b != nil {
		for _, s := range b.Signers {
			if b.part(f, s.Key().ID()) {
				x.signers, x.keyIDs = append(x.signers, s), append(x.keyIDs, s.Key().ID())
			}
		}
	}
	p := n.present
	data := p.timestamp
	if f.role == "snapshot" {
		data = p.snapshot
	}
	if data != nil && p.under != nil {
		env, err := openEnvelope(data)
		if err != nil {
			return err
		}
		x.was, x.version = env.signed, env.version
		x.wasKeys = rootOf(p.under).Timestamp.Keys
		if f.role == "snapshot" {
			x.wasKeys = rootOf(p.under).Snapshot.Keys
		}
	}
	s := &signing{repo: n.repo, ctx: ctx, tx: n.repo.newTx(ctx, p), tip: n.root, layout: rootOf(n.root), items: []*item{x}, ends: n.newRoot != nil}
	if err := s.permit(false); err != nil {
		return err
	}
	for _, signer := range x.signers {
		if err := f.add(ctx, signer); err != nil {
			return err
		}
	}
	return nil
}

// seePublished records what a publish of this handle has brought: the next
// request is compared with it, whatever the storage shows by then.
func (n *publication) seePublished(ctx context.Context, timestamp, snapshot []byte) error {
	ts, err := n.root.Timestamp(timestamp, nil, longAgo)
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	snap, err := ts.Snapshot(snapshot, nil)
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	err = n.repo.change(ctx, n.root.Charter().RepoID(), func(b *book) error {
		b.seeRoot(n.root, n.recovery != nil)
		layout := rootOf(n.root)
		for role, f := range n.fresh {
			var keys []tuf.Key
			if i := slices.IndexFunc(layout.lists(), func(x named) bool { return x.role == role }); i >= 0 {
				keys = layout.lists()[i].keys.Keys
			}
			b.see(role, keys, f.version, f.signed, !f.isBin())
		}
		b.seeOnline(&present{ts: ts, snap: snap, timestamp: timestamp, snapshot: snapshot, under: n.root})
		return nil
	})
	if err != nil {
		return fmt.Errorf("the repository is published, but not recorded: %w", err)
	}
	return nil
}

// isBin reports whether the file is a hash bin of the role above it.
func (f *draftFile) isBin() bool {
	n := len(f.under)
	return n > 0 && strings.HasPrefix(f.role, binPrefix(f.under[n-1])+"-")
}
