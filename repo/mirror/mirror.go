// Package mirror works on whole repositories without keys: it verifies them, copies them,
// puts them into a file for machines without a network, makes receipts, and serves them.
//
// Each call verifies from a pin, the file that products embed. For a repository without
// a charter, the pin may be a root.json. Nothing else is trusted, and nothing is kept
// between calls. Package repo has what needs keys.
package mirror

import (
	"time"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Options configures a call. nil, and the zero value of each field, are safe.
type Options struct {
	// Now is the clock, which [Verify] and [Receipt] use; nil: time.Now.
	Now func() time.Time
	// Progress, if not nil, receives the progress of a long call. It runs in the
	// goroutine of the call, which continues when it returns.
	Progress func(storage.Progress)
	// Skipped, if not nil, receives each target that [Clone] or [Bundle] skips, with the
	// reason. It runs in the goroutine of the call.
	Skipped func(Finding)
	// Quick lets [Verify] compare the names and sizes of targets with a listing, and read
	// none of them. All metadata is verified. It does not find a file whose bytes were
	// changed and whose size was not: listings have no sha256. It reads neither statements
	// nor unlisted files. The storage must be a [storage.Lister]; of a copy that is none,
	// only the metadata is compared.
	Quick bool
	// UnsafeLoopback permits http:// locations on this machine. For development and tests.
	UnsafeLoopback bool
}

// now is the time in whole seconds.
func (o *Options) now() time.Time {
	if o == nil || o.Now == nil {
		return time.Now().UTC().Truncate(time.Second)
	}
	return o.Now().UTC().Truncate(time.Second)
}

// tuf returns the options to open metadata. Snapshots of earlier versions list no
// lengths, so files of any permitted size are read.
func (o *Options) tuf() *tuf.Options {
	out := &tuf.Options{UnsafeLoopback: o != nil && o.UnsafeLoopback}
	out.Limits.Unlisted = out.Limits.WithDefaults().Targets
	return out
}

func (o *Options) progress(p storage.Progress) {
	if o != nil && o.Progress != nil {
		o.Progress(p)
	}
}

// skip reports a target that is skipped.
func (o *Options) skip(role string, x metafile.Target) {
	if o != nil && o.Skipped != nil {
		o.Skipped(unstorable(role, x))
	}
}

func (o *Options) quick() bool { return o != nil && o.Quick }
