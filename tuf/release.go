package tuf

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// ReleaseMember is the member of a target's custom object that holds the release fields.
const ReleaseMember = "visum"

// Limits of release fields, in bytes. A version is bounded by [MaxVersion].
const (
	maxName   = 128     // product, channel, platform
	maxSource = 2 << 10 // each field of the source
	maxNotes  = 64 << 10
	maxCount  = 1<<53 - 1 // the largest integer in metadata
)

// Release is what the parties say of a target that is a release of a product.
// [Release.Check] has the rules.
type Release struct {
	Product  string `json:"product"`
	Version  string `json:"version"`  // orders the releases of a product; see [ParseVersion]
	Channel  string `json:"channel"`  // such as "stable"
	Platform string `json:"platform"` // GOOS/GOARCH, or "any"
	// Sequence counts the versions of a product, for auditors, who see gaps and
	// repetitions in it. Nothing is ordered by it. 0: not counted.
	Sequence   int64  `json:"sequence"`
	MinVersion string `json:"min_version,omitempty"` // oldest version that may step up to this one; "": any
	Source     Source `json:"source,omitzero"`
	Notes      string `json:"notes,omitempty"`    // for people; may have several lines
	Critical   bool   `json:"critical,omitempty"` // not held back by a Rollout above 0 percent
	// Rollout says what share of the machines shall have it; nil: all.
	Rollout *Rollout `json:"rollout,omitempty"`
}

// Rollout is a release's way to the machines, a part of them at a time. Which
// machine belongs to the part is its own secret.
type Rollout struct {
	Percent int `json:"percent"` // 0 to 100; 0: halted, no machine gets it
}

// Source is where a release was built from.
type Source struct {
	URI      string `json:"uri,omitempty"`
	Revision string `json:"revision,omitempty"`
}

// Check returns an error that wraps [ErrRelease] and names the first field that
// breaks a rule, nil where none does:
//
//   - product and channel: 1 to 128 bytes of printable characters, without a space
//     at the begin or the end;
//   - version: see [ParseVersion];
//   - platform: "any", or GOOS/GOARCH, each of lower-case ASCII letters and digits,
//     128 bytes at most;
//   - sequence: 0 to 2^53-1;
//   - min_version: "", or a version below version, for a release that needs itself or
//     a later one could not be stepped to by anybody;
//   - source: in each of its fields 2 KiB of printable characters at most;
//   - notes: 64 KiB of printable characters, tabs and line breaks at most;
//   - rollout: 0 to 100 percent.
//
// A release that breaks a rule is not approved, whoever lists it.
func (r Release) Check() error {
	if err := r.judge(); err != nil {
		return refuse("release", 0, ErrRelease, "%v", err)
	}
	return nil
}

// judge returns what is wrong with the first field that breaks a rule. Each that
// does is zero afterwards.
func (r *Release) judge() (first error) {
	demand := func(field *string, err error) {
		if err != nil {
			first, *field = cmp.Or(first, err), ""
		}
	}
	demand(&r.Product, checkName("product", r.Product))
	version, err := parseVersion(r.Version)
	demand(&r.Version, prefixed("version", err))
	demand(&r.Channel, checkName("channel", r.Channel))
	demand(&r.Platform, checkPlatform(r.Platform))
	if r.Sequence < 0 || r.Sequence > maxCount {
		first, r.Sequence = cmp.Or(first, fmt.Errorf("sequence %d is not between 0 and 2^53-1", r.Sequence)), 0
	}
	if r.MinVersion != "" {
		min, err := parseVersion(r.MinVersion)
		if err == nil && !version.IsZero() && min.Compare(version) >= 0 {
			err = fmt.Errorf("%s is not below the version %s itself", text.Name(r.MinVersion), text.Name(r.Version))
		}
		demand(&r.MinVersion, prefixed("min_version", err))
	}
	demand(&r.Source.URI, checkText("source uri", r.Source.URI, maxSource, ""))
	demand(&r.Source.Revision, checkText("source revision", r.Source.Revision, maxSource, ""))
	demand(&r.Notes, checkText("notes", r.Notes, maxNotes, "\t\r\n"))
	if r.Rollout != nil && (r.Rollout.Percent < 0 || r.Rollout.Percent > 100) {
		first, r.Rollout = cmp.Or(first, fmt.Errorf("rollout of %d percent is not between 0 and 100", r.Rollout.Percent)), nil
	}
	return first
}

