package repo

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Promotion states which release [Tx.Promote] lists in another channel.
type Promotion struct {
	Product, Version string       // of the release
	From, To         string       // channels
	Rollout          *tuf.Rollout // in To; nil: all machines
	// Path returns the path of the copy of a target. If Path is nil, the last element
	// of the path below the class's prefix that equals From becomes To; without such an
	// element, To becomes the folder of the file. For example agent/beta/1.5/agent is
	// copied to agent/stable/1.5/agent, and agent/agent-1.5 to agent/stable/agent-1.5.
	Path func(target string) string
}

// Promote lists a release of the party in another channel too, on all its platforms:
// the same bytes under another path, with the same release data except channel and
// rollout. The files are copied within the storage: by the storage itself if it is a
// [storage.Copier], otherwise by reading, verifying and writing them. For the other parties the
// copies are [Pending], and they approve them like any release. The entries of the
// first channel do not change.
//
// Only bytes that every other party of the class lists are promoted (otherwise
// [tuf.ErrNotApproved]), and none that a party has recalled or a hold stops
// ([signing.ErrTakenBack]). Files that are already in the other channel with the same bytes are
// skipped; if all are, the error wraps [fs.ErrExist]. Other bytes there are
// [ErrReleased]. A release that the party does not list in From is [tuf.ErrNoTarget]. A
// copy must belong to the same list, signed by the same keys, as its original;
// otherwise Path must choose another path ([fs.ErrInvalid]). After an error only
// unlisted files may have been written.
func (tx *Tx) Promote(party string, p Promotion) error {
	fail := func(err error, format string, args ...any) error {
		return fmt.Errorf("repo: promote %s %s from %s to %s: %w: %s", text.Name(p.Product), text.Name(p.Version), text.Name(p.From), text.Name(p.To), err, fmt.Sprintf(format, args...))
	}
	if p.From == p.To {
		return fail(fs.ErrInvalid, "the channels are the same")
	}
	found, err := tx.listedIn(party, p.Product, p.Version, p.From)
	if err != nil {
		return err
	}
	var copies []promoted
	for _, path := range slices.Sorted(maps.Keys(found)) {
		c, err := tx.promote(party, p, path, found[path])
		if err != nil {
			return err
		}
		if c.to == "" {
			continue
		}
		if slices.ContainsFunc(copies, func(o promoted) bool { return o.to == c.to }) {
			return fail(fs.ErrInvalid, "two files would have the path %s", text.Name(c.to))
		}
		copies = append(copies, c)
	}
	if len(copies) == 0 {
		return fail(fs.ErrExist, "it is already there; SetRollout changes its rollout")
	}
	for _, c := range copies {
		if err := tx.copyTarget(c); err != nil {
			return err
		}
	}
	for _, c := range copies {
		if err := tx.list(c.roles, c.to, c.entry); err != nil {
			return err
		}
	}
	return nil
}

// SetRollout sets the share of machines that should install a release of the party in a
// channel, on all platforms: percent is 0, which stops the rollout, to 100. The bytes
// do not change. Clients require all parties to agree on release data, so the release
// is not approved until the other parties list the change too: [Pending] shows it, and
// [Tx.Approve] of it makes no new statement. A release that the party does not list in
// the channel is [tuf.ErrNoTarget].
func (tx *Tx) SetRollout(party string, release ReleaseID, channel string, percent int) error {
	found, err := tx.listedIn(party, release.Product, release.Version, channel)
	if err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(found)) {
		have := found[path]
		if percentOf(&have.Release) == percent {
			continue
		}
		_, roles, err := tx.role(party, path)
		if err != nil {
			return err
		}
		entry, err := withRelease(have.entry, map[string]any{"rollout": tuf.Rollout{Percent: percent}})
		if err != nil {
			return fmt.Errorf("repo: %s: %w", text.Name(path), err)
		}
		if err := rolelist.CheckRelease(path, entry); err != nil {
			return err
		}
		if err := tx.list(roles, path, entry); err != nil {
			return err
		}
	}
	return nil
}

