// Package gotuf shows verified values as the types that users of go-tuf know.
// It is apart so that a product which does not need them does not link them.
//
// A program that imports it, be it as
//
//	import _ "github.com/visum-dev/visum/tuf/gotuf"
//
// finds go-tuf's error types in package tuf's errors too: errors.Is and errors.As
// see metadata.ErrRepository in all that wrap tuf.ErrUntrusted, and
// ErrUnsignedMetadata, ErrBadVersionNumber, ErrLengthOrHashMismatch,
// ErrDownloadLengthMismatch and ErrExpiredMetadata where tuf has the same.
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

// Root returns a copy of the root; an error for the zero Root.
func Root(r *tuf.Root) (*metadata.Metadata[metadata.RootType], error) {
	return metadata.Root().FromBytes(r.Bytes())
}

// Timestamp returns a copy of the timestamp; an error for the zero Timestamp.
func Timestamp(t *tuf.Timestamp) (*metadata.Metadata[metadata.TimestampType], error) {
	return metadata.Timestamp().FromBytes(t.Bytes())
}

// Snapshot returns a copy of the snapshot; an error for the zero Snapshot.
func Snapshot(s *tuf.Snapshot) (*metadata.Metadata[metadata.SnapshotType], error) {
	return metadata.Snapshot().FromBytes(s.Bytes())
}

// Targets returns a copy of the role; an error for the zero Targets.
func Targets(t *tuf.Targets) (*metadata.Metadata[metadata.TargetsType], error) {
	return metadata.Targets().FromBytes(t.Bytes())
}

// Key returns the key.
func Key(k tuf.Key) *metadata.Key {
	return &metadata.Key{Type: k.Type, Scheme: k.Scheme, Value: metadata.KeyVal{PublicKey: k.Public}}
}
