package drill

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// attacker has compromised keys.
type attacker struct {
	keys map[string]tuf.Signer // by key id
}

// arm gives the attacker every available key that the review party does not hold, and
// forges content and a root with them.
func (p *play) arm(ctx context.Context) error {
	t := &attacker{map[string]tuf.Signer{}}
	signers := slices.Concat(p.Stolen, p.Config.Signers)
	if p.Config.DualSigning != nil {
		signers = append(signers, p.Config.DualSigning.Signers...)
	}
	honest := p.reviewKeys()
	for _, s := range signers {
		if id := s.Key().ID(); !honest[id] {
			t.keys[id] = s
		}
	}
	if err := p.forgeRoot(ctx, t); err != nil {
		return err
	}
	// Content is forged in the newest superseded epoch whose online keys are available.
	for _, root := range slices.Backward(p.before) {
		if root.Charter().Epoch() < p.tip().Charter().Epoch() && t.has(root, "timestamp") && t.has(root, "snapshot") {
			return p.forgeContent(ctx, t, root)
		}
	}
	p.report.Notes = append(p.report.Notes, "no compromise of online keys was rehearsed: the keys of no superseded epoch are available")
	return nil
}

func (p *play) reviewKeys() map[string]bool {
	review := p.Config.Review
	if review == "" {
		review = "review"
	}
	out := map[string]bool{}
	for _, root := range p.after {
		for _, x := range root.Charter().Parties() {
			for _, id := range x.KeyIDs {
				out[id] = out[id] || x.Name == review
			}
		}
		for _, c := range root.Charter().Classes() {
			for _, r := range c.Roles {
				for _, id := range r.KeyIDs {
					out[id] = out[id] || r.Party == review
				}
			}
			if c.Hold != nil {
				for _, id := range c.Hold.KeyIDs {
					out[id] = true
				}
			}
		}
	}
	return out
}

// has reports whether the attacker's keys meet the threshold of a top-level role.
func (t *attacker) has(root *tuf.Root, role string) bool {
	ids, n := root.RoleKeys(role)
	return t.count(ids) >= n
}

func (t *attacker) count(ids []string) (n int) {
	for _, id := range ids {
		if t.keys[id] != nil {
			n++
		}
	}
	return n
}

// sign signs a document with the attacker's keys among ids.
func (t *attacker) sign(ctx context.Context, doc any, ids []string) ([]byte, error) {
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	signed, err := wire.Canonical(data)
	if err != nil {
		return nil, err
	}
	file := struct {
		Signatures []map[string]string `json:"signatures"`
		Signed     json.RawMessage     `json:"signed"`
	}{Signatures: []map[string]string{}, Signed: json.RawMessage(signed.JSON())}
	for _, id := range ids {
		if s := t.keys[id]; s != nil {
			sig, err := s.Sign(ctx, signed)
			if err != nil {
				return nil, err
			}
			file.Signatures = append(file.Signatures, map[string]string{"keyid": id, "sig": hex.EncodeToString(sig)})
		}
	}
	return json.Marshal(file)
}

// forgeRoot forges a next root, signed with the attacker's root keys, which by the
// charter's rules are not enough.
func (p *play) forgeRoot(ctx context.Context, t *attacker) error {
	md, err := metadata.Root().FromBytes(p.was().Bytes())
	if err != nil {
		return err
	}
	md.Signed.Version++
	md.Signed.Expires = p.now.AddDate(10, 0, 0)
	ids, _ := p.was().RoleKeys("root")
	if t.count(ids) == 0 {
		p.report.Notes = append(p.report.Notes, "no compromise of root keys was rehearsed: none of them is available")
		return nil
	}
	p.fork, err = t.sign(ctx, md.Signed, ids)
	return err
}

// driven is the version number in the attacker's metadata (fast-forward).
const driven = 1_000_000

