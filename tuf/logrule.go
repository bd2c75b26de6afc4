package tuf

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf/tlog"
)

// LogRule is the charter's rule that what clients install must be public: the newest
// snapshot must be the last entry of a log, with cosignatures of a quorum. In the charter:
//
//	"log": {"mode": "enforce", "max_age_seconds": 2592000, "offline_max_age_seconds": 5184000,
//	        "policy": "log vendor.example/visum/0f6c.../1+1a2b3c4d+AR...\nwitness third third.example+...\n...",
//	        "standby": "review.example/visum/0f6c.../2+..."}
type LogRule struct {
	Enforce       bool          // false: clients check and report, and approve without a proof
	MaxAge        time.Duration // greatest age of the quorum time of a proof
	OfflineMaxAge time.Duration // the same for clients that are configured to have no network
	Policy        *tlog.Policy  // the log, its cosigners and quorums
	Standby       *tlog.Key     // of the log that may replace it; nil: none
}

// Bounds of the rule.
const (
	minLogAge = time.Hour
	maxLogAge = 366 * 24 * time.Hour
	// logNotice is how long a change of an enforced rule must have been in the log.
	logNotice = 72 * time.Hour

	rootLeafType      = "x-visum-root"
	logChangeType     = "x-visum-log-change"
	logChangeRole     = "log change"
	logChangeFile     = recoveryFolder + "%d.log.json"
	logProofFile      = "%d.root.tlog-proof"
	laterLogProofFile = "%d.root.later.tlog-proof"
)

// MaxLogChange is the greatest length of a statement for [Root.LoggedByRecovery], in bytes.
const MaxLogChange = 64 << 10

// logRule reads the log member of a charter.
func (r *reader) logRule(v wire.Value) *LogRule {
	if v == nil {
		return nil
	}
	var mode, age, offline, policy, standby wire.Value
	r.fields(v, wire.Field{Name: "mode", To: &mode}, wire.Field{Name: "max_age_seconds", To: &age},
		wire.Field{Name: "offline_max_age_seconds", To: &offline}, wire.Field{Name: "policy", To: &policy}, wire.Field{Name: "standby", To: &standby})
	rule := &LogRule{MaxAge: r.seconds(age)}
	if rule.OfflineMaxAge = rule.MaxAge; offline != nil {
		rule.OfflineMaxAge = r.seconds(offline)
	}
	m := r.text(mode)
	if rule.Enforce = m == "enforce"; !rule.Enforce && m != "warn" {
		r.fail("log mode %s, want warn or enforce", text.Quote(m))
	}
	s := r.text(policy)
	var err error
	if rule.Policy, err = tlog.ParsePolicy(s); err != nil {
		r.fail("log: %v", err)
	} else if rule.Policy.String() != s {
		// Otherwise a comment or a URL would be a change of the rule.
		r.fail("log: the policy must have one line for each item, fields separated by one space, no comments and no URLs")
	}
	if standby != nil {
		key, err := tlog.ParseKey(r.text(standby))
		if err != nil || key.Type != tlog.TypeLog {
			r.fail("log: standby %s is not the key of a log", text.Quote(r.text(standby)))
		}
		rule.Standby = &key
	}
	return rule
}

// checkLog checks H13: quorums overlap, and no key of the log, its cosigners and its
// standby has another role. tlog.ParsePolicy checks the rest of H13.
func (r *Root) checkLog() error {
	rule := r.charter.log
	if rule == nil {
		return nil
	}
	for _, age := range []time.Duration{rule.MaxAge, rule.OfflineMaxAge} {
		if age < minLogAge || age > maxLogAge {
			return r.broken("H13", "log: the maximum age %s is not from 1 hour to 366 days", age)
		}
	}
	if rule.OfflineMaxAge < rule.MaxAge {
		return r.broken("H13", "log: the maximum age without a network is %s, less than %s", rule.OfflineMaxAge, rule.MaxAge)
	}
	if rule.Enforce && rule.Policy.Overlap() < 1 {
		return r.broken("H13", "log: two quorums may have no cosigner in common")
	}
	keys := []tlog.Key{rule.Policy.Log()}
	for _, c := range rule.Policy.Cosigners() {
		keys = append(keys, c.Key)
	}
	if s := rule.Standby; s != nil {
		for _, k := range keys {
			if string(k.Public) == string(s.Public) || k.Name == s.Name {
				return r.broken("H13", "log: the standby %s has the name or the key of %s", text.Quote(s.Name), text.Quote(k.Name))
			}
		}
		keys = append(keys, *s)
	}
	for _, k := range keys {
		fp, err := Key{typeEd25519, schemeEd25519, hex.EncodeToString(k.Public)}.Fingerprint()
		if err != nil {
			continue // no key of root has this type
		}
		for id, other := range r.keys {
			if other.fingerprint == fp {
				return r.broken("H13", "log: the key of %s is key %s of root", text.Quote(k.Name), shortID(id))
			}
		}
	}
	return nil
}

