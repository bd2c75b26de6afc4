package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// A recovery statement as a part of a draft. No role's name has a space in it.
const (
	recoveryRole = "recovery statement"
	recoveryType = "x-visum-recovery"
)

// recoveryFolder is where recoveries lie.
const recoveryFolder = "metadata/recovery/"

// Recovering says what is recovered from, and why.
type Recovering struct {
	// Reason tells people why no ordinary root can be signed any more.
	Reason string
	// After is the version of the root whose quorum is lost, which clients wait at.
	// 0: the newest. With that of the root before a recovered one StageRecovery
	// replaces that recovery, as long as no other root has followed: clients that
	// still wait begin anew; those that have followed already are lost. Killed while
	// it replaces, Publish leaves what only the same draft, published again, ends.
	After int64
}

// StageRecovery makes the draft of a recovery: of the next root, as fn says it,
// of what must be signed anew under its keys, and of the statement by which the
// recovery organisations of the present charter name exactly this root; see
// [tuf.RecoveryRule]. The statement must be signed by them, the new root by its
// own parties alone.
//
// Publish puts root and statement under metadata/recovery/, where clients look
// only when their root has come to its end, and goes on with content under the
// new root. They follow after the wait that the charter asks for, unless somebody
// publishes an ordinary next root before. Where there is one the error, of Publish
// too, wraps [ErrStale].
func (r *Repo) StageRecovery(ctx context.Context, how Recovering, fn func(*Tx) error) (_ *Draft, err error) {
	defer oneLine(&err)
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	tip, err := p.chain.recoverable(how.After)
	if err != nil {
		return nil, err
	}
	p.root = tip
	tx := r.newTx(ctx, p)
	tx.recovering = &how
	if err := fn(tx); err != nil {
		return nil, err
	}
	return r.stage(ctx, tx, nil)
}

// stageRecovery adds the statement for the draft's root.
func (tx *Tx) stageRecovery(d *Draft) error {
	tip, root := tx.present.root, d.files["root"]
	if root == nil {
		return errors.New("repo: a recovery needs a root that says something new: whose keys sign it")
	}
	// Judged before anybody is asked for a signature.
	proposal, err := tip.Propose(root.bytes())
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	if proposal.Charter().Epoch() == tip.Charter().Epoch() {
		return fmt.Errorf("repo: a recovery brings new timestamp and snapshot keys: %w", tuf.ErrCharter)
	}
	d.recovery, err = tx.repo.newRecovery(tx.ctx, tip, recoveredRoot{root.version, sum256(root.signed)}, tx.recovering.Reason)
	return err
}

// RenewRecovery makes the draft of another statement for a recovery that is
// published: a statement has its day, and after it nobody follows it any more
// who has not waited yet. It takes the recovery keys again. Clients that wait
// begin anew.
func (r *Repo) RenewRecovery(ctx context.Context, how Recovering) (_ *Draft, err error) {
	defer oneLine(&err)
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	tip, next, err := p.chain.recovery(how.After)
	if err != nil {
		return nil, err
	}
	d := newDraft()
	d.repo, d.staged = r, r
	if d.recovery, err = r.newRecovery(ctx, tip, recoveredRoot{next.Version(), next.SHA256()}, how.Reason); err != nil {
		return nil, err
	}
	_, err = r.signDraft(ctx, p, d, d.parts(), r.cfg.Signers, true, false)
	return d, err
}

// recoveryStatement is the signed part of a statement.
type recoveryStatement struct {
	Type        string        `json:"_type"`
	SpecVersion string        `json:"spec_version"`
	Version     int64         `json:"version"`
	Expires     string        `json:"expires"`
	RepoID      string        `json:"repo_id"`
	Tip         recoveredRoot `json:"tip"`
	Root        recoveredRoot `json:"root"`
	Reason      string        `json:"reason"`
}

type recoveredRoot struct {
	Version int64  `json:"version"`
	SHA256  string `json:"sha256"`
}

