package attestation

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Predicate types of statements.
const (
	ReviewType    = "https://visum.dev/review/v1"  // of a [Review]
	RefusalType   = "https://visum.dev/refusal/v1" // of a [Refusal]
	statementType = "https://in-toto.io/Statement/v1"
)

// Subject identifies the bytes that a statement is about.
type Subject struct {
	Path   string `json:"path"`   // slash-separated, as metadata lists it
	Length int64  `json:"length"` // bytes
	SHA256 string `json:"sha256"` // lower-case hex
}

// SubjectOf returns the subject of an approved target.
func SubjectOf(a tuf.Approved) Subject { return Subject{a.Path(), a.Length(), a.SHA256()} }

// Result is the result of rebuilding the release from its source.
type Result string

// Results of a rebuild.
const (
	Identical  Result = "identical"  // the same bytes
	Normalised Result = "normalised" // the same except for what differs between any two builds
	NotDone    Result = "not-done"   // no rebuild
)

// Reviewer identifies the issuer of a statement.
type Reviewer struct {
	Party string `json:"party"`          // of the charter
	Role  string `json:"role"`           // the party's release role, whose keys sign
	Name  string `json:"name,omitempty"` // human-readable name of a person or a machine; may be ""
}

// Review states that the reviewer approves the subject.
type Review struct {
	Subject
	RepoID   string        `json:"repo_id"`           // of the charter
	Reviewer Reviewer      `json:"reviewer"`          // the issuer
	Source   tuf.SourceRef `json:"source,omitzero"`   // the reviewed source code; zero if not stated
	Result   Result        `json:"result"`            // of the rebuild
	Builder  string        `json:"builder,omitempty"` // URI of the builder of the rebuild; "" if Result is NotDone
	Policy   string        `json:"policy,omitempty"`  // sha256 of the rules of the review, lower-case hex; may be ""
	// Reinstate is the reason for approving bytes that the same role recalled or
	// refused before; otherwise "".
	Reinstate string    `json:"reinstate,omitempty"`
	From      time.Time `json:"from"`  // start of validity, whole seconds
	Until     time.Time `json:"until"` // end of validity, whole seconds, after From
}

// Refusal states that the reviewer will not approve the subject.
type Refusal struct {
	Subject
	RepoID   string    `json:"repo_id"`     // of the charter
	Reviewer Reviewer  `json:"reviewer"`    // the issuer
	Reason   string    `json:"reason"`      // human-readable; not ""
	At       time.Time `json:"at,omitzero"` // whole seconds
}

// Limits of statements, in bytes.
const (
	MaxSize = 64 << 10 // of an envelope

	maxText       = 1 << 10
	maxReason     = 16 << 10
	maxSignatures = 32
)

// The JSON forms for writing. Reading uses the strict parser of package wire.
type statementJSON struct {
	Type          string        `json:"_type"`
	Subject       []subjectJSON `json:"subject"`
	PredicateType string        `json:"predicateType"`
	Predicate     any           `json:"predicate"`
}

type subjectJSON struct {
	Name   string     `json:"name"`
	Digest digestJSON `json:"digest"`
}

type digestJSON struct {
	SHA256 string `json:"sha256"`
}

type reviewJSON struct {
	RepoID    string       `json:"repo_id"`
	Length    int64        `json:"length"`
	Source    *sourceJSON  `json:"source,omitempty"`
	Rebuild   rebuildJSON  `json:"rebuild"`
	Reviewer  reviewerJSON `json:"reviewer"`
	Policy    *digestJSON  `json:"policy,omitempty"`
	Reinstate string       `json:"reinstate,omitempty"`
	From      string       `json:"from"`
	Until     string       `json:"until"`
}

type sourceJSON struct {
	URI      string `json:"uri,omitempty"`
	Revision string `json:"revision,omitempty"`
}

type rebuildJSON struct {
	Result  Result `json:"result"`
	Builder string `json:"builder,omitempty"`
}

type reviewerJSON struct {
	Party string `json:"party"`
	Role  string `json:"role"`
	Name  string `json:"name,omitempty"`
}

type refusalJSON struct {
	RepoID   string       `json:"repo_id"`
	Length   int64        `json:"length"`
	Reviewer reviewerJSON `json:"reviewer"`
	Reason   string       `json:"reason"`
	At       string       `json:"at"`
}

