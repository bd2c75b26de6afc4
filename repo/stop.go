package repo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Hold stops clients from installing the file under a path, until a time at most the
// charter's maximum away. One key of the class's hold role suffices to sign it.
// Installed files are not affected: see [Tx.Recall]. A second Hold on a path replaces
// the first. Hold also removes holds that have ended.
//
// until is truncated to whole seconds. It must be in the future and within the maximum.
// The class must have a hold role, and a party must list the path.
func (tx *Tx) Hold(target, reason string, until time.Time) error {
	class, err := tx.class(target)
	if err != nil {
		return err
	}
	if class.Hold == nil {
		return fmt.Errorf("repo: %s: class %s has no hold role: %w", text.Name(target), text.Name(class.Name), fs.ErrInvalid)
	}
	if err := checkReason(target, "hold", reason); err != nil {
		return err
	}
	now := tx.repo.now()
	until = until.UTC().Truncate(time.Second)
	switch {
	case !until.After(now):
		return fmt.Errorf("repo: %s: %w: a hold until %s ends before it begins", text.Name(target), fs.ErrInvalid, text.Time(until))
	case until.After(now.Add(class.Hold.Max)):
		return fmt.Errorf("repo: %s: %w: a hold until %s; %s at most, until %s", text.Name(target), fs.ErrInvalid, text.Time(until), class.Hold.Max, text.Time(now.Add(class.Hold.Max)))
	}
	listed, err := tx.anyEntry(class, target)
	if err != nil {
		return err
	}
	e, err := rolelist.ParseEntry(listed)
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	entry, err := metafile.Canonical(map[string]any{"length": e.Length, "hashes": map[string]string{"sha256": e.Hashes.SHA256},
		"custom": map[string]any{layout.ReleaseMember: map[string]string{"reason": reason, "at": text.Time(now), "until": text.Time(until)}}})
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	l, err := tx.edit(class.Hold.Role)
	if err != nil {
		return err
	}
	for path, v := range l.Targets {
		if end, ok := heldUntil(v); ok && !end.After(now) {
			delete(l.Targets, path)
		}
	}
	l.Targets[target] = entry
	return nil
}

// HoldRelease holds a release, as [Tx.Hold] does for each of its paths: all paths under
// which any party lists the product's version, on every platform and in every channel.
// Each class must have a hold role. Versions are compared as [tuf.Version].
func (tx *Tx) HoldRelease(release ReleaseID, reason string, until time.Time) error {
	return tx.eachFileOf(release, func(path string) error { return tx.Hold(path, reason, until) })
}

// UnholdRelease ends the holds of a release early, as [Tx.Unhold] does for each of its
// held paths; at least one must be held.
func (tx *Tx) UnholdRelease(release ReleaseID) error {
	lifted := false
	err := tx.eachFileOf(release, func(path string) error {
		err := tx.Unhold(path)
		if lifted = lifted || err == nil; errors.Is(err, tuf.ErrNoTarget) {
			err = nil
		}
		return err
	})
	if err == nil && !lifted {
		return fmt.Errorf("repo: %s: no hold names any of its paths: %w", text.Name(release.String()), tuf.ErrNoTarget)
	}
	return err
}

// eachFileOf calls fn for each path under which any party lists a product's version;
// there must be at least one.
func (tx *Tx) eachFileOf(release ReleaseID, fn func(path string) error) error {
	var paths []string
	for _, c := range tx.layout().Classes {
		files, err := tx.filesOf(c, release)
		if err != nil {
			return err
		}
		if len(files) > 0 && c.Hold == nil {
			return fmt.Errorf("repo: %s: class %s has no hold role: %w", text.Name(release.String()), text.Name(c.Name), fs.ErrInvalid)
		}
		paths = append(paths, slices.Sorted(maps.Keys(files))...)
	}
	if len(paths) == 0 {
		return fmt.Errorf("repo: %s: no party lists this release: %w", text.Name(release.String()), tuf.ErrNoTarget)
	}
	for _, path := range paths {
		if err := fn(path); err != nil {
			return err
		}
	}
	return nil
}

