package tuf

import (
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/wire"
)

// Recall is a party's statement that some bytes must not be used, under any path
// of Class.
type Recall struct {
	Class   string    `json:"class,omitempty"`   // of the charter
	Path    string    `json:"path"`              // the path at the time of the recall
	SHA256  string    `json:"sha256"`            // lower-case hex
	Reason  string    `json:"reason"`            // human-readable
	At      time.Time `json:"at,omitzero"`       // time of the recall
	Party   string    `json:"party"`             // the party that recalled
	Role    string    `json:"role"`              // the role that lists the recall
	Version int64     `json:"version,omitempty"` // of the role
}

// maxRecalls bounds the recalls of one role.
const maxRecalls = 4096

func parseRecalls(v wire.Value) (out []Recall, err error) {
	var r reader
	r.list(v, layout.RecallMember, maxRecalls, func(e wire.Value) {
		var path, sha256, reason, at wire.Value
		r.fields(e, wire.Field{Name: "path", To: &path}, wire.Field{Name: "sha256", To: &sha256},
			wire.Field{Name: "reason", To: &reason}, wire.Field{Name: "at", To: &at})
		x := Recall{Path: r.text(path), SHA256: strings.ToLower(r.text(sha256)), Reason: r.text(reason), At: r.time(at)}
		if x.Path == "" || !isSHA256(x.SHA256) || at == nil {
			r.fail("a recall must have path, sha256 and at")
		}
		out = append(out, x)
	})
	return out, r.err
}
