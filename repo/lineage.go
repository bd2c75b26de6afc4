package repo

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// edition is the repository as published, in which some documents are replaced: by
// those of a draft, or by those that a ledger recorded.
//
// Delegations are read from these documents alone. The draft's own description of them
// is ignored.
type edition struct {
	tx     *Tx
	layout *Root                        // the root of this edition
	named  map[string]bool              // the roles that root names, and the top-level ones
	over   func(role string) wire.Value // the replacing signed part; nil: as published
	blank  bool                         // there are no roles, since nothing has been recorded yet

	lists   map[string]*rolelist.List // of over
	adopted map[child]*rolelist.List
	checked map[*rolelist.List]bool
	parents map[string][]string // of the requested roles: the delegators
	via     map[string]string   // the delegator through which a role was reached first
	work    int64
}

func newEdition(tx *Tx, layout *Root, over func(string) wire.Value) *edition {
	return &edition{tx: tx, layout: layout, named: ownNames(layout), over: over, lists: map[string]*rolelist.List{}, adopted: map[child]*rolelist.List{},
		checked: map[*rolelist.List]bool{}, parents: map[string][]string{}, via: map[string]string{}}
}

// asPublished is the function over of an edition that replaces no documents.
func asPublished(string) wire.Value { return nil }

// owned checks a list once.
func (e *edition) owned(l *rolelist.List, err error) (*rolelist.List, error) {
	if err != nil || l == nil || e.checked[l] {
		return l, err
	}
	if err := metafile.CheckOwners(e.named, l.Role, l.Delegations); err != nil {
		return nil, err
	}
	e.checked[l] = true
	return l, nil
}

// instead returns the list that replaces the published one, or nil.
func (e *edition) instead(role string) (*rolelist.List, error) {
	if l, ok := e.lists[role]; ok {
		return l, nil
	}
	v := e.over(role)
	if v == nil {
		return nil, nil
	}
	l := rolelist.New(role)
	if err := l.Take(v); err != nil {
		return nil, fmt.Errorf("repo: %s: %w", roleText(role), err)
	}
	if _, err := e.owned(l, nil); err != nil {
		return nil, err
	}
	e.lists[role] = l
	return l, nil
}

// top returns a role that the root names, or nil if there is none.
func (e *edition) top(role string) (*rolelist.List, error) {
	if !e.named[role] || e.blank {
		return nil, nil
	}
	if l, err := e.instead(role); l != nil || err != nil {
		return l, err
	}
	return e.owned(e.tx.read(role))
}

// below returns a role to which by delegates.
func (e *edition) below(by *rolelist.List, role string) (*rolelist.List, error) {
	if l, err := e.instead(role); l != nil || err != nil {
		return l, err
	}
	if by.From != nil {
		return e.owned(e.tx.readBelow(by, role))
	}
	at := child{by.Role, role}
	if l := e.adopted[at]; l != nil {
		return l, nil
	}
	l, err := e.owned(e.adopt(by, role))
	if err != nil {
		return nil, err
	}
	if len(e.adopted) >= maxPassing {
		clear(e.adopted)
	}
	e.adopted[at] = l
	return l, nil
}

// adopt opens a published role under a delegator that is itself not published.
func (e *edition) adopt(by *rolelist.List, role string) (*rolelist.List, error) {
	p := e.tx.present
	if p.listed(role) == 0 {
		return nil, fmt.Errorf("repo: %s delegates to %s, which does not exist: %w", roleText(by.Role), roleText(role), tuf.ErrMismatch)
	}
	file, data, err := e.tx.published(role)
	if err != nil {
		return nil, err
	}
	env, err := metafile.Open(data)
	if err != nil {
		return nil, fmt.Errorf("repo: %s v%d: %w: %w", roleText(role), file.Version, tuf.ErrMalformed, err)
	}
	keys := keysFor(by, role)
	if have, want := env.Signers(keyMap(keys.Keys)), max(keys.Threshold, 1); have < want {
		return nil, fmt.Errorf("repo: %s v%d: %w: %d of %d needed keys that %s names signed", roleText(role), file.Version, tuf.ErrThreshold, have, want, roleText(by.Role))
	}
	if env.Type != "targets" || env.Version != file.Version {
		return nil, fmt.Errorf("repo: %s v%d: %w", roleText(role), file.Version, tuf.ErrMismatch)
	}
	l := rolelist.New(role)
	return l, l.Take(env.Signed)
}

// maxDelegators bounds the roles that are opened to find the delegators of a role.
const maxDelegators = 4096

