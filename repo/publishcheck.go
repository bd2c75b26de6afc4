package repo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// heal checks that clients of the fork accept the signed root.
func (n *publication) heal(d *Draft) error {
	if n.newRoot == nil {
		return nil
	}
	fork, err := n.repo.healed(n.present.chain, d, n.newRoot)
	if err != nil || len(fork) == 0 {
		return err
	}
	if _, err := fork[len(fork)-1].Next(n.newRoot); err != nil {
		return fmt.Errorf("repo: %w: %w", ErrHeal, err)
	}
	return nil
}

// numbers refuses a sequence number that another list of the party has assigned to
// another version since the draft was staged. Files signed by compromised keys, which a
// draft leaves out, do not count.
func (n *publication) numbers(ctx context.Context) error {
	if n.present.under == nil || len(n.compromised) > 0 {
		return nil
	}
	tx := n.repo.newTx(ctx, n.present)
	for _, role := range tx.layout().lists() {
		if !n.repo.givesNumbers(role.party) {
			continue
		}
		for _, f := range n.fresh {
			if f.role != role.role && (len(f.under) == 0 || f.under[0] != role.role) || f.isBin() {
				continue
			}
			if err := tx.checkNumbers(role.party, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (tx *Tx) checkNumbers(party string, f *draftFile) error {
	indexes, err := tx.indexesOf(party)
	if err != nil {
		return err
	}
	listed := func(name productVersion, number int64) bool {
		for _, x := range indexes {
			for _, have := range x.versions[name] {
				if have.Sequence == number {
					return true
				}
			}
		}
		return false
	}
	for path, v := range metafile.Member(f.signed, "targets").Members() {
		rel, ok := rolelist.ReleaseOf(v)
		name, parsed := nameOf(rel.Product, rel.Version)
		if !ok || !parsed || rel.Sequence < 1 || listed(name, rel.Sequence) {
			continue
		}
		for _, x := range indexes {
			if x.highest[rel.Product] >= rel.Sequence {
				return fmt.Errorf("repo: %s: %w: %w: number %d of product %s has since been assigned to another version; stage the release again",
					text.Name(path.String()), ErrStale, signing.ErrSequence, rel.Sequence, text.Name(rel.Product))
			}
		}
	}
	return nil
}

// checkStatements verifies the draft's statements against the state after publication.
// A review must refer to a target that clients may then install.
func (n *publication) checkStatements(ctx context.Context, snap *tuf.Snapshot, get tuf.Fetch) error {
	for _, name := range slices.Sorted(maps.Keys(n.statements)) {
		s := n.statements[name]
		data, err := s.bytes()
		if err != nil {
			return err
		}
		subject, by := s.claim.Subject, s.claim.Reviewer
		if err := n.checkUnpublished(ctx, s, data); err != nil {
			return err
		}
		if number := s.number(); number > 1 { // readers count from 1 to the first absent number
			before := chain.StatementName(subject, by.Role, number-1)
			if _, err := n.repo.storage.Read(ctx, before); err != nil && n.statements[before] == nil {
				return fmt.Errorf("repo: %s: previous statement: %w", roleText(name), err)
			}
		}
		if s.claim.Kind == attestation.ReviewType {
			if a, approved := snap.Approve(subject.Path, get); approved == nil {
				_, err = attestation.Open(data, n.root, by.Party, a, n.repo.now())
				if err != nil {
					return fmt.Errorf("repo: %w", err)
				}
			}
		}
		if said := openStatement(data, []*tuf.Root{n.root}, by.Party, subject, n.repo.now()); said.Err != nil {
			return fmt.Errorf("repo: %w", said.Err)
		}
	}
	return nil
}

// checkUnpublished refuses a statement whose number is already published: the same
// statement with other signatures, or another statement of the role.
func (n *publication) checkUnpublished(ctx context.Context, s *statement, data []byte) error {
	name := s.file.role
	var there struct {
		Payload []byte `json:"payload"`
	}
	have, err := storage.ReadAll(ctx, storage.SourceOf(n.repo.storage), name, attestation.MaxSize)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && bytes.Equal(have, data):
		return nil
	case err != nil && !errors.Is(err, tuf.ErrTooLarge):
		return err
	case json.Unmarshal(have, &there) == nil && bytes.Equal(there.Payload, s.payload):
		return fmt.Errorf("repo: %s: %w, with other signatures", roleText(name), ErrPublished)
	}
	return fmt.Errorf("repo: %w: the role has published another statement as %s", ErrStale, roleText(name))
}

func (n *publication) writeStatements(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(n.statements)) {
		data, err := n.statements[name].bytes()
		if err != nil {
			return err
		}
		if err := n.repo.storage.Create(ctx, name, bytes.NewReader(data)); err != nil {
			return fmt.Errorf("repo: %s: %w", roleText(name), err)
		}
	}
	return nil
}

// takeRecovery checks a draft's recovery and its root.
func (n *publication) takeRecovery(ctx context.Context, d *Draft) error {
	f, root := d.recovery, d.files["root"]
	if root == nil && len(d.files)+len(d.statements) > 0 {
		return fmt.Errorf("repo: %s without a root is published by itself", facts.RecoveryRole)
	}
	stated, err := readRecovery(f)
	if err != nil {
		return err
	}
	var before *tuf.Root
	if root != nil {
		before, err = recoverable(n.present.chain, stated.Tip.Version)
	} else {
		before, _, err = recoveryAt(n.present.chain, stated.Tip.Version)
	}
	if err != nil {
		return err
	}
	have, err := chain.RecoveryIn(ctx, n.repo.storage, before)
	if err != nil {
		return err
	}
	if err := followsRecovery(have, f); err != nil {
		return err
	}
	next := chain.Recovery{Before: before, Names: have.Names, Data: [2][]byte{f.bytes(), have.Data[1]}, Over: have.Data}
	if root != nil {
		next.Data[1] = root.bytes()
	}
	if next.Statement, err = before.Recovery(next.Data[0], next.Data[1], n.repo.now()); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	n.recovery = &next
	if n.root, err = next.Root(); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	n.newRoot = next.Data[1]
	n.content = n.content || !n.present.serves(n.root)
	return nil
}

// targets refuses a draft that lists a target whose file is missing in the storage:
// Prune may have removed it if the draft waited longer than [PruneOptions].Drafts. Only
// newly listed targets are checked. A draft that replaces files signed by compromised
// keys is exempt: files that the attacker removed must not block publication of the
// honest lists.
func (n *publication) targets(ctx context.Context) error {
	if len(n.compromised) > 0 {
		return nil
	}
	src := storage.SourceOf(n.repo.storage)
	seen := map[[16]byte]bool{} // there may be a million
	for _, role := range slices.Sorted(maps.Keys(n.fresh)) {
		f := n.fresh[role]
		was, err := n.targetsNow(ctx, role)
		if err != nil {
			return err
		}
		var names []string
		for path, v := range metafile.Member(f.signed, "targets").Members() {
			if string(was[path.String()]) == string(v) {
				continue
			}
			x, err := rolelist.ParseEntry(v)
			if err != nil {
				return fmt.Errorf("repo: %s v%d: %w: target %s: %w", roleText(role), f.version, tuf.ErrMalformed, text.Name(path.String()), err)
			}
			name := layout.TargetName(path.String(), x.Hashes.SHA256)
			if key := metafile.Key(name); !seen[key] {
				seen[key], names = true, append(names, name)
			}
		}
		err = together(ctx, len(names), func(ctx context.Context, i int) error {
			file, err := src.Open(ctx, names[i])
			switch {
			case err == nil:
				file.Close()
			case errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("repo: %s v%d: %w: %s is no longer in the storage: %w; stage the draft again, which writes it", roleText(role), f.version, ErrStale, text.Name(names[i]), err)
			case !errors.Is(err, tuf.ErrTooLarge): // it exists, but is too large for a Storage that is not a Source
				return fmt.Errorf("repo: %s: %w", text.Name(names[i]), err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// targetsNow returns the targets of the published version of a role, by path; nil if
// the role does not exist or can't be opened.
func (n *publication) targetsNow(ctx context.Context, role string) (map[string]wire.Value, error) {
	if n.present.listed(role) == 0 {
		return nil, nil
	}
	_, data, err := n.repo.newTx(ctx, n.present).published(role)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	env, err := metafile.Open(data)
	if err != nil {
		return nil, nil
	}
	out := map[string]wire.Value{}
	for path, v := range metafile.Member(env.Signed, "targets").Members() {
		out[path.String()] = v
	}
	return out, nil
}
