// Package witness cosigns the checkpoints of public append-only logs. A [Witness] is an
// http.Handler for the protocol [tlog-witness] of C2SP: a log sends each new checkpoint with
// a proof that its tree begins with the tree that the witness signed before, and the
// witness answers with a cosignature ([tlog-cosignature]) that states when it saw the tree.
// So a log can show different trees to different clients only with dishonest witnesses.
//
// # Requests
//
//	POST /add-checkpoint           the body is "old SIZE", up to 63 hashes, an empty line and the checkpoint
//	GET  /ORIGIN-SHA256/checkpoint the newest cosigned checkpoint of a log; ORIGIN-SHA256 is lower-case hex
//
// Use http.StripPrefix to serve them below another path. The answers to add-checkpoint, by
// the first rule that applies:
//
//	400  the body is malformed or larger than 64 KiB, or its checkpoint is larger than 16 KiB or has extension lines
//	404  the log of the origin is not in Config.Logs
//	403  the log's key has not signed, or its signature does not verify
//	400  the old size is larger than the size of the checkpoint
//	422  the checkpoint has size 0 and not the root of the empty tree
//	409  the old size is not that of the newest signed tree: Content-Type text/x.tlog.size, the body is that size and a line feed
//	422  the proof does not verify, is not empty for an old size of 0 or an equal size, or the root of the same size is another one
//	503  not signed now, with Retry-After: Config.Check returned an error, or the storage, the key or the clock failed
//	500  the state in the storage is damaged or was set back
//	200  the body is one line of cosignature
//
// A key may sign a checkpoint once; signatures of other keys are ignored and not kept. The
// statuses 422 for another root of the same size and for size 0 are those of tlog-witness
// since July 2026; version 1.0.0 had 409 without a size for the former.
//
// A request for the tree that is already signed is signed again, so that the cosignatures
// of a log without new entries stay recent. Within one second the same line is returned.
//
// # State
//
// The storage has one file for each log, witness/ORIGIN-SHA256/state.json: the newest
// checkpoint with the signature of the log, the time of the newest cosignature, and the
// newest cosigned checkpoint. It is compared and swapped before each signature, and
// swapped again with the signature in it before the answer. Any number of processes may
// use one storage, under one key.
//
// Guaranteed, whichever processes are killed at any call of the storage and whatever calls
// fail: of any two trees of a log that the witness signs, the smaller is the beginning of
// the larger and is not signed with a later time. After a kill, nothing has to be repaired.
// Between the two swaps the state names a tree without a cosignature: the log asks again,
// gets 409 with that size, and asks again from there.
//
// This rests on the storage. A storage that is set back to an earlier state, for example
// from a backup, makes the witness sign from that state on, and a dishonest log can have two
// trees signed, one before and one after. A running process detects it for the states that
// it has read or written ([ErrState]); one that is started later can't. Two cosigned
// checkpoints of one size with different roots then prove what the log did, where both are
// seen. If the newest state is lost, use a new key. An attacker who can write to the storage
// can set it back, so the storage needs the protection that the key has.
//
// # Time
//
// The times of the cosignatures of a log never decrease. If the clock is behind the newest
// one by up to a minute, that time is signed again; if it is further behind, the answer is
// 503. A clock that was ahead when a tree was signed therefore stops the signatures of that
// log until the time is reached: a witness that signed times which have not come yet
// would state how recent a tree is without knowing it.
//
// # Evidence
//
// A checkpoint with the log's signature, the size of the newest tree and another root proves
// that the log has forked. Both checkpoints are kept, the first [MaxEvidence] of a log, and
// so are those for which the proof did not verify, counted apart, since they prove nothing
// by themselves: anyone can send a checkpoint with a wrong proof. [Witness.Evidence]
// returns them. The witness continues to sign the tree that it has signed before.
//
// # Limits of a server
//
// The handler reads at most 64 KiB, checks one signature of a log, and holds one request of
// each log at a time between the check of that signature and the answer; the others wait
// until their context ends. It sets no deadlines: set http.Server.ReadHeaderTimeout and
// ReadTimeout (10 s suffice), WriteTimeout (beyond the time that Config.Check, the storage
// and the key need) and MaxHeaderBytes. Checkpoints are public, so anyone can repeat a
// request: it costs Config.Check, a signature and two writes at most once a second.
//
// [tlog-witness]: https://c2sp.org/tlog-witness
// [tlog-cosignature]: https://c2sp.org/tlog-cosignature
package witness

import (
	"errors"
	"fmt"
)

var (
	// ErrConfig: the configuration is incomplete, or a key is not usable.
	ErrConfig = errors.New("invalid configuration")
	// ErrUnknownLog: the witness does not sign for this log.
	ErrUnknownLog = errors.New("unknown log")
	// ErrCheck: Config.Check returned an error. The state has not changed.
	ErrCheck = errors.New("not signed now")
	// ErrUnavailable: the storage, the key or the clock failed. The state is the old one or
	// names the new tree; a later request succeeds either way.
	ErrUnavailable = errors.New("not available now")
	// ErrState: a file in the storage is damaged, or older than what this process knows.
	// Nothing is signed for the log until the file is restored.
	ErrState = errors.New("state not valid")
)

// SizeError reports the size from which the witness needs a proof.
type SizeError struct {
	Size int64 // entries of the newest signed tree
	Old  int64 // entries, as in the request
}

// Error implements error.
func (e *SizeError) Error() string {
	return fmt.Sprintf("witness: the newest signed tree has %d entries, the proof is from %d", e.Size, e.Old)
}
