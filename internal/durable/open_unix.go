//go:build unix

package durable

import "syscall"

const (
	noWait   = syscall.O_NONBLOCK // a named pipe is not waited for
	noFollow = syscall.O_NOFOLLOW // a symbolic link in the last element is not followed
)
