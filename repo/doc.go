// Package repo is the authoring side: it makes, signs and publishes a
// repository that two organisations answer for.
//
// A [Repo] is a handle on files in a [Storage] together with the signers that
// are at hand. [Repo.Update] edits, signs and publishes in one step where all
// keys are there. Where they are not, [Repo.Stage] makes a [Draft], which
// travels as bytes; whoever holds keys signs it with [Draft.Sign], and
// [Repo.Publish] puts it into the repository.
//
// What is published was first opened with package tuf, from the first root on,
// as a client would. Order of writing: targets, then metadata that never
// changes, then a new root, and timestamp.json last, by compare-and-swap: a
// publish that is killed leaves the old repository valid, and of two publishers
// at once one gets [ErrConflict].
//
// The tool computes what people get wrong: the root threshold that gives every
// party its say (rule Q), the charter's seq, epoch and floors, version numbers,
// and the delegations in targets.json by which stock TUF clients see reviewed
// releases only.
package repo
