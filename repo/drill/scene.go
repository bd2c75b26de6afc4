package drill

import (
	"bytes"
	"maps"

	"github.com/visum-dev/visum/tuf"
)

// healthy is the behaviour of a healthy location after the step: content if the newest
// root lists it for content, otherwise roots only, as for a retired location.
func (p *play) healthy(l tuf.Location) host {
	h := host{files: "after"}
	for _, x := range p.tip().Charter().Locations() {
		if x.Base == l.Base {
			h.content = x.Tier != tuf.Rendezvous
		}
	}
	return h
}

// earlier is the behaviour of a location before the step.
func (p *play) earlier(l tuf.Location) host {
	h := host{files: "before", roots: p.was().Version()}
	for _, x := range p.was().Charter().Locations() {
		if x.Base == l.Base {
			h.content = x.Tier != tuf.Rendezvous
		}
	}
	return h
}

// past is the behaviour of all locations before the step.
func (p *play) past() map[string]host {
	out := map[string]host{}
	for _, l := range p.locations {
		out[l.Base] = p.earlier(l)
	}
	return out
}

// scenes returns all scenarios. All pins are used in the first.
func (p *play) scenes() []scene {
	well := p.well
	out := []scene{{allHealthy, well}}
	add := func(name string, changes ...change) {
		hosts := maps.Clone(well)
		for _, c := range changes {
			for _, l := range p.locations {
				if c.who(l) {
					hosts[l.Base] = c.how(l)
				}
			}
		}
		out = append(out, scene{name, hosts})
	}
	old := func(l tuf.Location) bool { return p.old[l.ID] }
	fresh := func(l tuf.Location) bool { return p.fresh[l.ID] }
	rendezvous := func(l tuf.Location) bool { return l.Tier == tuf.Rendezvous }
	everybody := func(tuf.Location) bool { return true }
	others := func(l tuf.Location) bool { return !p.old[l.ID] }
	unreachable := func(tuf.Location) host { return host{unreachable: true} }
	// A frozen location serves stale content, even if it is retired since.
	frozen := func(l tuf.Location) host { h := p.earlier(l); h.content = !rendezvous(l); return h }
	status := func(code int, data []byte) func(tuf.Location) host {
		return func(tuf.Location) host { return host{answer: func(string) (int, []byte) { return code, data }} }
	}
	page := []byte("<!doctype html><title>Sign in</title>")

	add("old location frozen before the step", change{old, frozen})
	add("old location unreachable", change{old, unreachable})
	add("old location frozen at the first root", change{old, func(l tuf.Location) host { h := frozen(l); h.roots = 1; return h }})
	add("old location frozen, rendezvous unreachable", change{old, frozen}, change{rendezvous, unreachable})
	add("old location frozen at the first root, rendezvous unreachable", change{old, func(l tuf.Location) host { h := frozen(l); h.roots = 1; return h }}, change{rendezvous, unreachable})
	add("old location and rendezvous frozen", change{old, frozen}, change{rendezvous, p.earlier})
	add("old location and rendezvous answer 404", change{old, status(404, page)}, change{rendezvous, status(404, page)})
	add("all content locations frozen, rendezvous healthy", change{func(l tuf.Location) bool { return !rendezvous(l) }, frozen})
	add("only the old location reachable, frozen", change{others, unreachable}, change{old, frozen})
	add("old location answers every request with a web page", change{old, status(200, page)})
	add("old location answers every request with an empty file", change{old, status(200, nil)})
	add("old location answers every request with 1 MiB", change{old, status(200, bytes.Repeat([]byte("[1],"), 1<<18))})
	add("old location serves the newest root under every name", change{old, status(200, p.tip().Bytes())})
	add("old location redirects every request", change{old, status(302, nil)})
	add("old location answers 500", change{old, status(500, page)})
	add("old location answers 451", change{old, status(451, page)})
	add("old location answers 404", change{old, status(404, page)})
	add("old location answers 403", change{old, status(403, page)})
	evil := func(l tuf.Location) host { h := frozen(l); h.files = "evil"; return h }
	if p.files["evil"] != nil {
		add("old location and its keys compromised", change{old, evil})
		add("only the compromised old location reachable", change{others, unreachable}, change{old, evil})
	}
	if p.fork != nil {
		forked := func(l tuf.Location) host {
			h := frozen(l)
			if p.files["evil"] != nil {
				h.files = "evil"
			}
			h.fork, h.forkAt = p.fork, p.was().Version()+1
			h.roots = h.forkAt
			return h
		}
		add("compromised old location serves a forged root", change{old, forked})
		add("only the compromised old location reachable, with a forged root", change{others, unreachable}, change{old, forked})
	}
	add("new location unreachable", change{fresh, unreachable})
	add("new location lacks the new root", change{fresh, func(l tuf.Location) host { h := p.healthy(l); h.roots = p.was().Version(); return h }})
	add("new location has the new root and old content", change{fresh, func(l tuf.Location) host {
		h := p.healthy(l)
		h.files = "late"
		return h
	}})
	add("total outage", change{everybody, unreachable})
	return out
}

type change struct {
	who func(tuf.Location) bool
	how func(tuf.Location) host
}

// allHealthy is the scenario in which every client must complete the move.
const allHealthy = "all locations healthy"
