package drill

import (
	"context"
	"fmt"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// forkedFiles is the published storage with the roots of the other branch.
type forkedFiles struct {
	repo.Storage
	roots map[string][]byte // by name in storage
}

func (f forkedFiles) Read(ctx context.Context, name string) ([]byte, error) {
	if data, ok := f.roots[name]; ok {
		return data, nil
	}
	return f.Storage.Read(ctx, name)
}

// runFork runs clients with roots of the other branch of a fork against healthy
// locations, if the draft heals the fork. They must complete the move too.
func (p *play) runFork(ctx context.Context) (*Outcome, error) {
	if p.Draft == nil || len(p.Draft.Heals()) == 0 {
		return nil, nil
	}
	files := forkedFiles{p.Storage, map[string][]byte{}}
	var last *tuf.Root
	for _, data := range p.Draft.Heals() {
		root, err := tuf.OpenRoot(data, &tuf.Options{UnsafeLoopback: p.Config.UnsafeLoopback})
		if err != nil {
			return nil, fmt.Errorf("drill: the fork: %w", err)
		}
		files.roots[layout.RootName(root.Version())] = data
		last = root
	}
	p.files["fork"] = files
	shown := map[string]host{}
	for _, l := range p.locations {
		shown[l.Base] = host{files: "fork", roots: last.Version(), content: l.Tier != tuf.Rendezvous}
	}
	out := &Outcome{Scenario: "all locations healthy, after the other branch of a fork", Client: "visum", Roots: map[int64]int{}}
	for _, i := range p.sample(len(p.pins)) {
		m, err := p.member(ctx, i, false)
		if err != nil {
			return nil, err
		}
		if _, err := m.refresh(ctx, shown); err != nil {
			return nil, err
		}
		if m.trusted.SHA256() != last.SHA256() {
			continue // its pin is of this branch
		}
		m.name = fmt.Sprintf("pin of root v%d, with the other root v%d", m.root, last.Version())
		tip := p.tip()
		for range max(cycles, p.turns(m.root, m.pin)) {
			m.client = nil // a new process does a root check first
			if _, err := m.refresh(ctx, p.well); err != nil {
				return nil, err
			}
			if m.err == nil && m.trusted.SHA256() == tip.SHA256() {
				break
			}
		}
		there := m.trusted.SHA256() == tip.SHA256()
		if !there || m.err != nil {
			out.violated("L1", m.name, "is at root v%d, v%d with content is available: %v", m.trusted.Version(), tip.Version(), m.err)
		}
		out.count(m.trusted.Version(), there && m.err == nil)
	}
	return out, nil
}
