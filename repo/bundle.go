package repo

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// BundleOptions say what a bundle holds besides the roots. Nil: nothing.
type BundleOptions struct {
	// Metadata: timestamp, snapshot and all roles as they are now.
	Metadata bool
	// Targets chooses target files by their path, of those that a [Storage] can hold; what reviewers state of them,
	// and Metadata, is in then too.
	// nil: none.
	Targets func(path string) bool
	// Report is told, when the bundle is written, until when a client that asks
	// nothing else (client.Config.Offline) can use its content; nil: nobody is. It is
	// not called for a bundle of roots alone, which has no content; they are of use to
	// clients that ask other places too, whatever their age.
	Report func(BundleUse)
}

// BundleUse is until when the content of a bundle can be used: when the first of
// what it needs expires. A product with keys of its own, or a hash bin, may take its
// own paths out of use before the rest; it counts too.
type BundleUse struct {
	// Until counts everything: root, timestamp, snapshot, the parties' roles and what
	// they delegate to.
	Until time.Time
	// UntilStale is the same without timestamp and snapshot, which clients with a
	// client.Config.UnsafeStale that is long enough accept after their expiry: no such
	// client can use the bundle for longer.
	UntilStale time.Time
}

// earlier makes u end at expires, if it did not end before.
func (u *BundleUse) earlier(expires time.Time) {
	for _, t := range []*time.Time{&u.Until, &u.UntilStale} {
		if t.IsZero() || expires.Before(*t) {
			*t = expires
		}
	}
}

// Bundle writes a zip file laid out as a location: all roots, and what opts adds.
// It goes where no network goes, and clients and [Repo.Clone] take its zip.Reader,
// which is a file system, as they take any other place.
//
// What goes in was verified, from the trust anchor on; expiries are not checked.
// The same state gives the same bytes. After an error what was written is worthless;
// where somebody published meanwhile it wraps [ErrConflict]: begin again.
func (r *Repo) Bundle(ctx context.Context, w io.Writer, opts *BundleOptions) (err error) {
	defer oneLine(&err)
	if opts == nil {
		opts = &BundleOptions{}
	}
	src := storage.SourceOf(r.storage)
	chain, err := r.Chain(ctx)
	if err != nil {
		return err
	}
	if len(chain) == 0 {
		return errEmpty
	}
	z := zip.NewWriter(w)
	files := 0
	add := func(name string, length int64, from io.Reader) error {
		// Neither compression, which may change with the compiler, nor the time of day.
		f, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, ctxio.NewReader(ctx, from)); err != nil {
			return fmt.Errorf("repo: %s: %w", text.Name(name), err)
		}
		files++
		r.progress(storage.Progress{Path: name, Done: length, Total: length, Files: files})
		return nil
	}
	s := &survey{src: src, opt: r.judge(), found: foundIsError}
	s.meta = func(name string, data []byte) error {
		if !opts.Metadata && opts.Targets == nil && !isRootName(name) {
			return nil
		}
		return add(name, int64(len(data)), bytes.NewReader(data))
	}
	s.recovery = func(f recoveryFiles) error {
		return errors.Join(add(f.names[1], int64(len(f.data[1])), bytes.NewReader(f.data[1])), add(f.names[0], int64(len(f.data[0])), bytes.NewReader(f.data[0])))
	}
	seen := map[string]bool{}
	var use BundleUse
	s.role = func(role string, t *tuf.Targets) error {
		if role != "targets" { // for stock clients alone
			use.earlier(t.Expires())
		}
		if opts.Targets == nil {
			return nil
		}
		return s.listedIn(t, func(x listed) error {
			if seen[x.name] || !opts.Targets(x.path) {
				return nil
			}
			seen[x.name] = true
			if x.unstorable != nil {
				r.skip(role, x)
				return nil
			}
			f, err := src.Open(ctx, x.name)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := add(x.name, x.length, newChecked(f, x, func(n int64) { r.progress(storage.Progress{Path: x.name, Done: n, Total: x.length, Files: files}) })); err != nil {
				return err
			}
			return s.statements(ctx, src, x, nil, func(name string, data []byte, err error) error {
				if err != nil {
					return fmt.Errorf("repo: %s: %w", text.Name(name), err)
				}
				return add(name, int64(len(data)), bytes.NewReader(data))
			})
		})
	}
	s.rootsOnly = !opts.Metadata && opts.Targets == nil
	if err := s.conflict(ctx, s.run(ctx, chain[0])); err != nil {
		return err
	}
	if err := z.Close(); err != nil || opts.Report == nil || s.snap == nil {
		return err
	}
	use.earlier(s.tip().Expires())
	for _, expires := range []time.Time{s.ts.Expires(), s.snap.Expires()} {
		if expires.Before(use.Until) {
			use.Until = expires
		}
	}
	opts.Report(use)
	return nil
}
