// Package drill rehearses the next step of a repository before its publication. It
// publishes a signed draft in memory and runs a simulated fleet against the result:
// clients of package client and standard TUF clients of go-tuf, started from every
// pin that was ever exported. Some clients were online until the step, others start
// for the first time. In the scenarios the old locations are unreachable, frozen,
// faulty or compromised, and the new locations lack files. Drill uses no network and
// writes nothing.
//
// After each refresh of each client the drill checks the invariants of a move:
//
//	S1   a trusted root is in the chain that both parties signed; a recovery root is trusted only after the waiting period
//	S2   the trusted root never goes back (rollback)
//	S3   a client finds only targets that are approved under its root
//	S4   a client sends no request to a retired location
//	S5   content never goes below a floor or back within an epoch (rollback)
//	S6   a client sends no request to an unlisted location
//	S12  content requires an unexpired newest root
//	L1   a client that can reach one healthy location completes the move (also called S7)
//	L2   it does so within as many root checks as there are locations, whatever the others hide
//	L5   after any error it recovers as soon as all locations are healthy
//
// One kind of client may stop before the newest root: a client whose charter has
// min_operators 1, as long as that operator serves unexpired content.
//
// If the draft heals a fork, clients with roots of the other branch must complete the
// move too.
//
// If there is a recovery between a pin and the newest root, clients with an advanced
// clock go through its waiting period. A client that follows it earlier violates S1, a
// client that does not follow it afterwards violates L5. Standard TUF clients do not
// know recoveries and keep their root.
//
// Every client verifies its whole chain of roots, so the time of a drill grows with
// the square of the number of roots: seconds for ten roots, a minute or two for a
// hundred. [Drill].MaxPins bounds the factor that grows with the number of scenarios.
//
// Except for examples and tests, this is the only package that imports both client
// and repo.
package drill
