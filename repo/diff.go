package repo

import (
	"context"
	"fmt"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/tuf"
)

// Diff returns the changes of a draft: what a signer would be signing. It lists a
// headline for each file, then a summary of the members that this package knows, then
// the rest: every other signed member, known or not. Two different drafts have different
// diffs. A file that changes only in version and expiry has a headline and its expiry.
//
// The content before is the newest content that this signer's ledger has seen published.
// If another content was published since, the diff includes that difference. For a role
// that the ledger has not seen it is the published content; if [Config].Ledger is set and
// empty, the diff shows every role completely. Diff does not trust the draft for the
// content before, for delegations, or for the required signers, so a signer needs the
// storage, a mirror, or a [storage.ReadOnly] view of a location.
//
// The first headlines are warnings: approvals of bytes that the party recalled or refused
// before; content that was signed before, is not published, and is missing in the draft;
// content of compromised keys that is left out ([Tx.Compromised]); and dates that are
// inconsistent with this machine's clock or with the replaced metadata (rule K5).
// Clients must be able to accept the new root once it is signed; otherwise the error is
// that of [tuf.Root.Propose].
//
// The summary of releases shows the search results of clients: a release that moves from
// one hash bin to another is not a change, but a release that becomes visible because a
// listing of higher priority is removed is one. Hash bins and products that are only
// signed again share one line for each party's role and expiry. The order of the changes
// is deterministic. Keys are shown with their [Config].Labels.
//
// If the draft does not follow the published metadata, the error wraps [ErrStale] or
// [ErrPublished]. If no role delegates to one of its files, it wraps [tuf.ErrUntrusted].
func (r *Repo) Diff(ctx context.Context, d *Draft) (changes []diff.Change, err error) {
	defer text.OneLine(&err)
	err = r.view(ctx, func(r *Repo) error {
		changes, err = r.diff(ctx, d)
		return err
	})
	return changes, err
}

func (r *Repo) diff(ctx context.Context, d *Draft) (changes []diff.Change, err error) {
	x, err := r.compareTo(ctx, d, true)
	if err != nil {
		return nil, err
	}
	if err := x.addWarnings(); err != nil {
		return nil, err
	}
	if err := x.recovery(); err != nil {
		return nil, err
	}
	if err := x.addStatements(d); err != nil {
		return nil, err
	}
	return inParts(x.out), nil
}

// compareTo compares a draft's files with the content before.
func (r *Repo) compareTo(ctx context.Context, d *Draft, remembers bool) (*comparison, error) {
	p, err := r.healing(d).load(ctx)
	if err != nil {
		return nil, err
	}
	last, restored := lastSeen{}, &restoring{}
	if remembers {
		if restored, err = r.newTx(ctx, p).withoutCompromised(d.override.compromised); err != nil {
			return nil, err
		}
		if last, err = r.lastSeen(p, d, restored.signed); err != nil {
			return nil, err
		}
	}
	x := &comparison{ctx: ctx, draft: d, tx: r.newTx(ctx, p), last: last, restored: restored, top: map[string]*tree{}}
	was, now := &Root{}, &Root{}
	if p.under != nil {
		was = rootOf(p.under)
	}
	if p.root != nil {
		now = rootOf(p.root)
	}
	if d.files["root"] != nil {
		if now, err = x.root(); err != nil {
			return nil, err
		}
	}
	x.before = newEdition(x.tx, was, last.over())
	x.before.blank = last.nothing
	x.after = newEdition(x.tx, now, func(role string) wire.Value {
		if f := d.files[role]; f != nil {
			return f.signed
		}
		return nil
	})
	if err := x.roles(); err != nil {
		return nil, err
	}
	return x, nil
}

