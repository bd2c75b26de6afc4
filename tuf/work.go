package tuf

import "context"

// work is the budget of one call for comparing paths with delegations. A signer can
// easily create a role with thousands of patterns and releases; without a bound for
// the whole call the cost would be their product. One unit is about a nanosecond.
// When the budget is exhausted, the call refuses undecided paths ([ErrTooLarge]).
type work struct {
	left int
	ctx  context.Context // its end exhausts the budget; nil: none
	ask  int             // ctx is checked when left falls below this value
}

// Budgets, in units.
const (
	maxSearch = 1 << 28 // of a search for one path
	maxWork   = 1 << 30 // of one call of [Snapshot.Candidates]
)

// Costs, in units, as measured within a factor of two.
const (
	costDelegation = 16
	costPlain      = 8  // a plain path, or a hash prefix
	costPattern    = 40 // a segment of a pattern, plus the product of its length and that of the path's segment
	costDecision   = 2000
)

// spend takes n units and reports whether the budget sufficed.
func (w *work) spend(n int) bool {
	w.left -= n
	if w.ctx != nil && w.left < w.ask {
		w.ask = w.left - 1<<22 // checked again after some milliseconds
		if w.ctx.Err() != nil {
			w.left = -1
		}
	}
	if w.left < 0 {
		w.left = -1
		return false
	}
	return true
}

// share runs fn with the budget divided by parts. The units that fn does not spend
// remain for the other parts.
func (w *work) share(parts int, fn func(*work)) { w.part(w.left/max(parts, 1), fn) }

// part runs fn with at most n units.
func (w *work) part(n int, fn func(*work)) {
	n = max(min(n, w.left), 0)
	part := work{n, w.ctx, n}
	fn(&part)
	w.left -= n - max(part.left, 0)
}

// spendPattern takes the cost of one segment of a pattern.
func (w *work) spendPattern(lengths int) bool { return w.spend(costPattern + lengths) }
