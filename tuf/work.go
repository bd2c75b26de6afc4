package tuf

import "context"

// work is the budget of one call: what it may spend on comparing paths with
// delegations. A role costs its signer little to fill with thousands of patterns
// and of releases, and without a bound for the call as a whole their product is
// spent. One unit is about a nanosecond; a call without a budget left refuses
// ([ErrTooLarge]) what it has not decided.
type work struct {
	left int
	ctx  context.Context // its end ends the budget; nil: none
	ask  int             // ctx is asked when left falls below
}

// Budgets, in units.
const (
	maxSearch = 1 << 28 // of a search for one path
	maxWork   = 1 << 30 // of one [Snapshot.Candidates]
)

// Costs, in units, as measured within a factor of two.
const (
	costDelegation = 16
	costPlain      = 8  // a plain path, or a hash prefix
	costPattern    = 40 // of each segment of a pattern, and its bytes times those of the path
	costDecision   = 2000
)

// spend reports whether there is so much left.
func (w *work) spend(n int) bool {
	w.left -= n
	if w.ctx != nil && w.left < w.ask {
		w.ask = w.left - 1<<22 // some milliseconds later
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

// share runs fn with an equal share for each of parts users, of whom fn is the
// first; what it does not spend stays for the others.
func (w *work) share(parts int, fn func(*work)) { w.part(w.left/max(parts, 1), fn) }

// part runs fn with n units at most.
func (w *work) part(n int, fn func(*work)) {
	n = max(min(n, w.left), 0)
	part := work{n, w.ctx, n}
	fn(&part)
	w.left -= n - max(part.left, 0)
}
