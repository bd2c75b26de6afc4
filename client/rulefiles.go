package client

import (
	"strings"

	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// keptProofs are the names in the store of the files for [tuf.Root.Logged] and
// [tuf.Root.LoggedByRecovery].
func keptProofs(r *tuf.Root) (first, later, change string) {
	first, later, change = r.LogFiles()
	return "roots/" + first, "roots/" + later, "roots/" + change[strings.LastIndex(change, "/")+1:]
}

// provenRule returns r with its rule of the log in force, if the kept proofs say so.
func provenRule(store Store, r *tuf.Root) *tuf.Root {
	if !r.LogPending() {
		return r
	}
	read := func(name string, limit int64) []byte {
		data, err := store.Read(name, limit)
		if err != nil {
			return nil
		}
		return data
	}
	first, later, change := keptProofs(r)
	if s := read(change, tuf.MaxLogChange); s != nil {
		if got, err := r.LoggedByRecovery(s); err == nil {
			r = got
		}
	}
	if a := read(first, tlog.MaxProof); a != nil && r.LogPending() {
		if got, err := r.Logged(a, read(later, tlog.MaxProof)); err == nil {
			r = got
		}
	}
	return r
}
