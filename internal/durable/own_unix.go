//go:build unix

package durable

import (
	"io/fs"
	"os"
	"syscall"
)

func ours(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 1 && owned(fi) && fi.Mode().Perm()&0o002 == 0
}

func owned(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