// listedIn returns the files that the party lists for a version in a channel, by path;
// at least one.
func (tx *Tx) listedIn(party, product, version, channel string) (map[string]listedRelease, error) {
	name, ok := nameOf(product, version)
	if !ok {
		_, err := tuf.ParseVersion(version)
		return nil, fmt.Errorf("repo: %w", err)
	}
	indexes, err := tx.indexesOf(party)
	if err != nil {
		return nil, err
	}
	found := map[string]listedRelease{}
	for _, x := range indexes {
		for path, have := range x.versions[name] {
			if have.Channel == channel {
				found[path] = have
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("repo: %s lists no version %s of product %s in channel %s: %w", text.Name(party), text.Name(version), text.Name(product), text.Name(channel), tuf.ErrNoTarget)
	}
	return found, nil
}

// promoted is a target with its copy.
type promoted struct {
	from, to string // paths
	have     listedRelease
	entry    wire.Value // of the copy
	roles    []string
}

// promote checks one target and plans its copy. to is "" if the copy already exists.
func (tx *Tx) promote(party string, p Promotion, path string, have listedRelease) (promoted, error) {
	none := promoted{}
	class, roles, err := tx.role(party, path)
	if err != nil {
		return none, err
	}
	if err := tx.checkAgreed(class, party, path, have); err != nil {
		return none, err
	}
	if err := tx.checkStopped(path, have.sha256); err != nil {
		return none, err
	}
	var rollout any // nil removes the member
	if p.Rollout != nil {
		rollout = p.Rollout
	}
	// Patches and compressed copies exist for the first path only.
	entry, err := withRelease(have.entry, map[string]any{"channel": p.To, "rollout": rollout}, transportMember)
	if err != nil {
		return none, fmt.Errorf("repo: %s: %w", text.Name(path), err)
	}
	if err := rolelist.CheckRelease(path, entry); err != nil {
		return none, err
	}
	rel := have.Release
	rel.Channel, rel.Rollout = p.To, p.Rollout
	if err := tx.sameBytes(party, path, &rel, have.sha256); err != nil {
		return none, err
	}
	there, err := tx.indexesOf(party)
	if err != nil {
		return none, err
	}
	name, _ := nameOf(rel.Product, rel.Version)
	for _, x := range there {
		for _, other := range x.versions[name] {
			if other.Channel == rel.Channel && other.Platform == rel.Platform {
				return none, nil
			}
		}
	}
	c := promoted{path, inChannel(class, path, p.From, p.To), have, entry, roles}
	if p.Path != nil {
		c.to = p.Path(path)
	}
	return c, tx.copyName(class, party, c)
}

// checkAgreed checks that every other party of the class lists the same bytes. Bytes
// that a party has not approved, or no longer lists, are not promoted.
func (tx *Tx) checkAgreed(class Class, party, path string, have listedRelease) error {
	for _, role := range class.Roles {
		if role.Party == party {
			continue
		}
		v, err := tx.find(role.Role, path)
		if err != nil {
			return err
		}
		if v != nil {
			s, err := subjectOf(path, v)
			if err != nil {
				return err
			}
			if s.SHA256 == have.sha256 && s.Length == have.length {
				continue
			}
		}
		return fmt.Errorf("repo: %s: %w: %s does not list these bytes, so they are not promoted", text.Name(path), tuf.ErrNotApproved, roleText(role.Role))
	}
	return nil
}

// checkStopped refuses bytes that a recall or a hold names, under any path.
func (tx *Tx) checkStopped(path, sum string) error {
	no := func(role, what string) error {
		return fmt.Errorf("repo: %s: %w: %s of %s names its bytes (sha256 %.16s)", text.Name(path), signing.ErrTakenBack, what, roleText(role), sum)
	}
	now := tx.repo.now()
	for _, c := range tx.layout().Classes {
		for _, role := range c.Roles {
			r, err := tx.recallOf(role.Role, sum)
			if err != nil {
				return err
			}
			if r != nil {
				return no(role.Role, "a recall")
			}
		}
		if c.Hold == nil {
			continue
		}
		l, err := tx.read(c.Hold.Role)
		if err != nil {
			return err
		}
		if l == nil {
			continue
		}
		for _, v := range l.Targets {
			e, err := rolelist.ParseEntry(v)
			if until, ok := heldUntil(v); err == nil && e.Hashes.SHA256 == sum && (!ok || until.After(now)) {
				return no(c.Hold.Role, "a hold")
			}
		}
	}
	return nil
}

// inChannel returns the default path of a copy.
func inChannel(class Class, path, from, to string) string {
	below, ok := strings.CutPrefix(path, class.Prefix)
	if !ok {
		return path
	}
	elements := strings.Split(below, "/")
	for i, e := range slices.Backward(elements) {
		if e == from {
			elements[i] = to
			return class.Prefix + strings.Join(elements, "/")
		}
	}
	return class.Prefix + strings.Join(slices.Insert(elements, len(elements)-1, to), "/")
}

// copyName checks the path of a copy.
func (tx *Tx) copyName(class Class, party string, c promoted) error {
	other, _, err := tx.role(party, c.to)
	if err != nil {
		return err
	}
	if err := fetchable(class, c.to); err != nil {
		return err
	}
	for _, role := range c.roles {
		if there, err := tx.find(role, c.to); err != nil {
			return err
		} else if there != nil {
			return fmt.Errorf("repo: %s: the copy of %s would replace it: %w", text.Name(c.to), text.Name(c.from), fs.ErrExist)
		}
		a, err := tx.listOf(role, c.from)
		if err != nil {
			return err
		}
		b, err := tx.listOf(role, c.to)
		if err != nil {
			return err
		}
		if a != b || other.Name != class.Name {
			return fmt.Errorf("repo: %s: %w: its copy %s would be listed in %s, which has other keys; choose a path that belongs to %s",
				text.Name(c.from), fs.ErrInvalid, text.Name(c.to), roleText(b), roleText(a))
		}
	}
	return nil
}

// listOf names the list in a role's tree to which a release belongs.
func (tx *Tx) listOf(role, target string) (string, error) {
	l, err := tx.read(role)
	for err == nil && l != nil {
		name := l.RoleFor(target, true)
		if name == "" {
			return l.Role, nil
		}
		l, err = tx.readBelow(l, name)
	}
	return role, err
}

// copyTarget copies the bytes of a target to another path in storage.
func (tx *Tx) copyTarget(c promoted) error {
	r, ctx := tx.repo, tx.ctx
	from := metafile.Target{Path: c.from, Name: layout.TargetName(c.from, c.have.sha256), Length: c.have.length, SHA256: c.have.sha256}
	to := layout.TargetName(c.to, c.have.sha256)
	if s, ok := r.storage.(storage.Copier); ok {
		if err := s.Copy(ctx, from.Name, to); err != nil {
			return fmt.Errorf("repo: %s: %w", text.Name(c.to), err)
		}
		return nil
	}
	f, err := storage.SourceOf(r.storage).Open(ctx, from.Name)
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(c.from), err)
	}
	defer f.Close()
	tell := func(n int64) { r.progress(storage.Progress{Path: "targets/" + c.to, Done: n, Total: from.Length}) }
	if err := r.storage.Create(ctx, to, metafile.NewReader(ctxio.NewReader(ctx, f), from, tell)); err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(c.to), err)
	}
	return nil
}

