// Package relocate moves a repository to other places and other keys without
// losing a client. It is the operator's half; what clients do is in package client.
//
// A move is three roots, each signed by both parties and published as any draft:
// [Move.Announce] lists the new places, [Move.CutOver] exchanges keys and puts the
// new places first, [Move.Retire] bans the old hosts for good. What a step does is
// told by the Move, and whether it is due by the newest root: a step may be
// repeated, and none can be taken out of order. [Move.Abort] goes back by going
// on; [Move.Emergency] is all three in one root.
//
// Before a step: [Move.Plan] thinks it through to the end, [Preflight] looks at
// keys, dates and places, [Census] counts in access logs how much of the fleet has
// seen the step before, and package repo/drill rehearses the signed draft with a
// simulated fleet. The guide for operators is docs/moving.md.
package relocate
