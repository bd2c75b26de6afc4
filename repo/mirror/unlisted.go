package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// unlistedFiles lists files in metadata/ and targets/ that no metadata names, in the
// repository and on those copies that can list.
func (v *verification) unlistedFiles(ctx context.Context) error {
	for _, p := range v.mirrors {
		l := listerOf(p)
		if l == nil {
			continue
		}
		for _, folder := range []string{"metadata/", "targets/"} {
			for info, err := range l.List(ctx, folder) {
				if err != nil {
					return err
				}
				if v.names[metafile.Key(info.Name)] && (!p.RootsOnly || layout.IsRootName(info.Name) || strings.HasPrefix(info.Name, layout.RecoveryFolder)) || v.reported[metafile.Key(p.Name, info.Name)] {
					continue
				}
				if err := v.unlistedFile(ctx, p, info); err != nil {
					return err
				}
			}
		}
		if err := v.recheckUnknown(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// listerOf returns nil for a copy that can't list its files.
func listerOf(p Mirror) storage.Lister {
	l, _ := p.Source.(storage.Lister)
	if s, is := p.Source.(interface{ Unwrap() storage.Storage }); is {
		l, _ = s.Unwrap().(storage.Lister)
	}
	return l
}

// recheckUnknown checks again the metadata files without a signature of known keys.
// They may belong to a removed product, whose keys a superseded list names that has
// been found in the meantime. Those that remain are unknown files.
func (v *verification) recheckUnknown(ctx context.Context, p Mirror) error {
	for range (tuf.Limits{}).WithDefaults().Depth {
		left, known := v.unknown, len(v.keys)
		v.unknown = nil
		for _, info := range left {
			if err := v.unlistedFile(ctx, p, info); err != nil {
				return err
			}
		}
		if len(v.keys) == known || len(v.unknown) == 0 {
			break
		}
	}
	for _, info := range v.unknown {
		f := Finding{Kind: FileUnknown, Copy: p.Name, Name: info.Name, Text: "not signed by any keys that a root or role here names for it"}
		if v.coming(info) {
			f.Kind, f.Text = FileOrphan, f.Text+"; a publisher may be at work, last written "+text.Time(info.Written)
		}
		if err := v.add(f); err != nil {
			return err
		}
	}
	v.unknown = nil
	return nil
}

func (v *verification) unlistedFile(ctx context.Context, p Mirror, info storage.FileInfo) error {
	f := Finding{Kind: FileOrphan, Copy: p.Name, Name: info.Name}
	when := "last written " + text.Time(info.Written)
	if strings.HasPrefix(info.Name, "targets/") {
		sum, base, _ := strings.Cut(path.Base(info.Name), ".")
		if (len(sum) == 64 || len(sum) == 128) && base != "" && strings.Trim(sum, "0123456789abcdef") == "" {
			x := metafile.Target{Name: info.Name, Length: info.Size, SHA256: sum}
			if len(sum) == 128 {
				x.SHA256, x.SHA512 = "", sum
			}
			if v.opt.quick() {
				f.Text = "no role lists it, " + when
				return v.add(f)
			}
			why, err := checkTarget(ctx, p.Source, x, func(int64) {})
			if ctx.Err() != nil {
				return ctx.Err()
			}
			switch f.Text = "no role lists it, " + when; {
			case errors.Is(err, fs.ErrNotExist):
				return nil // removed in the meantime
			case err != nil:
				f.Kind, f.Text, f.Err = FileUnreadable, err.Error(), err
			case why != "":
				f.Kind, f.Text = FileDamaged, "no role lists it; compared with the hash in its name, "+why
			}
			return v.add(f)
		}
		if besideTarget.MatchString(info.Name) {
			f.Text = "a statement on a file that no role lists, or with a gap in the numbers before it, " + when
			return v.add(f)
		}
		f.Kind, f.Text = FileUnknown, "not a name of a target file, "+when
		return v.add(f)
	}
	role, version := layout.SplitRoleName(info.Name)
	if role == "" {
		f.Kind, f.Text = FileUnknown, "not a name of a metadata file, "+when
		return v.add(f)
	}
	if v.opt.quick() {
		f.Text = "no longer or not yet in use, not read, " + when
		return v.add(f)
	}
	data, err := storage.ReadAll(ctx, p.Source, info.Name, storage.MaxRead)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		f.Kind, f.Text, f.Err = FileUnreadable, err.Error(), err
	default:
		why, unknown := v.foreign(role, version, data)
		switch {
		case unknown:
			v.unknown = append(v.unknown, info)
			return nil
		case why != "":
			f.Kind, f.Text = FileUnknown, why
		default:
			f.Text = fmt.Sprintf("signed by keys of this repository; no longer or not yet in use, %s", when)
		}
	}
	return v.add(f)
}

var besideTarget = regexp.MustCompile(`/[0-9a-f]{64}\.[^/]+\.reviews/[^/]+\.[1-9][0-9]*\.json$`)

// rootKeys returns the keys that a root names for a role, including the root role.
func rootKeys(root *tuf.Root, role string) (out []metafile.KeySet) {
	add := func(ids []string, threshold int) {
		out = append(out, metafile.KeySet{Role: role, Keys: root.Keys(ids), Threshold: threshold})
	}
	if ids, threshold := root.RoleKeys(role); threshold > 0 {
		add(ids, threshold)
	}
	if c := root.Charter(); c != nil {
		for _, class := range c.Classes() {
			for _, r := range class.Roles {
				if r.Role == role {
					add(r.KeyIDs, r.Threshold)
				}
			}
			if h := class.Hold; h != nil && h.Role == role {
				add(h.KeyIDs, h.Threshold)
			}
		}
	}
	return out
}

// foreign states why an unlisted metadata file does not belong to this repository; ""
// if it is superseded or not yet published. unknown: no key known so far signed it.
func (v *verification) foreign(role string, version int64, data []byte) (why string, unknown bool) {
	env, err := metafile.Open(data)
	if err != nil {
		return text.Line(err.Error()), false
	}
	if env.Version != version {
		return fmt.Sprintf("its content is v%d", env.Version), false
	}
	want := role
	if role != "root" && role != "snapshot" && role != "timestamp" {
		want = "targets"
	}
	if env.Type != want {
		return fmt.Sprintf("its content is a %s", text.Quote(env.Type)), false
	}
	var sets []metafile.KeySet
	for _, root := range v.walker.Trusted() {
		sets = append(sets, rootKeys(root, role)...)
	}
	for _, k := range v.keys {
		if k.Covers(role) {
			sets = append(sets, k)
		}
	}
	for _, k := range sets {
		if env.Signers(k.Keys) >= k.Threshold {
			// Its delegated roles belonged to this repository too, if they can be read.
			if keys, err := metafile.KeysIn(role, env.Signed); err == nil && want == "targets" {
				v.learn(keys)
			}
			return "", false
		}
	}
	return "", true
}

// learn adds new keys of delegated roles.
func (v *verification) learn(keys []metafile.KeySet) {
	for _, k := range keys {
		if !slices.ContainsFunc(v.keys, func(o metafile.KeySet) bool {
			return o.Role == k.Role && o.Bins == k.Bins && o.Threshold == k.Threshold && maps.Equal(o.Keys, k.Keys)
		}) {
			v.keys = append(v.keys, k)
		}
	}
}

// publishMargin is the time in which a publish in progress is expected to end. It allows
// for differences of clocks.
const publishMargin = time.Hour

// coming reports whether a file may belong to a publish in progress: a new version,
// just written, of a role whose keys a root names.
func (v *verification) coming(info storage.FileInfo) bool {
	role, version := layout.SplitRoleName(info.Name)
	s := v.walker
	listed := int64(0)
	if s.Snapshot != nil {
		if f, err := s.Snapshot.RoleFile(role); role == "snapshot" {
			listed = s.Snapshot.Version()
		} else if err == nil {
			listed = f.Version
		}
	}
	return role != "root" && version > listed && info.Written.After(v.report.At.Add(-publishMargin))
}
