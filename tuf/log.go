package tuf

import (
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf/tlog"
)

const headLeafType = "x-visum-head"

// Head is the verified last entry of the log for a snapshot.
type Head struct {
	Origin    string          `json:"origin"`    // of the log
	Index     int64           `json:"index"`     // of the entry, from 0
	Size      int64           `json:"size"`      // entries of the tree
	Root      string          `json:"root"`      // of the tree, in hex
	Time      time.Time       `json:"time"`      // quorum time
	Until     time.Time       `json:"until"`     // end of the proof, by the age that counts
	Cosigners []tlog.Cosigner `json:"cosigners"` // that have signed the tree
	Waited    time.Duration   `json:"-"`         // the age by the caller's measure, see LogState
}

// LogState is what the caller of [Snapshot.Logged] knows of earlier proofs.
type LogState struct {
	// Prior is the last accepted proof of any snapshot, or nil.
	Prior []byte
	// Newest is the quorum time of the last accepted proof.
	Newest time.Time
	// Waited is the age of the last accepted proof that the caller has measured with a clock
	// that can't be set back: the running time since its acceptance, and what [Head].Waited
	// said then. The age of another proof by this clock is less or more by the difference of
	// the quorum times. Only a larger tree with an earlier quorum time begins with 0: cosigners
	// whose clocks were ahead leave nothing behind.
	Waited time.Duration
	// Offline selects [LogRule].OfflineMaxAge.
	Offline bool
}

// waited is the age of an entry's proof by the measured time.
func (o LogState) waited(e *tlog.Entry) time.Duration {
	if o.Newest.IsZero() {
		return 0
	}
	later := e.Time.Sub(o.Newest)
	if prior, err := tlog.ParseProof(o.Prior); err == nil && later < 0 && e.Size > prior.Index+1 {
		return 0
	}
	return max(0, o.Waited-later)
}

// HeadLeaf returns the entry of a log that makes the snapshot public, canonical JSON:
//
//	{"_type":"x-visum-head","repo_id":"0f6c...","root":{"sha256":"...","version":3},"snapshot":{"length":1395,"sha256":"...","version":17}}
//
// The hash of root is [Root.SHA256], that of the snapshot is over the file. It is nil for
// the zero value and without a charter.
func (s *Snapshot) HeadLeaf() []byte {
	if s == nil || s.root == nil || s.root.charter == nil {
		return nil
	}
	return []byte(fmt.Sprintf(`{"_type":%q,"repo_id":%q,"root":{"sha256":%q,"version":%d},"snapshot":{"length":%d,"sha256":%q,"version":%d}}`,
		headLeafType, s.root.charter.repoID, s.root.sum, s.root.doc.version, len(s.doc.raw), hexSum256(s.doc.raw), s.doc.version))
}

// LogProofName returns the name, below a location's metadata folder, of the proof of the
// snapshot's head: ROOT.SNAPSHOT.tlog-proof with both versions.
func (s *Snapshot) LogProofName() string {
	return fmt.Sprintf("%d.%d.tlog-proof", s.root.doc.version, s.doc.version)
}

// Logged returns the snapshot with its head, so that [Snapshot.Approve] and
// [Snapshot.Candidates] decide under an enforced rule. The proof must be one of
// [Snapshot.HeadLeaf] as the last entry of the log in force, with a quorum of cosignatures
// whose time is recent enough. Every role in the snapshot must be listed with its length and
// sha256, so that the head fixes all that can be installed.
//
// The proof is compared with the last accepted one of the same log: a tree that is no
// larger with another snapshot as its last entry is refused ([ErrRollback]), and so is
// another tree of the same size ([ErrLogFork]). A quorum time in the future is accepted.
// Errors wrap [ErrNotLogged], [ErrRollback], [ErrMalformed] or [ErrExpired].
func (s *Snapshot) Logged(proof []byte, state LogState) (out *Snapshot, err error) {
	if s == nil || s.root == nil {
		return nil, refuse("snapshot", 0, ErrUntrusted, "zero Snapshot")
	}
	rule := s.root.inForce().log
	if rule == nil {
		return nil, s.notLogged("no rule of the log is in force under root v%d", s.root.doc.version)
	}
	e, err := rule.Policy.Verify(s.HeadLeaf(), proof)
	if err != nil {
		return nil, s.notLogged("%v", err)
	}
	if e.Index != e.Size-1 {
		return nil, s.notLogged("it is entry %d of %d, not the last one", e.Index, e.Size)
	}
	if err := s.checkListed(); err != nil {
		return nil, err
	}
	if err := s.checkPriorProof(rule.Policy, e, state.Prior, proof); err != nil {
		return nil, err
	}
	most := rule.MaxAge
	if state.Offline {
		most = rule.OfflineMaxAge
	}
	head := Head{Origin: e.Origin, Index: e.Index, Size: e.Size, Root: hex.EncodeToString(e.Root[:]), Time: e.Time, Until: e.Time.Add(most), Cosigners: e.Cosigners}
	head.Waited = state.waited(e)
	if by := s.now.Add(most - head.Waited); by.Before(head.Until) {
		head.Until = by
	}
	if !s.now.Before(head.Until) {
		e := expired("snapshot", s.doc.version, head.Until, s.now)
		e.Detail = fmt.Sprintf("its proof of the log is of %s, and ended %s", text.Time(head.Time), e.Detail)
		return nil, e
	}
	out = s.copyAt(s.now)
	out.head = &head
	return out, nil
}