// trace finds the delegators of the wanted roles, none of which the root names.
func (e *edition) trace(wanted []string) error {
	if len(wanted) == 0 {
		return nil
	}
	var todo []*rolelist.List
	seen := map[string]bool{}
	for _, x := range e.layout.lists() {
		l, err := e.top(x.role)
		if err != nil {
			return err
		}
		if l != nil {
			todo = append(todo, l)
		}
	}
	for n := 0; n < len(todo); n++ {
		if n >= maxDelegators {
			return fmt.Errorf("repo: more than %d delegating roles: %w", maxDelegators, tuf.ErrTooLarge)
		}
		if err := e.tx.ctx.Err(); err != nil {
			return err
		}
		by := todo[n]
		if by.Delegations == nil {
			continue
		}
		reach := func(role string, open bool) error {
			if !slices.Contains(e.parents[role], by.Role) {
				e.parents[role] = append(e.parents[role], by.Role)
			}
			if seen[role] {
				return nil
			}
			seen[role] = true
			e.via[role] = by.Role
			if !open {
				return nil
			}
			l, err := e.below(by, role)
			if err == nil && l.Delegations != nil {
				todo = append(todo, l)
			}
			return err
		}
		for _, r := range by.Delegations.Roles {
			if by.Role == "targets" && e.named[r.Name] {
				continue
			}
			if err := reach(r.Name, true); err != nil {
				return err
			}
		}
		// Hash bins that are not wanted are skipped, since there may be very many.
		for _, role := range wanted {
			if metafile.IsBin(by.Delegations.SuccinctRoles, role) {
				if err := reach(role, e.over(role) != nil); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// way names the delegators on the path to a role, outermost first, as trace found them.
func (e *edition) way(role string) (out []string) {
	for by, ok := e.via[role]; ok; by, ok = e.via[by] {
		out = append(out, by)
	}
	slices.Reverse(out)
	return out
}

// tops names, sorted, the roles of the root whose trees contain a role.
func (e *edition) tops(role string) []string {
	if e.named[role] {
		return []string{role}
	}
	found, seen := map[string]bool{}, map[string]bool{}
	for todo := []string{role}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if e.named[at] {
			found[at] = true
		} else if !seen[at] {
			seen[at] = true
			todo = append(todo, e.parents[at]...)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// open returns a role that the root names or that trace found, or nil if there is none.
func (e *edition) open(role string) (*rolelist.List, error) {
	if e.named[role] {
		return e.top(role)
	}
	way := e.way(role)
	if len(way) == 0 || e.over(role) == nil && e.tx.present.listed(role) == 0 {
		return nil, nil
	}
	l, err := e.top(way[0])
	for _, name := range append(way[1:], role) {
		if err != nil || l == nil {
			return nil, err
		}
		l, err = e.below(l, name)
	}
	return l, err
}

// Limits of a search, as in package tuf: roles opened for one path, and the product of
// pattern bytes and path bytes over all searches of a comparison.
const (
	maxVisits   = 64
	maxSearched = 1 << 33
)

// search returns the entry that clients find for a path in the tree of a role
// (specification, 5.6.7): in order of priority, up to a terminating delegation. holder
// is the role that lists the path, "" if none does.
func (e *edition) search(top, path string) (holder string, entry wire.Value, err error) {
	l, err := e.top(top)
	if err != nil || l == nil {
		return "", nil, err
	}
	var visited []string
	type visit struct {
		by   *rolelist.List
		role string
	}
	todo := []visit{{nil, top}}
	for len(todo) > 0 {
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if slices.Contains(visited, v.role) {
			continue
		}
		if visited = append(visited, v.role); len(visited) > maxVisits {
			return "", nil, fmt.Errorf("repo: %s: more than %d roles searched for one path: %w", roleText(top), maxVisits, tuf.ErrTooLarge)
		}
		if v.by != nil {
			if l, err = e.below(v.by, v.role); err != nil {
				return "", nil, err
			}
		}
		if entry := l.Targets[path]; entry != nil {
			return l.Role, entry, nil
		}
		names, last, err := e.responsible(l, path)
		if err != nil {
			return "", nil, err
		}
		if last {
			todo = todo[:0]
		}
		for _, name := range slices.Backward(names) {
			if l.Role == "targets" && e.named[name] {
				continue // a role that the root names has a tree of its own
			}
			todo = append(todo, visit{l, name})
		}
	}
	return "", nil, nil
}

// responsible lists, in order, the roles that l makes responsible for a path. last
// reports that the delegation is terminating.
func (e *edition) responsible(l *rolelist.List, path string) (names []string, last bool, err error) {
	d := l.Delegations
	if d == nil {
		return nil, false, nil
	}
	if metafile.Member(metafile.Member(l.Signed, "delegations"), layout.AgreementMember) != nil {
		return nil, false, fmt.Errorf("repo: %s: delegations with %s can't be searched: %w", roleText(l.Role), layout.AgreementMember, errors.ErrUnsupported)
	}
	if d.SuccinctRoles != nil {
		return []string{layout.BinName(d.SuccinctRoles.NamePrefix, d.SuccinctRoles.BitLength, layout.Bin(path, d.SuccinctRoles.BitLength))}, true, nil
	}
	var digest string
	for _, r := range d.Roles {
		hit := false
		for _, p := range r.Paths {
			if e.work += int64(len(p)) * int64(len(path)); e.work > maxSearched {
				return nil, false, fmt.Errorf("repo: %s: too many path patterns: %w", roleText(l.Role), tuf.ErrTooLarge)
			}
			if hit = layout.Match(p, path, nil); hit {
				break
			}
		}
		for _, p := range r.PathHashPrefixes {
			if digest == "" {
				digest = metafile.SHA256([]byte(path))
			}
			if e.work += int64(hex.EncodedLen(32)); e.work > maxSearched {
				return nil, false, fmt.Errorf("repo: %s: too many path hash prefixes: %w", roleText(l.Role), tuf.ErrTooLarge)
			}
			if hit = hit || strings.HasPrefix(digest, strings.ToLower(p)); hit {
				break
			}
		}
		if !hit {
			continue
		}
		if names = append(names, r.Name); r.Terminating {
			return names, true, nil
		}
	}
	return names, false, nil
}

// walk calls fn once for every role below l.
func (e *edition) walk(l *rolelist.List, seen map[string]bool, fn func(*rolelist.List)) error {
	if l.Delegations == nil {
		return nil
	}
	for _, name := range l.Delegates() {
		if seen[name] || l.Role == "targets" && e.named[name] {
			continue
		}
		seen[name] = true
		if err := e.tx.ctx.Err(); err != nil {
			return err
		}
		below, err := e.below(l, name)
		if err != nil {
			return err
		}
		fn(below)
		if err := e.walk(below, seen, fn); err != nil {
			return err
		}
	}
	return nil
}
