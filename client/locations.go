package client

import (
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/public"
	"github.com/visum-dev/visum/tuf"
)

// locations lists the locations to ask under the root trusted, in order: Config.Sources,
// the charter's locations by priority, those announced for later, the rendezvous, and
// finally those in the pin. A host that the charter has retired, or whose use_until has
// passed, is omitted from all lists: not even its name is looked up.
func (c *Client) locations(trusted *tuf.Root, now time.Time) []*location {
	var out []*location
	for i, s := range c.cfg.Sources {
		if s = usable(s, trusted.Charter(), now); s == nil {
			continue
		}
		name := fmt.Sprintf("source %d", i+1)
		p := &location{key: locationKey(name), name: name, source: s, local: true, content: true}
		if trusted.Charter() == nil {
			p.operator = "sources" // without a charter no operator can confirm a root
		}
		out = append(out, p)
	}
	charter := trusted.Charter()
	if c.cfg.Offline || charter == nil {
		return out
	}
	rank := func(l tuf.Location) int {
		switch {
		case l.Tier == tuf.Rendezvous:
			return 2
		case now.Before(l.UseFrom):
			return 1
		}
		return 0
	}
	locations := charter.Locations()
	slices.SortStableFunc(locations, func(a, b tuf.Location) int { return rank(a) - rank(b) })
	listed := len(locations)
	locations = append(locations, c.pin.Locations()...)
	seen := map[string]bool{}
	for i, l := range locations {
		url := l.Base + l.Metadata
		if seen[url] || !charter.Usable(l, now) {
			continue
		}
		seen[url] = true
		targets := ""
		if l.Targets != "" {
			targets = l.Base + l.Targets
		}
		// The pin's locations only help to find roots; content comes from those in the
		// newest root.
		content := i < listed && l.Tier != tuf.Rendezvous && l.Targets != ""
		out = append(out, &location{key: locationKey(url), name: l.ID, operator: l.Operator, host: l.Host(), source: c.web(url, targets), content: content})
	}
	return out
}

// usable returns a configured source without the URLs that the charter forbids to
// contact; nil if none are left. The host of a custom Source is unknown.
func usable(s Source, charter *tuf.Charter, now time.Time) Source {
	if charter == nil {
		return s
	}
	switch s := s.(type) {
	case *httpSource:
		for _, base := range []string{s.metadata, s.targets} {
			if base != "" && !charter.Usable(tuf.Location{Base: public.PlainHost(base)}, now) {
				return nil
			}
		}
	case listSource:
		var left listSource
		for _, one := range s {
			if one = usable(one, charter, now); one != nil {
				left = append(left, one)
			}
		}
		if len(left) == 0 {
			return nil
		}
		return left
	}
	return s
}

// contentLocations lists the locations that serve roles and targets, according to the
// newest root that this client knows.
func (c *Client) contentLocations() []*location {
	trusted := c.newestRoot()
	return slices.DeleteFunc(c.locations(trusted, later(c.clock(), trusted)), func(p *location) bool { return !p.content })
}