// Payload returns the canonical payload; [PAE] returns the bytes to sign. The error
// wraps [tuf.ErrMalformed] if readers would refuse the review.
func (r Review) Payload() ([]byte, error) {
	p := reviewJSON{RepoID: r.RepoID, Length: r.Length, Rebuild: rebuildJSON{r.Result, r.Builder}, Reviewer: reviewerJSON(r.Reviewer), Reinstate: r.Reinstate,
		From: text.Time(r.From), Until: text.Time(r.Until)}
	if r.Source != (tuf.SourceRef{}) {
		p.Source = &sourceJSON{r.Source.URI, r.Source.Revision}
	}
	if r.Policy != "" {
		p.Policy = &digestJSON{r.Policy}
	}
	return payload(ReviewType, r.Subject, p, func(v wire.Value) error { _, err := parseReview(v); return err })
}

// Payload returns the canonical payload; [PAE] returns the bytes to sign. The error
// wraps [tuf.ErrMalformed] if readers would refuse the refusal.
func (r Refusal) Payload() ([]byte, error) {
	return payload(RefusalType, r.Subject, refusalJSON{r.RepoID, r.Length, reviewerJSON(r.Reviewer), r.Reason, text.Time(r.At)},
		func(v wire.Value) error { _, err := parseRefusal(v); return err })
}

func payload(kind string, s Subject, predicate any, check func(wire.Value) error) ([]byte, error) {
	data, err := json.Marshal(statementJSON{statementType, []subjectJSON{{s.Path, digestJSON{s.SHA256}}}, kind, predicate})
	if err != nil {
		return nil, err
	}
	v, err := wire.Canonical(data)
	if err == nil {
		err = check(v)
	}
	if err != nil {
		return nil, refuse(s.Path, tuf.ErrMalformed, "statement: %v", err)
	}
	// Canonical, so that two machines sign the same bytes for the same statement.
	return v.JSON(), nil
}

// reader rejects unknown members and keeps the first error.
type reader struct{ err error }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// object reads an object's members. It requires all fields except those named in
// optional and rejects other members.
func (r *reader) object(v wire.Value, what, optional string, fields ...wire.Field) {
	if r.err != nil {
		return
	}
	if err := v.Fields(fields...); err != nil {
		r.fail("%s: %v", what, err)
		return
	}
	known := map[string]bool{}
	for _, f := range fields {
		known[f.Name] = true
		if *f.To == nil && !strings.Contains(" "+optional+" ", " "+f.Name+" ") {
			r.fail("%s has no %s", what, f.Name)
		}
	}
	for name := range v.Members() {
		if !known[name.String()] {
			r.fail("%s has an unknown member %s", what, text.Bytes(name))
		}
	}
}

// text reads a string of 1 to max bytes; "" if v is absent.
func (r *reader) text(v wire.Value, max int) string {
	if v == nil || r.err != nil {
		return ""
	}
	s, err := v.Text()
	if err != nil {
		r.fail("%v", err)
	} else if s == "" || len(s) > max || !utf8.ValidString(s) {
		r.fail("%s: a text of 1 to %d bytes was expected", text.Quote(s), max)
	}
	return s
}

func (r *reader) digest(v wire.Value, what string) string {
	var sum wire.Value
	r.object(v, what, "", wire.Field{Name: "sha256", To: &sum})
	s := r.text(sum, 64)
	if raw, err := hex.DecodeString(s); r.err == nil && (err != nil || len(raw) != 32 || strings.ToLower(s) != s) {
		r.fail("%s: not 64 lower-case hex digits", what)
	}
	return s
}

// time reads whole seconds of UTC in the one accepted form.
func (r *reader) time(v wire.Value) time.Time {
	s := r.text(v, 20)
	t, err := time.Parse("2006-01-02T15:04:05Z", s)
	if r.err == nil && (err != nil || text.Time(t) != s) {
		r.fail("%s: not a time of the form 2018-11-12T09:00:00Z", text.Quote(s))
	}
	return t
}

