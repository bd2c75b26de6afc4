package client

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/visum-dev/visum/tuf"
)

// floorKeys returns the key set of every role that has a floor. Timestamp and snapshot
// share one: a rotation of either ends both floors (TUF 5.3.11).
func floorKeys(root *tuf.Root) map[string]string {
	out := map[string]string{"timestamp": root.OnlineKeys(), "snapshot": root.OnlineKeys()}
	if root.Charter() == nil {
		// The snapshot file contains this floor too, but is not used if a root raises
		// the threshold of the same keys.
		out["targets"] = root.OnlineKeys()
	}
	for _, class := range classes(root) {
		for _, r := range class.Roles {
			out[r.Role] = root.KeySet(r.KeyIDs)
		}
		if class.Hold != nil {
			out[class.Hold.Role] = root.KeySet(class.Hold.KeyIDs)
		}
	}
	return out
}

// classes returns the classes in the charter; none without a charter.
func classes(root *tuf.Root) []tuf.Class {
	if root.Charter() == nil {
		return nil
	}
	return root.Charter().Classes()
}

// below returns why version is refused for role, "" if it is not.
func below(floors map[string]floor, role, keys string, version int64) string {
	if have, ok := floors[role]; ok && have.Keys == keys && version < have.Version {
		return fmt.Sprintf("lists %s v%d, trusted v%d", role, version, have.Version)
	}
	return ""
}

// checkTimestamp checks a verified timestamp against the floors in the state (TUF
// 5.4.3).
func (s *session) checkTimestamp(root *tuf.Root, ts *tuf.Timestamp) error {
	keys := floorKeys(root)
	detail := below(s.Floors, "snapshot", keys["snapshot"], ts.SnapshotFile().Version)
	if below(s.Floors, "timestamp", keys["timestamp"], ts.Version()) != "" {
		detail = fmt.Sprintf("trusted v%d", s.Floors["timestamp"].Version)
	}
	if detail == "" {
		return nil
	}
	return &tuf.Error{Role: "timestamp", Version: ts.Version(), Err: tuf.ErrRollback, Detail: detail, Evidence: ts.Bytes()}
}

// checkRoles refuses a snapshot that lists a release role below its floor. Unlike the
// rollback check of TUF 5.5.5 this one survives a rotation of the snapshot keys.
func checkRoles(floors map[string]floor, snap *tuf.Snapshot) error {
	keys := floorKeys(snap.Root())
	for _, role := range releaseRoles(snap.Root()) {
		file, err := snap.RoleFile(role)
		if err != nil {
			return err
		}
		if detail := below(floors, role, keys[role], file.Version); detail != "" {
			return &tuf.Error{Role: "snapshot", Version: snap.Version(), Err: tuf.ErrRollback, Detail: detail, Evidence: snap.Bytes()}
		}
	}
	return nil
}

func (s *session) raise(role, keys string, version int64) {
	if have := s.Floors[role]; have.Keys != keys || version > have.Version {
		s.Floors[role] = floor{version, keys}
	}
}

// raiseRoles makes the release roles of a complete set the new floors, and removes the
// floors of roles that the charter no longer lists.
func (s *session) raiseRoles(snap *tuf.Snapshot) error {
	keys := floorKeys(snap.Root())
	for role := range s.Floors {
		if keys[role] == "" {
			delete(s.Floors, role)
		}
	}
	for _, role := range releaseRoles(snap.Root()) {
		file, err := snap.RoleFile(role)
		if err != nil {
			return err
		}
		s.raise(role, keys[role], file.Version)
	}
	return nil
}

// releaseRoles returns the roles of all classes, including holds; without a charter the
// top-level targets role.
func releaseRoles(root *tuf.Root) (out []string) {
	if root.Charter() == nil {
		return []string{"targets"}
	}
	for _, class := range classes(root) {
		for _, r := range class.Roles {
			out = append(out, r.Role)
		}
		if class.Hold != nil {
			out = append(out, class.Hold.Role)
		}
	}
	return out
}

// recover forgets timestamp and snapshot if the online keys were rotated: version
// numbers inflated with compromised keys do not bind the new keys (TUF 5.3.11).
func (s *session) recover(root *tuf.Root) {
	for _, role := range []string{"timestamp", "snapshot"} {
		// If the file cannot be removed its floor stays, so that the next refresh tries
		// again.
		if have, ok := s.Floors[role]; ok && have.Keys != root.OnlineKeys() && s.discard(role+".json") {
			delete(s.Floors, role)
		}
	}
}

// prior returns the newest timestamp or snapshot that verified; nil for none.
func (s *session) prior(name string, limit int64) ([]byte, error) {
	data, err := s.store.Read(name, limit)
	if errors.Is(err, fs.ErrNotExist) || s.void[name] {
		return nil, nil
	}
	return data, err
}
