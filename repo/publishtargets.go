package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// targets refuses a draft that lists a target whose file is not in the storage:
// Prune removes files that no published role lists, and a draft may have waited for
// longer than [PruneOptions].Drafts. Only what the draft lists anew is looked for. A
// draft that replaces what compromised keys signed is published all the same: whatever
// the attacker removed from the storage must not keep the honest lists back.
func (n *publication) targets(ctx context.Context) error {
	if len(n.compromised) > 0 {
		return nil
	}
	src := SourceOf(n.repo.storage)
	seen := map[string]bool{}
	for _, role := range slices.Sorted(maps.Keys(n.fresh)) {
		f := n.fresh[role]
		was, err := n.targetsNow(ctx, role)
		if err != nil {
			return err
		}
		for path, v := range member(f.signed, "targets").Members() {
			if string(was[path.String()]) == string(v) {
				continue
			}
			x, err := parseEntry(v)
			if err != nil {
				return fmt.Errorf("repo: %s v%d: %w: target %s: %w", roleText(role), f.version, tuf.ErrMalformed, text.Name(path.String()), err)
			}
			name := TargetName(path.String(), x.sha256)
			if seen[name] {
				continue
			}
			seen[name] = true
			file, err := src.Open(ctx, name)
			switch {
			case err == nil:
				file.Close()
			case errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("repo: %s v%d: %w: %s is not in the storage any more: %w; stage the draft again, which writes it", roleText(role), f.version, ErrStale, text.Name(name), err)
			case !errors.Is(err, tuf.ErrTooLarge): // it is there, but too large for a Storage that is no Source
				return fmt.Errorf("repo: %s: %w", text.Name(name), err)
			}
		}
	}
	return nil
}

// targetsNow is what the published version of a role lists, by path; nothing where
// there is none, or none that can be opened.
func (n *publication) targetsNow(ctx context.Context, role string) (map[string]wire.Value, error) {
	if n.present.listed(role) == 0 {
		return nil, nil
	}
	file, err := n.present.snap.RoleFile(role)
	if err != nil {
		return nil, fmt.Errorf("repo: %w", err)
	}
	data, err := n.repo.read(ctx, n.present, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	env, err := openEnvelope(data)
	if err != nil {
		return nil, nil
	}
	out := map[string]wire.Value{}
	for path, v := range member(env.signed, "targets").Members() {
		out[path.String()] = v
	}
	return out, nil
}