// logForce is what is in force under a root: a rule of the log and a rule of recovery, which
// may be those of an earlier root (T3).
type logForce struct {
	log          *LogRule
	logText      string // canonical form of the member; "": none
	recovery     *RecoveryRule
	recoveryText string
	by           *Root // whose keys the recovery rule refers to
}

// ownForce is what a root says.
func (r *Root) ownForce() logForce {
	c := r.charter
	if c == nil {
		return logForce{by: r}
	}
	return logForce{c.log, c.logText, c.recovery, c.recoveryText, r}
}

func (f logForce) same(other logForce) bool {
	return f.logText == other.logText && f.recoveryText == other.recoveryText
}

// inForce returns what is in force under r.
func (r *Root) inForce() logForce {
	if r.force == nil {
		return r.ownForce() // T1
	}
	return *r.force
}

// setForce determines what is in force under next, a successor of r (T2, T3).
func (r *Root) setForce(next *Root) {
	was := r.inForce()
	if was.log == nil || !was.log.Enforce {
		return // T2: what next says
	}
	next.force = &was
}

// LogRule returns the rule that is in force under r; nil if there is none. It is that of an
// earlier root as long as [Root.LogPending] is true.
func (r *Root) LogRule() *LogRule {
	if r == nil {
		return nil
	}
	return r.inForce().log.clone()
}

func (l *LogRule) clone() *LogRule {
	if l == nil {
		return nil
	}
	out := *l
	if l.Standby != nil {
		key := l.Standby.Clone()
		out.Standby = &key
	}
	return &out
}

// RecoveryRule returns the rule of recovery that is in force under r; nil if there is none.
// See [Charter.Recovery] for what the charter of r says.
func (r *Root) RecoveryRule() *RecoveryRule {
	if r == nil {
		return nil
	}
	f := r.inForce()
	if f.recovery == nil {
		return nil
	}
	out := f.recovery.clone()
	return &out
}

// LogPending reports whether the charter's log or recovery member differs from what is in
// force. Under an enforced rule they come into force by [Root.Logged] or
// [Root.LoggedByRecovery], or with a recovered root.
func (r *Root) LogPending() bool {
	return r != nil && r.doc != nil && !r.inForce().same(r.ownForce())
}

// LogFiles returns the names, below a location's metadata folder, of the files for
// [Root.Logged], with the second proof, and for [Root.LoggedByRecovery].
func (r *Root) LogFiles() (first, later, byRecovery string) {
	v := r.doc.version
	return fmt.Sprintf(logProofFile, v), fmt.Sprintf(laterLogProofFile, v), fmt.Sprintf(logChangeFile, v)
}

// RootLeaf returns the entry of a log for the root, canonical JSON:
//
//	{"_type":"x-visum-root","repo_id":"0f6c...","sha256":"...","version":3}
//
// It is nil without a charter.
func (r *Root) RootLeaf() []byte {
	if r == nil || r.doc == nil || r.charter == nil {
		return nil
	}
	return []byte(fmt.Sprintf(`{"_type":%q,"repo_id":%q,"sha256":%q,"version":%d}`, rootLeafType, r.charter.repoID, r.sum, r.doc.version))
}

// Logged returns r with its own log and recovery members in force (T3). first and later are
// proofs of [Root.RootLeaf] under the rule in force, where the quorum time of later must be
// at least 72 hours after the latest cosignature in first: for so long the change was in
// public. later is not used if the root only makes the standby in force the log: then the
// standby must prove it, with the cosigners in force. The age of the proofs does not matter.
//
// Without a pending change the result is r. Errors wrap [ErrNotLogged], or [ErrCharter] for
// a change of the log that never comes into force.
func (r *Root) Logged(first, later []byte) (*Root, error) {
	if r == nil || r.doc == nil {
		return nil, refuse("root", 0, ErrUntrusted, "zero Root")
	}
	if !r.LogPending() {
		return r, nil
	}
	until, err := r.LogNotice(first)
	if err != nil {
		return nil, err
	}
	if !until.IsZero() {
		b, err := r.inForce().log.Policy.Verify(r.RootLeaf(), later)
		if err != nil {
			return nil, r.notLogged("its second proof: %v", err)
		}
		if b.Time.Before(until) {
			return nil, r.notLogged("its second proof is of %s; 72 hours after the first is %s", text.Time(b.Time), text.Time(until))
		}
	}
	return r.withForce(r.ownForce()), nil
}

