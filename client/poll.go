package client

import "slices"

// pollQueue is a queue of locations, by location.key, that starts with the one that
// probes asked longest ago. A location that is not in it was never asked. The state
// keeps it across processes, so the order also holds for a product that runs once a
// day.
//
// A probe asks the first location, the eldest of the others, and then more in the order
// of the queue until enough operators have answered. So of n operators with one
// location each, and m required by a probe, each is asked at least once in
// ceil((n-1)/(m-1)) consecutive probes: of the n-1 others a probe asks at least the m-1
// that have waited longest. A location of the same operator as another may be skipped
// until it is the eldest: for fewer probes than there are locations. A location that
// failed may be skipped while it is avoided, an hour at most.
type pollQueue []string

// poll is the use of a queue by one refresh.
type poll struct {
	queue pollQueue       // at the start of the refresh
	asked []string        // in this order, by location.key
	must  map[string]bool // were the eldest, by location.key
}

func newPoll(t pollQueue) *poll { return &poll{queue: t, must: map[string]bool{}} }

// order sorts locations into the order in which a probe asks them: sources without an
// operator, the first location that works, then the others by the queue. eldest is the
// first of the latter that is not barred, which is asked even if enough operators
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

// rank is smaller for a location that has waited longer. Of those never asked, the
// locations of the first location's operator come last: they add no other operator.
func (t pollQueue) rank(p, first *location) int {
	if i := slices.Index(t, p.key); i >= 0 {
		return i
	}
	if sameOperator(p, first) {
		return -1
	}
	return -2
}

// ask records that a location is asked.
func (o *poll) ask(key string) {
	if !slices.Contains(o.asked, key) {
		o.asked = append(o.asked, key)
	}
}

// next returns the queue after the refresh: locations that were asked move to its end,
// failed ones last; those never asked come first; those no longer listed are removed.
func (o *poll) next(listed []*location, failed map[string]bool) pollQueue {
	if len(o.asked) == 0 {
		return o.queue
	}
	order := func(key string) int {
		switch {
		case failed[key]:
			return 2
		case o.must[key]: // of the first location's operator: it would soon be the eldest again
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
