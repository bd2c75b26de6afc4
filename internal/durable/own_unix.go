//go:build unix

package durable

import (
	"io/fs"
	"os"
	"syscall"
)

// ours reports whether a file belongs to this user and has one name only: in a
// folder that others may write to, they could have put theirs in its place, or
// given a name in it to another file of ours.
func ours(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 1 && int(st.Uid) == os.Geteuid()
}
