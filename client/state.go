package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/tuf"
)

// store is where the state of one repository lies:
//
//	roots/N.root.json   every accepted root after the pin's
//	floor/              the newest timestamp and snapshot that verified: rollback floors
//	meta/ID/            role files of the committed set; state.json says which one counts
//	state.json          the commit point, and marks that only grow; state.bak is its copy
//	evidence/           what was refused, bounded
//	lock
//
// Nothing is named by a URL or by text from the network. Who can write here can
// make the client forget its progress down to the pin, or keep it from working;
// he can't make it accept anything unsigned, nor write anywhere else. A file
// that is damaged, or not a file, is as good as absent: it is fetched again,
// and the other files keep the floors that it held.
type store struct{ dir string }

// folder is the state, locked, as one refresh has it.
type folder struct {
	state
	dir    string
	root   *os.Root // symbolic links in the folder lead nowhere outside of it
	saved  []byte   // what both state files hold; nil where they are not the same
	unlock func()
}

// diskError tells our own disk's errors from those of places.
type diskError struct{ error }

func (e diskError) Unwrap() error { return e.error }

// state is what state.json holds.
type state struct {
	Root   int64            `json:"root"`            // highest root version accepted
	Set    string           `json:"set,omitempty"`   // folder below meta/
	Probed time.Time        `json:"probed,omitzero"` // last time enough operators spoke; at first, when the state began
	Floors map[string]floor `json:"floors,omitempty"`
}

// sealed is the form of state.json: the sum tells a flipped bit from a version.
type sealed struct {
	Sum   string          `json:"sum"`
	State json.RawMessage `json:"state"`
}

const maxState = 1 << 20

// stateFiles in the order of writing: the last one commits.
var stateFiles = []string{"state.bak", "state.json"}

// open makes the folder and excludes other clients until close is called.
func (s *store) open(ctx context.Context) (*folder, error) {
	if err := durable.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	lock := filepath.Join(s.dir, "lock")
	if fi, err := os.Lstat(lock); err == nil && !fi.Mode().IsRegular() {
		// Nobody holds such a lock: Lock refuses it.
		if err := os.RemoveAll(lock); err != nil {
			return nil, err
		}
	}
	unlock, err := durable.Lock(ctx, lock)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: s.dir, unlock: unlock, state: state{Floors: map[string]floor{}}}
	if f.root, err = os.OpenRoot(s.dir); err == nil {
		err = f.prepare()
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// newest follows the kept roots as far as they go, without the lock and without
// touching anything.
func (s *store) newest(tip *tuf.Root, limit int64) *tuf.Root {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return tip
	}
	defer root.Close()
	for {
		name := "roots/" + rootName(tip.Version()+1)
		if fi, err := root.Lstat(name); err != nil || !fi.Mode().IsRegular() || fi.Size() > limit {
			return tip
		}
		data, err := root.ReadFile(name)
		if err != nil {
			return tip
		}
		next, err := tip.Next(data)
		if err != nil {
			return tip
		}
		tip = next
	}
}

func (f *folder) close() {
	if f.root != nil {
		f.root.Close()
	}
	f.unlock()
}

// prepare makes the folders, removes what killed processes left, and reads the
// state.
func (f *folder) prepare() error {
	for _, d := range []string{"roots", "floor", "meta", "evidence"} {
		if err := f.mkdir(d); err != nil {
			return err
		}
	}
	for _, d := range []string{".", "roots", "floor", "evidence"} {
		if err := durable.RemoveTempIn(f.root, d, time.Now().Add(-time.Hour)); err != nil {
			return err
		}
	}
	var files [2][]byte
	for i, name := range stateFiles {
		data, err := f.read(name, maxState)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if st, ok := parseState(data); ok {
			f.state, files[i] = st, data
		}
	}
	if bytes.Equal(files[0], files[1]) {
		f.saved = files[0]
	}
	return nil
}

func parseState(data []byte) (state, bool) {
	var s sealed
	st := state{}
	if json.Unmarshal(data, &s) != nil || s.Sum != hexSum(s.State) || json.Unmarshal(s.State, &st) != nil {
		return st, false
	}
	if st.Floors == nil {
		st.Floors = map[string]floor{}
	}
	return st, true
}

// save writes the state if it has changed.
func (f *folder) save() error {
	body, err := json.Marshal(f.state)
	if err != nil {
		return err
	}
	data, err := json.Marshal(sealed{hexSum(body), body})
	if err != nil || bytes.Equal(data, f.saved) {
		return err
	}
	for _, name := range stateFiles {
		if err := f.write(name, data); err != nil {
			return err
		}
	}
	f.saved = data
	return nil
}

// mkdir makes a folder, in place of anything else that has its name.
func (f *folder) mkdir(name string) error {
	fi, err := f.root.Lstat(name)
	if err == nil && fi.IsDir() {
		return nil
	}
	if err == nil {
		if err := f.root.RemoveAll(name); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.root.Mkdir(name, 0o700); err != nil {
		return err
	}
	return durable.SyncDirIn(f.root, path.Dir(name))
}

// read returns a file. What is not a file, or larger than it can be, is removed.
func (f *folder) read(name string, limit int64) ([]byte, error) {
	fi, err := f.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > limit {
		if err := f.root.RemoveAll(name); err != nil {
			return nil, err
		}
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return f.root.ReadFile(name)
}

func (f *folder) write(name string, data []byte) error {
	if fi, err := f.root.Lstat(name); err == nil && fi.IsDir() { // which no file replaces
		if err := f.root.RemoveAll(name); err != nil {
			return err
		}
	}
	return durable.WriteFileIn(f.root, name, data, 0o600)
}

func (f *folder) keepRoot(r *tuf.Root) error {
	return f.write("roots/"+rootName(r.Version()), r.Bytes())
}

// dropRootsFrom removes kept roots from version n on.
func (f *folder) dropRootsFrom(n int64) error {
	for ; ; n++ {
		name := "roots/" + rootName(n)
		if _, err := f.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err := f.root.RemoveAll(name); err != nil {
			return err
		}
	}
}

// confirm notes when enough operators last said that there is no newer root, and
// returns how long ago that was; for a new state, since it began.
func (f *folder) confirm(w *walk) (ago time.Duration) {
	ago = w.now.Sub(f.Probed)
	switch {
	case f.Probed.IsZero() || ago < 0: // a clock that was ahead must not stop the counting
	case !w.settled:
		return ago
	case ago < time.Hour: // exact enough to know by, and spares a write at each refresh
		return 0
	}
	f.Probed = w.now
	return 0
}

// diskName is a name from metadata in a form that is safe on every disk.
func diskName(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' && b.Len() > 0 || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() > 120 {
		return b.String()[:80] + hexSum([]byte(name))[:32]
	}
	return b.String()
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
