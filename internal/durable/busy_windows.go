package durable

import (
	"errors"

	"golang.org/x/sys/windows"
)

// busy reports whether another process may have the file open. Windows reports that
// as access denied too.
func busy(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) ||
		errors.Is(err, windows.ERROR_LOCK_VIOLATION) ||
		errors.Is(err, windows.ERROR_ACCESS_DENIED)
}
