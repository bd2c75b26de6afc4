package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// The oracle computes the result that a client must reach in a scenario from the
// answers of the locations. It shares no code with the client. It assumes that every
// location has all of its files: a client that fails because a location lacks one
// reveals a fault of the step.

// usable returns the usable locations of a root's charter, then those of the pin; own
// is the number of the former.
func (p *play) usable(root *tuf.Root, pin *tuf.Pin) (list []tuf.Location, own int) {
	for _, l := range root.Charter().Locations() {
		if root.Charter().Usable(l, p.now) {
			list = append(list, l)
		}
	}
	own = len(list)
	for _, l := range pin.Locations() {
		if root.Charter().Usable(l, p.now) {
			list = append(list, l)
		}
	}
	return list, own
}

// expect follows the true chain as long as a usable location serves the next root.
func (p *play) expect(ctx context.Context, s scene, start int64, pin *tuf.Pin) expectation {
	e := expectation{root: start}
	for {
		root := p.after[e.root-1]
		list, own := p.usable(root, pin)
		told, none := false, 0
		for _, l := range list {
			yes, no := p.tells(ctx, l, s.hosts[l.Base], e.root+1)
			told = told || yes
			if no {
				none++
			}
		}
		if told {
			if none > 0 && root.Charter().Probe().MinOperators == 1 && e.stop == 0 && p.served(ctx, root, list[:own], s) {
				e.stop = e.root
			}
			e.root++
			continue
		}
		e.content = p.served(ctx, root, list[:own], s)
		return e
	}
}

// served reports whether a location of the list serves complete and valid content
// under root.
func (p *play) served(ctx context.Context, root *tuf.Root, list []tuf.Location, s scene) bool {
	return slices.ContainsFunc(list, func(l tuf.Location) bool {
		return l.Tier != tuf.Rendezvous && p.opens(ctx, root, l, s.hosts[l.Base])
	})
}

// turns is the greatest number of root checks until a client has asked every location
// that it knows under one of the roots from start on.
func (p *play) turns(start int64, pin *tuf.Pin) (n int) {
	for _, root := range p.after[start-1:] {
		list, _ := p.usable(root, pin)
		n = max(n, len(list))
	}
	return n
}

// tells reports whether a location serves the true root n, or reports that there is none.
func (p *play) tells(ctx context.Context, l tuf.Location, h host, n int64) (yes, none bool) {
	if h.unreachable {
		return false, false
	}
	name := layout.RootName(n)
	if h.answer != nil {
		code, _ := h.answer(name)
		return false, code == 404 || code == 403
	}
	data, err := p.read(ctx, p.files[h.files], h, name)
	if err != nil {
		return false, errors.Is(err, fs.ErrNotExist)
	}
	return n <= p.tip().Version() && bytes.Equal(data, p.after[n-1].Bytes()), false
}

// opens reports whether a location serves complete and valid content under a root.
func (p *play) opens(ctx context.Context, root *tuf.Root, l tuf.Location, h host) bool {
	if h.unreachable || h.answer != nil || !h.content {
		return false
	}
	key := validKey{root.Version(), l.Base, h.files, h.content}
	p.mu.Lock()
	valid, known := p.valid[key]
	p.mu.Unlock()
	if !known {
		snap, get, err := p.open(ctx, root, func(name string) ([]byte, error) { return p.read(ctx, p.files[h.files], h, name) })
		valid = err == nil && snap.OpenRoles(get) == nil
		p.mu.Lock()
		p.valid[key] = valid
		p.mu.Unlock()
	}
	return valid
}

// open verifies timestamp and snapshot under a root.
func (p *play) open(ctx context.Context, root *tuf.Root, read func(name string) ([]byte, error)) (*tuf.Snapshot, tuf.Fetch, error) {
	stamp, err := read(layout.TimestampName)
	if err != nil {
		return nil, nil, err
	}
	now := p.now
	if at := root.Charter().SignedAt(); at.After(now) {
		now = at
	}
	ts, err := root.Timestamp(stamp, nil, now)
	if err != nil {
		return nil, nil, err
	}
	get := func(f tuf.RoleFile) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return read(layout.RoleName(f.Role, f.Version))
	}
	data, err := get(ts.SnapshotFile())
	if err != nil {
		return nil, nil, err
	}
	snap, err := ts.Snapshot(data, nil)
	return snap, get, err
}

// approve records the approved targets of a version of the repository.
func (p *play) approve(ctx context.Context, files string) error {
	root := p.was()
	if files == "after" {
		root = p.tip()
	}
	snap, get, err := p.open(ctx, root, func(name string) ([]byte, error) { return p.files[files].Read(ctx, name) })
	var list []tuf.Candidate
	if err == nil {
		list, err = snap.Candidates(ctx, func(tuf.Release) bool { return true }, get)
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.report.Notes = append(p.report.Notes, text.Line(fmt.Sprintf("the content %s the step is not valid under its root: %v", files, err)))
		return nil
	}
	for _, c := range list {
		if c.Role != "" {
			p.report.Notes = append(p.report.Notes, fmt.Sprintf("the content %s the step: %s can't be read: %v", files, c.Role, c.Err))
		}
		if c.Err == nil {
			p.good[c.Path] = append(p.good[c.Path], c.Approved.SHA256())
			if files == "after" && len(p.paths) < maxPaths {
				p.paths = append(p.paths, c.Approved)
			}
		}
	}
	return nil
}

// maxPaths is the number of approved targets that each client looks for.
const maxPaths = 4
