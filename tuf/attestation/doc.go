// Package attestation writes and verifies review statements: signed files, in addition to
// metadata, in which a reviewer approves the bytes of a release and describes the
// review, or refuses them with a reason. Bytes go in, verified values come out. Like
// package tuf it does no network or disk access, reads no clock and writes no log.
//
// # Purpose
//
// Metadata alone decides whether a product may install a release: see
// [tuf.Snapshot.Approve]. A statement adds information for auditors and for the
// other party. A missing statement has no effect on products, and a statement that
// does not verify must be ignored.
//
// # Format
//
// A statement is an in-toto Statement v1 in a DSSE envelope. It is signed with the
// keys of the reviewing party's release role in the charter and must meet that role's
// threshold. payloadType is "application/vnd.in-toto+json"; the payload is
//
//	{"_type": "https://in-toto.io/Statement/v1",
//	 "subject": [{"name": "agent/agent-1.1", "digest": {"sha256": "..."}}],
//	 "predicateType": "https://visum.dev/review/v1",
//	 "predicate": {
//	   "repo_id": "0f6c...",                       32 hex digits, of the charter
//	   "length": 7565577,                          of the subject, in bytes
//	   "source": {"uri": "git+https://...", "revision": "..."},
//	   "rebuild": {"result": "identical", "builder": "https://builder.review.example/3"},
//	   "reviewer": {"party": "review", "role": "review-agent", "name": "Ann Example"},
//	   "policy": {"sha256": "..."},                hash of the rules of the review; optional
//	   "from": "2018-11-12T09:00:00Z",             whole seconds, UTC
//	   "until": "2019-11-12T09:00:00Z"}}           after from
//
// result is "identical" (a rebuild from source gave the same bytes), "normalised"
// (the same bytes after removing what differs between any two builds, such as dates
// and signatures) or "not-done". builder is absent exactly if result is "not-done".
// source and reviewer.name are optional.
//
// A refusal has the predicateType "https://visum.dev/refusal/v1" and the predicate
//
//	{"repo_id": "...", "length": 7565577, "reviewer": {...},
//	 "reason": "...", "at": "2018-11-12T09:00:00Z"}
//
// so that a review can't be mistaken for a refusal. Unlike in-toto, both formats
// reject unknown members anywhere in the payload: readers must not ignore a
// condition that a later version adds. Such a version needs a new predicateType.
//
// # Verification
//
// The envelope is parsed strictly and has at most [MaxSize] bytes. Its unknown
// members, which are not signed, are ignored. The payload and the signatures are
// base64, standard or URL-safe, with padding. Signatures are made over the
// pre-authentication encoding of DSSE 1.0, of payloadType and payload as received.
// Undecodable signatures and signatures by unknown keys do not count and cause no
// error. A threshold counts public keys, as in metadata; key ids are hints only.
//
// Keys and threshold are those of the newest root that the caller has. A statement
// signed with keys that this root no longer names is refused, unless the caller
// passes the older roots. Then it is verified with the root that was current at its
// date, and the result reports that the keys were rotated. The signer alone states
// that date (from or at). A statement dated after the signed_at of the root that
// removed its keys is refused; it must be issued again with the new keys.
//
// # Location
//
// A statement is stored next to the target's file. Its name follows from the approved
// target and the role, so no list of statements is needed:
//
//	targets/agent/HASH.agent-1.1                                the target
//	targets/agent/HASH.agent-1.1.reviews/review-agent.1.json    the role's first statement on it
//	targets/agent/HASH.agent-1.1.reviews/review-agent.2.json    the second, and so on
//
// The files never change. A later statement has the next number, and a reader
// requests numbers from 1 on until one does not exist, as for roots. The last
// statement counts. A server can withhold the last statements (freeze); until bounds
// this for reviews. See [Name].
package attestation
