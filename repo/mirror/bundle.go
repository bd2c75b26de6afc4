package mirror

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/walk"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// BundleOptions selects the content of a bundle in addition to the roots. Nil: none.
type BundleOptions struct {
	Options
	// Metadata adds the current timestamp, snapshot and all roles.
	Metadata bool
	// Targets selects target files by path, among those with names that a [storage.Storage]
	// accepts. It also adds their review statements, and implies Metadata. nil: none.
	Targets func(path string) bool
	// Report, if not nil, is called after the bundle is written, with the time until
	// which an offline client (client.Config.Offline) can use its content. It is not
	// called for a bundle of roots only, which is useful at any age to clients with
	// further sources.
	Report func(BundleUse)
}

// BundleUse is the time until which the content of a bundle can be used: the earliest
// expiry of its metadata. The expiry of a product with its own keys, or of a hash bin,
// affects only its own paths, but is included.
type BundleUse struct {
	// Until covers all metadata: root, timestamp, snapshot, the parties' roles and the
	// roles that they delegate to.
	Until time.Time
	// UntilStale excludes timestamp and snapshot, which a client with
	// client.Config.UnsafeStale accepts after their expiry. It is an upper bound for such
	// clients.
	UntilStale time.Time
}

// earlier lowers both times of u to expires.
func (u *BundleUse) earlier(expires time.Time) {
	for _, t := range []*time.Time{&u.Until, &u.UntilStale} {
		if t.IsZero() || expires.Before(*t) {
			*t = expires
		}
	}
}

// Bundle writes a zip file with the layout of a location: all roots, and the content
// that opts selects. It serves machines without a network: a zip.Reader of it is a file
// system, which clients and [Clone] accept as a source.
//
// Bundle verifies all content from the pin, except expiries. The same state
// gives the same bytes. After an error, discard the output. If another process published
// during the call, the error wraps [storage.ErrConflict]; call Bundle again.
func Bundle(ctx context.Context, w io.Writer, from storage.Storage, pin []byte, opts *BundleOptions) (err error) {
	defer text.OneLine(&err)
	if opts == nil {
		opts = &BundleOptions{}
	}
	opened, err := tuf.OpenPin(pin, opts.tuf())
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	return storage.Batch(ctx, from, func(from storage.Storage) error { return writeBundle(ctx, w, from, opened.Root(), opts) })
}

func writeBundle(ctx context.Context, w io.Writer, from storage.Storage, root *tuf.Root, opts *BundleOptions) error {
	src := storage.SourceOf(from)
	z := zip.NewWriter(w)
	files := 0
	add := func(name string, length int64, from io.Reader) error {
		// For reproducible bytes: no compression, whose output may change with the Go
		// version, and a constant time.
		f, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, ctxio.NewReader(ctx, from)); err != nil {
			return fmt.Errorf("mirror: %s: %w", text.Name(name), err)
		}
		files++
		opts.progress(storage.Progress{Path: name, Done: length, Total: length, Files: files})
		return nil
	}
	s := &walk.Walker{Source: src, Options: opts.tuf(), Found: walk.FirstFault}
	s.Metadata = func(_ context.Context, name string, data []byte) error {
		if !opts.Metadata && opts.Targets == nil && !layout.IsRootName(name) {
			return nil
		}
		return add(name, int64(len(data)), bytes.NewReader(data))
	}
	s.Recovery = func(_ context.Context, f chain.Recovery) error {
		return errors.Join(add(f.Names[1], int64(len(f.Data[1])), bytes.NewReader(f.Data[1])), add(f.Names[0], int64(len(f.Data[0])), bytes.NewReader(f.Data[0])))
	}
	seen := map[string]bool{}
	var use BundleUse
	s.Role = func(ctx context.Context, role string, t *tuf.Targets) error {
		if role != "targets" { // only standard TUF clients use targets.json
			use.earlier(t.Expires())
		}
		if opts.Targets == nil {
			return nil
		}
		return s.Targets(t, func(x metafile.Target) error {
			if seen[x.Name] || !opts.Targets(x.Path) {
				return nil
			}
			seen[x.Name] = true
			if x.Unstorable != nil {
				opts.skip(role, x)
				return nil
			}
			f, err := src.Open(ctx, x.Name)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := add(x.Name, x.Length, metafile.NewReader(f, x, func(n int64) { opts.progress(storage.Progress{Path: x.Name, Done: n, Total: x.Length, Files: files}) })); err != nil {
				return err
			}
			return chain.Statements(ctx, src, s.Trusted(), x, nil, func(name string, data []byte, err error) error {
				if err != nil {
					return fmt.Errorf("mirror: %s: %w", text.Name(name), err)
				}
				return add(name, int64(len(data)), bytes.NewReader(data))
			})
		})
	}
	s.RootsOnly = !opts.Metadata && opts.Targets == nil
	if err := s.Conflict(ctx, s.Run(ctx, root)); err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	if err := z.Close(); err != nil || opts.Report == nil || s.Snapshot == nil {
		return err
	}
	use.earlier(s.Newest().Expires())
	for _, expires := range []time.Time{s.Timestamp.Expires(), s.Snapshot.Expires()} {
		if expires.Before(use.Until) {
			use.Until = expires
		}
	}
	opts.Report(use)
	return nil
}
