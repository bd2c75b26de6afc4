package keycompromise_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// attacker has compromised keys and all files that were ever published.
type attacker struct {
	*rawtuf.Repo
	stolen []string
	life   time.Time // expiry of the attacker's metadata
	step   int       // increment of versions
}

func newAttacker(r *rawtuf.Repo, stolen []string) *attacker {
	return &attacker{r.Clone(), stolen, rawtuf.Now.Add(2 * rootLife), 1}
}

// sign increases the version and expiry of a role's file and signs it with the
// compromised keys of the role or, if there are none, with a key of the attacker.
func (x *attacker) sign(role string, signed doc) []byte {
	var have []string
	for _, k := range x.Signers[role] {
		if slices.Contains(x.stolen, k) {
			have = append(have, k)
		}
	}
	if len(have) == 0 {
		have = []string{"attacker"}
	}
	signed["version"] = signed["version"].(int) + x.step
	signed["expires"] = rawtuf.Stamp(x.life)
	data := x.Sign(signed, have...)
	name := fmt.Sprintf("%v.%s.json", signed["version"], role)
	if role == "timestamp" {
		name = "timestamp.json"
	}
	x.Files[name] = data
	return data
}

// holds reports whether the compromised keys meet the threshold of a role.
func (x *attacker) holds(role string) bool {
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

// publish edits roles, with or without their keys, and publishes a matching snapshot and
// timestamp.
func (x *attacker) publish(edits map[string]func(doc)) {
	for _, role := range releaseRoles {
		if edits[role] == nil {
			continue
		}
		edits[role](x.Roles[role])
		x.list(role, x.sign(role, x.Roles[role]))
	}
	x.stamp(x.sign("snapshot", x.Roles["snapshot"]))
}

func (x *attacker) list(role string, data []byte) {
	f := rawtuf.FileOf(data)
	f["version"] = x.Roles[role]["version"]
	x.Roles["snapshot"]["meta"].(doc)[role+".json"] = f
}

func (x *attacker) stamp(snapshot []byte) {
	f := rawtuf.FileOf(snapshot)
	f["version"] = x.Roles["snapshot"]["version"]
	x.Roles["timestamp"]["meta"] = doc{"snapshot.json": f}
	x.sign("timestamp", x.Roles["timestamp"])
}

// renew signs all roles again whose keys are compromised, and changes nothing else.
func (x *attacker) renew() {
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
		f := rawtuf.FileOf([]byte(path))
		f["custom"] = doc{"visum": release(product, 9)}
		d["targets"].(doc)[path] = f
	}
}

