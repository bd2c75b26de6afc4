// Package drill rehearses the next step of a repository before anybody can see
// it. A signed draft is published into memory, and a simulated fleet lives
// through it: clients of package client, and stock clients of go-tuf, started from
// every pin that was ever exported, some of them awake until just now, some of
// them for the first time. They meet old places that are dark, frozen, lying, or
// in the hands of a thief, and new places that are late. There is no network and
// nothing is written.
//
// After each refresh of each client the invariants are checked that a move must
// keep: the root that a client trusts is in the chain that both parties signed
// (S1) and never goes back (S2), nothing is had but what is approved under it (S3),
// no retired place is asked (S4), no floor is gone below (S5), no place is asked
// that nobody listed (S6), content comes only with a tip that is in date (S12); and who
// can reach one honest place comes to the end of the move (L1, S7), within as many
// probes as there are places (L2), whatever the others hide; and from every error as
// soon as the world is well again (L5). One client alone may rest before the end: it
// whose charter is content with one operator (min_operators 1), as long as that one
// has content in date.
//
// Where a recovery stands between a pin and the newest root, clients live through
// its wait with their clocks ahead: who follows before is a violation (S1), and who
// does not follow after it too (L5). Stock clients know no recovery and stay.
//
// Every client verifies its own way, so a rehearsal takes as long as the square of
// the number of roots: seconds for ten, a minute or two for a hundred. [Drill].MaxPins
// bounds what grows with the number of scenarios.
//
// This is the one package beside examples and tests in which client and repo meet.
package drill
