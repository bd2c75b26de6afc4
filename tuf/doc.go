// Package tuf verifies TUF metadata: metadata bytes go in, verified values come
// out. It follows the client workflow of The Update Framework (specification
// 1.0.34, section 5) and adds a charter, the agreement of the parties that must
// sign every root and every release. The package does no network or disk
// access, reads no clock and writes no log.
//
// # Workflow
//
//	OpenPin or OpenRoot -> *Root -Next-> *Root -Timestamp-> *Timestamp -Snapshot-> *Snapshot -Approve-> Approved
//
// Each step takes the value of the previous step, so calls in a wrong order do
// not compile. Exported functions create these types only from bytes that passed
// every check. Zero values are refused. Verified values are immutable and safe
// for concurrent use.
//
// # What is verified
//
// Signatures are checked over the canonical form of the received bytes, and the
// same bytes are decoded. Decoding is strict: exact member names, no duplicates,
// bounded size, depth and number of elements. A threshold counts public keys, not
// key ids. Unknown key types, key ids without a key and undecodable signatures
// do not count towards a threshold and cause no error. Unknown members of
// metadata are ignored, as TUF requires.
//
//	5.3   root             Root.Next: both thresholds, version N+1, the charter's rules H1 to H13; Root.Timestamp: expiry of the root
//	5.4   timestamp        Root.Timestamp: threshold, rollback of its version and of the snapshot's, equal version, floors, expiry (freeze)
//	5.5   snapshot         Timestamp.Snapshot: length and hashes, threshold, version (mix-and-match), rollback of its version and of every
//	                       role's, floor, expiry (freeze)
//	5.6   targets          Snapshot.Approve, UnsafeTarget, Targets: length and hashes, threshold, version, expiry; the repository and role
//	                       that the file names; no delegation to a role that root or the charter names; the search
//	5.6.7 delegations      pre-order by priority, terminating, each role once; paths, path_hash_prefixes, hash bins (TAP 15);
//	                       a role is verified separately for each delegator; groups of roles that must agree (TAP 3)
//	5.7   target           Approved holds the length and the hashes; the downloader compares the file with them
//
// Release fields are not part of TUF. In an approved release they obey
// [Release.Check]. [Version] orders the releases of a product.
//
// Length and hashes of a file are compared before any of it is parsed.
//
// These keys verify, each with the scheme that it names: ed25519; ECDSA on P-256
// and P-384, in PEM or as an uncompressed point in hex; RSA of 2048 to 8192 bits
// with PSS and SHA-256. Keys for which a signature can be computed from the public
// key are refused: ed25519 points of small order and RSA keys with a prime
// modulus. RSA keys with an even modulus, an even exponent or an exponent below
// 65537 are refused too.
//
// # Duties of the caller
//
// The caller must:
//
//   - fetch at most [RoleFile].MaxLength bytes of a file, and at most
//     [Limits].Root and [Limits].Timestamp bytes of a root and a timestamp (endless data);
//   - persist trusted metadata and pass it as prior; without it there is no
//     rollback protection;
//   - discard the prior timestamp and snapshot when [Root.OnlineKeys] changes (5.3.11,
//     fast-forward), and keep version floors of release roles by [Root.KeySet];
//   - use one time for a whole update (5.1).
//
// # Limits
//
// [Limits] bounds sizes, signatures, visited roles and depth. The defaults are
// 512 kB for a root, 16 kB for a timestamp, 16 MB for a snapshot, 64 MB for a
// targets role, 1 MiB (16 MiB without a charter) for a file without a listed
// length, 1024 signatures, 64 visits and a delegation depth of 32. The
// documentation of Limits states the worst-case cost.
//
// These limits are fixed: JSON of depth 64 with at most 262,144 members in objects
// out of canonical order; a charter of 64 KiB with 32 locations, 64 retired
// locations, 8 parties and 32 classes; a pin of 1 MiB; 65,536 delegations of a
// role, 1,048,576 hash bins (bit_length 20) and 64 roles of an agreement; 4096
// recalls of a role; release fields as in [Release.Check]; a searched path of
// 4096 bytes. A search compares a path with delegations for about a quarter of a
// second of processor time, a call of [Snapshot.Candidates] for about one second.
// Apart from these searches, time and memory are linear in the size of the input.
//
// The error is [ErrTooLarge] for a value beyond one of [Limits], beyond one of
// these times, and for a pin or a path that is too long; it is [ErrMalformed] for
// the other limits.
//
// # Ownership
//
// Input bytes are copied or not kept, except for an [Error]'s Evidence, which may
// be the caller's slice. Results are copies that the caller may change.
//
// # Errors
//
// Every refusal is an [*Error] that wraps one of the sentinels. The sentinels that
// mean "must not be used" wrap [ErrUntrusted]. Errors of a [Fetch] are returned
// unchanged. A message is one line of printable ASCII of at most 4 kB; foreign text
// in it is quoted, escaped and cut at 200 characters. A refusal does not change
// any state: previously trusted values stay trusted.
package tuf
