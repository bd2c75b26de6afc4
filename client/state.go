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

// A client keeps in its [Store]:
//
//	roots/N.root.json     every accepted root after the pin's
//	timestamp.json        the newest that verified: version floors
//	snapshot.json         likewise
//	recovery/             statements that led to a recovery root
//	roles/N.ROLE.json     verified targets roles, as long as the snapshot lists them
//	state.json            the commit point, and version floors; state.bak is its copy
//	evidence/             refused files, limited in number and size
//	roots/N.*             proofs of the public log for a root that changes its rule
//	head.tlog-proof       the last accepted proof of a snapshot
//	logged/               timestamp, snapshot and proof of the last set in the public log
//
// No name contains a URL. An attacker with write access can reset the client to the pin
// or break it, but cannot make it accept unsigned metadata. A damaged file is treated
// as absent: it is fetched again, and the other files preserve the floors that it
// contained. Its bytes are kept as evidence.

// session is the locked state during one call.
type session struct {
	state
	store  Store
	saved  []byte            // content of both state files; nil if they differ
	broken map[string][]byte // state files that could not be parsed
	void   map[string]bool   // files to be ignored because they could not be removed
	log    *slog.Logger
	unlock func()
}

// state is the content of state.json.
type state struct {
	Root      int64                `json:"root"`            // highest accepted root version
	Set       *mark                `json:"set,omitempty"`   // the last complete set
	Probed    time.Time            `json:"probed,omitzero"` // when enough operators last confirmed the root; initially when the state was created
	Floors    map[string]floor     `json:"floors,omitempty"`
	Health    map[string]health    `json:"health,omitempty"`    // of locations that failed recently
	Turns     pollQueues           `json:"turns,omitzero"`      // the order of future probes
	Seed      string               `json:"dice,omitempty"`      // random rollout seed, drawn once, never sent
	Wait      *tuf.Wait            `json:"wait,omitempty"`      // the waiting period of a recovery
	Counter   int64                `json:"counter,omitempty"`   // highest counter of the verified recovery statements
	Recovered []tuf.Wait           `json:"recovered,omitempty"` // completed waiting periods, each for an accepted recovery root
	Seen      map[string]time.Time `json:"seen,omitempty"`      // releases deferred by Config.DeferFor, by sha256
	Log       *logMark             `json:"log,omitempty"`       // the last accepted proof of the public log
}

// logMark is what the state remembers of proofs.
type logMark struct {
	Time   time.Time     `json:"time"`           // quorum time of the last accepted proof
	Waited time.Duration `json:"waited"`         // its age by the running time, in nanoseconds
	Renew  time.Time     `json:"renew"`          // when a newer proof of the same snapshot is sought
	At     time.Time     `json:"at,omitzero"`    // when the set in logged/ was verified
	Root   int64         `json:"root,omitempty"` // its root
}

// pollQueues are the queues that determine the order of probes.
type pollQueues struct {
	Roots      pollQueue `json:"roots,omitempty"`
	Timestamps pollQueue `json:"timestamps,omitempty"`
}

// mark identifies a set whose files were all verified.
type mark struct {
	Root      int64     `json:"root"`
	Timestamp string    `json:"timestamp"` // sha256 of the file
	Snapshot  string    `json:"snapshot"`  // likewise
	Until     time.Time `json:"until"`     // when the first of its files expires
}

// sealed is the form of state.json: the checksum detects flipped bits.
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

// discard removes files that are no longer needed. A file that cannot be removed is
// ignored for this session; the next one will reject it again.
func (s *session) discard(names ...string) (all bool) {
	all = true
	for _, name := range names {
		if err := s.store.Remove(name); err != nil {
			s.log.Warn("could not remove an old file of the state", "name", name, "error", err)
			s.void[name], all = true, false
		}
	}
	return all
}

// list returns the files in a directory of the store; none, and a log record, if it
// cannot be read.
func (s *session) list(folder string) map[string]int64 {
	list, err := s.store.List(folder)
	if err != nil {
		s.log.Warn("could not read a directory of the state", "folder", folder, "error", err)
		return nil
	}
	return list
}

// dropRootsFrom removes the kept roots from version n on.
func (s *session) dropRootsFrom(n int64) {
	for name := range s.list("roots") {
		number, _, _ := strings.Cut(name, ".")
		if v, err := strconv.ParseInt(number, 10, 64); err != nil || v >= n {
			s.discard("roots/" + name)
		}
	}
}

// newestKept verifies the kept roots after trusted and returns the last good one. It takes
// no lock and changes nothing.
func newestKept(store Store, trusted *tuf.Root, limit int64, now time.Time) *tuf.Root {
	var st state
	for _, name := range stateFiles {
		if data, err := store.Read(name, maxState); err == nil {
			if got, ok := parseState(data); ok {
				st = got
			}
		}
	}
	for {
		data, err := store.Read("roots/"+rootName(trusted.Version()+1), limit)
		if err != nil {
			return trusted
		}
		next, by, err := follow(store, trusted, data, st.Recovered)
		if err != nil || by != nil && trusted.CheckExpiry(later(now, trusted)) == nil {
			return trusted // a refresh must check whether a recovery from an unexpired root is justified
		}
		trusted = next
	}
}

// floor is a version below which a role is refused as long as its keys are the same.
// New keys may start at new numbers.
//
// The files timestamp.json and snapshot.json act as floors too, and check more (every
// listed role); the number in the state holds if such a file is lost. A release role
// has only the number, which survives a rotation of the online keys.
type floor struct {
	Version int64  `json:"version"`
	Keys    string `json:"keys"`
}

// health records that a location did not answer, answered late or served bytes that do
// not verify. It is asked after the others for some time, so that not every refresh
// waits for its timeout or processes its bytes. It is still asked if the others are not
// enough.
type health struct {
	Fails   int       `json:"fails"`             // consecutive failures
	Until   time.Time `json:"until"`             // asked last until then
	Wait    bool      `json:"wait,omitempty"`    // the location itself requested the pause
	Content bool      `json:"content,omitempty"` // it failed to serve content, so serving a root does not clear it
}

// follow verifies kept bytes as the root after trusted: a regular successor, or a recovery
// root whose waiting period is over. by is the recovery statement, if any.
func follow(store Store, trusted *tuf.Root, data []byte, recovered []tuf.Wait) (next *tuf.Root, by *tuf.Recovery, err error) {
	if next, err = trusted.Next(data); err == nil {
		return provenRule(store, next), nil, nil
	}
	statement, readErr := store.Read(recoveryName(trusted), tuf.MaxRecoveryStatement)
	if readErr != nil {
		return nil, nil, err
	}
	for _, wait := range recovered {
		rec, recErr := trusted.Recovery(statement, data, wait.Last)
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

// newestRoot returns the newest root that this client knows, also before its first
// refresh: retired hosts are listed in the kept roots, not in the pin.
func (c *Client) newestRoot() *tuf.Root {
	if trusted := c.trusted.Load(); trusted != nil {
		return trusted
	}
	return newestKept(c.store, c.pin.Root(), c.limits.Root, c.clock())
}