// withRelease returns an entry with changed release data, where nil removes a member,
// and without some members of its custom object.
func withRelease(v wire.Value, fields map[string]any, without ...string) (wire.Value, error) {
	release := map[string]wire.Value{}
	for name, to := range fields {
		release[name] = nil
		if to == nil {
			continue
		}
		var err error
		if release[name], err = metafile.Canonical(to); err != nil {
			return nil, err
		}
	}
	fresh, err := withMembers(metafile.Member(metafile.Member(v, "custom"), layout.ReleaseMember), release)
	if err != nil {
		return nil, err
	}
	members := map[string]wire.Value{layout.ReleaseMember: fresh}
	for _, name := range without {
		members[name] = nil
	}
	custom, err := withMembers(metafile.Member(v, "custom"), members)
	if err != nil {
		return nil, err
	}
	return withMembers(v, map[string]wire.Value{"custom": custom})
}

// withMembers returns an object with changed members, where nil removes one.
func withMembers(v wire.Value, members map[string]wire.Value) (wire.Value, error) {
	all := map[string]wire.Value{}
	for name, m := range v.Members() {
		all[name.String()] = m
	}
	maps.Copy(all, members)
	out := wire.Value{'{'}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if all[name] == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(wire.AppendString(out, name), ':'), all[name]...)
	}
	return wire.Canonical(append(out, '}').JSON())
}
