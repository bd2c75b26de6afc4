package client

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/visum-dev/visum/tuf"
)

// floor is a version that a role does not go below as long as its keys are the
// same: who holds new keys answers for new numbers.
//
// Timestamp and snapshot have their floor in files too, which judge more
// (every listed role) and at once; the number in the state holds when such a
// file is lost. A release role has only the number, which outlives a change of
// the online keys.
type floor struct {
	Version int64  `json:"version"`
	Keys    string `json:"keys"`
}

// floorKeys names the key set of every role that has a floor. Timestamp and
// snapshot have one together: a change of either ends both floors
// (specification, 5.3.11).
func floorKeys(root *tuf.Root) map[string]string {
	out := map[string]string{"timestamp": root.OnlineKeys(), "snapshot": root.OnlineKeys()}
	for _, class := range root.Charter().Classes() {
		for _, r := range class.Roles {
			out[r.Role] = root.KeySet(r.KeyIDs)
		}
		if class.Hold != nil {
			out[class.Hold.Role] = root.KeySet(class.Hold.KeyIDs)
		}
	}
	return out
}

// below says why version is refused for role, "" where it is not.
func (f *folder) below(role, keys string, version int64) string {
	if have, ok := f.Floors[role]; ok && have.Keys == keys && version < have.Version {
		return fmt.Sprintf("lists %s v%d, trusted v%d", role, version, have.Version)
	}
	return ""
}

// checkTimestamp holds a verified timestamp against the numbers in the state.
func (f *folder) checkTimestamp(root *tuf.Root, ts *tuf.Timestamp) error {
	keys := floorKeys(root)
	detail := f.below("snapshot", keys["snapshot"], ts.SnapshotFile().Version)
	if f.below("timestamp", keys["timestamp"], ts.Version()) != "" {
		detail = fmt.Sprintf("trusted v%d", f.Floors["timestamp"].Version)
	}
	if detail == "" {
		return nil
	}
	return &tuf.Error{Role: "timestamp", Version: ts.Version(), Err: tuf.ErrRollback, Detail: detail, Evidence: ts.Bytes()}
}

// checkRoles refuses a snapshot that lists a release role below its floor. The
// snapshot's own rollback check ends with the snapshot keys; this one does not.
func (f *folder) checkRoles(root *tuf.Root, snap *tuf.Snapshot) error {
	keys := floorKeys(root)
	for _, role := range releaseRoles(root) {
		file, err := snap.RoleFile(role)
		if err != nil {
			return err
		}
		if detail := f.below(role, keys[role], file.Version); detail != "" {
			return &tuf.Error{Role: "snapshot", Version: snap.Version(), Err: tuf.ErrRollback, Detail: detail, Evidence: snap.Bytes()}
		}
	}
	return nil
}

func (f *folder) raise(role, keys string, version int64) {
	if have := f.Floors[role]; have.Keys != keys || version > have.Version {
		f.Floors[role] = floor{version, keys}
	}
}

// raiseRoles makes the release roles of a committed set their own floors. Roles
// that the charter does not know any more have none.
func (f *folder) raiseRoles(root *tuf.Root, snap *tuf.Snapshot) error {
	keys := floorKeys(root)
	for role := range f.Floors {
		if keys[role] == "" {
			delete(f.Floors, role)
		}
	}
	for _, role := range releaseRoles(root) {
		file, err := snap.RoleFile(role)
		if err != nil {
			return err
		}
		f.raise(role, keys[role], file.Version)
	}
	return nil
}

// releaseRoles names the roles of all classes, holds too.
func releaseRoles(root *tuf.Root) (out []string) {
	for _, class := range root.Charter().Classes() {
		for _, r := range class.Roles {
			out = append(out, r.Role)
		}
		if class.Hold != nil {
			out = append(out, class.Hold.Role)
		}
	}
	return out
}

// recover forgets timestamp and snapshot where the online keys are others now
// than when they were trusted: who drove their versions up with stolen keys has
// no hold over the next (specification, 5.3.11).
func (f *folder) recover(root *tuf.Root) error {
	for _, role := range []string{"timestamp", "snapshot"} {
		if have, ok := f.Floors[role]; ok && have.Keys != root.OnlineKeys() {
			if err := f.root.RemoveAll("floor/" + role + ".json"); err != nil {
				return err
			}
			delete(f.Floors, role)
		}
	}
	return nil
}

// prior returns the newest timestamp or snapshot that verified; nil for none.
func (f *folder) prior(name string, limit int64) ([]byte, error) {
	data, err := f.read("floor/"+name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}
