package repo

import (
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Warnings returns problems of the root that [Repo.Stage] does not refuse: reasons why
// [Repo.Pin] will refuse it at the given time, and surplus root keys that reduce the
// tolerance to key loss. Each is one human-readable line of printable ASCII; nil if
// there are none. review is the name of the reviewing party, as in [Config].Review.
func (r *Root) Warnings(review string, at time.Time) []string {
	out := r.unpinnable(review, at)
	if r.minOperators() == 1 {
		out = append(out, chain.OneOperator)
	}
	// The number of root keys that may be lost, over all parties, is the smallest
	// surplus of any party, since the threshold grows with every key of another party.
	spare := func(p Party) int { return len(p.Keys) - max(p.Min, 1) }
	least, all := -1, 0
	for _, p := range r.Parties {
		if all += len(p.Keys); least < 0 || spare(p) < least {
			least = spare(p)
		}
	}
	for _, p := range r.Parties {
		if n := spare(p) - least; n > 0 {
			out = append(out, text.Line(fmt.Sprintf("party %s has %s, another party %d: no more than %d of all %d root keys may be lost, so %s of %s makes losses worse, not better; give the other party as many",
				text.Name(p.Name), plural(spare(p), "spare root key", "spare root keys"), least, least, all, plural(n, "spare key", "spare keys"), text.Name(p.Name))))
		}
	}
	return out
}

// unpinnable states why Pin refuses the root, or why its pin would be useless.
func (r *Root) unpinnable(review string, at time.Time) (out []string) {
	if !slices.ContainsFunc(r.Parties, func(p Party) bool { return p.Name == review }) {
		out = append(out, text.Line(fmt.Sprintf("no party has the name %s of the reviewing party, so no pin can be made of it; Config.Review can name another party", text.Name(review))))
	}
	usable := slices.DeleteFunc(slices.Clone(r.Locations), func(l tuf.Location) bool { return !l.UseUntil.IsZero() && !l.UseUntil.After(at) })
	n, want := tuf.Operators(usable), r.minOperators()
	have := fmt.Sprintf("its locations have %s by name and host, min_operators is %d", plural(n, "operator", "operators"), want)
	switch {
	case n < min(2, want):
		out = append(out, have+", so no pin can be made of it")
	case n < want:
		out = append(out, have+", so clients can't reach enough of them to confirm the root")
	}
	return out
}

// minOperators is the number of operators that a client asks for a new root.
func (r *Root) minOperators() int {
	if r.Probe == (tuf.Probe{}) {
		return 2 // as tuf reads a charter without a probe
	}
	return r.Probe.MinOperators
}
