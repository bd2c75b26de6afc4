package client

import "slices"

// turn is a queue of locations, by place.key: the one that a probe asked longest
// ago is first. One that is not in the queue was never asked. The state keeps it,
// so that a product that is started once a day, and several processes that share a
// state, go on with it.
//
// A probe asks the location that comes first in any case, the eldest of the
// others, and as many more in the order of the queue as it takes until enough
// operators have answered. So of n operators with one location each, of which a
// probe wants m, each is asked at least once in ceil((n-1)/(m-1)) probes running:
// of those n-1 that do not come first a probe asks the m-1 that have waited longest,
// or more of them. A location that has the operator of another may be passed over
// until it is the eldest: for fewer probes than there are locations. One that rests,
// for an hour at most, may be passed over until it has rested.
type pollQueue []string

// poll is what one refresh asks in the order of a queue.
type poll struct {
	queue pollQueue       // as the refresh found it
	asked []string        // in this order, by place.key
	must  map[string]bool // were the eldest, by place.key
}

func newPoll(t pollQueue) *poll { return &poll{queue: t, must: map[string]bool{}} }

// order puts locations into the order in which a probe asks them: sources, which
// speak for no operator, the first location that does well, then the others by the
// queue. The eldest of these that is not barred is asked also where enough operators
// answered without it; "" for none.
func (o *poll) order(locations []*location, down, barred func(*location) bool) (ordered []*location, eldest string) {
	var rest []*location
	for _, p := range locations {
		if p.operator == "" {
			ordered = append(ordered, p)
		} else {
			rest = append(rest, p)
		}
	}
	if len(rest) == 0 {
		return ordered, ""
	}
	i := max(0, slices.IndexFunc(rest, func(p *location) bool { return !down(p) }))
	first := rest[i]
	rest = slices.Delete(rest, i, i+1)
	slices.SortStableFunc(rest, func(a, b *location) int { return o.queue.rank(a, first) - o.queue.rank(b, first) })
	i = slices.IndexFunc(rest, func(p *location) bool { return !barred(p) })
	if i >= 0 && (slices.Contains(o.queue, rest[i].key) || !sameOperator(rest[i], first)) {
		eldest = rest[i].key
		o.must[eldest] = true
	}
	return append(append(ordered, first), rest...), eldest
}

// rank is smaller for a location that has waited longer. Of those that were never
// asked the ones of the first location's operator come last: they add nothing to
// its answer.
func (t pollQueue) rank(p, first *location) int {
	if i := slices.Index(t, p.key); i >= 0 {
		return i
	}
	if sameOperator(p, first) {
		return -1
	}
	return -2
}

// ask notes that a location is asked.
func (o *poll) ask(key string) {
	if !slices.Contains(o.asked, key) {
		o.asked = append(o.asked, key)
	}
}

// next is the queue after the refresh: what was asked goes to its end, what failed
// behind what answered. What was never asked is at its head, and what is not listed
// any more leaves it.
func (o *poll) next(listed []*location, failed map[string]bool) pollQueue {
	if len(o.asked) == 0 {
		return o.queue
	}
	order := func(key string) int {
		switch {
		case failed[key]:
			return 2
		case o.must[key]: // one with the operator of the first location would soon be the eldest again
			return 1
		}
		return 0
	}
	asked := slices.Clone(o.asked)
	slices.SortStableFunc(asked, func(a, b string) int { return order(a) - order(b) })
	var fresh []string
	for _, p := range listed {
		if p.operator != "" && !slices.Contains(o.queue, p.key) {
			fresh = append(fresh, p.key)
		}
	}
	waiting := slices.DeleteFunc(append(fresh, o.queue...), func(key string) bool { return slices.Contains(asked, key) })
	return slices.DeleteFunc(append(waiting, asked...), func(key string) bool {
		return !slices.ContainsFunc(listed, func(p *location) bool { return p.key == key })
	})
}
