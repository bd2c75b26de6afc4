package tuf

import (
	"time"

	"github.com/visum-dev/visum/internal/wire"
)

// Timestamp is a verified timestamp. Only [Root.Timestamp] creates one.
type Timestamp struct {
	doc      *document
	root     *Root
	now      time.Time
	snapshot metaFile
}

// Timestamp verifies a timestamp under r (specification, 5.4). Errors wrap
// [ErrUntrusted] or [ErrExpired].
//
// prior is the last trusted timestamp, or nil. Neither the timestamp's version nor
// the snapshot version in it may be lower than prior's (rollback). A prior that none
// of r's timestamp keys signed is ignored, so that versions inflated with compromised
// keys do not bind new keys (5.3.11, fast-forward); if only the snapshot keys
// changed, the caller must discard prior, see [Root.OnlineKeys]. A signature by one
// current key suffices, so that a raised threshold does not lift the floor. If data
// and prior have the same version, the result is prior, provided that it meets the
// threshold (5.4.3).
//
// now is the time of the update (5.1). The expiry of r, of the timestamp and of all
// metadata opened from the result is checked against it.
func (r *Root) Timestamp(data, prior []byte, now time.Time) (t *Timestamp, err error) {
	defer func() { attach(err, data) }()
	if err := r.CheckExpiry(now); err != nil { // refuses the zero Root too
		return nil, err
	}
	if t, err = r.openTimestamp(data); err != nil {
		return nil, err
	}
	if was, err := r.readTimestamp(prior); err == nil && was.doc.signedByAny(r.roles["timestamp"], r.keys) {
		v := t.doc.version
		if v < was.doc.version {
			return nil, refuse("timestamp", v, ErrRollback, "trusted v%d", was.doc.version)
		}
		if _, err := was.doc.threshold(r.roles["timestamp"], r.keys, "timestamp"); err == nil && v == was.doc.version {
			t = was
		}
		if t.snapshot.version < was.snapshot.version {
			return nil, refuse("timestamp", v, ErrRollback, "lists snapshot v%d, trusted v%d", t.snapshot.version, was.snapshot.version)
		}
	}
	if c := r.charter; c != nil && (t.doc.version < c.floors.Timestamp || t.snapshot.version < c.floors.Snapshot) {
		return nil, refuse("timestamp", t.doc.version, ErrRollback, "with snapshot v%d, the charter's floors are v%d and v%d",
			t.snapshot.version, c.floors.Timestamp, c.floors.Snapshot)
	}
	if !now.Before(r.opt.lasts(t.doc.expires)) {
		return nil, expired("timestamp", t.doc.version, t.doc.expires, now)
	}
	t.now = now
	return t, nil
}

// IsPrior reports whether a previously trusted timestamp counts as prior under r: it
// can be parsed, and one of r's timestamp keys signed it, under whatever key id. Its
// expiry does not matter.
func (r *Root) IsPrior(timestamp []byte) bool {
	if r == nil || r.doc == nil {
		return false
	}
	t, err := r.readTimestamp(timestamp)
	return err == nil && t.doc.signedByAny(r.roles["timestamp"], r.keys)
}

// openTimestamp checks form and signatures, not version or expiry.
func (r *Root) openTimestamp(data []byte) (*Timestamp, error) {
	t, err := r.readTimestamp(data)
	if err != nil {
		return nil, err
	}
	if _, err := t.doc.threshold(r.roles["timestamp"], r.keys, "timestamp"); err != nil {
		return nil, err
	}
	return t, nil
}

// readTimestamp checks the form only.
func (r *Root) readTimestamp(data []byte) (*Timestamp, error) {
	var meta, snapshot wire.Value
	doc, err := open(data, "timestamp", "timestamp", r.opt.Limits, wire.Field{Name: "meta", To: &meta})
	if err != nil {
		return nil, err
	}
	if err := meta.Fields(wire.Field{Name: "snapshot.json", To: &snapshot}); err != nil {
		return nil, malformed("timestamp", doc.version, err)
	}
	m, err := parseMetaFile(snapshot)
	if err != nil {
		return nil, malformed("timestamp", doc.version, err)
	}
	return &Timestamp{doc: doc, root: r, snapshot: m}, nil
}

// Version is the timestamp's version number.
func (t *Timestamp) Version() int64 { return t.doc.version }

// Expires is the timestamp's own expiry.
func (t *Timestamp) Expires() time.Time { return t.doc.expires }

// Bytes returns a copy of the timestamp as received; nil for the zero value.
func (t *Timestamp) Bytes() []byte {
	if t == nil || t.doc == nil {
		return nil
	}
	return clone(t.doc.raw)
}

// SnapshotFile returns the version and length of the snapshot that the timestamp
// lists.
func (t *Timestamp) SnapshotFile() RoleFile {
	return t.root.roleFile("snapshot", t.snapshot, t.root.opt.Limits.Snapshot)
}
