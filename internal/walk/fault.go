package walk

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Fault is one file that does not verify.
type Fault struct {
	Kind FaultKind
	Name string // of the file
	Text string // human-readable description
	Err  error
}

// FaultKind is the kind of a fault.
type FaultKind string

const (
	Missing    FaultKind = "missing"
	Unreadable FaultKind = "unreadable"
	Untrusted  FaultKind = "untrusted"
	Expired    FaultKind = "expired"
	// Unfinished: a root without its timestamp and snapshot.
	Unfinished FaultKind = "unfinished"
)

// KindOf returns the kind of the finding for an error of opening a file.
func KindOf(err error) FaultKind {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Missing
	case errors.Is(err, tuf.ErrExpired):
		return Expired
	case errors.Is(err, tuf.ErrUntrusted):
		return Untrusted
	}
	return Unreadable
}

// FirstFault returns a fault as an error, for calls that stop at the first one.
func FirstFault(f Fault) error {
	if f.Kind == Unfinished {
		return fmt.Errorf("%s: %w: %s", text.Name(f.Name), storage.ErrConflict, f.Text)
	}
	return fmt.Errorf("%s: %w", text.Name(f.Name), f.Err)
}