// checkListed requires length and sha256 of every role in the snapshot.
func (s *Snapshot) checkListed() error {
	for _, x := range s.meta {
		m, err := parseMetaFile(x.val)
		if err != nil {
			return malformed("snapshot", s.doc.version, err)
		}
		if m.length == 0 || m.hashes.SHA256 == "" {
			return s.notLogged("it lists %s without length or sha256", text.Name(x.name.String()))
		}
	}
	return nil
}

// checkPriorProof compares an entry with the last accepted proof.
func (s *Snapshot) checkPriorProof(policy *tlog.Policy, e *tlog.Entry, prior, proof []byte) error {
	parsed, err := tlog.ParseProof(prior)
	if err != nil {
		return nil // none
	}
	was, err := policy.Checkpoint(parsed.Checkpoint)
	if err != nil {
		return nil // of another log, which another rule named
	}
	if was.Size == e.Size && was.Root != e.Root {
		fork := refuse("snapshot", s.doc.version, ErrLogFork, "the log has signed two trees of %d entries", e.Size)
		fork.Evidence = append(append(clone(prior), '\n'), proof...)
		return fork
	}
	if was.Size <= e.Size {
		return nil // larger, or the same tree, whose last entry is the same
	}
	if _, err := policy.Verify(s.HeadLeaf(), prior); err == nil {
		return nil // an older proof of the same head
	}
	return refuse("snapshot", s.doc.version, ErrRollback, "it is the last of %d entries of the log, and another one was the last of %d", e.Size, was.Size)
}

func (s *Snapshot) notLogged(format string, args ...any) *Error {
	return refuse("snapshot", s.doc.version, ErrNotLogged, format, args...)
}

// copyAt is a copy for another time, which opens its roles again.
func (s *Snapshot) copyAt(now time.Time) *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &Snapshot{doc: s.doc, root: s.root, now: now, ts: s.ts, meta: s.meta, head: s.head, within: s.within,
		roles: map[roleVia]*Targets{}, files: map[string][]byte{}}
	if now.Equal(s.now) {
		out.roles, out.files = maps.Clone(s.roles), maps.Clone(s.files)
	}
	return out
}

// Head returns the snapshot's entry in the log; false unless [Snapshot.Logged] has verified
// it.
func (s *Snapshot) Head() (Head, bool) {
	if s == nil || s.head == nil {
		return Head{}, false
	}
	out := *s.head
	out.Cosigners = append([]tlog.Cosigner(nil), out.Cosigners...)
	return out, true
}

// Within returns s, which has no proof, restricted by the last logged snapshot: what is not
// logged can only take away. [Snapshot.Approve] and [Snapshot.Candidates] then approve what
// both approve with the same content, and refuse what either recalls or holds;
// [Snapshot.Recalls] returns the recalls of both. Both must stand under the same root. At
// the time of s, the logged snapshot, its roles and its proof must not have expired; its
// timestamp may have. Errors wrap [ErrNotLogged] or [ErrExpired].
func (s *Snapshot) Within(logged *Snapshot) (*Snapshot, error) {
	if s == nil || s.root == nil || logged == nil || logged.root == nil {
		return nil, refuse("snapshot", 0, ErrUntrusted, "zero Snapshot")
	}
	if logged.head == nil || logged.root.sum != s.root.sum {
		return nil, s.notLogged("the other snapshot has no proof, or stands under another root")
	}
	if logged.doc.version > s.doc.version {
		return nil, refuse("snapshot", s.doc.version, ErrRollback, "v%d is in the log", logged.doc.version)
	}
	for _, until := range []time.Time{s.root.opt.lasts(logged.doc.expires), logged.head.Until} {
		if !s.now.Before(until) {
			return nil, expired("snapshot", logged.doc.version, until, s.now)
		}
	}
	out := s.copyAt(s.now)
	out.within = logged.copyAt(s.now)
	return out, nil
}

// Both yields s and the logged snapshot that restricts it, if any.
func (s *Snapshot) Both() iter.Seq[*Snapshot] {
	return func(yield func(*Snapshot) bool) {
		for ; s != nil && yield(s); s = s.within {
		}
	}
}

// Verified reports whether the file of a role was verified under s, or under the logged
// snapshot that restricts s.
func (s *Snapshot) Verified(f RoleFile) bool {
	for s := range s.Both() {
		if have, err := s.RoleFile(f.Role); err == nil && have.Version == f.Version && s.RoleBytes(f.Role) != nil {
			return true
		}
	}
	return false
}

// checkLogged refuses approvals without a proof under an enforced rule.
func (s *Snapshot) checkLogged(path string) error {
	rule := s.root.inForce().log
	if rule == nil || !rule.Enforce || s.head != nil || s.within != nil || s.root.opt.UnsafeUnlogged {
		return nil
	}
	return refuse(path, 0, ErrNotLogged, "snapshot v%d has no proof that it is in the log %s", s.doc.version, text.Quote(rule.Policy.Log().Name))
}

// sameContent reports whether two approvals are of the same bytes and release fields.
func sameContent(a, b Approved) bool {
	return a.path == b.path && a.class == b.class && a.length == b.length && a.hashes == b.hashes && reflect.DeepEqual(a.release, b.release)
}

// decideWithin is decide for a snapshot that is restricted by a logged one.
func (s *Snapshot) decideWithin(class *Class, path string, get Fetch, w *work) (a Approved, agreed bool, err error) {
	if a, agreed, err = s.decideOwn(class, path, get, w); err != nil {
		return a, agreed, err
	}
	b, _, err := s.within.decideOwn(class, path, get, w)
	if err == nil && !sameContent(a, b) {
		err = refuse(path, 0, ErrNotLogged, "snapshot v%d of the log lists other content", s.within.doc.version)
	}
	return a, true, err
}
