// Package tuf is the judge: metadata bytes in, verified values out. It follows
// the client workflow of The Update Framework (specification 1.0.34, section 5)
// and adds a charter: parties that must agree on every root and every release.
// It touches no network, disk, clock or log.
//
// # The way
//
//	OpenPin or OpenRoot -> *Root -Next-> *Root -Timestamp-> *Timestamp -Snapshot-> *Snapshot -Approve-> Approved
//
// Each step takes the value of the step before, so a wrong order does not
// compile, and no exported function makes one of these types from anything but
// bytes that passed every check. Zero values are refused. Verified values are
// immutable and safe for concurrent use.
//
// # What is verified
//
// Signatures are checked over the canonical form of the bytes as received, and
// the same bytes are decoded: strictly, with exact member names, no duplicates,
// bounded in size, depth and number. Keys are counted by the public key itself,
// not by key id. Unknown key types, key ids without a key and signatures that
// can't be decoded count for nothing and break nothing; unknown members of
// metadata are passed over, as TUF asks.
//
//	5.3   root             Root.Next: both thresholds, version N+1, the charter's rules H1 to H12; Root.Timestamp: its expiry
//	5.4   timestamp        Root.Timestamp: threshold, rollback of itself and of the snapshot in it, equal version, floors, expiry
//	5.5   snapshot         Timestamp.Snapshot: length and hashes, threshold, version, rollback of itself and of every role, floor, expiry
//	5.6   targets          Snapshot.Approve, UnsafeTarget, Targets: length and hashes, threshold, version, expiry; the repository that it
//	                       names; no delegation to a role that root or the charter names; the search
//	5.6.7 delegations      in pre-order by priority, terminating, each role once; paths, path_hash_prefixes, hash bins (TAP 15);
//	                       a role is verified for each one who delegates to it; groups of roles may have to agree (TAP 3)
//	5.7   the target       Approved says which bytes; who downloads holds them against it
//
// Release fields are no part of TUF. Of a release that is approved they obey
// [Release.Check], and releases of a product are ordered by [Version].
//
// Length and hashes are compared before anything of a file is parsed.
//
// Of keys these verify: ed25519, ECDSA on P-256 and P-384, RSA of 2048 to 8192
// bits with PSS and SHA-256, each by the scheme that it names, ECDSA in PEM or as
// an uncompressed point in hex; not keys that any
// reader of the key can sign for (ed25519 points of small order, RSA with a prime
// modulus), nor RSA with an even modulus, or an exponent that is even or below
// 65537.
//
// # What is left to the caller
//
// To bring bytes, no more of them than [RoleFile] says. To keep what was trusted,
// and hand it in as prior: who loses it has no floor. To drop the priors where
// [Root.OnlineKeys] changed (5.3.11), and to keep floors of release roles by
// [Root.KeySet]. To take one time for one update (5.1).
//
// # Limits
//
// [Limits] bounds sizes, signatures, roles visited and depth, by default 512 kB
// for a root, 16 kB for a timestamp, 16 MB for a snapshot, 64 MB for a targets
// role, 1 MiB (16 MiB without a charter) for a file of which no length is listed,
// 1024 signatures, 64 visits, 32 delegations deep; its documentation says what they
// cost at worst. JSON nests 64 deep at most, and at most 262,144 members of
// a file may be in objects out of canonical order. Fixed are: a charter of 64 KiB
// with 32 locations, 64 retired, 8 parties and 32 classes; a pin of 1 MiB; 65,536
// delegations of a role, 1,048,576 hash bins (bit_length 20) and 64 roles of an
// agreement; 4096 recalls of a role; the release fields as [Release.Check] says; 4096 bytes of a path that is searched for; a
// search compares a path with delegations for about a quarter of a second of
// processor time, a call of [Snapshot.Candidates] for about one second. No input
// takes more than linear time and memory beyond that. Beyond one of [Limits], of
// these times, the size of a pin or of a path the error is [ErrTooLarge], beyond
// the others [ErrMalformed].
//
// # Ownership
//
// Bytes that come in are copied, or not kept; those of an [Error]'s Evidence may
// be the caller's. All that goes out is a copy, the caller's to change.
//
// # Errors
//
// Every refusal is an [*Error] that wraps one of the sentinels; those that say
// "do not trust this" wrap [ErrUntrusted]. Errors of a [Fetch] are handed
// through as they are. A message is one line of printable ASCII, 4 kB at most; what
// is not of this module stands in it quoted, escaped and cut at 200 characters. A
// refusal changes nothing: what was trusted before stays trusted.
package tuf
