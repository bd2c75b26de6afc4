//go:build unix

package durable

import (
	"errors"
	"syscall"
)

// busy reports whether another process may have the file open. Network mounts of
// Windows servers return these errors.
func busy(err error) bool { return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.ETXTBSY) }