func prefixed(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %w", field, err)
}

func checkName(field, s string) error {
	if s == "" {
		return fmt.Errorf("%s is missing", field)
	}
	if strings.TrimSpace(s) != s {
		return fmt.Errorf("%s %s begins or ends with a space", field, text.Quote(s))
	}
	return checkText(field, s, maxName, "")
}

// checkText demands printable characters, and those of others, of a length.
func checkText(field, s string, most int, others string) error {
	if len(s) > most {
		return fmt.Errorf("%s of %d bytes is longer than %d", field, len(s), most)
	}
	for i, c := range s {
		if !unicode.IsPrint(c) && !strings.ContainsRune(others, c) || c == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			return fmt.Errorf("%s %s has a character that is not printable at byte %d", field, text.Quote(s), i)
		}
	}
	return nil
}

func checkPlatform(s string) error {
	if s == "any" {
		return nil
	}
	goos, goarch, _ := strings.Cut(s, "/")
	for _, part := range []string{goos, goarch} {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789") != "" || len(s) > maxName {
			return fmt.Errorf("platform %s is neither GOOS/GOARCH, in lower case, nor any", text.Quote(s))
		}
	}
	return nil
}

// parseRelease reads custom.visum. Unknown members are left for later clients. Of
// what is malformed the fields that can be read are in the Release, the others are
// zero, and the error tells of the first of these.
func parseRelease(v wire.Value) (rel Release, first error) {
	var product, version, channel, platform, sequence, minVersion, source, notes, critical, rollout, uri, revision, percent wire.Value
	read := func(field string, fn func(r *reader)) {
		var r reader
		if fn(&r); r.err != nil {
			first = cmp.Or(first, prefixed(field, r.err))
		}
	}
	read("fields:", func(r *reader) {
		r.fields(v, wire.Field{Name: "product", To: &product}, wire.Field{Name: "version", To: &version}, wire.Field{Name: "channel", To: &channel},
			wire.Field{Name: "platform", To: &platform}, wire.Field{Name: "sequence", To: &sequence}, wire.Field{Name: "min_version", To: &minVersion},
			wire.Field{Name: "source", To: &source}, wire.Field{Name: "notes", To: &notes}, wire.Field{Name: "critical", To: &critical},
			wire.Field{Name: "rollout", To: &rollout})
	})
	if first != nil {
		return rel, first
	}
	for _, x := range []struct {
		name string
		from *wire.Value
		to   *string
	}{{"product", &product, &rel.Product}, {"version", &version, &rel.Version}, {"channel", &channel, &rel.Channel}, {"platform", &platform, &rel.Platform},
		{"min_version", &minVersion, &rel.MinVersion}, {"notes", &notes, &rel.Notes}} {
		read(x.name+":", func(r *reader) { *x.to = r.text(*x.from) })
	}
	if sequence != nil {
		read("sequence:", func(r *reader) { rel.Sequence, r.err = sequence.Int() })
	}
	if source != nil {
		read("source:", func(r *reader) {
			r.fields(source, wire.Field{Name: "uri", To: &uri}, wire.Field{Name: "revision", To: &revision})
			rel.Source = Source{r.text(uri), r.text(revision)}
		})
	}
	if critical != nil {
		read("critical:", func(r *reader) { rel.Critical, r.err = critical.Bool() })
	}
	if rollout != nil {
		read("rollout:", func(r *reader) {
			r.fields(rollout, wire.Field{Name: "percent", To: &percent})
			if r.err != nil {
				return
			}
			var n int64
			if n, r.err = percent.Int(); r.err == nil {
				rel.Rollout = &Rollout{int(max(-1, min(n, math.MaxInt32)))} // int has 32 bits somewhere
			}
		})
	}
	return rel, cmp.Or(first, rel.judge())
}
