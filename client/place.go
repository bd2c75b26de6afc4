package client

import "slices"

// place is somewhere to ask during one refresh.
type location struct {
	key      string // tells places apart, whatever list names them: a hash, so that the state names no host
	name     string
	operator string // "" for the administrator's own sources, which speak for no operator of a charter
	host     string // "" for sources
	source   Source
	local    bool // the administrator's own
	content  bool // serves timestamp, snapshot, roles and targets, not only roots
}

// sameOperator reports whether two locations may well be run by the same people:
// those of one name, and those on one host, whatever they are called.
func sameOperator(a, b *location) bool { return a.operator == b.operator || a.host == b.host }

// operators counts different operators.
type operators []*location

// add counts the operator of p; the administrator's own sources speak for none.
func (o *operators) add(p *location) {
	if p.operator != "" && !o.has(p) {
		*o = append(*o, p)
	}
}

// has reports whether an operator of p's name, or on p's host, is counted.
func (o operators) has(p *location) bool {
	return slices.ContainsFunc(o, func(q *location) bool { return sameOperator(p, q) })
}

// each returns the places one after the other.
func each(locations []*location) func() *location {
	return func() (p *location) {
		if len(locations) > 0 {
			p, locations = locations[0], locations[1:]
		}
		return p
	}
}