// Unhold ends a hold early.
func (tx *Tx) Unhold(target string) error {
	class, err := tx.class(target)
	if err != nil {
		return err
	}
	if class.Hold != nil {
		l, err := tx.read(class.Hold.Role)
		if err != nil {
			return err
		}
		if l != nil && l.Targets[target] != nil {
			delete(l.Targets, target)
			l.Changed = true
			tx.override.lift[target] = true
			return nil
		}
	}
	return fmt.Errorf("repo: %s: no hold names it: %w", text.Name(target), tuf.ErrNoTarget)
}

// anyEntry returns the first entry under a path in the roles of the class, in the
// charter's order.
func (tx *Tx) anyEntry(class Class, target string) (wire.Value, error) {
	for _, role := range class.Roles {
		v, err := tx.find(role.Role, target)
		if err != nil || v != nil {
			return v, err
		}
	}
	return nil, fmt.Errorf("repo: %s: no party lists it: %w", text.Name(target), tuf.ErrNoTarget)
}

// maxRecalls is the number of recalls in one role that clients accept.
const maxRecalls = 4096

// RecallRecord describes a recall for [Tx.Recall].
type RecallRecord struct {
	SHA256 string // of the bytes, in lower-case hex; "": the bytes that the party now lists under the path
	Reason string // required
}

// ReleaseID identifies a release: all of its files, on every platform and in every
// channel.
type ReleaseID struct {
	Product, Version string // as in [tuf.Release]
}

// String returns product and version, separated by a space.
func (r ReleaseID) String() string { return r.Product + " " + r.Version }

// Recall withdraws the party's approval of some bytes. The party's roles no longer list
// them, under any path and in any class, so clients no longer install them. For
// machines that have installed them, the recall states the reason not to use them.
// target is a path of the bytes. The recall is added to the party's roles of the class
// of target, and to those of other classes that listed the bytes. Approve with
// [ReviewRecord].Reinstate withdraws it.
func (tx *Tx) Recall(party, target string, r RecallRecord) error {
	sha256, reason := r.SHA256, r.Reason
	class, roles, err := tx.role(party, target)
	if err != nil {
		return err
	}
	if err := checkReason(target, "recall", reason); err != nil {
		return err
	}
	if sha256 != "" && (len(sha256) != 64 || strings.Trim(sha256, "0123456789abcdef") != "") {
		return fmt.Errorf("repo: %s: %w: %s is not a sha256 in lower-case hex", text.Name(target), fs.ErrInvalid, text.Quote(sha256))
	}
	if sha256 != "" {
		return tx.recallBytes(party, []badBytes{{class.Name, target, map[string]bool{sha256: true}}}, reason)
	}
	bad := map[string]bool{}
	for _, role := range roles {
		v, err := tx.find(role, target)
		if err != nil {
			return err
		}
		if v == nil {
			return fmt.Errorf("repo: %s: %s does not list it, so the sha256 is required: %w", text.Name(target), roleText(role), tuf.ErrNoTarget)
		}
		s, err := subjectOf(target, v)
		if err != nil {
			return err
		}
		bad[s.SHA256] = true
	}
	return tx.recallBytes(party, []badBytes{{class.Name, target, bad}}, reason)
}

// RecallRelease recalls a release, as [Tx.Recall] does for each of its files: all that
// any party lists for the product's version, on every platform and in every channel, in
// all classes in which the party has a role. Files that the party has not approved are
// recalled too, to prevent later approval. Versions are compared as [tuf.Version].
func (tx *Tx) RecallRelease(party string, release ReleaseID, reason string) error {
	name := release.String()
	if err := checkReason(name, "recall", reason); err != nil {
		return err
	}
	var bad []badBytes
	for _, c := range tx.layout().Classes {
		if len(c.rolesOf(party)) == 0 {
			continue
		}
		files, err := tx.filesOf(c, release)
		if err != nil {
			return err
		}
		for _, path := range slices.Sorted(maps.Keys(files)) {
			bad = append(bad, badBytes{c.Name, path, files[path]})
		}
	}
	if len(bad) == 0 {
		return fmt.Errorf("repo: %s: no party lists this release in a class with a role of party %s; recall a path and its sha256: %w", text.Name(name), text.Quote(party), tuf.ErrNoTarget)
	}
	return tx.recallBytes(party, bad, reason)
}

