package client

import (
	"fmt"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Query asks for the newest release of a product.
type Query struct {
	Product  string // as in the release's fields
	Channel  string // likewise: "stable"
	Platform string // GOOS/GOARCH; releases for "any" match too
	// Installed is the version of what is installed, whatever channel and platform it
	// came from; "" for nothing. What is no version (see tuf.ParseVersion) is refused
	// with [ErrInstalled].
	Installed string
	// Manual says that a person asked: a rollout does not hold the release back,
	// unless it is halted.
	Manual bool
	// AllowDowngrade says that the newest release of the channel is wanted though it
	// is below what is installed: for a machine that changes to a channel that is
	// behind, or whose version was recalled. Where what is installed is itself the
	// newest of the channel that is allowed, nothing is offered. min_version is
	// about steps up, and says nothing about a step down: whether the product's data
	// can follow is the product's own question.
	AllowDowngrade bool
}

// candidate is what may be offered, with its version.
type candidate struct {
	tuf.Candidate
	version tuf.Version // zero where it cannot be read
}

func (c candidate) name() string {
	return text.Name(c.Claim.Product) + " " + text.Name(c.Claim.Version)
}

// rank orders releases of one version: that for the platform itself comes first.
func (c candidate) rank(q Query) int {
	if c.Claim.Platform == q.Platform {
		return 0
	}
	return 1
}

// versionOf is zero for what is no version.
func versionOf(r tuf.Release) tuf.Version {
	v, _ := tuf.ParseVersion(r.Version)
	return v
}

// installed is the zero version for nothing.
func (q Query) installed() (tuf.Version, error) {
	if q.Installed == "" {
		return tuf.Version{}, nil
	}
	v, err := tuf.ParseVersion(q.Installed)
	if err != nil { // the caller's mistake, not one of the metadata
		return v, fmt.Errorf("%w: %v", ErrInstalled, err)
	}
	return v, nil
}

// meant reports whether q asks for the release, as far as its fields can be read:
// those that are malformed are zero, which no field of a release is otherwise.
func (q Query) mayMatch(r tuf.Release) bool {
	is := func(field, want string) bool { return field == "" || field == want }
	return is(r.Product, q.Product) && is(r.Channel, q.Channel) && (is(r.Platform, q.Platform) || r.Platform == "any")
}

// names reports whether q asks for the release, all of whose names can be read.
func (q Query) matches(c tuf.Candidate) bool {
	r := c.Claim
	return r.Product != "" && r.Channel != "" && r.Platform != "" && q.mayMatch(r)
}
