package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// openMove opens the repository, for writing (open) or for reading (look), and the
// description of a move.
func (a *app) openMove(open func() (*site, error), path string) (*site, *relocate.Move, error) {
	s, err := open()
	if err != nil {
		return nil, nil, err
	}
	m := &relocate.Move{}
	if err := readJSON(path, m); err != nil {
		return nil, nil, err
	}
	return s, m, nil
}

// dual makes the handle of a site one that signs with the old and the new keys of a
// move.
func (a *app) dual(s *site, m *relocate.Move) error {
	cfg, old, err := a.dualConfig(s, m)
	if err != nil {
		return err
	}
	s.dual = true
	s.Repo, err = m.DualSigner(a.ctx, s.storage, cfg, old...)
	return err
}

// dualConfig divides the signers of a site: the old online and release keys that the move
// replaces, and all others.
func (a *app) dualConfig(s *site, m *relocate.Move) (*repo.Config, []tuf.Signer, error) {
	chain, err := s.Chain(a.ctx)
	if err != nil {
		return nil, nil, err
	}
	fresh := map[string]bool{}
	note := func(list []tuf.Key) {
		for _, k := range list {
			fresh[k.ID()] = true
		}
	}
	note(m.RootKeys)
	note(m.Timestamp.Keys)
	note(m.Snapshot.Keys)
	note(m.Targets.Keys)
	for _, k := range m.Release {
		note(k.Keys)
	}
	replaced := map[string]bool{}
	for _, root := range chain {
		for _, role := range []string{"timestamp", "snapshot", "targets"} {
			ids, _ := root.RoleKeys(role)
			for _, id := range ids {
				replaced[id] = true
			}
		}
		for _, c := range root.Charter().Classes() {
			for _, r := range c.Roles {
				if _, ok := m.Release[r.Role]; ok {
					for _, id := range r.KeyIDs {
						replaced[id] = true
					}
				}
			}
		}
	}
	cfg, old := *s.cfg, []tuf.Signer(nil)
	cfg.Signers = nil
	for _, signer := range s.signers {
		if id := signer.Key().ID(); replaced[id] && !fresh[id] {
			old = append(old, signer)
		} else {
			cfg.Signers = append(cfg.Signers, signer)
		}
	}
	return &cfg, old, nil
}

// drillConfig is the configuration with which a draft of a move is published.
func (a *app) drillConfig(s *site, m *relocate.Move) (repo.Config, error) {
	cfg, old, err := a.dualConfig(s, m)
	if err != nil || len(old) == 0 {
		return *s.cfg, err
	}
	chain, err := s.Chain(a.ctx)
	if err != nil {
		return *s.cfg, err
	}
	phase, err := m.Phase(a.ctx, s.Repo)
	if err != nil || phase != relocate.PhaseAnnounced {
		return *s.cfg, err
	}
	cfg.DualSigning = &signing.DualSigning{Root: chain[len(chain)-1], Signers: slices.Clone(old)}
	return *cfg, nil
}

// addMoveFlag adds --move, with which a command signs with the old and the new keys.
func addMoveFlag(cmd *cobra.Command, move *string) {
	cmd.Flags().StringVar(move, "move", "", "description of a move whose cut-over is not older than a day: sign with the old online keys too")
}

// openDual opens the repository, for dual signing if a move is named.
func (a *app) openDual(move string) (*site, error) {
	if move == "" {
		return a.open()
	}
	s, m, err := a.openMove(a.open, move)
	if err != nil {
		return nil, err
	}
	if err := a.dual(s, m); err != nil {
		return nil, fmt.Errorf("--move: %w", err)
	}
	return s, nil
}