func (r *Repo) newRecovery(ctx context.Context, tip *tuf.Root, next recoveredRoot, reason string) (*draftFile, error) {
	rule := tip.Charter().Recovery()
	if rule == nil {
		return nil, fmt.Errorf("repo: root v%d: its charter has no recovery: %w", tip.Version(), tuf.ErrCharter)
	}
	if reason == "" {
		return nil, errors.New("repo: a recovery needs a reason")
	}
	lasts := r.cfg.Expiry.Recovery
	if lasts <= rule.Hold {
		return nil, fmt.Errorf("repo: a recovery statement for %s is void before anybody has waited %s: see Expiry.Recovery", inWords(lasts), inWords(rule.Hold))
	}
	have, err := recoveryIn(ctx, r.storage, tip) // junk is replaced
	if err != nil {
		return nil, err
	}
	base := have.counter
	b, err := r.loadBook(ctx, tip.Charter().RepoID())
	if err != nil {
		return nil, err
	}
	signed, err := canonical(recoveryStatement{recoveryType, metadata.SPECIFICATION_VERSION, max(base+1, rule.Counter, b.highest(recoveryRole)+1), stamp(r.now().Add(lasts)),
		tip.Charter().RepoID(), recoveredRoot{tip.Version(), tip.SHA256()}, next, reason})
	if err != nil {
		return nil, err
	}
	if len(signed) > tuf.MaxRecoveryStatement/2 { // the rest is for signatures
		return nil, fmt.Errorf("repo: %s: %w: %d bytes, at most %d: a shorter reason will do", recoveryRole, tuf.ErrTooLarge, len(signed), tuf.MaxRecoveryStatement/2)
	}
	keys, orgs := need{"the recovery keys", map[string]tuf.Key{}, rule.Threshold, nil}, map[string]string{}
	for _, o := range rule.Orgs {
		for id, k := range tip.Keys(o.KeyIDs) {
			keys.Keys[id], orgs[id] = k, o.Name
		}
	}
	return newSigned(recoveryRole, recoveryType, base, signed, keys, need{"the recovery organisations", keys.Keys, rule.MinOrgs, orgs})
}

// readRecovery reads what a statement names.
func readRecovery(f *draftFile) (s recoveryStatement, err error) {
	for _, x := range []struct {
		member string
		to     *recoveredRoot
	}{{"tip", &s.Tip}, {"root", &s.Root}} {
		v := member(f.signed, x.member)
		n, err := member(v, "version").Int()
		if err != nil {
			return s, fmt.Errorf("repo: %s: %s: %w", recoveryRole, x.member, tuf.ErrMalformed)
		}
		sum, err := member(v, "sha256").Text()
		if err != nil {
			return s, fmt.Errorf("repo: %s: %s: %w", recoveryRole, x.member, tuf.ErrMalformed)
		}
		*x.to = recoveredRoot{n, sum}
	}
	return s, nil
}

// recoveryFiles are a recovery statement for a root, with the root it names, as
// far as a place has them.
type recoveryFiles struct {
	tip   *tuf.Root
	names [2]string // of the statement, of the root
	data  [2][]byte
	rec   *tuf.Recovery
	// Of what lies in a storage: the counter of the statement, also of one whose root
	// was replaced by somebody who was killed before he came to the statement.
	counter int64
	over    [2][]byte // of what will be written: what was there when that was decided
}

// recoveryAfter is where a recovery after root lies; false: its charter has none.
func recoveryAfter(root *tuf.Root) (f recoveryFiles, ok bool) {
	f.tip = root
	if root.Charter() == nil || root.Charter().Recovery() == nil {
		return f, false
	}
	statement, next := root.RecoveryFiles()
	f.names = [2]string{"metadata/" + statement, "metadata/" + next}
	return f, true
}

