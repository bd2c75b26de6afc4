//go:build !race

package rawtuf

import "runtime/debug"

// Tests collect garbage less often: their heaps are small and live shortly, and up to a
// fifth of their time was spent on collecting them. Not with the race detector, whose own
// memory grows with the heap.
func init() { debug.SetGCPercent(400) }