// forgeContent forges the content under a root whose online keys are compromised. The
// review party's roles are unchanged; the others are forged if their keys are
// available.
func (p *play) forgeContent(ctx context.Context, t *attacker, root *tuf.Root) error {
	out := storage.Overlay(truncated{p.Storage, root.Version()})
	put := func(name string, doc any, ids []string) error {
		data, err := t.sign(ctx, doc, ids)
		if err != nil {
			return err
		}
		return out.Create(ctx, name, bytes.NewReader(data))
	}
	listed, err := p.listed(ctx)
	if err != nil {
		return err
	}
	later := p.now.AddDate(10, 0, 0)
	snap := metadata.Snapshot(later)
	snap.Signed.Version, snap.Signed.Meta = driven, map[string]*metadata.MetaFiles{}
	for role, version := range listed {
		snap.Signed.Meta[role+".json"] = metadata.MetaFile(version)
	}
	evil := []byte("evil")
	for _, c := range root.Charter().Classes() {
		for _, r := range c.Roles {
			if t.count(r.KeyIDs) < r.Threshold {
				continue
			}
			path := c.Prefix + "evil"
			md, err := p.role(ctx, r.Role, listed[r.Role])
			if err != nil {
				return err
			}
			sum := sha256.Sum256(evil)
			md.Signed.Targets[path] = &metadata.TargetFiles{Length: int64(len(evil)), Hashes: metadata.Hashes{"sha256": sum[:]}}
			md.Signed.Version, md.Signed.Expires = driven, later
			if err := put(layout.RoleName(r.Role, driven), md.Signed, r.KeyIDs); err != nil {
				return err
			}
			if err := out.Create(ctx, layout.TargetName(path, hex.EncodeToString(sum[:])), bytes.NewReader(evil)); err != nil {
				return err
			}
			snap.Signed.Meta[r.Role+".json"] = metadata.MetaFile(driven)
			p.evil = path
		}
	}
	ids, _ := root.RoleKeys("snapshot")
	if err := put(layout.RoleName("snapshot", driven), snap.Signed, ids); err != nil {
		return err
	}
	stamp := metadata.Timestamp(later)
	stamp.Signed.Version, stamp.Signed.Meta = driven, map[string]*metadata.MetaFiles{"snapshot.json": metadata.MetaFile(driven)}
	ids, _ = root.RoleKeys("timestamp")
	if err := put(layout.TimestampName, stamp.Signed, ids); err != nil {
		return err
	}
	p.files["evil"] = out
	return nil
}

// listed returns the roles in the published snapshot, with their versions.
func (p *play) listed(ctx context.Context) (map[string]int64, error) {
	out := map[string]int64{}
	data, err := p.Storage.Read(ctx, layout.TimestampName)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	ts, err := metadata.Timestamp().FromBytes(data)
	if err != nil || ts.Signed.Meta["snapshot.json"] == nil {
		return nil, fmt.Errorf("drill: the published timestamp can't be read: %w", err)
	}
	if data, err = p.Storage.Read(ctx, layout.RoleName("snapshot", ts.Signed.Meta["snapshot.json"].Version)); err != nil {
		return nil, err
	}
	snap, err := metadata.Snapshot().FromBytes(data)
	if err != nil {
		return nil, err
	}
	for name, f := range maps.All(snap.Signed.Meta) {
		out[name[:len(name)-len(".json")]] = f.Version
	}
	return out, nil
}

// role reads a published targets role; version 0 gives an empty one.
func (p *play) role(ctx context.Context, role string, version int64) (*metadata.Metadata[metadata.TargetsType], error) {
	if version == 0 {
		return metadata.Targets(time.Now()), nil
	}
	data, err := p.Storage.Read(ctx, layout.RoleName(role, version))
	if err != nil {
		return nil, err
	}
	return metadata.Targets().FromBytes(data)
}

// truncated is a storage without the roots after root and without a timestamp.
type truncated struct {
	repo.Storage
	root int64
}

func (s truncated) Read(ctx context.Context, name string) ([]byte, error) {
	var n int64
	if _, err := fmt.Sscanf(name, "metadata/%d.root.json", &n); err == nil && n > s.root || name == layout.TimestampName {
		return nil, fs.ErrNotExist
	}
	return s.Storage.Read(ctx, name)
}

var errLacks = errors.New("the location lacks it or has other bytes")

// holdsTarget compares a location's file of a target with the approved one.
func (p *play) holdsTarget(ctx context.Context, l tuf.Location, a tuf.Approved) error {
	if a.Length() > storage.MaxRead {
		return nil // too large for memory; the preflight checks it
	}
	data, err := p.at(l, "after").Read(ctx, layout.TargetName(a.Path(), a.SHA256()))
	if errors.Is(err, fs.ErrNotExist) {
		return errLacks
	}
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != a.SHA256() {
		return errLacks
	}
	return nil
}