// recoveryOf reads what lies ready for the case that root gets no ordinary
// successor. rec is nil where there is nothing.
func recoveryOf(ctx context.Context, src Source, root *tuf.Root) (f recoveryFiles, err error) {
	f, ok := recoveryAfter(root)
	if !ok {
		return f, nil
	}
	for i, limit := range []int64{tuf.MaxRecoveryStatement, tuf.Limits{}.WithDefaults().Root} {
		if f.data[i], err = readFrom(ctx, src, f.names[i], limit); errors.Is(err, fs.ErrNotExist) {
			return f, nil
		} else if err != nil {
			return f, err
		}
	}
	f.rec, err = root.Recovery(f.data[0], f.data[1], longAgo)
	return f, err
}

// recoveryIn reads whatever lies in a storage where a recovery after tip would:
// rec is nil where it is none.
func recoveryIn(ctx context.Context, s Storage, tip *tuf.Root) (f recoveryFiles, err error) {
	f, ok := recoveryAfter(tip)
	if !ok {
		return f, nil
	}
	for i, name := range f.names {
		if f.data[i], err = s.Read(ctx, name); errors.Is(err, fs.ErrNotExist) {
			f.data[i] = nil
		} else if err != nil {
			return f, err
		}
	}
	f.rec, _ = tip.Recovery(f.data[0], f.data[1], longAgo)
	rule := tip.Charter().Recovery()
	keys := map[string]tuf.Key{}
	for _, o := range rule.Orgs {
		maps.Copy(keys, tip.Keys(o.KeyIDs))
	}
	if e, err := openEnvelope(f.data[0]); err == nil && e.typ == recoveryType && e.signers(keys) >= rule.Threshold {
		f.counter = e.version
	}
	return f, nil
}

// follows reports whether a draft's statement was made after this one, or is this one.
func (f *recoveryFiles) follows(statement *draftFile) error {
	if f.counter != statement.base && !bytes.Equal(f.data[0], statement.bytes()) {
		return fmt.Errorf("repo: %w: %s v%d is published, the draft follows v%d", ErrStale, recoveryRole, f.counter, statement.base)
	}
	return nil
}

// root is the one that the statement names. Whoever looks at a repository, and
// does not live by it, need not wait.
func (f *recoveryFiles) root() (*tuf.Root, error) {
	rule := f.rec.Rule()
	return f.rec.Accept(tuf.Wait{Statement: f.rec.ID(), Held: rule.Hold, Ticks: rule.MinTicks})
}

// loadFor loads the repository for a draft that shall be published. Who was killed
// while one recovery replaced another left something that nobody can open without
// the rest of it, which the draft has.
func (r *Repo) loadFor(ctx context.Context, d *Draft) (*present, error) {
	p, err := r.load(ctx)
	if !errors.Is(err, tuf.ErrUntrusted) || d.recovery == nil || d.files["root"] == nil {
		return p, err
	}
	a, anchorErr := r.anchor(ctx)
	if anchorErr != nil {
		return nil, err
	}
	c, chainErr := r.readChain(ctx, a)
	says, saysErr := readRecovery(d.recovery)
	if chainErr != nil || saysErr != nil {
		return nil, err
	}
	tip, tipErr := c.recoverable(says.Tip.Version)
	if tipErr != nil {
		return nil, err
	}
	f, _ := recoveryAfter(tip) // without a rule nothing comes of it
	f.data = [2][]byte{d.recovery.bytes(), d.files["root"].bytes()}
	return r.with(recoveryOver{r.storage, f}).load(ctx)
}

// recoveryOver is a storage as it will be when a recovery has been written.
type recoveryOver struct {
	Storage
	files recoveryFiles
}

func (s recoveryOver) Read(ctx context.Context, name string) ([]byte, error) {
	for i := range s.files.names {
		if name == s.files.names[i] {
			return bytes.Clone(s.files.data[i]), nil
		}
	}
	return s.Storage.Read(ctx, name)
}

