package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/tuf"
)

// store is the state of one repository on disk:
//
//	roots/N.root.json   every accepted root after the pin's
//	floor/              the newest timestamp and snapshot that verified: rollback floors
//	meta/ID/            committed sets; state.json says which one counts
//	state.json          the commit point, and marks that only grow
//	evidence/           what was refused, bounded
//	lock
//
// Nothing is named by a URL or by text from the network. Who can write here can
// make the client forget its progress down to the pin; he can't make it accept
// anything unsigned. A file that can't be read is as good as absent: it is
// fetched again.
type store struct{ dir string }

// state is state.json.
type state struct {
	Root   int64                `json:"root"`            // highest root version accepted
	Set    string               `json:"set,omitempty"`   // folder below meta/
	Probed time.Time            `json:"probed,omitzero"` // last time enough operators spoke; at first, when the state began
	Roles  map[string]roleFloor `json:"roles,omitempty"` // release roles of the committed set
}

// roleFloor is a version that a release role does not go below as long as its
// keys are the same, whatever becomes of the online keys.
type roleFloor struct {
	Version int64  `json:"version"`
	Keys    string `json:"keys"`
}

// maxEvidence bounds the evidence folder. The first pieces stay: who floods it can't wash them out.
const maxEvidence = 32

func (s *store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// lock makes the folders and excludes other clients until unlock is called.
func (s *store) lock(ctx context.Context) (unlock func(), err error) {
	for _, d := range []string{"roots", "floor", "meta", "evidence"} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return nil, err
		}
	}
	return durable.Lock(ctx, s.path("lock"))
}

func (s *store) load() state {
	var st state
	data, err := os.ReadFile(s.path("state.json"))
	if err != nil || json.Unmarshal(data, &st) != nil || st.Set != filepath.Base(st.Set) && st.Set != "" {
		return state{}
	}
	return st
}

func (s *store) save(st state) error {
	data, err := json.MarshalIndent(st, "", " ")
	if err != nil {
		return err
	}
	return durable.WriteFile(s.path("state.json"), data, 0o600)
}

// confirm notes when enough operators last said that there is no newer root, and
// returns how long ago that was; for a new state, since it began.
func (s *store) confirm(w *walk) (ago time.Duration, err error) {
	st := s.load()
	if w.settled || st.Probed.IsZero() {
		// Once an hour is enough to know by, and spares a write at each refresh.
		if ago = w.clock.Sub(st.Probed); !st.Probed.IsZero() && ago >= 0 && ago < time.Hour {
			return 0, nil
		}
		st.Probed = w.clock
		return 0, s.save(st)
	}
	return w.clock.Sub(st.Probed), nil
}

func (s *store) root(n int64) ([]byte, error) { return os.ReadFile(s.path("roots", rootName(n))) }

// keepRoot writes a verified root, and then that it was seen.
func (s *store) keepRoot(r *tuf.Root) error {
	if err := durable.WriteFile(s.path("roots", rootName(r.Version())), r.Bytes(), 0o600); err != nil {
		return err
	}
	st := s.load()
	if r.Version() <= st.Root {
		return nil
	}
	st.Root = r.Version()
	return s.save(st)
}

// dropRootsFrom removes kept roots from version n on.
func (s *store) dropRootsFrom(n int64) error {
	for ; ; n++ {
		if err := os.Remove(s.path("roots", rootName(n))); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// floors is what content must not go below.
type floors struct {
	timestamp, snapshot []byte
	roles               map[string]roleFloor
}

func (s *store) floors() (*floors, error) {
	f := &floors{roles: s.load().Roles}
	for name, to := range map[string]*[]byte{"timestamp.json": &f.timestamp, "snapshot.json": &f.snapshot} {
		data, err := os.ReadFile(s.path("floor", name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		*to = data
	}
	return f, nil
}

func (s *store) keepFloor(name string, data []byte, have *[]byte) error {
	if slices.Equal(data, *have) {
		return nil
	}
	*have = data
	return durable.WriteFile(s.path("floor", name), data, 0o600)
}

// checkRoles refuses a snapshot that lists a release role below its floor. The
// snapshot's own rollback check ends with the snapshot keys; this one does not.
func (f *floors) checkRoles(root *tuf.Root, snap *tuf.Snapshot) error {
	for role, keys := range releaseKeys(root) {
		floor, ok := f.roles[role]
		if !ok || floor.Keys != keys {
			continue
		}
		file, err := snap.RoleFile(role)
		if err != nil {
			return err
		}
		if file.Version < floor.Version {
			return &tuf.Error{Role: "snapshot", Version: snap.Version(), Err: tuf.ErrRollback,
				Detail: fmt.Sprintf("lists %s v%d, trusted v%d", role, file.Version, floor.Version)}
		}
	}
	return nil
}

// releaseKeys names the key set of every release role.
func releaseKeys(root *tuf.Root) map[string]string {
	out := map[string]string{}
	for _, class := range root.Charter().Classes() {
		for _, r := range class.Roles {
			var fps []string
			for _, k := range root.Keys(r.KeyIDs) {
				if fp, err := k.Fingerprint(); err == nil {
					fps = append(fps, fp)
				}
			}
			slices.Sort(fps)
			sum := sha256.Sum256([]byte(strings.Join(fps, " ")))
			out[r.Role] = hex.EncodeToString(sum[:8])
		}
	}
	return out
}

// commit makes a complete set the one that counts. The last write decides.
func (s *store) commit(root *tuf.Root, set *set) error {
	st := s.load()
	id := fmt.Sprintf("%d-%d", root.Version(), set.timestamp.Version())
	if st.Set == id {
		return nil
	}
	dir := s.path("meta", id)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, data := range set.files {
		if err := durable.WriteFile(filepath.Join(dir, diskName(name)), data, 0o600); err != nil {
			return err
		}
	}
	old := st.Set
	st.Set, st.Roles = id, map[string]roleFloor{}
	for role, keys := range releaseKeys(root) {
		f, err := set.snapshot.RoleFile(role)
		if err != nil {
			return err
		}
		st.Roles[role] = roleFloor{f.Version, keys}
	}
	if err := s.save(st); err != nil {
		return err
	}
	if old == "" {
		return nil
	}
	return os.RemoveAll(s.path("meta", old))
}

// committedFile returns a role's file of the committed set.
func (s *store) committedFile(name string) ([]byte, error) {
	st := s.load()
	if st.Set == "" {
		return nil, fs.ErrNotExist
	}
	return os.ReadFile(s.path("meta", st.Set, diskName(name)))
}

// keepEvidence files refused bytes with the reason beside them and returns the
// file's path. The same bytes are kept once.
func (s *store) keepEvidence(from, name string, data []byte, why error, when time.Time) (string, error) {
	have, err := os.ReadDir(s.path("evidence"))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	file := s.path("evidence", diskName(name)+"."+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if len(have) >= 2*maxEvidence {
		return "", fmt.Errorf("client: %s holds %d files already", s.path("evidence"), len(have))
	}
	reason, err := json.MarshalIndent(map[string]string{"from": from, "reason": why.Error(), "time": when.UTC().Format(time.RFC3339)}, "", " ")
	if err != nil {
		return "", err
	}
	if err := durable.WriteFile(file+".reason.json", reason, 0o600); err != nil {
		return "", err
	}
	return file, durable.WriteFile(file, data, 0o600)
}