// root compares the draft's root with the previous one, and returns its content.
func (x *comparison) root() (*Root, error) {
	f, p := x.draft.files["root"], x.tx.present
	published := p.root
	if x.draft.recovery != nil {
		statement, err := readRecovery(x.draft.recovery)
		if err != nil {
			return nil, err
		}
		if published, err = recoverable(p.chain, statement.Tip.Version); err != nil {
			return nil, err
		}
	}
	version := int64(0)
	if published != nil {
		version = published.Version()
	}
	if f.base != version || f.version != version+1 {
		return nil, fmt.Errorf("repo: %w", f.behindRoot(p.chain))
	}
	var next *tuf.Proposal
	var err error
	if published == nil {
		next, err = tuf.ProposeFirst(f.bytes(), x.tx.repo.tufOptions())
	} else {
		next, err = published.Propose(f.bytes())
	}
	if err != nil {
		return nil, fmt.Errorf("repo: %w", err)
	}
	if next.Charter() == nil {
		return nil, fmt.Errorf("repo: root v%d has no charter: %w", next.Version(), tuf.ErrCharter)
	}
	before := published
	if x.last.root != nil {
		before = x.last.root
	}
	var old wire.Value
	var was *Root
	if before != nil {
		env, err := metafile.Open(before.Bytes())
		if err != nil {
			return nil, fmt.Errorf("repo: root v%d: %w", before.Version(), err)
		}
		old, was = env.Signed, rootOf(before)
	}
	x.proposed = next
	now := rootOf(next)
	lines := x.file(f, old)
	fork, err := x.tx.repo.healed(p.chain, x.draft, f.bytes())
	if err != nil {
		return nil, err
	}
	var heals []string
	if len(fork) > 0 {
		heals = append(heals, fmt.Sprintf("heals a fork: it also follows root v%d with sha256 %s", version, fork[len(fork)-1].SHA256()))
	}
	x.head(f, was == nil, rootPhrases(was, now, lines, heals...))
	x.out = append(x.out, lines...)
	return now, nil
}

// addStatements adds the draft's statements, from their payloads.
func (x *comparison) addStatements(d *Draft) error {
	for _, f := range d.parts() {
		s := d.statements[f.role]
		if s == nil || s.file != f {
			continue
		}
		v, err := wire.Canonical(s.payload)
		if err != nil {
			return fmt.Errorf("repo: %s: %w", roleText(f.role), err)
		}
		subject, by := s.claim.Subject, s.claim.Reviewer
		y := &facts.Facts{Role: text.Name(by.Role), Keys: facts.NewKeyNames(nil)}
		p := facts.At{Thing: s.what(), Name: text.Name(subject.Path)}
		y.AsObject(p, nil, v, func() {
			y.Compare(p, facts.StatementShape, nil, metafile.Without(v, "_type", "subject", "predicateType"))
		})
		x.out = append(x.out, diff.Change{Part: diff.PartHeadline, Role: y.Role, Kind: diff.KindAdded, What: p.Thing, Name: p.Name,
			New: fmt.Sprintf("%d bytes, sha256 %s, statement %d of the role", subject.Length, subject.SHA256, s.number())})
		x.out = append(x.out, y.Out...)
	}
	return nil
}

// recovery adds a draft's recovery statement. The roots that it names must be the
// published one and the draft's.
func (x *comparison) recovery() error {
	f := x.draft.recovery
	if f == nil {
		return nil
	}
	statement, err := readRecovery(f)
	if err != nil {
		return err
	}
	p, is := x.tx.present, recoveredRoot{}
	if root := x.draft.files["root"]; root != nil {
		is = recoveredRoot{root.version, metafile.SHA256(root.signed)}
	} else if _, next, err := recoveryAt(p.chain, statement.Tip.Version); err != nil {
		return err
	} else {
		is = recoveredRoot{next.Version(), next.SHA256()}
	}
	if statement.Root != is {
		return fmt.Errorf("repo: %s: %w: it names root v%d with sha256 %s, but the root is v%d with %s", facts.RecoveryRole, tuf.ErrMismatch,
			statement.Root.Version, text.Name(statement.Root.SHA256), is.Version, is.SHA256)
	}
	v := statement.Tip.Version
	if before := p.chain.At(v); before == nil || statement.Tip != (recoveredRoot{v, before.SHA256()}) {
		return fmt.Errorf("repo: %s: %w: it follows root v%d with sha256 %s, which is not published", facts.RecoveryRole, tuf.ErrMismatch, v, text.Name(statement.Tip.SHA256))
	}
	have, err := chain.RecoveryIn(x.ctx, x.tx.repo.storage, p.chain.At(v))
	if err != nil {
		return err
	}
	if err := followsRecovery(have, f); err != nil {
		return err
	}
	lines := x.file(f, nil)
	x.head(f, true, append([]string{fmt.Sprintf("root v%d recovers from root v%d", statement.Root.Version, statement.Tip.Version)}, others(lines, text.Quote("spec_version"))...))
	x.out = append(x.out, lines...)
	return nil
}
