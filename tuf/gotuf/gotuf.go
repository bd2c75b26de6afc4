// Package gotuf converts verified values to the types of go-tuf. It is a separate
// package so that products that do not need these types do not link go-tuf.
//
// Importing it, also as
//
//	import _ "github.com/visum-dev/visum/tuf/gotuf"
//
// adds go-tuf's error types to the errors of package tuf for errors.Is and errors.As:
// metadata.ErrRepository to all errors that wrap tuf.ErrUntrusted, and
// ErrUnsignedMetadata, ErrBadVersionNumber, ErrLengthOrHashMismatch,
// ErrDownloadLengthMismatch and ErrExpiredMetadata to the corresponding errors.
package gotuf

import (
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/bridge"
	"github.com/visum-dev/visum/tuf"
)

func init() { bridge.Theirs = theirs }

func theirs(ours error) error {
	switch ours {
	case tuf.ErrUntrusted:
		return &metadata.ErrRepository{Msg: ours.Error()}
	case tuf.ErrTooLarge:
		return &metadata.ErrDownloadLengthMismatch{Msg: ours.Error()}
	case tuf.ErrThreshold:
		return &metadata.ErrUnsignedMetadata{Msg: ours.Error()}
	case tuf.ErrRollback:
		return &metadata.ErrBadVersionNumber{Msg: ours.Error()}
	case tuf.ErrVersion:
		return &metadata.ErrBadVersionNumber{Msg: ours.Error()}
	case tuf.ErrMismatch:
		return &metadata.ErrLengthOrHashMismatch{Msg: ours.Error()}
	case tuf.ErrExpired:
		return &metadata.ErrExpiredMetadata{Msg: ours.Error()}
	}
	return nil
}

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
