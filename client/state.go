package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// What a client keeps in its [Store]:
//
//	roots/N.root.json     every accepted root after the pin's
//	timestamp.json        the newest that verified: rollback floors
//	snapshot.json
//	recovery/             statements by which such a root was reached
//	roles/N.ROLE.json     targets roles that verified, as long as the snapshot lists them
//	state.json            the commit point, and marks that only grow; state.bak is its copy
//	evidence/             what was refused, bounded
//
// Nothing is named by a URL. Who can write here can make the client forget its
// progress down to the pin, or keep it from working; he can't make it accept
// anything unsigned. A file that is damaged is as good as absent: it is fetched
// again, and the other files keep the floors that it held. What it was goes to
// the evidence.

// session is the state, locked, as one call has it.
type session struct {
	state
	store  Store
	saved  []byte            // what both state files hold; nil where they are not the same
	broken map[string][]byte // state files that are none
	void   map[string]bool   // files that count no more, but could not be removed
	log    *slog.Logger
	unlock func()
}

// state is what state.json holds.
type state struct {
	Root      int64                `json:"root"`            // highest root version accepted
	Set       *mark                `json:"set,omitempty"`   // the last complete set
	Probed    time.Time            `json:"probed,omitzero"` // last time enough operators spoke; at first, when the state began
	Floors    map[string]floor     `json:"floors,omitempty"`
	Health    map[string]health    `json:"health,omitempty"`    // of places that failed lately
	Turns     pollQueues           `json:"turns,omitzero"`      // whom the next probe asks
	Seed      string               `json:"dice,omitempty"`      // random, drawn once, for rollouts; never sent
	Wait      *tuf.Wait            `json:"wait,omitempty"`      // for a recovery
	Counter   int64                `json:"counter,omitempty"`   // highest of the recovery statements that verified
	Recovered []tuf.Wait           `json:"recovered,omitempty"` // waits that are over, each for a root that was recovered to
	Seen      map[string]time.Time `json:"seen,omitempty"`      // releases that wait for Config.Defer, by sha256
}

// turns are the queues of what is asked in probes.
type pollQueues struct {
	Roots      pollQueue `json:"roots,omitempty"`
	Timestamps pollQueue `json:"timestamps,omitempty"`
}

// mark names a set of which every file was verified.
type mark struct {
	Root      int64     `json:"root"`
	Timestamp string    `json:"timestamp"` // sha256 of the file
	Snapshot  string    `json:"snapshot"`  // likewise
	Until     time.Time `json:"until"`     // when the first of its files expires
}

// sealed is the form of state.json: the sum tells a flipped bit from a version.
type sealed struct {
	Sum   string          `json:"sum"`
	State json.RawMessage `json:"state"`
}

const maxState = 1 << 20

// stateFiles in the order of writing: the last one commits.
var stateFiles = []string{"state.bak", "state.json"}

