// Package gotuf converts verified values and errors to the types of go-tuf. It is a
// separate package so that products that do not need these types do not link go-tuf.
package gotuf

import (
	"errors"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/tuf"
)

// Error returns an error that wraps err and go-tuf's errors of the same meaning, for
// errors.Is and errors.As: metadata.ErrRepository if err wraps [tuf.ErrUntrusted], and
// ErrUnsignedMetadata ([tuf.ErrThreshold]), ErrBadVersionNumber ([tuf.ErrRollback],
// [tuf.ErrVersion]), ErrLengthOrHashMismatch ([tuf.ErrMismatch]),
// ErrDownloadLengthMismatch ([tuf.ErrTooLarge]) and ErrExpiredMetadata
// ([tuf.ErrExpired]). The text is that of err. If err wraps no error of package tuf it
// is returned unchanged.
func Error(err error) error {
	var all []error
	for _, x := range []struct{ ours, theirs error }{
		{tuf.ErrUntrusted, &metadata.ErrRepository{Msg: tuf.ErrUntrusted.Error()}},
		{tuf.ErrTooLarge, &metadata.ErrDownloadLengthMismatch{Msg: tuf.ErrTooLarge.Error()}},
		{tuf.ErrThreshold, &metadata.ErrUnsignedMetadata{Msg: tuf.ErrThreshold.Error()}},
		{tuf.ErrRollback, &metadata.ErrBadVersionNumber{Msg: tuf.ErrRollback.Error()}},
		{tuf.ErrVersion, &metadata.ErrBadVersionNumber{Msg: tuf.ErrVersion.Error()}},
		{tuf.ErrMismatch, &metadata.ErrLengthOrHashMismatch{Msg: tuf.ErrMismatch.Error()}},
		{tuf.ErrExpired, &metadata.ErrExpiredMetadata{Msg: tuf.ErrExpired.Error()}},
	} {
		if errors.Is(err, x.ours) {
			all = append(all, x.theirs)
		}
	}
	if all == nil {
		return err
	}
	return &converted{err, all}
}

// converted is an error with those of go-tuf that mean the same.
type converted struct {
	error
	theirs []error
}

func (c *converted) Unwrap() []error { return append([]error{c.error}, c.theirs...) }

// Root returns a copy of the root. The zero Root is an error.
func Root(r *tuf.Root) (*metadata.Metadata[metadata.RootType], error) {
	return metadata.Root().FromBytes(r.Bytes())
}

// Timestamp returns a copy of the timestamp. The zero Timestamp is an error.
func Timestamp(t *tuf.Timestamp) (*metadata.Metadata[metadata.TimestampType], error) {
	return metadata.Timestamp().FromBytes(t.Bytes())
}

// Snapshot returns a copy of the snapshot. The zero Snapshot is an error.
func Snapshot(s *tuf.Snapshot) (*metadata.Metadata[metadata.SnapshotType], error) {
	return metadata.Snapshot().FromBytes(s.Bytes())
}

// Targets returns a copy of the role. The zero Targets is an error.
func Targets(t *tuf.Targets) (*metadata.Metadata[metadata.TargetsType], error) {
	return metadata.Targets().FromBytes(t.Bytes())
}

// Key converts a key.
func Key(k tuf.Key) *metadata.Key {
	return &metadata.Key{Type: k.Type, Scheme: k.Scheme, Value: metadata.KeyVal{PublicKey: k.Public}}
}
