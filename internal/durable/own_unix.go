//go:build unix

package durable

import (
	"io/fs"
	"os"
	"syscall"
)

func ours(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 1 && int(st.Uid) == os.Geteuid() && fi.Mode().Perm()&0o002 == 0
}
