package tuf

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
)

// Candidate is a release that at least one role lists, or, if Role is not "", a
// role or an entry that could not be read. In the second case it has no Claim, and
// Err is the reason.
type Candidate struct {
	Path string // target path; "" if a role could not be read as a whole
	// Role is "" for a release. Otherwise it is the role that could not be read as a
	// whole (Path is ""), or the role whose entry for Path is malformed. Releases of
	// an unreadable role and of the roles below it are missing in the result; if the
	// role is a party's release role or the hold, all releases of its class are
	// missing.
	Role string
	// Claim is the content that all parties agree on if Agreed is true. Otherwise a
	// single role lists it without confirmation: it is fit for a message, not for a
	// decision. Fields that break a rule of [Release.Check] are zero in it.
	Claim Release
	// Agreed reports that every party lists the same content, whether that is
	// approved, recalled, held or refused for its release fields ([ErrRelease]).
	Agreed bool
	// Approved is zero if Err is not nil.
	Approved Approved
	Err      error // the reason why the release is not approved, as from [Snapshot.Approve]
}

// Candidates finds the releases that want accepts and decides on each. A nil want
// accepts every release. Candidates calls want first with the unconfirmed fields of
// single roles, which only select the paths to decide on, and then again with the
// fields that all parties agree on; it leaves out a release that want rejects in
// the second call. want may be called often and must have no side effects. In its
// argument a field that breaks a rule of [Release.Check] is zero: a want that
// accepts a zero product, version, channel or platform gets the releases that are
// refused for these fields too.
//
// The result is sorted by path. Candidates also reads roles that the parties
// delegate to by path patterns, such as one role per product: at most Limits.Depth
// deep, and at most Limits.Visits roles for each party, shared evenly between
// delegating roles. It does not read hash bins; releases there are found only by
// their path ([Snapshot.Approve]).
//
// If a role can't be read, has expired or is too large, the releases of that role
// and of the roles below it are missing, and the result has an entry with its Role.
// Candidates decides on the other releases. Each decision fails closed: a release
// is not approved if the decision needs a role that can't be read.
//
// A call spends about a second of processor time on comparing paths with
// delegations, shared evenly between classes and roles. Beyond that it decides on
// no more releases and reports this in an entry ([ErrTooLarge]). The result is nil
// with an error if ctx has ended, if s has no charter, or if no class can be
// decided on. Candidates checks ctx between roles and decisions; get must observe
// ctx by itself.
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

// candidates is the state of one call.
type candidates struct {
	snap *Snapshot
	ctx  context.Context
	want func(Release) bool
	get  Fetch
	out  []Candidate
}

func (c *candidates) wants(r Release) bool { return c.want == nil || c.want(r) }

// failed adds an entry for a role, or for one path of it, that could not be read.
func (c *candidates) failed(role, path string, err error) {
	c.out = append(c.out, Candidate{Path: path, Role: role, Err: err})
}

// claimed is the list of releases of one role: a group of decisions with its own
// budget.
type claimed struct {
	role  string
	paths []string
	rels  []Release
}

// class decides on the releases of a class. After an error no release of the class
// can be approved.
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

// decide decides on the releases that one role lists. It decides once on a path
// that several roles list, within the first budget that suffices.
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

// node is a role in the tree of delegations below a release role.
type node struct {
	role   string
	by     *Targets    // the role that delegates to it; nil for a release role
	how    *delegation // the delegation; nil for a release role
	parent *node
	depth  int
	opened bool
	kids   []*node
	turn   int
}

// next returns a role below n that was not opened yet. It takes the branches in
// turn, so that a branch with many roles does not exhaust the visits of the others.
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
	// A role with two delegators is read for each of them, for their keys may differ.
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

// listed collects the wanted releases that t itself lists, if the delegations
// leading to t cover their paths.
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
			continue // a target without release data
		}
		// Malformed release fields do not exclude a path: one role's entry must not hide
		// a release that all parties agree on, and agreed fields may be malformed too.
		if rel, _ := parseRelease(x.visum); c.wants(rel) {
			g.paths, g.rels = append(g.paths, path), append(g.rels, rel)
		}
	}
	return g
}

// reaches reports whether every delegation leading to n covers the path.
func (n *node) reaches(l *lookup) bool {
	for ; n.how != nil; n = n.parent {
		if n.how.roleFor(l) == "" {
			return false
		}
	}
	return true
}
