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
	Class   string    // of the charter
	Path    string    // the path at the time of the recall
	SHA256  string    // lower-case hex
	Reason  string    // human-readable
	At      time.Time // time of the recall
	Party   string    // the party that recalled
	Role    string    // the role that lists the recall
	Version int64     // of the role
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
