package theft_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/tuftest"
)

// thief has some keys, and all files that were ever published.
type thief struct {
	*tuftest.Repo
	stolen []string
	life   time.Time // until when what he signs is valid
	step   int       // by which he raises versions
}

func newThief(r *tuftest.Repo, stolen []string) *thief {
	return &thief{r.Clone(), stolen, tuftest.Now.Add(2 * rootLife), 1}
}

// sign gives a role's file a later version and date and signs it with what he has
// of its keys; where he has none, with one of his own.
func (x *thief) sign(role string, signed doc) []byte {
	var have []string
	for _, k := range x.Signers[role] {
		if slices.Contains(x.stolen, k) {
			have = append(have, k)
		}
	}
	if len(have) == 0 {
		have = []string{"thief"}
	}
	signed["version"] = signed["version"].(int) + x.step
	signed["expires"] = tuftest.Stamp(x.life)
	data := x.Sign(signed, have...)
	name := fmt.Sprintf("%v.%s.json", signed["version"], role)
	if role == "timestamp" {
		name = "timestamp.json"
	}
	x.Files[name] = data
	return data
}

// holds reports whether he has enough keys of a role.
func (x *thief) holds(role string) bool {
	need := 1
	if role == "review-agent" {
		need = 2
	}
	n := 0
	for _, k := range x.Signers[role] {
		if slices.Contains(x.stolen, k) {
			n++
		}
	}
	return n >= need
}

var releaseRoles = []string{"targets", "vendor-agent", "review-agent", "hold-agent", "vendor-rules", "review-rules"}

// publish edits roles, whether he has their keys or not, and makes a snapshot
// and timestamp that go with it.
func (x *thief) publish(edits map[string]func(doc)) {
	for _, role := range releaseRoles {
		if edits[role] == nil {
			continue
		}
		edits[role](x.Roles[role])
		x.list(role, x.sign(role, x.Roles[role]))
	}
	x.stamp(x.sign("snapshot", x.Roles["snapshot"]))
}

func (x *thief) list(role string, data []byte) {
	f := tuftest.FileOf(data)
	f["version"] = x.Roles[role]["version"]
	x.Roles["snapshot"]["meta"].(doc)[role+".json"] = f
}

func (x *thief) stamp(snapshot []byte) {
	f := tuftest.FileOf(snapshot)
	f["version"] = x.Roles["snapshot"]["version"]
	x.Roles["timestamp"]["meta"] = doc{"snapshot.json": f}
	x.sign("timestamp", x.Roles["timestamp"])
}

// renew signs again whatever he can, and nothing else.
func (x *thief) renew() {
	edits := map[string]func(doc){}
	for _, role := range releaseRoles {
		if x.holds(role) && x.holds("snapshot") {
			edits[role] = func(doc) {}
		}
	}
	switch {
	case x.holds("snapshot") && x.holds("timestamp"):
		x.publish(edits)
	case x.holds("timestamp"):
		x.sign("timestamp", x.Roles["timestamp"])
	}
}

func list(path, product string) func(doc) {
	return func(d doc) {
		f := tuftest.FileOf([]byte(path))
		f["custom"] = doc{"visum": release(product, 9)}
		d["targets"].(doc)[path] = f
	}
}

// goals are what a thief may want of a machine that has seen the honest
// repository. Each tries everything that the keys could be good for.
var goals = []struct {
	name string
	try  func(t *testing.T, r *tuftest.Repo, stolen []string) string
}{
	{"ship an agent", func(t *testing.T, r *tuftest.Repo, stolen []string) string { return ship(t, r, stolen, "agent") }},
	{"ship rules", func(t *testing.T, r *tuftest.Repo, stolen []string) string { return ship(t, r, stolen, "rules") }},
	{"change root", changeRoot},
	{"reinstall what was recalled", giveBack},
	{"hold", falseHold},
	{"recall", falseRecall},
	{"freeze for", freeze},
	{"block until", block},
}

const no = "–"

func yes(ok bool) string {
	if ok {
		return "yes"
	}
	return no
}

// ship: bytes that nobody honest has seen are installed.
func ship(t *testing.T, r *tuftest.Repo, stolen []string, class string) string {
	m, x := newMachine(t, r), newThief(r, stolen)
	x.publish(map[string]func(doc){"vendor-" + class: list(evil(class), class), "review-" + class: list(evil(class), class)})
	m.place.show(x.Repo)
	return yes(m.takes(evil(class)))
}

