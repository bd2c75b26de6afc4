package durable

import (
	"errors"

	"golang.org/x/sys/windows"
)

// busy reports whether the refusal may come from another process that has the
// file open. Access denied is one of the ways Windows says that.
func busy(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) ||
		errors.Is(err, windows.ERROR_LOCK_VIOLATION) ||
		errors.Is(err, windows.ERROR_ACCESS_DENIED)
}
