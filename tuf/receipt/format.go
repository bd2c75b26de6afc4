package receipt

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// MaxReceipt is the greatest length of a receipt, in bytes.
const MaxReceipt = 128 << 20

// Limits of the parts of a receipt.
const (
	maxRoots     = 1024
	maxRoles     = 256
	maxPerRole   = 16   // of one role
	maxNumber    = 1000 // of a statement
	maxProofs    = 16
	maxProof     = 65536 // bytes
	maxProofType = 128   // bytes
)

// Contents are the parts of a receipt, not verified. The files are as the repository
// serves them.
type Contents struct {
	RepoID     string            // of the charter
	Path       string            // of the target
	Length     int64             // of the target, in bytes
	SHA256     string            // of the target, lower-case hex
	Time       time.Time         // of the decision, whole seconds
	Roots      []RootFile        // in order of their versions, without a gap; the last one is that of the decision
	Timestamp  []byte            // the timestamp
	Snapshot   []byte            // the snapshot that it lists
	Roles      map[string][]byte // by name: exactly the roles that the decision reads
	Statements []StatementFile   // sorted by role, then by number
	Proofs     []Proof           // of public logs
}

// RootFile is a root, with the statement of its recovery if it is a recovered one.
type RootFile struct {
	Root     []byte // the root
	Recovery []byte // nil: a regular root
}

// StatementFile is the n-th statement of a role on the target.
type StatementFile struct {
	Role   string // release role of a party
	Number int    // from 1
	Data   []byte // the envelope
}

// Proof is the proof of a public log. This version verifies none, and trusts nothing
// that is in one.
type Proof struct {
	Type string // names the form of Data; 1 to 128 printable ASCII characters
	Data []byte // at most 64 KiB
}

const timeForm = "2006-01-02T15:04:05Z"

// Seal returns the receipt of some contents, in canonical form. It verifies nothing: a
// maker of receipts calls [Open] with the result.
func Seal(c Contents) []byte {
	var b bytes.Buffer
	str := func(s string) { b.Write(wire.AppendString(nil, s)) }
	file := func(data []byte) {
		b.WriteByte('"')
		b.WriteString(base64.StdEncoding.EncodeToString(data))
		b.WriteByte('"')
	}
	fmt.Fprintf(&b, `{"length":%d,"path":`, c.Length)
	str(c.Path)
	if len(c.Proofs) > 0 {
		b.WriteString(`,"proofs":[`)
		for i, p := range c.Proofs {
			comma(&b, i)
			b.WriteString(`{"data":`)
			file(p.Data)
			b.WriteString(`,"type":`)
			str(p.Type)
			b.WriteByte('}')
		}
		b.WriteByte(']')
	}
	b.WriteString(`,"repo_id":`)
	str(c.RepoID)
	b.WriteString(`,"roles":{`)
	for i, name := range slices.Sorted(maps.Keys(c.Roles)) {
		comma(&b, i)
		str(name)
		b.WriteByte(':')
		file(c.Roles[name])
	}
	b.WriteString(`},"roots":[`)
	for i, r := range c.Roots {
		comma(&b, i)
		b.WriteByte('{')
		if r.Recovery != nil {
			b.WriteString(`"recovery":`)
			file(r.Recovery)
			b.WriteByte(',')
		}
		b.WriteString(`"root":`)
		file(r.Root)
		b.WriteByte('}')
	}
	b.WriteString(`],"sha256":`)
	str(c.SHA256)
	b.WriteString(`,"snapshot":`)
	file(c.Snapshot)
	b.WriteString(`,"statements":[`)
	for i, s := range c.Statements {
		comma(&b, i)
		b.WriteString(`{"number":` + strconv.Itoa(s.Number) + `,"role":`)
		str(s.Role)
		b.WriteString(`,"statement":`)
		file(s.Data)
		b.WriteByte('}')
	}
	b.WriteString(`],"time":`)
	str(c.Time.UTC().Format(timeForm))
	b.WriteString(`,"timestamp":`)
	file(c.Timestamp)
	b.WriteString(`,"visum-receipt":1}`)
	// The canonical form has control characters in a path as they are; a file is JSON.
	return wire.Value(b.Bytes()).JSON()
}