// goals are the possible goals of an attack on a machine that has seen the honest
// repository. Each tries every use of the keys for its goal.
var goals = []struct {
	name string
	try  func(t *testing.T, r *rawtuf.Repo, stolen []string) string
}{
	{"ship an agent", func(t *testing.T, r *rawtuf.Repo, stolen []string) string { return ship(t, r, stolen, "agent") }},
	{"ship rules", func(t *testing.T, r *rawtuf.Repo, stolen []string) string { return ship(t, r, stolen, "rules") }},
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

// ship: the machine installs bytes that no honest party listed.
func ship(t *testing.T, r *rawtuf.Repo, stolen []string, class string) string {
	m, x := newMachine(t, r), newAttacker(r, stolen)
	x.publish(map[string]func(doc){"vendor-" + class: list(evil(class), class), "review-" + class: list(evil(class), class)})
	m.location.show(x.Repo)
	return yes(m.takes(evil(class)))
}

// changeRoot: the machine trusts a root that only the attacker signed, even one without
// changes, or one introduced by a recovery after the waiting period.
func changeRoot(t *testing.T, r *rawtuf.Repo, stolen []string) string {
	m, x := newMachine(t, r), newAttacker(r, stolen)
	x.sign("root", x.Root)
	m.location.show(x.Repo)
	if m.rootAfterRefresh() > 1 {
		return yes(true)
	}
	return recovers(t, r, stolen)
}

// recovers: a recovery statement names a root of the attacker, and all other answers are
// withheld from a machine that checks daily.
func recovers(t *testing.T, r *rawtuf.Repo, stolen []string) string {
	x := newAttacker(r, stolen)
	have := slices.DeleteFunc(slices.Clone(recoveryKeys), func(k string) bool { return !slices.Contains(stolen, k) })
	if len(have) == 0 {
		return no
	}
	tip := rawtuf.NameOf(x.Root)
	x.NextRoot(func() {
		var roots []string
		for i, p := range x.Charter()["parties"].([]any) {
			keys := []string{fmt.Sprint("attacker-", i, "1"), fmt.Sprint("attacker-", i, "2"), fmt.Sprint("attacker-", i, "3")}
			x.AddKeys(x.Root, keys...)
			p.(doc)["keyids"] = x.IDs(keys...)
			roots = append(roots, keys...)
		}
		roles := x.Root["roles"].(doc)
		roles["root"], x.Signers["root"] = x.Role(5, roots...), roots
		for _, role := range []string{"timestamp", "snapshot"} {
			x.AddKeys(x.Root, "attacker-"+role)
			roles[role] = x.Role(1, "attacker-"+role)
		}
		x.Charter()["epoch"] = x.Charter()["epoch"].(int) + 1
	})
	root := x.Sign(x.Root, x.Signers["root"]...)
	x.Files = map[string][]byte{"1.root.json": x.Files["1.root.json"], "recovery/2.root.json": root,
		"recovery/1.statement.json": x.Sign(doc{"_type": "x-visum-recovery", "spec_version": "1.0.31", "version": 1, "expires": rawtuf.Stamp(x.life),
			"repo_id": rawtuf.RepoID, "tip": tip, "root": rawtuf.NameOf(x.Root), "reason": "x"}, have...)}
	// The machine reaches all locations through the attacker, so that it does not lack a second operator.
	m := newMachine(t, r, func(p *location, cfg *client.Config) {
		cfg.Sources, cfg.Offline, cfg.HTTP = nil, false, &http.Client{Transport: p}
	})
	m.location.show(x.Repo)
	for days := range 30 {
		if m.rootAfterRefresh() > 1 {
			return fmt.Sprintf("after %d days", days)
		}
		m.now = m.now.Add(day)
	}
	return no
}

// giveBack: the machine saw a recall and installs the recalled release again.
func giveBack(t *testing.T, r *rawtuf.Repo, stolen []string) string {
	// The centre's role before the recall, signed by the centre itself.
	before := r.Clone()
	before.Roles["review-agent"]["version"] = 4
	list(recalled, "agent")(before.Roles["review-agent"])
	before.Roles["review-agent"]["targets"].(doc)[recalled].(doc)["custom"] = doc{"visum": release("agent", 1)}
	old := before.PublishRole("review-agent")

	m, x := newMachine(t, r), newAttacker(before, stolen)
	x.Roles["snapshot"]["meta"] = rawtuf.Copy(r.Roles["snapshot"]["meta"])
	x.Roles["snapshot"]["meta"].(doc)["review-agent.json"] = old
	x.stamp(x.sign("snapshot", x.Roles["snapshot"]))
	m.location.show(x.Repo)
	if m.takes(recalled) {
		return "yes"
	}
	m, x = newMachine(t, r), newAttacker(r, stolen)
	x.publish(map[string]func(doc){"review-agent": func(d doc) {
		d["targets"] = rawtuf.Copy(before.Roles["review-agent"]["targets"])
	}})
	m.location.show(x.Repo)
	return yes(m.takes(recalled))
}

// falseHold: the machine reports a hold that no honest key signed.
func falseHold(t *testing.T, r *rawtuf.Repo, stolen []string) string {
	m, x := newMachine(t, r), newAttacker(r, stolen)
	x.publish(map[string]func(doc){"hold-agent": func(d doc) {
		f := rawtuf.FileOf([]byte(agent))
		f["custom"] = doc{"visum": doc{"reason": "x", "at": rawtuf.Stamp(m.now), "until": rawtuf.Stamp(m.now.Add(day))}}
		d["targets"].(doc)[agent] = f
	}})
	m.location.show(x.Repo)
	v := m.look()
	if v == nil {
		return no
	}
	d := v.Decide(t.Context(), agent)
	return yes(!d.Accepted && strings.Contains(d.Sentence, "held"))
}

// falseRecall: the machine reports a recall of its installed release.
func falseRecall(t *testing.T, r *rawtuf.Repo, stolen []string) string {
	for _, role := range []string{"vendor-agent", "review-agent"} {
		m, x := newMachine(t, r), newAttacker(r, stolen)
		x.publish(map[string]func(doc){role: func(d doc) {
			d["x-visum-recalled"] = []any{doc{"path": agent, "sha256": sumOf(agent), "reason": "x", "at": rawtuf.Stamp(m.now)}}
		}})
		m.location.show(x.Repo)
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

// freeze: the time for which the machine accepts stale metadata although the honest
// parties keep publishing.
func freeze(t *testing.T, r *rawtuf.Repo, stolen []string) string {
	out := ""
	for _, life := range []time.Duration{timestampLife, snapshotLife, releaseLife, rootLife} {
		for _, x := range []struct {
			at   time.Duration
			last bool
		}{{life - time.Minute, true}, {life + time.Minute, false}} {
			m, evil := newMachine(t, r), newAttacker(r, stolen)
			m.now = rawtuf.Now.Add(x.at)
			evil.renew()
			m.location.show(evil.Repo)
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

// block (fast-forward): version numbers so high that the machine refuses all later honest
// metadata. The result is what ends the block.
func block(t *testing.T, r *rawtuf.Repo, stolen []string) string {
	m, x := newMachine(t, r), newAttacker(r, stolen)
	x.step = 1 << 40
	x.renew()
	m.location.show(x.Repo)
	m.look()
	next := r.Clone()
	next.Bump(releaseRoles...)
	next.Publish()
	m.location.show(next)
	if m.takes(agent) {
		return no
	}
	// The parties rotate the online keys.
	next.NextRoot(func() {
		roles, c := next.Root["roles"].(doc), next.Charter()
		next.AddKeys(next.Root, "timestamp-2", "snapshot-2")
		roles["timestamp"], roles["snapshot"] = next.Role(1, "timestamp-2"), next.Role(1, "snapshot-2")
		next.Signers["timestamp"], next.Signers["snapshot"] = []string{"timestamp-2"}, []string{"snapshot-2"}
		c["epoch"], c["floors"] = 2, doc{"timestamp": 6, "snapshot": 6, "targets": 6}
	})
	next.Bump()
	next.Publish()
	m.location.show(next)
	if m.takes(agent) {
		return "new online keys"
	}
	// They also rotate the keys of the roles with increased versions.
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
	m.location.show(next)
	if m.takes(agent) {
		return "new online and release keys"
	}
	return "ever"
}