// takeRecovery checks a draft's recovery, and with it its root.
func (n *publication) takeRecovery(ctx context.Context, d *Draft) error {
	f, root := d.recovery, d.files["root"]
	if root == nil && len(d.files)+len(d.statements) > 0 {
		return fmt.Errorf("repo: %s without a root is published by itself", recoveryRole)
	}
	says, err := readRecovery(f)
	if err != nil {
		return err
	}
	var tip *tuf.Root
	if root != nil {
		tip, err = n.present.chain.recoverable(says.Tip.Version)
	} else {
		tip, _, err = n.present.chain.recovery(says.Tip.Version)
	}
	if err != nil {
		return err
	}
	have, err := recoveryIn(ctx, n.repo.storage, tip)
	if err != nil {
		return err
	}
	if err := have.follows(f); err != nil {
		return err
	}
	next := recoveryFiles{tip: tip, names: have.names, data: [2][]byte{f.bytes(), have.data[1]}, over: have.data}
	if root != nil {
		next.data[1] = root.bytes()
	}
	if next.rec, err = tip.Recovery(next.data[0], next.data[1], n.repo.now()); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	n.recovery = &next
	if n.root, err = next.root(); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	n.newRoot = next.data[1]
	n.content = n.content || !n.present.serves(n.root)
	return nil
}

// put writes a recovery over what was there, the statement after the root that it names.
func (f *recoveryFiles) put(ctx context.Context, s Storage) error {
	for _, i := range []int{1, 0} {
		if bytes.Equal(f.over[i], f.data[i]) {
			continue
		}
		if err := s.Replace(ctx, f.names[i], f.over[i], f.data[i]); err != nil {
			return fmt.Errorf("repo: %s: %w", text.Name(f.names[i]), err)
		}
	}
	return nil
}

// recovery copies a recovery, unless the mirror has a later one.
func (c *cloning) recovery(ctx context.Context, theirs recoveryFiles) error {
	ours, err := recoveryIn(ctx, c.repo.storage, theirs.tip)
	if err != nil || ours.rec != nil && ours.counter >= theirs.rec.Counter() {
		return err
	}
	theirs.over = ours.data
	if err := theirs.put(ctx, c.repo.storage); err != nil {
		return err
	}
	for i := range theirs.names {
		c.done(theirs.names[i], int64(len(theirs.data[i])))
	}
	return nil
}

// recovery shows a draft's recovery statement, once it fits the roots that it
// names.
func (x *comparison) recovery() error {
	f := x.draft.recovery
	if f == nil {
		return nil
	}
	says, err := readRecovery(f)
	if err != nil {
		return err
	}
	p, is := x.tx.present, recoveredRoot{}
	if root := x.draft.files["root"]; root != nil {
		is = recoveredRoot{root.version, sum256(root.signed)}
	} else if _, next, err := p.chain.recovery(says.Tip.Version); err != nil {
		return err
	} else {
		is = recoveredRoot{next.Version(), next.SHA256()}
	}
	if says.Root != is {
		return fmt.Errorf("repo: %s: %w: it names root v%d with sha256 %s, there is v%d with %s", recoveryRole, tuf.ErrMismatch,
			says.Root.Version, text.Name(says.Root.SHA256), is.Version, is.SHA256)
	}
	v := says.Tip.Version
	if tip := p.chain.at(v); tip == nil || says.Tip != (recoveredRoot{v, tip.SHA256()}) {
		return fmt.Errorf("repo: %s: %w: it follows a root v%d with sha256 %s, which is not published", recoveryRole, tuf.ErrMismatch, v, text.Name(says.Tip.SHA256))
	}
	have, err := recoveryIn(x.ctx, x.tx.repo.storage, p.chain.at(v))
	if err != nil {
		return err
	}
	if err := have.follows(f); err != nil {
		return err
	}
	lines := x.file(f, nil)
	x.head(f, true, append([]string{fmt.Sprintf("root v%d recovers from root v%d", says.Root.Version, says.Tip.Version)}, others(lines, text.Quote("spec_version"))...))
	x.out = append(x.out, lines...)
	return nil
}
