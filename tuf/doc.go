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
// # Errors
//
// Every refusal is an [*Error] that wraps one of the sentinels; those that say
// "do not trust this" wrap [ErrUntrusted]. Errors of a [Fetch] are handed
// through as they are.
package tuf
