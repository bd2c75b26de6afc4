package drill

import (
	"bytes"
	"maps"

	"github.com/visum-dev/visum/tuf"
)

// scene is one scenario: how each place behaves.
type scene struct {
	name  string
	hosts map[string]host // by base
}

// healthy is how a place behaves after the step: content where the newest root
// lets it have some, roots elsewhere; a retired place is a tombstone.
func (p *play) healthy(l tuf.Location) host {
	h := host{files: "after"}
	for _, x := range p.tip().Charter().Locations() {
		if x.Base == l.Base {
			h.content = x.Tier != tuf.Rendezvous
		}
	}
	return h
}

// earlier is how a place behaved before the step.
func (p *play) earlier(l tuf.Location) host {
	h := host{files: "before", roots: p.was().Version()}
	for _, x := range p.was().Charter().Locations() {
		if x.Base == l.Base {
			h.content = x.Tier != tuf.Rendezvous
		}
	}
	return h
}

// past is how all places behaved before the step.
func (p *play) past() map[string]host {
	out := map[string]host{}
	for _, l := range p.locations {
		out[l.Base] = p.earlier(l)
	}
	return out
}

// scenes are all scenarios. All pins see the first of them.
func (p *play) scenes() []scene {
	well := p.well
	out := []scene{{allWell, well}}
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
	dark := func(tuf.Location) host { return host{dark: true} }
	// The past: an old place serves content then, whatever became of it since.
	frozen := func(l tuf.Location) host { h := p.earlier(l); h.content = !rendezvous(l); return h }
	says := func(code int, data []byte) func(tuf.Location) host {
		return func(tuf.Location) host { return host{answer: func(string) (int, []byte) { return code, data }} }
	}
	page := []byte("<!doctype html><title>Sign in</title>")

	add("old place frozen before the step", change{old, frozen})
	add("old place dark", change{old, dark})
	add("old place frozen at the first root", change{old, func(l tuf.Location) host { h := frozen(l); h.roots = 1; return h }})
	add("old place frozen, rendezvous dark", change{old, frozen}, change{rendezvous, dark})
	add("old place frozen at the first root, rendezvous dark", change{old, func(l tuf.Location) host { h := frozen(l); h.roots = 1; return h }}, change{rendezvous, dark})
	add("old place and rendezvous frozen", change{old, frozen}, change{rendezvous, p.earlier})
	add("old place and rendezvous say that there is nothing (404)", change{old, says(404, page)}, change{rendezvous, says(404, page)})
	add("all places with content frozen, the rendezvous has the root", change{func(l tuf.Location) bool { return !rendezvous(l) }, frozen})
	add("nothing but the old place, frozen", change{others, dark}, change{old, frozen})
	add("old place answers all with a web page", change{old, says(200, page)})
	add("old place answers all with nothing", change{old, says(200, nil)})
	add("old place has a megabyte for all", change{old, says(200, bytes.Repeat([]byte("[1],"), 1<<18))})
	add("old place has the newest root under all names", change{old, says(200, p.tip().Bytes())})
	add("old place sends elsewhere", change{old, says(302, nil)})
	add("old place is broken (500)", change{old, says(500, page)})
	add("old place is blocked by law (451)", change{old, says(451, page)})
	add("old place says that there is nothing (404)", change{old, says(404, page)})
	add("old place says that nothing is allowed (403)", change{old, says(403, page)})
	evil := func(l tuf.Location) host { h := frozen(l); h.files = "evil"; return h }
	if p.files["evil"] != nil {
		add("old place and its keys in the hands of a thief", change{old, evil})
		add("nothing but the thief", change{others, dark}, change{old, evil})
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
		add("thief forks root with all he has", change{old, forked})
		add("nothing but the thief, who forks root", change{others, dark}, change{old, forked})
	}
	add("new place dark", change{fresh, dark})
	add("new place has not got the root yet", change{fresh, func(l tuf.Location) host { h := p.healthy(l); h.roots = p.was().Version(); return h }})
	add("new place has got the root, and no new content", change{fresh, func(l tuf.Location) host {
		h := p.healthy(l)
		h.files = "late"
		return h
	}})
	add("total outage", change{everybody, dark})
	return out
}

type change struct {
	who func(tuf.Location) bool
	how func(tuf.Location) host
}

// allWell is the scenario in which everybody must come to the end.
const allWell = "all is well"
