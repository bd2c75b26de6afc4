package tuf

import (
	"strings"

	"github.com/visum-dev/visum/internal/wire"
)

// ReleaseMember is the member of a target's custom object that holds the release fields.
const ReleaseMember = "visum"

// Release is what the parties say of a target that is a release of a product.
type Release struct {
	Product    string `json:"product"`
	Version    string `json:"version"`               // for people; semver where it parses
	Channel    string `json:"channel"`               // such as "stable"
	Platform   string `json:"platform"`              // GOOS/GOARCH, or "any"
	Sequence   int64  `json:"sequence"`              // orders the releases of a product, channel and platform
	MinVersion string `json:"min_version,omitempty"` // oldest version that may step to this one
	Source     Source `json:"source,omitzero"`
	Notes      string `json:"notes,omitempty"`
	Critical   bool   `json:"critical,omitempty"` // not held back by Rollout
	// Rollout says what share of the machines shall have it; nil: all.
	Rollout *Rollout `json:"rollout,omitempty"`
}

// Rollout is a release's way to the machines, a part of them at a time. Which
// machine belongs to the part is its own secret.
type Rollout struct {
	Percent int `json:"percent"` // 0 to 100
}

// Source is where a release was built from.
type Source struct {
	URI      string `json:"uri,omitempty"`
	Revision string `json:"revision,omitempty"`
}

// parseRelease reads custom.visum. Unknown members are left for later clients.
func parseRelease(v wire.Value) (Release, error) {
	var rel Release
	var r reader
	var product, version, channel, platform, sequence, minVersion, source, notes, critical, rollout wire.Value
	r.fields(v, wire.Field{Name: "product", To: &product}, wire.Field{Name: "version", To: &version}, wire.Field{Name: "channel", To: &channel},
		wire.Field{Name: "platform", To: &platform}, wire.Field{Name: "sequence", To: &sequence}, wire.Field{Name: "min_version", To: &minVersion},
		wire.Field{Name: "source", To: &source}, wire.Field{Name: "notes", To: &notes}, wire.Field{Name: "critical", To: &critical},
		wire.Field{Name: "rollout", To: &rollout})
	rel.Product, rel.Version, rel.Channel, rel.Platform = r.text(product), r.text(version), r.text(channel), r.text(platform)
	rel.Sequence, rel.MinVersion, rel.Notes = r.int(sequence), r.text(minVersion), r.text(notes)
	if source != nil {
		var uri, revision wire.Value
		r.fields(source, wire.Field{Name: "uri", To: &uri}, wire.Field{Name: "revision", To: &revision})
		rel.Source = Source{r.text(uri), r.text(revision)}
	}
	if rollout != nil {
		var percent wire.Value
		r.fields(rollout, wire.Field{Name: "percent", To: &percent})
		n := r.int(percent)
		if percent == nil || n > 100 {
			r.fail("rollout of %d percent", n)
		}
		rel.Rollout = &Rollout{int(n)}
	}
	if critical != nil && r.err == nil {
		rel.Critical, r.err = critical.Bool()
	}
	if r.err == nil && (rel.Product == "" || rel.Version == "" || rel.Channel == "" || rel.Sequence < 1 ||
		rel.Platform != "any" && strings.Count(rel.Platform, "/") != 1) {
		r.fail("release needs product, version, channel, sequence from 1 and a platform GOOS/GOARCH or any")
	}
	return rel, r.err
}
