package client

import (
	"fmt"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Query selects releases of a product.
type Query struct {
	Product  string // as in the release's fields
	Channel  string // likewise, for example "stable"
	Platform string // GOOS/GOARCH; releases for "any" match too
	// Installed is the installed version, from any channel and platform; "" if nothing
	// is installed. A value that is not a version (see tuf.ParseVersion) is refused
	// with [ErrInstalled].
	Installed string
	// Manual states that a user requested the update: a staged rollout does not delay
	// the release, unless the rollout is halted.
	Manual bool
	// AllowDowngrade allows the newest release of the channel to be older than the
	// installed version: for a machine that changes to an older channel, or whose
	// version was recalled. If the installed version is the newest allowed one of the
	// channel, nothing is offered. min_version restricts updates only, not downgrades:
	// the product must check whether its data can be downgraded.
	AllowDowngrade bool
}

// candidate is a release that may be offered.
type candidate struct {
	tuf.Candidate
	version tuf.Version // zero if it cannot be read
}

func (c candidate) name() string {
	return text.Name(c.Claim.Product) + " " + text.Name(c.Claim.Version)
}

// rank orders releases of one version: one for the platform itself comes first.
func (c candidate) rank(q Query) int {
	if c.Claim.Platform == q.Platform {
		return 0
	}
	return 1
}

// versionOf returns zero if r has no valid version.
func versionOf(r tuf.Release) tuf.Version {
	v, _ := tuf.ParseVersion(r.Version)
	return v
}

// installed returns the zero version if nothing is installed.
func (q Query) installed() (tuf.Version, error) {
	if q.Installed == "" {
		return tuf.Version{}, nil
	}
	v, err := tuf.ParseVersion(q.Installed)
	if err != nil { // an error of the caller, not of the metadata
		return v, fmt.Errorf("%w: %v", ErrInstalled, err)
	}
	return v, nil
}

// mayMatch reports whether q matches the release in the fields that can be read.
// Malformed fields are zero, which valid fields never are.
func (q Query) mayMatch(r tuf.Release) bool {
	is := func(field, want string) bool { return field == "" || field == want }
	return is(r.Product, q.Product) && is(r.Channel, q.Channel) && (is(r.Platform, q.Platform) || r.Platform == "any")
}

// matches reports whether q matches the release, and all its names can be read.
func (q Query) matches(c tuf.Candidate) bool {
	r := c.Claim
	return r.Product != "" && r.Channel != "" && r.Platform != "" && q.mayMatch(r)
}
