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

// Limits of release fields, in bytes. A version is bounded by [MaxVersion].
const (
	maxName   = 128     // product, channel, platform
	maxSource = 2 << 10 // each field of the source
	maxNotes  = 64 << 10
	maxCount  = 1<<53 - 1 // the largest integer in metadata
)

// Release holds the release fields of a target: the parties' description of a
// release of a product. [Release.Check] states the rules.
type Release struct {
	Product  string `json:"product"`  // name of the product
	Version  string `json:"version"`  // orders the releases of a product; see [ParseVersion]
	Channel  string `json:"channel"`  // such as "stable"
	Platform string `json:"platform"` // GOOS/GOARCH, or "any"
	// Sequence counts the versions of a product, so that auditors can detect gaps and
	// repetitions. It does not order releases. 0: not counted.
	Sequence   int64     `json:"sequence"`
	MinVersion string    `json:"min_version,omitempty"` // oldest version that may be updated to this one; "": any
	Source     SourceRef `json:"source,omitzero"`       // zero: not stated
	Notes      string    `json:"notes,omitempty"`       // human-readable; may have several lines
	Critical   bool      `json:"critical,omitempty"`    // not delayed by a Rollout above 0 percent
	// Rollout is the share of machines that get the release; nil: all.
	Rollout *Rollout `json:"rollout,omitempty"`
}

// Rollout limits a release to a share of the machines. Each machine decides by a
// secret random number whether it belongs to the share.
type Rollout struct {
	Percent int `json:"percent"` // 0 to 100; 0: halted, no machine gets it
}

// SourceRef identifies the source code that a release was built from.
type SourceRef struct {
	URI      string `json:"uri,omitempty"`      // such as git+https://example.org/agent
	Revision string `json:"revision,omitempty"` // such as a commit hash
}

// Check returns an error that wraps [ErrRelease] and names the first field that
// breaks a rule, or nil:
//
//   - product and channel: 1 to 128 bytes of printable characters, without leading
//     or trailing spaces;
//   - version: see [ParseVersion];
//   - platform: "any", or GOOS/GOARCH, each of lower-case ASCII letters and digits,
//     128 bytes at most;
//   - sequence: 0 to 2^53-1;
//   - min_version: "", or a version below version, because no machine could update
//     to a release that requires itself or a later version;
//   - source: at most 2 KiB of printable characters in each field;
//   - notes: at most 64 KiB of printable characters, tabs and line breaks;
//   - rollout: 0 to 100 percent.
//
// A release that breaks a rule is not approved, even if all parties list it.
func (r Release) Check() error {
	if err := r.check(); err != nil {
		return refuse("release", 0, ErrRelease, "%v", err)
	}
	return nil
}

// check returns an error about the first field that breaks a rule. It sets each
// such field to zero.
func (r *Release) check() (first error) {
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

// checkText returns an error unless s has at most most bytes and only printable
// characters or characters of others.
func checkText(field, s string, most int, others string) error {
	if len(s) > most {
		return fmt.Errorf("%s of %d bytes is longer than %d", field, len(s), most)
	}
	for i, c := range s {
		if !unicode.IsPrint(c) && !strings.ContainsRune(others, c) || c == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			return fmt.Errorf("%s %s has an unprintable character at byte %d", field, text.Quote(s), i)
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

// ParseRelease reads custom.visum, the JSON of a target's release fields, as clients
// do. The error wraps [ErrRelease] if a field can't be read or breaks a rule of
// [Release.Check]; the returned Release then holds only the valid fields.
func ParseRelease(data []byte) (Release, error) {
	v, err := wire.Canonical(data)
	if err != nil {
		return Release{}, refuse("release", 0, ErrRelease, "%v", err)
	}
	rel, err := parseRelease(v)
	if err != nil {
		err = refuse("release", 0, ErrRelease, "%v", err)
	}
	return rel, err
}

// parseRelease reads custom.visum. It ignores unknown members, which later versions
// may define. Malformed fields are zero in the result, and the error is about the
// first of them.
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
			rel.Source = SourceRef{r.text(uri), r.text(revision)}
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
	return rel, cmp.Or(first, rel.check())
}