func comma(b *bytes.Buffer, i int) {
	if i > 0 {
		b.WriteByte(',')
	}
}

// Read parses a receipt and verifies nothing but its form, for tools that show or extend
// one. Errors are [*tuf.Error] and wrap [tuf.ErrMalformed] or [tuf.ErrTooLarge].
func Read(data []byte) (c Contents, err error) {
	if len(data) > MaxReceipt {
		return c, refuse(tuf.ErrTooLarge, "%d bytes, at most %d", len(data), MaxReceipt)
	}
	v, err := wire.Canonical(data)
	if err != nil {
		return c, refuse(tuf.ErrMalformed, "%v", err)
	}
	// One receipt has one sequence of bytes, so its sha256 names it.
	if !bytes.Equal(v, data) && !bytes.Equal(v.JSON(), data) {
		return c, refuse(tuf.ErrMalformed, "not in canonical form")
	}
	var r reader
	var mark, repoID, path, length, sum, at, roots, timestamp, snapshot, roles, statements, proofs wire.Value
	r.closed(v, "the receipt", wire.Field{Name: "visum-receipt", To: &mark}, wire.Field{Name: "repo_id", To: &repoID}, wire.Field{Name: "path", To: &path},
		wire.Field{Name: "length", To: &length}, wire.Field{Name: "sha256", To: &sum}, wire.Field{Name: "time", To: &at}, wire.Field{Name: "roots", To: &roots},
		wire.Field{Name: "timestamp", To: &timestamp}, wire.Field{Name: "snapshot", To: &snapshot}, wire.Field{Name: "roles", To: &roles},
		wire.Field{Name: "statements", To: &statements}, wire.Field{Name: "proofs", To: &proofs})
	if n := r.int("visum-receipt", mark); n != 1 {
		r.fail("visum-receipt is %d, want 1", n)
	}
	c.RepoID, c.Path, c.SHA256 = r.text("repo_id", repoID), r.text("path", path), r.text("sha256", sum)
	if r.err == nil && (len(c.SHA256) != 64 || strings.Trim(c.SHA256, "0123456789abcdef") != "") {
		r.fail("sha256 is %s, want 64 lower-case hex digits", text.Quote(c.SHA256))
	}
	c.Length, c.Time = r.int("length", length), r.time(at)
	c.Timestamp, c.Snapshot = r.file("timestamp", timestamp), r.file("snapshot", snapshot)
	r.list("roots", roots, maxRoots, func(e wire.Value) {
		var root, recovery wire.Value
		r.closed(e, "a root", wire.Field{Name: "root", To: &root}, wire.Field{Name: "recovery", To: &recovery})
		f := RootFile{Root: r.file("root", root)}
		if recovery != nil {
			f.Recovery = r.file("recovery", recovery)
		}
		c.Roots = append(c.Roots, f)
	})
	r.roles(roles, &c)
	r.list("statements", statements, maxRoles*maxPerRole, func(e wire.Value) {
		var role, number, file wire.Value
		r.closed(e, "a statement", wire.Field{Name: "role", To: &role}, wire.Field{Name: "number", To: &number}, wire.Field{Name: "statement", To: &file})
		c.Statements = append(c.Statements, StatementFile{r.text("role", role), int(min(r.int("number", number), maxNumber+1)), r.file("statement", file)})
	})
	if proofs != nil {
		r.list("proofs", proofs, maxProofs, func(e wire.Value) {
			var typ, file wire.Value
			r.closed(e, "a proof", wire.Field{Name: "type", To: &typ}, wire.Field{Name: "data", To: &file})
			p := Proof{r.text("type", typ), r.file("data", file)}
			if r.err == nil && (p.Type == "" || len(p.Type) > maxProofType || text.Line(p.Type) != p.Type || len(p.Data) > maxProof) {
				r.fail("a proof needs a type of 1 to %d printable ASCII characters and at most %d bytes of data", maxProofType, maxProof)
			}
			c.Proofs = append(c.Proofs, p)
		})
		if len(c.Proofs) == 0 {
			r.fail("proofs is empty")
		}
	}
	if r.err == nil {
		r.err = c.check()
	}
	if r.err != nil {
		return Contents{}, r.err
	}
	return c, nil
}

