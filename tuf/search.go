package tuf

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
)

// found is the result of a search: an entry and the roles that list it.
type found struct {
	target
	by []*Targets
}

// search is the state of one search for one path.
type search struct {
	lookup
	snap   *Snapshot
	get    Fetch
	visits int
	bytes  int64 // of the roles visited
}

// maxPath bounds the bytes of a path that is searched for.
const maxPath = 4096

// visit is a pending step of a search: a verified role, or a role that by delegates
// to, or a group of roles of which some must agree.
type visit struct {
	role     *Targets
	by       *Targets
	delegate string
	keys     roleKeys
	depth    int
	group    *agreement
	members  []visit
}

func (v visit) name() string {
	if v.role != nil {
		return v.role.name
	}
	return v.delegate
}

// search looks for a path in start and the roles below it, in pre-order by priority;
// a terminating delegation ends the search (specification, 5.6.7). The result is nil
// if no role lists the path. Any error ends the search.
func (s *Snapshot) search(start *Targets, path string, get Fetch, w *work) (*found, error) {
	if len(path) > maxPath {
		return nil, refuse(path, 0, ErrTooLarge, "a path of %d bytes, at most %d", len(path), maxPath)
	}
	q := &search{lookup: lookup{path: path, work: w}, snap: s, get: get}
	sum := sha256.Sum256([]byte(path))
	q.digest = hex.EncodeToString(sum[:])
	return q.from(visit{role: start})
}

// from searches a role and all below it.
func (q *search) from(start visit) (*found, error) {
	var visited []string // few: Limits.Visits
	stack := []visit{start}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if v.group != nil {
			f, err := q.agreed(v)
			if f != nil || err != nil {
				return f, err
			}
			continue
		}
		if slices.Contains(visited, v.name()) {
			continue
		}
		visited = append(visited, v.name())
		t, err := q.open(v)
		if err != nil {
			return nil, err
		}
		// The verification of each role costs time in proportion to its length.
		if q.bytes += int64(len(t.doc.raw)); q.bytes > 4*q.snap.root.opt.Limits.Targets {
			return nil, refuse(q.path, 0, ErrTooLarge, "the visited roles have more than %d bytes, the last is %s", 4*q.snap.root.opt.Limits.Targets, text.Name(t.name))
		}
		x, ok, err := t.file(q.path)
		if err != nil {
			return nil, err
		}
		if ok {
			return &found{x, []*Targets{t}}, nil
		}
		next, last, err := q.delegates(t, v.depth+1)
		if err != nil {
			return nil, err
		}
		if last {
			stack = stack[:0] // roles of lower priority are not visited any more
		}
		slices.Reverse(next)
		stack = append(stack, next...)
	}
	return nil, nil
}

// open returns the verified role of a visit, within the budget.
func (q *search) open(v visit) (*Targets, error) {
	if q.visits++; q.visits > q.snap.root.opt.Limits.Visits {
		return nil, refuse(q.path, 0, ErrTooLarge, "more than %d roles visited, the last is %s", q.visits-1, text.Name(v.name()))
	}
	if v.depth > q.snap.root.opt.Limits.Depth {
		return nil, refuse(q.path, 0, ErrTooLarge, "more than %d delegations deep, the last to %s", v.depth-1, text.Name(v.name()))
	}
	if v.role != nil {
		return v.role, nil
	}
	return q.snap.role(roleVia{v.by, v.delegate}, v.keys, v.by.keys, text.Name(v.delegate), q.get)
}

// delegates returns, in order, the roles that t makes responsible for the path. last
// reports that the search ends with them. A group has the position of its first role.
func (q *search) delegates(t *Targets, depth int) (next []visit, last bool, err error) {
	var ends *agreement // a terminating group: after it, other roles are not visited
	for i := range t.delegations {
		d := &t.delegations[i]
		if ends != nil && d.group != ends {
			break
		}
		role := d.roleFor(&q.lookup)
		if q.work.left < 0 {
			return nil, false, refuse(q.path, 0, ErrTooLarge, "too many delegations to compare with, the last is that to %s", text.Name(d.name))
		}
		if len(next) > 2*q.snap.root.opt.Limits.Visits {
			break // the search fails at Limits.Visits before it reaches these
		}
		if role == "" {
			continue
		}
		v := visit{by: t, delegate: role, keys: d.keys, depth: depth}
		if d.group == nil {
			if next = append(next, v); d.terminating {
				return next, true, nil
			}
			continue
		}
		// The roles of a group are adjacent: see parseAgreements.
		if len(next) == 0 || next[len(next)-1].group != d.group {
			next = append(next, visit{group: d.group})
		}
		group := &next[len(next)-1]
		group.members = append(group.members, v)
		if d.group.terminating {
			ends = d.group
		}
	}
	return next, ends != nil, nil
}

// agreed searches each role of a group and returns the entry of highest priority
// that enough roles share. If too few roles agree, a terminating group ends the
// search with an error.
func (q *search) agreed(v visit) (*found, error) {
	var list []*found
	var who []string
	for _, m := range v.members {
		f, err := q.from(m)
		if err != nil {
			return nil, err
		}
		if f != nil {
			list = append(list, f)
			who = append(who, m.delegate)
		}
	}
	for i, f := range list {
		same := &found{target: f.target, by: slices.Clone(f.by)}
		n := 1
		for j, other := range list {
			if j == i || same.differsInBytes(other.target) != "" { // same includes the sha512 of earlier entries
				continue
			}
			n++
			same.by = append(same.by, other.by...)
			same.hashes.SHA512 = max(same.hashes.SHA512, other.hashes.SHA512)
			if string(other.visum) != string(same.visum) {
				same.visum = nil // the release fields need agreement too
			}
		}
		if n >= v.group.min {
			return same, nil
		}
	}
	if len(list) > 0 && v.group.terminating {
		return nil, refuse(q.path, 0, ErrNotApproved, "%d of the roles %s must agree; listed by %s", v.group.min, nameList(v.group.roles), nameList(who))
	}
	return nil, nil
}

// nameList joins the names of the first few roles for messages.
func nameList(roles []string) string {
	const most = 8
	var b strings.Builder
	for i, name := range roles {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(roles)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(text.Name(name))
	}
	return b.String()
}
