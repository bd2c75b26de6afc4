package rolelist

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// NewEntry builds the entry of a target; rel may be nil.
func NewEntry(length int64, sha256 []byte, rel *tuf.Release) (wire.Value, error) {
	out := append(make([]byte, 0, 112), '{')
	if rel != nil {
		v, err := metafile.Canonical(rel)
		if err != nil {
			return nil, err
		}
		out = append(out, `"custom":{"`+layout.ReleaseMember+`":`...)
		out = append(append(out, v...), `},`...)
	}
	out = append(out, `"hashes":{"sha256":"`...)
	out = hex.AppendEncode(out, sha256)
	out = append(out, `"},"length":`...)
	return slices.Clip(append(strconv.AppendInt(out, length, 10), '}')), nil
}

// ReleaseOf reads the release data of an entry; ok is false if there is none. If the
// data is invalid, product, version, channel and platform are returned as written, and
// of the other fields only the valid ones. See [CheckRelease].
func ReleaseOf(v wire.Value) (rel tuf.Release, ok bool) {
	e, err := ParseEntry(v)
	if err != nil || e.Release == nil {
		return rel, false
	}
	if rel, err = tuf.ParseRelease(e.Release.JSON()); err != nil { // releases that earlier tools listed must be identifiable
		for name, to := range map[string]*string{"product": &rel.Product, "version": &rel.Version, "channel": &rel.Channel, "platform": &rel.Platform} {
			*to, _ = metafile.Member(e.Release, name).Text()
		}
	}
	return rel, true
}

// IsPlain reports whether an entry has no release data. It searches the bytes first,
// since a repository may have very many files and most of them have no release data.
func IsPlain(v wire.Value) bool {
	if !bytes.Contains(v, []byte(`"`+layout.ReleaseMember+`":`)) {
		return true
	}
	e, err := ParseEntry(v)
	return err != nil || e.Release == nil
}

// CheckRelease returns an error for an entry whose release data clients refuse.
func CheckRelease(target string, v wire.Value) error {
	e, err := ParseEntry(v)
	if err == nil && e.Release != nil {
		_, err = tuf.ParseRelease(e.Release.JSON())
	}
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	return nil
}

// ParseEntry reads the entry of a target in a repository with a charter.
func ParseEntry(v wire.Value) (layout.Entry, error) {
	e, err := layout.ParseEntry(v)
	if err == nil && e.Hashes.SHA256 == "" {
		err = errors.New("no sha256")
	}
	return e, err
}
