package tuf

import (
	"fmt"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// Recovery is a verified recovery statement with the root that it names. The root
// is not trusted yet: see [Recovery.Accept]. Only [Root.Recovery] creates one.
type Recovery struct {
	doc  *document
	rule RecoveryRule
	next *Root
}

// MaxRecoveryStatement is the greatest length of a recovery statement, in bytes.
const MaxRecoveryStatement = 64 << 10

// Bounds of the rule, and names.
const (
	maxOrgs        = 16
	minHold        = 24 * time.Hour
	recoveryRole   = "recovery"
	recoveryType   = "x-visum-recovery"
	recoveryFolder = "recovery/"
)

// RecoveryFiles returns the names, below a location's metadata folder, of the files
// that a client requests if r has no successor: the recovery statement and the root
// that it names.
func (r *Root) RecoveryFiles() (statement, root string) {
	v := r.doc.version
	return fmt.Sprintf("%s%d.statement.json", recoveryFolder, v), fmt.Sprintf("%s%d.root.json", recoveryFolder, v+1)
}

// Recovery reads a recovery statement and the root that it names:
//
//	{"signed": {"_type": "x-visum-recovery", "spec_version": "1.0.31", "version": 1, "expires": "...", "repo_id": "...",
//	            "tip": {"version": 7, "sha256": "..."}, "root": {"version": 8, "sha256": "..."}, "reason": "..."},
//	 "signatures": [...]}
//
// version is the counter; the hashes are those of [Root.SHA256]. The statement
// must meet the recovery threshold that is in force under r, name r itself and exactly this
// root, and be unexpired at now. The root must be signed by its own threshold and
// parties, begin a new epoch, and obey all rules for a successor except H11, which
// the statement replaces. Errors wrap [ErrUntrusted] or [ErrExpired].
func (r *Root) Recovery(statement, root []byte, now time.Time) (rec *Recovery, err error) {
	defer func() { attach(err, statement) }()
	if r == nil || r.doc == nil {
		return nil, refuse(recoveryRole, 0, ErrUntrusted, "zero Root")
	}
	force := r.inForce()
	if r.charter == nil || force.recovery == nil {
		return nil, refuse(recoveryRole, 0, ErrCharter, "the charter of root v%d has no recovery", r.doc.version)
	}
	if len(statement) > MaxRecoveryStatement {
		return nil, refuse(recoveryRole, 0, ErrTooLarge, "%d bytes, at most %d", len(statement), MaxRecoveryStatement)
	}
	rec = &Recovery{rule: *force.recovery}
	var repoID, tip, names, reason wire.Value
	rec.doc, err = open(statement, recoveryRole, recoveryType, r.opt.Limits, wire.Field{Name: "repo_id", To: &repoID},
		wire.Field{Name: "tip", To: &tip}, wire.Field{Name: "root", To: &names}, wire.Field{Name: "reason", To: &reason})
	if err != nil {
		return nil, err
	}
	if err := rec.signed(force.by); err != nil {
		return nil, err
	}
	v := rec.doc.version
	var rd reader
	if id := rd.text(repoID); id != r.charter.repoID {
		return nil, refuse(recoveryRole, v, ErrMismatch, "signed for repository %s, this is %s", text.Name(id), r.charter.repoID)
	}
	if v < rec.rule.Counter {
		return nil, refuse(recoveryRole, v, ErrRollback, "the charter's counter is %d", rec.rule.Counter)
	}
	if rec.next, err = parseRoot(root, r.opt); err != nil {
		return nil, err
	}
	if err := rd.names(tip, r); err != nil {
		return nil, refuse(recoveryRole, v, ErrMismatch, "tip: %v", err)
	}
	if err := rd.names(names, rec.next); err != nil {
		return nil, refuse(recoveryRole, v, ErrMismatch, "root: %v", err)
	}
	if rec.next.doc.version != r.doc.version+1 {
		return nil, refuse(recoveryRole, v, ErrMismatch, "root v%d does not follow v%d", rec.next.doc.version, r.doc.version)
	}
	if err := rec.next.signedBy(rec.next); err != nil {
		return nil, err
	}
	if err := r.checkSuccessor(rec.next); err != nil {
		return nil, err
	}
	// Otherwise current online metadata would verify under both roots, and clients
	// could not tell whether the repository follows the recovery.
	if rec.next.charter.epoch == r.charter.epoch {
		return nil, refuse(recoveryRole, v, ErrCharter, "root v%d keeps the online keys of v%d: a recovery must rotate them", rec.next.doc.version, r.doc.version)
	}
	if !now.Before(rec.doc.expires) {
		return nil, expired(recoveryRole, v, rec.doc.expires, now)
	}
	return rec, nil
}

// names returns an error unless v has the version and hash of root.
func (r *reader) names(v wire.Value, root *Root) error {
	var version, sum wire.Value
	r.fields(v, wire.Field{Name: "version", To: &version}, wire.Field{Name: "sha256", To: &sum})
	n, hash := r.int(version), r.text(sum)
	if r.err != nil {
		return r.err
	}
	if n != root.doc.version || !strings.EqualFold(hash, root.SHA256()) {
		return fmt.Errorf("v%d with sha256 %s, have v%d with %.16s", n, text.Name(hash), root.doc.version, root.SHA256())
	}
	return nil
}

// signed checks the threshold of recovery keys and the number of their
// organisations.
func (rec *Recovery) signed(by *Root) error {
	var all []string
	var orgs []string
	for _, o := range rec.rule.Orgs {
		if have, _ := rec.doc.signers(o.KeyIDs, by.keys); len(have) > 0 {
			orgs = append(orgs, o.Name)
		}
		all = append(all, o.KeyIDs...)
	}
	if _, err := rec.doc.threshold(roleKeys{all, rec.rule.Threshold}, by.keys, "recovery"); err != nil {
		return err
	}
	if len(orgs) < rec.rule.MinOrgs {
		e := refuse(rec.doc.role, rec.doc.version, ErrThreshold, "keys of %d organisations (%s), %d must take part", len(orgs), strings.Join(orgs, ", "), rec.rule.MinOrgs)
		e.Have, e.Want = len(orgs), rec.rule.MinOrgs
		return e
	}
	return nil
}

// ID identifies the statement: the sha256 of its signed part, in hex.
func (rec *Recovery) ID() string { return hexSum256(rec.doc.signed) }

// Counter is the statement's counter. A statement with a higher counter replaces
// one with a lower counter.
func (rec *Recovery) Counter() int64 { return rec.doc.version }

// Expires is the expiry of the statement.
func (rec *Recovery) Expires() time.Time { return rec.doc.expires }

// Rule is the charter's rule that the statement was checked against.
func (rec *Recovery) Rule() RecoveryRule { return rec.rule.clone() }

// Bytes returns copies of the statement and of the root that it names, as received.
func (rec *Recovery) Bytes() (statement, root []byte) {
	return clone(rec.doc.raw), clone(rec.next.doc.raw)
}

// Wait is the part of the waiting period that a client has completed for one
// statement. Only [Wait.Tick] increases it.
type Wait struct {
	Statement string        `json:"statement"` // [Recovery.ID]
	Held      time.Duration `json:"held"`      // completed time, in nanoseconds
	Ticks     int           `json:"ticks"`     // completed root checks
	Last      time.Time     `json:"last"`      // the latest time of a tick
}

// Tick counts one root check at now and returns the new Wait. The caller must have
// requested the regular next root from at least two operators, both must have
// reported that it does not exist, and at least two operators must have served this
// statement.
//
// Only time between root checks counts, and for each of them at most its share of
// the hold: a machine that was off has not waited. No time counts twice: after the
// clock was set back, time counts only from the latest time of an earlier root
// check. A clock that was ahead delays the wait by the same time, at most until the
// statement expires.
func (w Wait) Tick(rec *Recovery, now time.Time) Wait {
	if w.Statement != rec.ID() {
		return Wait{Statement: rec.ID(), Last: now}
	}
	share := rec.rule.Hold / time.Duration(rec.rule.MinTicks)
	if passed := now.Sub(w.Last); passed > 0 {
		w.Held += min(passed, share)
		w.Last = now
	}
	w.Ticks++
	return w
}

// Accept returns the root that the statement names if the waiting period is over.
// Until then the error wraps [ErrWaiting].
func (rec *Recovery) Accept(w Wait) (*Root, error) {
	if rec == nil || rec.doc == nil {
		return nil, refuse(recoveryRole, 0, ErrUntrusted, "zero Recovery")
	}
	if w.Statement != rec.ID() || w.Ticks < rec.rule.MinTicks || w.Held < rec.rule.Hold {
		return nil, refuse(recoveryRole, rec.doc.version, ErrWaiting, "root v%d: %s of %s, %d of %d searches",
			rec.next.doc.version, w.Held.Round(time.Second), rec.rule.Hold, w.Ticks, rec.rule.MinTicks)
	}
	return rec.next, nil
}
