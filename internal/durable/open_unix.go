//go:build unix

package durable

import "syscall"

const (
	noWait   = syscall.O_NONBLOCK // do not block on a named pipe
	noFollow = syscall.O_NOFOLLOW // do not follow a symbolic link in the last element
)