// statement reads a statement of the given predicateType, except its predicate.
func (r *reader) statement(v wire.Value, kind string) (s Subject, predicate wire.Value) {
	var typ, subjects, predicateType wire.Value
	r.object(v, "statement", "", wire.Field{Name: "_type", To: &typ}, wire.Field{Name: "subject", To: &subjects},
		wire.Field{Name: "predicateType", To: &predicateType}, wire.Field{Name: "predicate", To: &predicate})
	if t := r.text(typ, maxText); r.err == nil && t != statementType {
		r.fail("_type is %s, want %q", text.Quote(t), statementType)
	}
	if t := r.text(predicateType, maxText); r.err == nil && t != kind {
		r.fail("predicateType is %s, want %q", text.Quote(t), kind)
	}
	n := 0
	for e := range subjects.Elements() {
		if n++; n > 1 || r.err != nil {
			break
		}
		var name, digest wire.Value
		r.object(e, "subject", "", wire.Field{Name: "name", To: &name}, wire.Field{Name: "digest", To: &digest})
		s.Path, s.SHA256 = r.text(name, maxText), r.digest(digest, "digest")
	}
	if n != 1 {
		r.fail("not exactly one subject")
	}
	return s, predicate
}

func (r *reader) common(length, repoID, reviewer wire.Value) (n int64, id string, who Reviewer) {
	if r.err != nil {
		return
	}
	n, err := length.Int()
	if err != nil || n < 0 || n >= 1<<53 {
		r.fail("length is %s", length)
	}
	id = r.text(repoID, 32)
	var party, role, name wire.Value
	r.object(reviewer, "reviewer", "name", wire.Field{Name: "party", To: &party}, wire.Field{Name: "role", To: &role}, wire.Field{Name: "name", To: &name})
	return n, id, Reviewer{r.text(party, maxText), r.text(role, maxText), r.text(name, maxText)}
}

func parseReview(v wire.Value) (out Review, err error) {
	var r reader
	var repoID, length, source, rebuild, reviewer, policy, reinstate, from, until wire.Value
	s, predicate := r.statement(v, ReviewType)
	r.object(predicate, "predicate", "source policy reinstate", wire.Field{Name: "repo_id", To: &repoID}, wire.Field{Name: "length", To: &length},
		wire.Field{Name: "source", To: &source}, wire.Field{Name: "rebuild", To: &rebuild}, wire.Field{Name: "reviewer", To: &reviewer},
		wire.Field{Name: "policy", To: &policy}, wire.Field{Name: "reinstate", To: &reinstate}, wire.Field{Name: "from", To: &from}, wire.Field{Name: "until", To: &until})
	out.Subject = s
	out.Length, out.RepoID, out.Reviewer = r.common(length, repoID, reviewer)
	if source != nil {
		var uri, revision wire.Value
		r.object(source, "source", "uri revision", wire.Field{Name: "uri", To: &uri}, wire.Field{Name: "revision", To: &revision})
		out.Source = tuf.SourceRef{URI: r.text(uri, maxText), Revision: r.text(revision, maxText)}
	}
	var result, builder wire.Value
	r.object(rebuild, "rebuild", "builder", wire.Field{Name: "result", To: &result}, wire.Field{Name: "builder", To: &builder})
	out.Result, out.Builder = Result(r.text(result, maxText)), r.text(builder, maxText)
	switch out.Result {
	case Identical, Normalised, NotDone:
		if (out.Builder == "") != (out.Result == NotDone) {
			r.fail("rebuild %s by builder %s", out.Result, text.Quote(out.Builder))
		}
	default:
		r.fail("rebuild is %s", text.Quote(string(out.Result)))
	}
	if policy != nil {
		out.Policy = r.digest(policy, "policy")
	}
	if reinstate != nil {
		out.Reinstate = r.text(reinstate, maxReason)
	}
	if out.From, out.Until = r.time(from), r.time(until); !out.Until.After(out.From) {
		r.fail("until is not after from")
	}
	return out, r.err
}

func parseRefusal(v wire.Value) (out Refusal, err error) {
	var r reader
	var repoID, length, reviewer, reason, at wire.Value
	s, predicate := r.statement(v, RefusalType)
	r.object(predicate, "predicate", "", wire.Field{Name: "repo_id", To: &repoID}, wire.Field{Name: "length", To: &length},
		wire.Field{Name: "reviewer", To: &reviewer}, wire.Field{Name: "reason", To: &reason}, wire.Field{Name: "at", To: &at})
	out.Subject = s
	out.Length, out.RepoID, out.Reviewer = r.common(length, repoID, reviewer)
	out.Reason, out.At = r.text(reason, maxReason), r.time(at)
	return out, r.err
}
