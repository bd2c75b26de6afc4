package client

import "slices"

// location is a location or source that can be asked during one call.
type location struct {
	key      string // unique for the location in all lists: a hash, so that the state contains no host names
	name     string
	operator string // "" for Config.Sources, which count as no operator of a charter
	host     string // "" for sources
	source   Source
	local    bool // from Config.Sources
	content  bool // serves timestamp, snapshot, roles and targets, not only roots
}

// sameOperator reports whether two locations may be run by the same operator: they have
// the same operator name or the same host.
func sameOperator(a, b *location) bool { return a.operator == b.operator || a.host == b.host }

// operators is a set of different operators.
type operators []*location

// add adds the operator of p; Config.Sources have none.
func (o *operators) add(p *location) {
	if p.operator != "" && !o.has(p) {
		*o = append(*o, p)
	}
}

// has reports whether an operator with p's name, or on p's host, is in the set.
func (o operators) has(p *location) bool {
	return slices.ContainsFunc(o, func(q *location) bool { return sameOperator(p, q) })
}

// each returns an iterator over locations.
func each(locations []*location) func() *location {
	return func() (p *location) {
		if len(locations) > 0 {
			p, locations = locations[0], locations[1:]
		}
		return p
	}
}
