// Package proof writes and verifies what a reviewer puts his name to beside the
// metadata: that he approves of the bytes of a release, and how he came to it, or
// that he refuses them, and why. Bytes in, verified values out; like package tuf
// it touches no network, disk, clock or log.
//
// # What it is for
//
// Whether a product may install a release is decided by metadata alone: see
// [tuf.Snapshot.Approve]. A statement adds what metadata has no room for, for
// auditors and for the other party. Its absence stops nobody; a statement that
// does not verify says nothing.
//
// # The form
//
// A statement is an in-toto Statement v1 in a DSSE envelope, signed with the keys
// of the reviewing party's release role in the charter, by as many of them as
// that role needs. payloadType is "application/vnd.in-toto+json"; the payload is
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
//	   "policy": {"sha256": "..."},                of the rules that were reviewed against; optional
//	   "from": "2018-11-12T09:00:00Z",             whole seconds, UTC
//	   "until": "2019-11-12T09:00:00Z"}}           after from
//
// result is "identical" (built from source again, the same bytes), "normalised"
// (the same after what differs between any two builds, such as dates and
// signatures, was taken out) or "not-done"; only then there is no builder.
// source is optional, and so is reviewer.name.
//
// A refusal has the predicateType "https://visum.dev/refusal/v1" and the predicate
//
//	{"repo_id": "...", "length": 7565577, "reviewer": {...},
//	 "reason": "...", "at": "2018-11-12T09:00:00Z"}
//
// so that none can be taken for the other. Both worlds are closed, against the
// custom of in-toto: an unknown member anywhere in the payload is refused. A
// condition that some later version adds must not be passed over by readers that
// do not know it; it takes a new predicateType.
//
// # Verification
//
// The envelope is read strictly, at most [MaxSize] bytes; unknown members of it,
// which nobody signed, are passed over. The payload and the signatures are base64,
// standard or URL-safe, with padding. What is signed is the pre-authentication
// encoding of DSSE 1.0, of payloadType and payload as received. Signatures that
// can't be decoded, or are by nobody we know, count for nothing and break
// nothing; keys are counted by the public key itself, as in all metadata, and key
// ids are hints only. Keys and threshold are those of the newest root that the
// caller has. What was signed by keys that this root no longer names says nothing,
// unless the caller hands in the roots before it: then the root that was current at
// the date of the statement decides, and the result says that the keys were rotated.
// That date (from, or at) is the signer's own word, and a statement dated after the
// signed_at of the root that took its keys away is refused; say it again with the
// new keys.
//
// # Where it stands
//
// Beside the target's file, under a name that follows from the approved target
// and the role; nothing has to be listed:
//
//	targets/agent/HASH.agent-1.1                                the target
//	targets/agent/HASH.agent-1.1.reviews/review-agent.1.json    the role's first word on it
//	targets/agent/HASH.agent-1.1.reviews/review-agent.2.json    its second, and so on
//
// The files never change; a later word is the next number, and a reader asks for
// numbers from 1 on until there is none, as for roots. The last word is the one
// that counts. Whoever serves the files can keep back the last ones, which until
// bounds. See [Name].
package proof
