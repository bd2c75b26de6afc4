package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// A version of a role has one content: the snapshot lists length and sha256 of
// targets.json, of every role that the charter names, and of the products below them.
// For hash bins it lists the length, and the sha256 if the class requires it.

// listedMeta returns the entries of the current snapshot, by file name. Files without a
// listed length, as in snapshots by earlier versions of this package, are read once.
// The entry of a missing file keeps its version only.
func (n *publication) listedMeta(ctx context.Context) (map[string]wire.Value, error) {
	env, err := metafile.Open(n.present.snapshot)
	if err != nil {
		return nil, fmt.Errorf("repo: %w", err)
	}
	meta := map[string]wire.Value{}
	for file, v := range metafile.Member(env.Signed, "meta").Members() {
		meta[file.String()] = v
	}
	for file, v := range meta {
		role := strings.TrimSuffix(file, ".json")
		if n.fresh[role] != nil || metafile.Member(v, "length") != nil {
			continue
		}
		version, err := metafile.Member(v, "version").Int()
		if err != nil {
			return nil, fmt.Errorf("repo: snapshot: %w", err)
		}
		data, err := n.repo.read(ctx, n.present, tuf.RoleFile{Role: role, Version: version})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		meta[file] = metaOf(version, data, n.hashed(&draftFile{role: role}))
	}
	return meta, nil
}

// metaOf returns the snapshot's entry of a file.
func metaOf(version int64, data []byte, hashed bool) wire.Value {
	out := []byte{'{'}
	if hashed {
		sum := sha256.Sum256(data)
		out = append(out, `"hashes":{"sha256":"`...)
		out = append(hex.AppendEncode(out, sum[:]), `"},`...)
	}
	out = strconv.AppendInt(append(out, `"length":`...), int64(len(data)), 10)
	return append(strconv.AppendInt(append(out, `,"version":`...), version, 10), '}')
}

// hashed reports whether the snapshot lists the sha256 of a role. For hash bins the
// class decides; for bins of a product, any class.
func (n *publication) hashed(f *draftFile) bool {
	if !f.isBin() {
		return true
	}
	any := false
	for _, c := range rootOf(n.root).Classes {
		for _, r := range c.Roles {
			if strings.HasPrefix(f.role, rolelist.BinPrefix(r.Role)+"-") || strings.HasPrefix(f.role, rolelist.BinPrefix(rolelist.RestRole(r.Role))+"-") {
				return c.HashBins
			}
		}
		any = any || c.HashBins
	}
	return any
}

// followsMember is the custom member of a snapshot with the version of the snapshot
// published before it. The versions alone do not tell, since an interrupted publish may
// leave a snapshot that was never published. [Repo.Prune] needs this.
const followsMember = "x-visum-follows"

// snapshotOf builds the canonical signed part of a snapshot; follows is 0 for the
// first. It is assembled by hand, since it lists every hash bin and is made for each
// change.
func snapshotOf(meta map[string]wire.Value, version, follows int64, expires time.Time) wire.Value {
	out := fmt.Appendf(nil, `{"_type":"snapshot","expires":"%s","meta":{`, text.Time(expires))
	for i, file := range slices.Sorted(maps.Keys(meta)) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(wire.AppendString(out, file), ':')
		out = append(out, meta[file]...)
	}
	out = fmt.Appendf(out, `},"spec_version":"%s","version":%d`, metadata.SPECIFICATION_VERSION, version)
	if follows > 0 {
		out = fmt.Appendf(out, `,"%s":%d`, followsMember, follows)
	}
	return append(out, '}')
}

// freeOnline returns the next version of timestamp or snapshot: above the published one
// and above those that were signed and never published.
func (n *publication) freeOnline(ctx context.Context, role string, last int64) (int64, error) {
	b, err := n.repo.loadBook(ctx, n.root.Charter().RepoID())
	if err != nil {
		return 0, err
	}
	return max(last, b.highest(role)) + 1, nil
}
