package tuf

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
)

// Candidate is a release that at least one role lists. An entry whose Role is
// not "" stands for what could not be read: it has no Claim, and its Err says why.
type Candidate struct {
	Path string
	// Role is the role that could not be read as a whole (Path is ""), or whose
	// entry for Path is malformed; "" for a release. What that role lists, and the
	// roles below it, is missing here. Where it is a party's own role, or the hold,
	// all of its class is.
	Role string
	// Claim is what all parties agree on where Agreed is true. Otherwise it is what
	// one role claims and no other confirms: good for a message, not for a
	// decision. Fields that break a rule of [Release.Check] are zero in it.
	Claim Release
	// Agreed says that every party lists the same, whether it is approved, recalled,
	// held, or refused for its release fields ([ErrRelease]).
	Agreed bool
	// Approved is zero where Err is not nil.
	Approved Approved
	Err      error // why it is not approved, as from [Snapshot.Approve]
}

// Candidates finds the releases that want says yes to and decides on each. A nil
// want says yes to all. It is asked first of what single roles claim, which tells
// where to look and nothing else, and then again of what all parties agree on: a
// release that want does not accept then is left out. want may be called often; it
// must not change anything. A field that breaks a rule of [Release.Check] is zero in
// what it is asked about: a want that takes a zero product, version, channel or
// platform for one that may be meant learns of releases that are refused for that.
//
// The result is in the order of paths. Roles that the parties delegate to by path
// patterns, such as those of their products, are read too, down to Limits.Depth and
// for each party at most Limits.Visits of them, shared evenly between those that
// delegate; hash bins are not: what is there is only found by path
// ([Snapshot.Approve]).
//
// A role that cannot be read, or is expired or too large, costs the releases that
// it and the roles below it list, and adds an entry with its Role; the others are
// decided on. Each decision by itself fails closed: where it needs a role that
// cannot be read it is not approved.
//
// A call spends about a second of processor time on comparing paths with
// delegations, shared evenly between classes and roles; what is beyond is not
// decided on, which an entry reports ([ErrTooLarge]). The error is not nil, and
// the result nil, where ctx ended, s has no charter, or no class could be decided
// on at all. ctx is asked between roles and decisions; a get that waits must end
// with it by itself.
func (s *Snapshot) Candidates(ctx context.Context, want func(Release) bool, get Fetch) ([]Candidate, error) {
	if s == nil || s.root == nil || s.root.charter == nil {
		_, err := s.classOf("")
		return nil, err
	}
	classes := s.root.charter.classes
	c := &candidates{snap: s, ctx: ctx, want: want, get: get}
	w := work{left: maxWork, ctx: ctx, ask: maxWork}
	var first error
	failed := 0
	for i := range classes {
		w.share(len(classes)-i, func(w *work) {
			if err := c.class(&classes[i], w); err != nil {
				failed++
				first = cmp.Or(first, err)
			}
		})
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if failed == len(classes) {
		return nil, first // nil where there is no class
	}
	slices.SortFunc(c.out, func(a, b Candidate) int {
		return 2*strings.Compare(a.Path, b.Path) + strings.Compare(a.Role, b.Role)
	})
	return c.out, nil
}

// candidates is one call.
type candidates struct {
	snap *Snapshot
	ctx  context.Context
	want func(Release) bool
	get  Fetch
	out  []Candidate
}

func (c *candidates) wants(r Release) bool { return c.want == nil || c.want(r) }

// failed reports what of a role could not be read.
func (c *candidates) failed(role, path string, err error) {
	c.out = append(c.out, Candidate{Path: path, Role: role, Err: err})
}

// claimed is what one role claims: a group of decisions with a budget of its own.
type claimed struct {
	role  string
	paths []string
	rels  []Release
}

// class decides on the releases of a class. An error says that nothing of it can
// be approved.
func (c *candidates) class(class *Class, w *work) error {
	var tops []*Targets
	for _, role := range class.Roles {
		t, err := c.snap.releaseRole(role, c.get)
		if err != nil {
			c.failed(role.Role, "", err)
			return err
		}
		tops = append(tops, t)
	}
	if _, err := c.snap.holdRole(class, c.get); err != nil {
		c.failed(class.Hold.Role, "", err)
		return err
	}
	var groups []claimed
	w.share(2, func(w *work) {
		for i, top := range tops {
			w.share(len(tops)-i, func(w *work) { groups = append(groups, c.claims(class, top, w)...) })
		}
	})
	decided := map[string]bool{}
	for i, g := range groups {
		w.share(len(groups)-i, func(w *work) { c.decide(class, g, decided, w) })
	}
	return nil
}

// decide decides on what one role claims. A path that several roles claim is
// decided on once, within the first budget that suffices.
func (c *candidates) decide(class *Class, g claimed, decided map[string]bool, w *work) {
	for i, path := range g.paths {
		if decided[path] {
			continue
		}
		if !w.spend(costDecision) {
			c.failed(g.role, "", c.tooMuch(g.role))
			return
		}
		var a Approved
		var agreed, spent bool
		var err error
		w.part(maxSearch, func(w *work) {
			a, agreed, err = c.snap.decide(class, path, c.get, w)
			spent = w.left < 0
		})
		if spent {
			c.failed(g.role, "", c.tooMuch(g.role))
			return
		}
		decided[path] = true
		x := Candidate{Path: path, Claim: g.rels[i], Agreed: agreed, Err: err}
		if agreed {
			rel, ok := a.Release()
			if !ok || !c.wants(rel) {
				continue
			}
			x.Claim = rel
		}
		if err == nil {
			x.Approved = a
		}
		c.out = append(c.out, x)
	}
}

func (c *candidates) tooMuch(role string) error {
	return refuse(role, 0, ErrTooLarge, "its releases and the delegations to them are too many for one call")
}

// node is a role in the tree of those that list releases.
type node struct {
	role   string
	by     *Targets    // the role that delegates to it; nil for a party's own role
	how    *delegation // likewise
	parent *node
	depth  int
	opened bool
	kids   []*node
	turn   int
}

// next returns a role below n that was not opened yet, of each branch in turn: one
// with many roles below it does not keep those of others from being read.
func (n *node) next() *node {
	if !n.opened {
		return n
	}
	for range n.kids {
		kid := n.kids[n.turn%len(n.kids)]
		n.turn++
		if x := kid.next(); x != nil {
			return x
		}
	}
	return nil
}

// claims collects the wanted releases of a party's role and the roles below it.
func (c *candidates) claims(class *Class, top *Targets, w *work) (out []claimed) {
	limits := c.snap.root.opt.Limits
	// A role that two delegate to is read for each of them: the keys differ.
	seen := map[[2]string]bool{}
	tree := &node{role: top.name}
	visits := 0
	for n := tree.next(); n != nil && c.ctx.Err() == nil; n = tree.next() {
		if visits++; visits > limits.Visits || n.depth > limits.Depth {
			c.failed(n.by.name, "", refuse(n.by.name, n.by.doc.version, ErrTooLarge,
				"%s and those after it are left out: more than %d roles list releases, or %d deep", text.Name(n.role), limits.Visits, limits.Depth))
			if visits > limits.Visits {
				return out
			}
			n.opened = true
			continue
		}
		n.opened = true
		t := top
		if n.by != nil {
			var err error
			if t, err = c.snap.role(roleVia{n.by, n.role}, n.how.keys, n.by.keys, text.Name(n.role), c.get); err != nil {
				c.failed(n.role, "", err)
				continue
			}
		}
		for i := range t.delegations {
			d := &t.delegations[i]
			pair := [2]string{t.name, d.name}
			if d.succinct != nil || len(d.paths) == 0 || seen[pair] {
				continue
			}
			if seen[pair] = true; len(n.kids) <= limits.Visits { // no more will be opened
				n.kids = append(n.kids, &node{role: d.name, by: t, how: d, parent: n, depth: n.depth + 1})
			}
		}
		w.share(limits.Visits-visits+1, func(w *work) {
			if g := c.listed(class, n, t, w); len(g.paths) > 0 {
				out = append(out, g)
			}
		})
	}
	return out
}

// listed collects the wanted releases that t itself lists where the delegations
// that lead to it allow that.
func (c *candidates) listed(class *Class, n *node, t *Targets, w *work) claimed {
	g := claimed{role: t.name}
	for i, e := range t.files {
		if i%256 == 0 && c.ctx.Err() != nil {
			break
		}
		path := e.name.String()
		if !w.spend(costPlain) {
			c.failed(t.name, "", c.tooMuch(t.name))
			break
		}
		if len(path) > maxPath || !strings.HasPrefix(path, class.Prefix) || !n.reaches(&lookup{path: path, work: w}) {
			continue
		}
		x, err := parseTarget(e.val)
		if err != nil {
			c.failed(t.name, path, refuse(t.name, t.doc.version, ErrMalformed, "target %s: %v", text.Name(path), err))
			continue
		}
		if x.visum == nil {
			continue // a plain file
		}
		// What is malformed is decided on like anything else: one role's claim does not
		// hide what all parties agree on, and what they agree on may be malformed.
		if rel, _ := parseRelease(x.visum); c.wants(rel) {
			g.paths, g.rels = append(g.paths, path), append(g.rels, rel)
		}
	}
	return g
}

// reaches reports whether every delegation that leads to n covers the path.
func (n *node) reaches(l *lookup) bool {
	for ; n.how != nil; n = n.parent {
		if n.how.roleFor(l) == "" {
			return false
		}
	}
	return true
}