// check checks what one member does not show.
func (c Contents) check() error {
	if len(c.Roots) == 0 {
		return refuse(tuf.ErrMalformed, "no root")
	}
	n := 0
	for i, s := range c.Statements {
		if s.Number < 1 || s.Number > maxNumber {
			return refuse(tuf.ErrMalformed, "a statement of %s has a number that is not from 1 to %d", text.Name(s.Role), maxNumber)
		}
		if n++; i == 0 || c.Statements[i-1].Role != s.Role {
			n = 1
		}
		if i > 0 && (s.Role < c.Statements[i-1].Role || s.Role == c.Statements[i-1].Role && s.Number <= c.Statements[i-1].Number) {
			return refuse(tuf.ErrMalformed, "statement %d of %s is not in order", s.Number, text.Name(s.Role))
		}
		if n > maxPerRole {
			return refuse(tuf.ErrTooLarge, "more than %d statements of %s", maxPerRole, text.Name(s.Role))
		}
	}
	return nil
}

// reader keeps the first error of a sequence of small reads.
type reader struct{ err error }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = refuse(tuf.ErrMalformed, format, args...)
	}
}

// closed reads an object and refuses members that are not in fields.
func (r *reader) closed(v wire.Value, what string, fields ...wire.Field) {
	if r.err != nil {
		return
	}
	if err := v.Fields(fields...); err != nil {
		r.fail("%s: %v", what, err)
		return
	}
	for name := range v.Members() {
		if !slices.ContainsFunc(fields, func(f wire.Field) bool { return f.Name == string(name) }) {
			r.fail("%s has an unknown member %s", what, text.Bytes(name))
		}
	}
}

func (r *reader) text(what string, v wire.Value) string {
	s, err := v.Text()
	if err != nil {
		r.fail("%s: %v", what, err)
	}
	return s
}

func (r *reader) int(what string, v wire.Value) int64 {
	n, err := v.Int()
	if err != nil || n < 0 || n >= 1<<53 {
		r.fail("%s: an integer from 0 to 2^53-1 was expected", what)
	}
	return n
}

func (r *reader) time(v wire.Value) time.Time {
	s := r.text("time", v)
	t, err := time.Parse(timeForm, s)
	if err != nil || t.Format(timeForm) != s {
		r.fail("time %s, want the form %s", text.Quote(s), timeForm)
	}
	return t
}

// file reads the base64 of a file.
func (r *reader) file(what string, v wire.Value) []byte {
	if r.err != nil {
		return nil
	}
	if v.Kind() != '"' {
		r.fail("%s: a string was expected", what)
		return nil
	}
	s := v[1 : len(v)-1]
	out := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Strict().Decode(out, s)
	// The decoder skips line breaks, which would be a second form.
	if err != nil || base64.StdEncoding.EncodedLen(n) != len(s) {
		r.fail("%s is not base64", what)
	}
	return out[:n:n]
}

func (r *reader) list(what string, v wire.Value, most int, each func(wire.Value)) {
	if r.err != nil {
		return
	}
	if v.Kind() != '[' {
		r.fail("%s must be an array", what)
		return
	}
	n := 0
	for e := range v.Elements() {
		if n++; n > most {
			r.err = refuse(tuf.ErrTooLarge, "more than %d %s", most, what)
		}
		if r.err != nil {
			return
		}
		each(e)
	}
}

func (r *reader) roles(v wire.Value, c *Contents) {
	if r.err != nil {
		return
	}
	if v.Kind() != '{' {
		r.fail("roles must be an object")
		return
	}
	c.Roles = map[string][]byte{}
	for name, e := range v.Members() {
		if len(c.Roles) == maxRoles {
			r.err = refuse(tuf.ErrTooLarge, "more than %d roles", maxRoles)
		}
		if r.err != nil {
			return
		}
		c.Roles[name.String()] = r.file("role "+text.Name(name.String()), e)
	}
}

func refuse(err error, format string, args ...any) *tuf.Error {
	return &tuf.Error{Role: "receipt", Err: err, Detail: fmt.Sprintf(format, args...)}
}