// LogNotice verifies the first proof for [Root.Logged] and returns the quorum time that the
// second proof must have at least; the zero time if no second one is needed. Errors are
// those of Logged.
func (r *Root) LogNotice(first []byte) (until time.Time, err error) {
	if r == nil || r.doc == nil || !r.LogPending() {
		return until, refuse("root", 0, ErrNotLogged, "no change of the rule of the log is pending")
	}
	was, own := r.inForce(), r.ownForce()
	if was.log == nil { // dropped by LoggedByRecovery; the next root brings its recovery into force (T2)
		return until, r.notLogged("no rule is in force that could prove the change of recovery")
	}
	if standby := was.standbyPolicy(); standby != nil && own.isSuccession(was, standby) {
		if _, err := standby.Verify(r.RootLeaf(), first); err != nil {
			return until, r.notLogged("its proof by the standby: %v", err)
		}
		return until, nil
	}
	if own.log != nil && own.log.Policy.Log().String() != was.log.Policy.Log().String() {
		return until, r.broken("T3", "the log changes to %s; only the standby in force may replace it, by a root that changes nothing else of the rule and of recovery",
			text.Quote(own.log.Policy.Log().Name))
	}
	a, err := was.log.Policy.Verify(r.RootLeaf(), first)
	if err != nil {
		return until, r.notLogged("its first proof: %v", err)
	}
	latest := a.Time
	for _, c := range a.Cosigners {
		if c.Time.After(latest) {
			latest = c.Time
		}
	}
	return latest.Add(logNotice), nil
}

// ChangesLog reports whether the charter's log or recovery member differs from that of an
// earlier root.
func (r *Root) ChangesLog(before *Root) bool { return !r.ownForce().same(before.ownForce()) }

// standbyPolicy is the policy in force with the standby in place of the log.
func (f logForce) standbyPolicy() *tlog.Policy {
	if f.log == nil || f.log.Standby == nil {
		return nil
	}
	_, rest, _ := strings.Cut(f.log.Policy.String(), "\n")
	p, err := tlog.ParsePolicy("log " + f.log.Standby.String() + "\n" + rest)
	if err != nil {
		return nil
	}
	return p
}

// isSuccession reports whether f differs from was only in that the standby is the log, and
// in the next standby.
func (f logForce) isSuccession(was logForce, standby *tlog.Policy) bool {
	a, b := f.log, was.log
	return a != nil && f.recoveryText == was.recoveryText && a.Policy.String() == standby.String() &&
		a.Enforce == b.Enforce && a.MaxAge == b.MaxAge && a.OfflineMaxAge == b.OfflineMaxAge
}

func (r *Root) withForce(f logForce) *Root {
	out := *r
	if f.by == r {
		f.by = &out
	}
	out.force = &f
	return &out
}

func (r *Root) notLogged(format string, args ...any) *Error {
	return refuse("root", r.doc.version, ErrNotLogged, format, args...)
}

// LoggedByRecovery returns r with its own log member in force (T5), by a statement of the
// organisations of the recovery rule in force:
//
//	{"signed": {"_type": "x-visum-log-change", "repo_id": "...", "root": {"version": 8, "sha256": "..."}, "reason": "..."}, "signatures": [...]}
//
// It is for the case that the quorum in force can't be met any more. The recovery member of
// r stays pending if it differs. If the log member of r is in force already, the result is r.
// A statement has at most 64 KiB and no expiry. Errors wrap
// [ErrUntrusted].
func (r *Root) LoggedByRecovery(statement []byte) (out *Root, err error) {
	defer func() { attach(err, statement) }()
	if r == nil || r.doc == nil {
		return nil, refuse(logChangeRole, 0, ErrUntrusted, "zero Root")
	}
	was := r.inForce()
	if was.recovery == nil {
		return nil, refuse(logChangeRole, 0, ErrCharter, "no rule of recovery is in force under root v%d", r.doc.version)
	}
	if was.logText == r.ownForce().logText {
		return r, nil
	}
	if len(statement) > MaxLogChange {
		return nil, refuse(logChangeRole, 0, ErrTooLarge, "%d bytes, at most %d", len(statement), MaxLogChange)
	}
	d := &document{role: logChangeRole, checked: map[checkedBy]bool{}}
	signatures, err := d.envelope(statement)
	if err != nil {
		return nil, err
	}
	if err := d.signatures(signatures, r.opt.Limits.Signatures); err != nil {
		return nil, err
	}
	rec := Recovery{doc: d, rule: *was.recovery}
	if err := rec.signed(was.by); err != nil {
		return nil, err
	}
	var rd reader
	var typ, repoID, names, reason wire.Value
	rd.closed(d.signed, "the statement", wire.Field{Name: "_type", To: &typ}, wire.Field{Name: "repo_id", To: &repoID},
		wire.Field{Name: "root", To: &names}, wire.Field{Name: "reason", To: &reason})
	kind, id := rd.text(typ), rd.text(repoID)
	if rd.text(reason) == "" {
		rd.fail("no reason")
	}
	if rd.err != nil {
		return nil, malformed(logChangeRole, 0, rd.err)
	}
	if kind != logChangeType {
		return nil, refuse(logChangeRole, 0, ErrMalformed, "_type is %s, want %q", text.Quote(kind), logChangeType)
	}
	if r.charter == nil || id != r.charter.repoID {
		return nil, refuse(logChangeRole, 0, ErrMismatch, "signed for repository %s", text.Name(id))
	}
	if err := rd.names(names, r); err != nil {
		return nil, refuse(logChangeRole, 0, ErrMismatch, "root: %v", err)
	}
	own := r.ownForce()
	own.recovery, own.recoveryText, own.by = was.recovery, was.recoveryText, was.by
	return r.withForce(own), nil
}
