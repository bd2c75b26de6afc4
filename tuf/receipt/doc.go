// Package receipt verifies receipts: files that show, offline and years later, that a
// repository approved some bytes, named by path, length and sha256. Bytes go in, verified
// values come out. Like package tuf it does no network or disk access, reads no clock and
// writes no log. mirror.Receipt makes receipts.
//
// It is a package of its own, because it needs tuf/attestation, which imports tuf. It has
// no verification of its own either: each check is a call of those two packages.
//
// # Content
//
// A receipt has every file that the decision needs, as the repository served it: the
// chain of roots, the timestamp, the snapshot, the roles that list the path with the
// roles that delegate to them, the hold of the class, and the statements of the
// reviewers. It has the time of the decision. So [Open] repeats the decision of a client
// at that time, with [tuf.Snapshot.Approve]. Keys that were rotated and metadata that was
// removed later do not matter. docs/spec.md, section 21, specifies the file.
//
// # What a receipt shows
//
// The receipt of recalled or held bytes is valid, and [Receipt.Err] is the recall or the
// hold. A receipt shows the state at its time and nothing after it: a later recall is not
// in it.
//
// No key signs the time. The party that makes a receipt chooses it, within the bounds
// that signatures set: not before signed_at of the root, and before the expiry of every
// file ([Receipt.Expires]). [Receipt.Reviewed] is the date that reviewers signed.
//
// After a rotation the former keys may be compromised. An attacker with the former online
// keys and the former keys of every party in the class can make a receipt with any date
// under the former root. [Receipt.Rotated] names the roles whose keys the newest known
// root no longer has. Such a receipt is historical evidence only.
//
// # Trust
//
// The pin decides. Roots after the pin's must follow from it by [tuf.Root.Next]; roots
// before the pin's must be named by prev_root_sha256 of the root after them, back from
// the pin's root. A pin that is newer than the receipt needs the roots in between
// ([Options].Roots), which every location serves. A recovered root after the pin's has no
// waiting period in a file, so it is refused with [tuf.ErrWaiting], unless
// [Options].UnsafeSkipWait is set.
//
// # Limits
//
// A receipt has at most [MaxReceipt] bytes, 1024 roots, 256 roles, 16 statements of each
// role and 16 proofs. The limits of its files are those of [tuf.Limits]; lengths may be
// unlisted. [Open] takes memory of about twice the length of the receipt. Before the
// first signature is verified, it takes time in proportion to the length.
package receipt
