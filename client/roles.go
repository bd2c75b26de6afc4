package client

import (
	"slices"
	"strings"

	"github.com/visum-dev/visum/tuf"
)

// maxRoles is how many bytes of roles are kept in the state. A role that does not fit
// is fetched again when it is needed.
const maxRoles = 256 << 20

// keepRoles stores those of the roles that verified.
func (c *Client) keepRoles(snap *tuf.Snapshot, roles []string) error {
	for _, role := range roles {
		data := snap.RoleBytes(role)
		f, err := snap.RoleFile(role)
		if err != nil || data == nil {
			continue
		}
		have, err := c.store.List("roles")
		if err != nil {
			c.log.Warn("could not cache role", "role", role, "error", err)
			continue
		}
		total := int64(len(data))
		for name, size := range have {
			if name != keptName(f) {
				total += size
			}
		}
		if total > maxRoles {
			c.log.Warn("could not cache role", "role", role, "bytes", len(data), "total", total)
			continue
		}
		if err := c.store.Write(keptRole(f), data); err != nil {
			return diskError{err}
		}
	}
	return nil
}

// dropVersions removes old versions of the roles that an attempt fetched: those that
// neither its snapshot, the last complete set nor the last proven one lists. So versions do
// not pile up if no set becomes complete.
func (s *session) dropVersions(snaps []*tuf.Snapshot, roles []string) {
	have := s.list("roles")
	for _, role := range roles {
		keep := []string{keptName(tuf.RoleFile{Role: role, Version: s.Floors[role].Version})}
		for _, snap := range snaps {
			if f, err := snap.RoleFile(role); err == nil {
				keep = append(keep, keptName(f))
			}
		}
		for name := range have {
			_, of, _ := strings.Cut(name, ".")
			if len(keep) > 1 && of == diskName(role)+".json" && !slices.Contains(keep, name) {
				s.discard("roles/" + name)
			}
		}
	}
}

// sweep removes the roles that neither the snapshot of a complete set lists nor the logged
// one that restricts it.
func (s *session) sweep(snap *tuf.Snapshot) {
	have := s.list("roles")
	for x := range snap.Both() {
		for _, role := range x.Roles() {
			if f, err := x.RoleFile(role); err == nil {
				delete(have, keptName(f))
			}
		}
	}
	for name := range have {
		s.discard("roles/" + name)
	}
}
