// Package relocate moves a repository to other locations and other keys without
// losing a client. It has the operator's tools; package client has the client side.
//
// A move consists of three root versions, each signed by both parties and published
// like any draft: [Move.Announce] lists the new locations, [Move.CutOver] rotates
// keys and gives the new locations priority, [Move.Retire] permanently bans the old
// hosts. The content of a step follows from the Move, and the current phase from the
// newest root: a step may be repeated, and no step can be taken out of order.
// [Move.Abort] cancels a move with one more root. [Move.Emergency] does all three
// steps in one root.
//
// Before each step: [Move.Plan] computes all three roots in advance; [Preflight]
// checks keys, dates and locations; [AccessLog] measures in access logs which share of
// the fleet has the previous root; and package repo/drill rehearses the signed draft
// with a simulated fleet. The guide for operators is docs/moving.md.
package relocate
