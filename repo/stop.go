package repo

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Hold stops clients from installing what is listed under a path, until a time
// at most the charter's maximum away; one key of the class's hold role is enough
// to sign it. What is installed already runs on: see [Tx.Recall]. A second Hold
// on a path replaces the first; holds that have ended are dropped on the way.
//
// until is cut to whole seconds. It must be in the future and no further than
// allowed; the class must have a hold role, and somebody must list the path.
func (tx *Tx) Hold(target, reason string, until time.Time) error {
	class, err := tx.class(target)
	if err != nil {
		return err
	}
	if class.Hold == nil {
		return fmt.Errorf("repo: %s: class %s has no hold role: %w", text.Name(target), text.Name(class.Name), fs.ErrInvalid)
	}
	now := tx.repo.now()
	until = until.UTC().Truncate(time.Second)
	switch {
	case reason == "":
		return fmt.Errorf("repo: %s: %w: a hold needs a reason", text.Name(target), fs.ErrInvalid)
	case !until.After(now):
		return fmt.Errorf("repo: %s: %w: a hold until %s ends before it begins", text.Name(target), fs.ErrInvalid, stamp(until))
	case until.After(now.Add(class.Hold.Max)):
		return fmt.Errorf("repo: %s: %w: a hold until %s; %s at most, until %s", text.Name(target), fs.ErrInvalid, stamp(until), class.Hold.Max, stamp(now.Add(class.Hold.Max)))
	}
	listed, err := tx.anybodys(class, target)
	if err != nil {
		return err
	}
	e, err := parseEntry(listed)
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	entry, err := canonical(map[string]any{"length": e.length, "hashes": map[string]string{"sha256": e.sha256},
		"custom": map[string]any{tuf.ReleaseMember: map[string]string{"reason": reason, "at": stamp(now), "until": stamp(until)}}})
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	l, err := tx.edit(class.Hold.Role)
	if err != nil {
		return err
	}
	for path, v := range l.targets {
		if end, ok := heldUntil(v); ok && !end.After(now) {
			delete(l.targets, path)
		}
	}
	l.targets[target] = entry
	return nil
}

// Lift ends a hold before its time.
func (tx *Tx) Lift(target string) error {
	class, err := tx.class(target)
	if err != nil {
		return err
	}
	if class.Hold != nil {
		l, err := tx.read(class.Hold.Role)
		if err != nil {
			return err
		}
		if l != nil && l.targets[target] != nil {
			delete(l.targets, target)
			l.changed = true
			tx.override.lift[target] = true
			return nil
		}
	}
	return fmt.Errorf("repo: %s: no hold names it: %w", text.Name(target), tuf.ErrNoTarget)
}

func heldUntil(v wire.Value) (time.Time, bool) {
	e, err := parseEntry(v)
	if err != nil {
		return time.Time{}, false
	}
	var until wire.Value
	if e.release.Fields(wire.Field{Name: "until", To: &until}) != nil {
		return time.Time{}, false
	}
	s, err := until.Text()
	if err != nil {
		return time.Time{}, false
	}
	end, err := time.Parse(time.RFC3339, s)
	return end, err == nil
}

// anybodys is what any role of the class lists under a path, in the charter's order.
func (tx *Tx) anybodys(class Class, target string) (wire.Value, error) {
	for _, role := range class.Roles {
		v, err := tx.find(role.Role, target)
		if err != nil || v != nil {
			return v, err
		}
	}
	return nil, fmt.Errorf("repo: %s: nobody lists it: %w", text.Name(target), tuf.ErrNoTarget)
}

// maxRecalls is what readers take of one role.
const maxRecalls = 4096

// Recall takes back the party's approval: its role no longer lists the path, so
// that nobody installs it any more, and says for those who run it already that
// they should not, and why. sha256, in lower-case hex, says which bytes; "":
// those that the party lists now. Approving the same bytes again takes the recall
// back.
func (tx *Tx) Recall(party, target, sha256, reason string) error {
	_, roles, err := tx.role(party, target)
	if err != nil {
		return err
	}
	if reason == "" {
		return fmt.Errorf("repo: %s: %w: a recall needs a reason", text.Name(target), fs.ErrInvalid)
	}
	if sha256 != "" && (len(sha256) != 64 || strings.Trim(sha256, "0123456789abcdef") != "") {
		return fmt.Errorf("repo: %s: %w: %s is not the sha256 of anything in lower-case hex", text.Name(target), fs.ErrInvalid, text.Quote(sha256))
	}
	for _, role := range roles {
		v, err := tx.find(role, target)
		if err != nil {
			return err
		}
		sum := sha256
		if v != nil {
			e, err := parseEntry(v)
			if err != nil {
				return fmt.Errorf("repo: %s: %w", text.Name(target), err)
			}
			if sum == "" {
				sum = e.sha256
			}
			if sum == e.sha256 {
				if _, err := tx.drop(role, target); err != nil {
					return err
				}
			}
		}
		if sum == "" {
			return fmt.Errorf("repo: %s: %s does not list it, so say which bytes: %w", text.Name(target), roleText(role), tuf.ErrNoTarget)
		}
		if err := tx.recall(role, recallJSON{target, sum, reason, stamp(tx.repo.now())}); err != nil {
			return err
		}
	}
	return nil
}

type recallJSON struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Reason string `json:"reason"`
	At     string `json:"at"`
}

// recall adds to the role's recalls, in place of one of the same bytes.
func (tx *Tx) recall(role string, r recallJSON) error {
	list, err := tx.recallsBut(role, r.Path, r.SHA256)
	if err != nil {
		return err
	}
	if list = append(list, r); len(list) > maxRecalls {
		return fmt.Errorf("repo: %s: %w: more than %d recalls", roleText(role), fs.ErrInvalid, maxRecalls)
	}
	l, err := tx.edit(role)
	if err != nil {
		return err
	}
	l.members[tuf.RecallMember], err = canonical(list)
	return err
}

// unrecall takes a recall of these bytes back, where there is one.
func (tx *Tx) unrecall(role, path, sha256 string) error {
	l, err := tx.read(role)
	if err != nil || l == nil {
		return err
	}
	list, err := tx.recallsBut(role, path, sha256)
	if err != nil || len(list) == count(l.members[tuf.RecallMember]) {
		return err
	}
	if l, err = tx.edit(role); err != nil {
		return err
	}
	if delete(l.members, tuf.RecallMember); len(list) > 0 {
		l.members[tuf.RecallMember], err = canonical(list)
	}
	return err
}

func count(v wire.Value) (n int) {
	for range v.Elements() {
		n++
	}
	return n
}

// recallsBut are the role's recalls without that of the path's bytes.
func (tx *Tx) recallsBut(role, path, sha256 string) (list []any, err error) {
	l, err := tx.read(role)
	if err != nil || l == nil {
		return nil, err
	}
	for v := range l.members[tuf.RecallMember].Elements() {
		var p, sum wire.Value
		if err := v.Fields(wire.Field{Name: "path", To: &p}, wire.Field{Name: "sha256", To: &sum}); err != nil {
			return nil, fmt.Errorf("repo: %s: %w", roleText(role), err)
		}
		if string(p) != string(canonicalText(path)) || string(sum) != string(canonicalText(sha256)) {
			list = append(list, json.RawMessage(v.JSON()))
		}
	}
	return list, nil
}