// changeRoot: a root that only the thief signed is trusted, though it says nothing
// new; or, after its wait, one that he has recovered to.
func changeRoot(t *testing.T, r *tuftest.Repo, stolen []string) string {
	m, x := newMachine(t, r), newThief(r, stolen)
	x.sign("root", x.Root)
	m.place.show(x.Repo)
	v, err := m.Refresh(t.Context())
	if err != nil && v == nil {
		return no
	}
	if v.Root().Version() > 1 {
		return yes(true)
	}
	return recovers(t, r, stolen)
}

// recovers: he names a root of his own with recovery keys, and keeps everything
// else from a machine that looks every day.
func recovers(t *testing.T, r *tuftest.Repo, stolen []string) string {
	x := newThief(r, stolen)
	have := slices.DeleteFunc(slices.Clone(recoveryKeys), func(k string) bool { return !slices.Contains(stolen, k) })
	if len(have) == 0 {
		return no
	}
	tip := tuftest.NameOf(x.Root)
	x.NextRoot(func() {
		var roots []string
		for i, p := range x.Charter()["parties"].([]any) {
			keys := []string{fmt.Sprint("thief-", i, "1"), fmt.Sprint("thief-", i, "2"), fmt.Sprint("thief-", i, "3")}
			x.AddKeys(x.Root, keys...)
			p.(doc)["keyids"] = x.IDs(keys...)
			roots = append(roots, keys...)
		}
		roles := x.Root["roles"].(doc)
		roles["root"], x.Signers["root"] = x.Role(5, roots...), roots
		for _, role := range []string{"timestamp", "snapshot"} {
			x.AddKeys(x.Root, "thief-"+role)
			roles[role] = x.Role(1, "thief-"+role)
		}
		x.Charter()["epoch"] = x.Charter()["epoch"].(int) + 1
	})
	root := x.Sign(x.Root, x.Signers["root"]...)
	x.Files = map[string][]byte{"1.root.json": x.Files["1.root.json"], "recovery/2.root.json": root,
		"recovery/1.statement.json": x.Sign(doc{"_type": "x-visum-recovery", "spec_version": "1.0.31", "version": 1, "expires": tuftest.Stamp(x.life),
			"repo_id": tuftest.RepoID, "tip": tip, "root": tuftest.NameOf(x.Root), "reason": "x"}, have...)}
	// A machine that has the whole web, so as not to be refused for want of a second operator.
	m := newMachine(t, r, func(p *place, cfg *client.Config) {
		cfg.Sources, cfg.Offline, cfg.HTTP = nil, false, &http.Client{Transport: p}
	})
	m.place.show(x.Repo)
	for days := range 30 {
		if v, _ := m.Refresh(t.Context()); v != nil && v.Root().Version() > 1 {
			return fmt.Sprintf("after %d days", days)
		}
		m.now = m.now.Add(day)
	}
	return no
}

// giveBack: what the centre has recalled is installed by a machine that saw the recall.
func giveBack(t *testing.T, r *tuftest.Repo, stolen []string) string {
	// The centre's role of before the recall, which it signed itself.
	before := r.Clone()
	before.Roles["review-agent"]["version"] = 4
	list(recalled, "agent")(before.Roles["review-agent"])
	before.Roles["review-agent"]["targets"].(doc)[recalled].(doc)["custom"] = doc{"visum": release("agent", 1)}
	old := before.PublishRole("review-agent")

	m, x := newMachine(t, r), newThief(before, stolen)
	x.Roles["snapshot"]["meta"] = tuftest.Copy(r.Roles["snapshot"]["meta"])
	x.Roles["snapshot"]["meta"].(doc)["review-agent.json"] = old
	x.stamp(x.sign("snapshot", x.Roles["snapshot"]))
	m.place.show(x.Repo)
	if m.takes(recalled) {
		return "yes"
	}
	m, x = newMachine(t, r), newThief(r, stolen)
	x.publish(map[string]func(doc){"review-agent": func(d doc) {
		d["targets"] = tuftest.Copy(before.Roles["review-agent"]["targets"])
	}})
	m.place.show(x.Repo)
	return yes(m.takes(recalled))
}