// openState excludes other clients until close is called.
func openState(ctx context.Context, store Store, log *slog.Logger) (*session, error) {
	unlock, err := store.Lock(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{store: store, log: log, unlock: unlock, broken: map[string][]byte{}, void: map[string]bool{}}
	if err := s.load(); err != nil {
		unlock()
		return nil, err
	}
	return s, nil
}

func (s *session) close() { s.unlock() }

func (s *session) load() error {
	var files [2][]byte
	for i, name := range stateFiles {
		data, err := s.store.Read(name, maxState)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if st, ok := parseState(data); ok {
			s.state, files[i] = st, data
		} else if len(data) > 0 {
			s.broken[name] = data
		}
	}
	if bytes.Equal(files[0], files[1]) {
		s.saved = files[0]
	}
	if s.Floors == nil {
		s.Floors = map[string]floor{}
	}
	if s.Health == nil {
		s.Health = map[string]health{}
	}
	if s.Seen == nil {
		s.Seen = map[string]time.Time{}
	}
	if s.Seed == "" {
		var b [16]byte
		rand.Read(b[:]) // never fails
		s.Seed = hex.EncodeToString(b[:])
	}
	return nil
}

func parseState(data []byte) (st state, ok bool) {
	var s sealed
	if json.Unmarshal(data, &s) != nil || s.Sum != hexSum(s.State) || json.Unmarshal(s.State, &st) != nil {
		return state{}, false
	}
	return st, true
}

// save writes the state if it has changed.
func (s *session) save() error {
	body, err := json.Marshal(s.state)
	if err != nil {
		return err
	}
	data, err := json.Marshal(sealed{hexSum(body), body})
	if err != nil || bytes.Equal(data, s.saved) {
		return err
	}
	for _, name := range stateFiles {
		if err := s.store.Write(name, data); err != nil {
			return err
		}
	}
	s.saved = data
	return nil
}

func (s *session) keepRoot(r *tuf.Root) error {
	return s.store.Write("roots/"+rootName(r.Version()), r.Bytes())
}

// discard removes files that are of no use any more. Where that is refused they take
// room, and are as good as absent for this session: what is wrong with them is found
// out again by the next one.
func (s *session) discard(names ...string) (all bool) {
	all = true
	for _, name := range names {
		if err := s.store.Remove(name); err != nil {
			s.log.Warn("an old file of the state stays", "name", name, "error", err)
			s.void[name], all = true, false
		}
	}
	return all
}

// list returns the files of a folder of the store; none where it can't be read,
// which is said in the log.
func (s *session) list(folder string) map[string]int64 {
	list, err := s.store.List(folder)
	if err != nil {
		s.log.Warn("a folder of the state can't be read", "folder", folder, "error", err)
		return nil
	}
	return list
}

// dropRootsFrom removes kept roots from version n on.
func (s *session) dropRootsFrom(n int64) {
	for name := range s.list("roots") {
		number, _, _ := strings.Cut(name, ".")
		if v, err := strconv.ParseInt(number, 10, 64); err != nil || v >= n {
			s.discard("roots/" + name)
		}
	}
}

// newestKept follows the kept roots from tip as far as they go, without the lock
// and without touching anything.
func newestKept(store Store, tip *tuf.Root, limit int64, now time.Time) *tuf.Root {
	var st state
	for _, name := range stateFiles {
		if data, err := store.Read(name, maxState); err == nil {
			if got, ok := parseState(data); ok {
				st = got
			}
		}
	}
	for {
		data, err := store.Read("roots/"+rootName(tip.Version()+1), limit)
		if err != nil {
			return tip
		}
		next, by, err := follow(store, tip, data, st.Recovered)
		if err != nil || by != nil && tip.CheckExpiry(later(now, tip)) == nil {
			return tip // a recovery from a root in date is for a refresh to check
		}
		tip = next
	}
}

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

// health is what is remembered of a location that did not answer, answered late
// or served bytes that do not verify: it is asked after the others for some time,
// so that it does not cost every refresh its timeout, or the work on its bytes. It
// is still asked where the others are not enough.
type health struct {
	Fails   int       `json:"fails"`             // in a row
	Until   time.Time `json:"until"`             // asked last before that
	Wait    bool      `json:"wait,omitempty"`    // it said itself not to be asked before
	Content bool      `json:"content,omitempty"` // it failed to serve content, so an answer about roots does not clear it
}

// follow returns the root after tip from kept bytes: a regular successor, or one
// that was recovered to after a wait that is over. by is the statement of the latter.
func follow(store Store, tip *tuf.Root, data []byte, recovered []tuf.Wait) (next *tuf.Root, by *tuf.Recovery, err error) {
	if next, err = tip.Next(data); err == nil {
		return next, nil, nil
	}
	statement, readErr := store.Read(recoveryName(tip), tuf.MaxRecoveryStatement)
	if readErr != nil {
		return nil, nil, err
	}
	for _, wait := range recovered {
		rec, recErr := tip.Recovery(statement, data, wait.Last)
		if recErr != nil {
			continue
		}
		// A statement that had expired when the root was signed was never in force.
		if next, recErr := rec.Accept(wait); recErr == nil && next.Charter().SignedAt().Before(rec.Expires()) {
			return next, rec, nil
		}
	}
	return nil, nil, err
}

// newestRoot is the newest root that this client knows, also before its first
// refresh: what was retired is in the kept roots, not in the pin.
func (c *Client) newestRoot() *tuf.Root {
	if tip := c.tip.Load(); tip != nil {
		return tip
	}
	return newestKept(c.store, c.pin.Root(), c.limits.Root, c.clock())
}