func checkReason(what, kind, reason string) error {
	if reason == "" {
		return fmt.Errorf("repo: %s: %w: a %s needs a reason", text.Name(what), fs.ErrInvalid, kind)
	}
	return nil
}

// filesOf returns the paths of a class under which any role lists a product's version,
// with the sha256 of the bytes.
func (tx *Tx) filesOf(c Class, release ReleaseID) (map[string]map[string]bool, error) {
	out := map[string]map[string]bool{}
	for _, role := range c.Roles {
		err := tx.each(role.Role, func(path string, v wire.Value) error {
			rel, ok := rolelist.ReleaseOf(v)
			if !ok || rel.Product != release.Product || !sameVersion(rel.Version, release.Version) {
				return nil
			}
			if s, err := subjectOf(path, v); err == nil { // releaseOf could read it
				if out[path] == nil {
					out[path] = map[string]bool{}
				}
				out[path][s.SHA256] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// badBytes are the recalled bytes of a path.
type badBytes struct {
	class, path string
	sums        map[string]bool // sha256
}

// recallBytes adds the recalls to the party's roles, and removes the bytes from all of
// its lists.
func (tx *Tx) recallBytes(party string, bad []badBytes, reason string) error {
	all := map[string]bool{}
	for _, b := range bad {
		maps.Copy(all, b.sums)
	}
	for _, c := range tx.layout().Classes {
		for _, role := range c.rolesOf(party) {
			listed := map[string]string{} // sha256 by path
			err := tx.each(role.Role, func(path string, v wire.Value) error {
				if s, err := subjectOf(path, v); err == nil && all[s.SHA256] { // clients refuse an entry that can't be parsed
					listed[path] = s.SHA256
				}
				return nil
			})
			if err != nil {
				return err
			}
			said := map[string]bool{}
			for _, b := range bad {
				if b.class != c.Name {
					continue
				}
				for _, sum := range slices.Sorted(maps.Keys(b.sums)) {
					said[sum] = true
					if err := tx.recall(role.Role, recallJSON{b.path, sum, reason, text.Time(tx.repo.now())}); err != nil {
						return err
					}
				}
			}
			for _, path := range slices.Sorted(maps.Keys(listed)) {
				if _, err := tx.drop(role.Role, path); err != nil {
					return err
				}
				if sum := listed[path]; !said[sum] {
					said[sum] = true
					if err := tx.recall(role.Role, recallJSON{path, sum, reason, text.Time(tx.repo.now())}); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

type recallJSON struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Reason string `json:"reason"`
	At     string `json:"at"`
}

// recall adds a recall to the role, or replaces one of the same bytes.
func (tx *Tx) recall(role string, r recallJSON) error {
	list, err := tx.recallsBut(role, func(path, sum string) bool { return path == r.Path && sum == r.SHA256 })
	if err != nil {
		return err
	}
	if list = append(list, r); len(list) > maxRecalls {
		return fmt.Errorf("repo: %s: %w: more than %d recalls", roleText(role), fs.ErrInvalid, maxRecalls)
	}
	l, err := tx.edit(role)
	if err != nil {
		return err
	}
	l.Members[layout.RecallMember], err = metafile.Canonical(list)
	return err
}

func count(v wire.Value) (n int) {
	for range v.Elements() {
		n++
	}
	return n
}

// recallsBut returns the role's recalls without those for which drop returns true.
func (tx *Tx) recallsBut(role string, drop func(path, sha256 string) bool) (list []any, err error) {
	l, err := tx.read(role)
	if err != nil || l == nil {
		return nil, err
	}
	for v := range l.Members[layout.RecallMember].Elements() {
		path, err := metafile.Member(v, "path").Text()
		sum, err2 := metafile.Member(v, "sha256").Text()
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("repo: %s: %w", roleText(role), err)
		}
		if !drop(path, strings.ToLower(sum)) {
			list = append(list, json.RawMessage(v.JSON()))
		}
	}
	return list, nil
}