// falseHold: a release that nobody holds is held.
func falseHold(t *testing.T, r *tuftest.Repo, stolen []string) string {
	m, x := newMachine(t, r), newThief(r, stolen)
	x.publish(map[string]func(doc){"hold-agent": func(d doc) {
		f := tuftest.FileOf([]byte(agent))
		f["custom"] = doc{"visum": doc{"reason": "x", "at": tuftest.Stamp(m.now), "until": tuftest.Stamp(m.now.Add(day))}}
		d["targets"].(doc)[agent] = f
	}})
	m.place.show(x.Repo)
	v := m.look()
	if v == nil {
		return no
	}
	d := v.Decide(t.Context(), agent)
	return yes(!d.Accepted && strings.Contains(d.Sentence, "held"))
}

// falseRecall: a machine hears that what it runs was recalled.
func falseRecall(t *testing.T, r *tuftest.Repo, stolen []string) string {
	for _, role := range []string{"vendor-agent", "review-agent"} {
		m, x := newMachine(t, r), newThief(r, stolen)
		x.publish(map[string]func(doc){role: func(d doc) {
			d["x-visum-recalled"] = []any{doc{"path": agent, "sha256": sumOf(agent), "reason": "x", "at": tuftest.Stamp(m.now)}}
		}})
		m.place.show(x.Repo)
		v := m.look()
		if v == nil {
			continue
		}
		if d, err := v.CheckInstalled(t.Context(), agent, sumOf(agent)); err == nil && d.Reason == "recalled" {
			return "yes"
		}
	}
	return no
}

// freeze: how long a machine takes the past for the present. The honest go on
// publishing, and nobody sees it.
func freeze(t *testing.T, r *tuftest.Repo, stolen []string) string {
	out := ""
	for _, life := range []time.Duration{timestampLife, snapshotLife, releaseLife, rootLife} {
		for _, x := range []struct {
			at   time.Duration
			last bool
		}{{life - time.Minute, true}, {life + time.Minute, false}} {
			m, thief := newMachine(t, r), newThief(r, stolen)
			m.now = tuftest.Now.Add(x.at)
			thief.renew()
			m.place.show(thief.Repo)
			took := m.takes(agent)
			if !took && !x.last {
				return out
			}
			if took && x.last {
				if out = fmt.Sprintf("%d days", life/day); life == day {
					out = "1 day"
				}
			}
			if !took && x.last {
				return out
			}
		}
	}
	return "ever"
}

// block: the thief makes version numbers so high that a machine refuses what the
// honest publish from then on; and what ends that.
func block(t *testing.T, r *tuftest.Repo, stolen []string) string {
	m, x := newMachine(t, r), newThief(r, stolen)
	x.step = 1 << 40
	x.renew()
	m.place.show(x.Repo)
	m.look()
	next := r.Clone()
	next.Bump(releaseRoles...)
	next.Publish()
	m.place.show(next)
	if m.takes(agent) {
		return no
	}
	// The parties give the repository new online keys.
	next.NextRoot(func() {
		roles, c := next.Root["roles"].(doc), next.Charter()
		next.AddKeys(next.Root, "timestamp-2", "snapshot-2")
		roles["timestamp"], roles["snapshot"] = next.Role(1, "timestamp-2"), next.Role(1, "snapshot-2")
		next.Signers["timestamp"], next.Signers["snapshot"] = []string{"timestamp-2"}, []string{"snapshot-2"}
		c["epoch"], c["floors"] = 2, doc{"timestamp": 6, "snapshot": 6, "targets": 6}
	})
	next.Bump()
	next.Publish()
	m.place.show(next)
	if m.takes(agent) {
		return "new online keys"
	}
	// And new keys to the roles whose numbers he raised, too.
	next.NextRoot(func() {
		for i, class := range next.Charter()["classes"].([]any) {
			for j, role := range class.(doc)["roles"].([]any) {
				name := role.(doc)["role"].(string)
				key := fmt.Sprintf("%s-%d-%d", name, i, j)
				next.AddKeys(next.Root, key)
				role.(doc)["keyids"], role.(doc)["threshold"] = next.IDs(key), 1
				next.Signers[name] = []string{key}
			}
			if hold, ok := class.(doc)["hold"].(doc); ok {
				next.AddKeys(next.Root, "hold-2")
				hold["keyids"] = next.IDs("hold-2")
				next.Signers["hold-agent"] = []string{"hold-2"}
			}
		}
	})
	next.Bump(releaseRoles...)
	next.Publish()
	m.place.show(next)
	if m.takes(agent) {
		return "new online and release keys"
	}
	return "ever"
}
