//go:build unix

package durable

import (
	"errors"
	"syscall"
)

// busy reports whether the refusal may come from another process that has the
// file open: so do network mounts of Windows servers answer.
func busy(err error) bool { return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.ETXTBSY) }
