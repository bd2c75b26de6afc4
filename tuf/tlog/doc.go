// Package tlog verifies entries of public append-only logs in the formats of C2SP: signed
// notes, [tlog-checkpoint], [tlog-cosignature], [tlog-policy], [tlog-proof] and
// [tlog-tiles]. Its functions read no file, network or clock.
//
// A [Policy] names one log and its cosigners, and which sets of cosigners are a quorum.
// [Policy.Verify] checks a proof that a leaf is an entry of that log in a tree that a
// quorum has seen, and reports when. A [Tree] is one size of a log whose tiles come from an
// unverified place: it makes proofs, reads entries, and computes the tiles of an append.
//
// tlog-policy and tlog-proof have no released version. This package relies on these rules:
// a policy has the lines log, witness, group and quorum, in which a name is defined before
// it is used; a proof begins with c2sp.org/tlog-proof@v1, then the index, the hashes from
// the leaf to the root, an empty line and the checkpoint. It accepts less than the
// specifications allow: one log, no quorum of none, no line "extra", no extension lines in
// a checkpoint, one encoding of each number, key and signature.
//
// The errors wrap [ErrMalformed], [ErrSignature], [ErrQuorum] or [ErrInclusion]. The cost
// of a call before the first signature is checked is linear in its input, which is limited.
//
// [tlog-checkpoint]: https://c2sp.org/tlog-checkpoint
// [tlog-cosignature]: https://c2sp.org/tlog-cosignature
// [tlog-policy]: https://c2sp.org/tlog-policy
// [tlog-proof]: https://c2sp.org/tlog-proof
// [tlog-tiles]: https://c2sp.org/tlog-tiles
package tlog

import "errors"

var (
	// ErrMalformed: the input is not in the form of its specification, or beyond a limit.
	ErrMalformed = errors.New("malformed")
	// ErrSignature: the signature of the log is missing, or one of a key of the policy does
	// not verify.
	ErrSignature = errors.New("signature not valid")
	// ErrQuorum: the cosignatures are not a quorum of the policy.
	ErrQuorum = errors.New("no quorum of cosigners")
	// ErrInclusion: the leaf is not the entry of the tree at the index, or a tree is not a
	// beginning of another, or a tile does not belong to the tree.
	ErrInclusion = errors.New("not in the tree")
)
