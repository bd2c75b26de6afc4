package tuf_test

import (
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// ruleStory is a second root that both parties signed. It breaks one rule of the charter
// (docs/spec.md, section 5); the root of the twin keeps it.
func ruleStory(rule, name, about string, edit func(p *press, charter doc, broken bool)) story {
	return story{name: "rule-" + rule + "-" + name, find: rawtuf.Path, expect: "ErrCharter", contains: "root v2: breaks the charter's rules: " + rule + ":",
		about: about,
		build: func(_ testing.TB, broken bool) *press {
			p := newPress(rawtuf.New())
			p.NextRoot(func() { edit(p, p.Charter(), broken) })
			p.Bump()
			p.Publish()
			return p
		}}
}

// ruleStories has a vector for each rule.
var ruleStories = []story{
	ruleStory("H1", "identity", "A root of another repository, whose keys are the same, is not a successor.",
		func(_ *press, c doc, broken bool) {
			c["repo_id"] = pick(broken, strings.Repeat("ab", 16), rawtuf.RepoID)
			c["x-new"] = 1
		}),
	ruleStory("H2", "seq", "The charter changes, so seq must be larger than before.",
		func(_ *press, c doc, broken bool) { c["x-new"], c["seq"] = 1, pick(broken, 0, 1) }), // one is added
	ruleStory("H3", "online-keys", "New online keys need a new epoch. Without one, clients would compare versions under the new keys\n  with those under the old ones (fast-forward).",
		func(p *press, c doc, broken bool) {
			p.AddKeys(p.Root, "ts2", "sn2")
			rawtuf.At(p.Root, "roles")["timestamp"], rawtuf.At(p.Root, "roles")["snapshot"] = p.Role(1, "ts2"), p.Role(1, "sn2")
			p.Signers["timestamp"], p.Signers["snapshot"] = []string{"ts2"}, []string{"sn2"}
			c["epoch"] = pick(broken, 1, 2)
		}),
	ruleStory("H3", "floor", "A floor is not lowered, since clients without state rely on it (rollback).",
		func(_ *press, c doc, broken bool) {
			c["floors"] = doc{"timestamp": pick(broken, 0, 2), "snapshot": 1, "targets": 1}
		}),
	ruleStory("H4", "private-address", "A charter must not make products contact machines in their own network.",
		func(_ *press, c doc, broken bool) {
			rawtuf.At(c, "locations", 1)["base"] = pick(broken, "https://192.168.1.4/r/", "https://cdn.example/r/")
		}),
	ruleStory("H5", "traversal", "The paths of a location stay below its base.",
		func(_ *press, c doc, broken bool) {
			rawtuf.At(c, "locations", 0)["paths"] = doc{"metadata": pick(broken, "../metadata/", "m/"), "targets": "targets/"}
		}),
	ruleStory("H6", "identifier", "Two locations have one id.",
		func(_ *press, c doc, broken bool) {
			rawtuf.At(c, "locations", 1)["id"] = pick(broken, "main", "other")
		}),
	ruleStory("H7", "no-location", "Every location ends, so that a client that slept longer could contact none.",
		func(_ *press, c doc, broken bool) {
			rawtuf.At(c, "locations", 1)["use_until"] = "2031-01-01T00:00:00Z"
			if broken {
				rawtuf.At(c, "locations", 0)["use_until"] = "2031-01-01T00:00:00Z"
			}
		}),
	ruleStory("H8", "retired-host", "A retired host, which may belong to an attacker by now, is listed again.",
		func(_ *press, c doc, broken bool) {
			rawtuf.At(c, "locations", 1)["base"] = pick(broken, "https://old.vendor.example/r/", "https://new.vendor.example/r/")
		}),
	ruleStory("H9", "one-key-two-parties", "One key signs releases for both parties.",
		func(p *press, c doc, broken bool) {
			p.AddKeys(p.Root, "ra2")
			p.Signers["review-agent"] = pick(broken, []string{"va"}, []string{"ra2"})
			rawtuf.At(c, "classes", 0, "roles", 1)["keyids"] = p.IDs(p.Signers["review-agent"]...)
		}),
	ruleStory("H9", "rule-Q", "Rule Q: with a threshold of 2 of 4 root keys, the two keys of one party would be enough for standard TUF clients.",
		func(p *press, _ doc, broken bool) {
			rawtuf.At(p.Root, "roles", "root")["threshold"] = pick(broken, 2, 3)
		}),
	ruleStory("H10", "class-without-review", "A class without a role of the review centre.",
		func(_ *press, c doc, broken bool) {
			class := rawtuf.At(c, "classes", 0)
			class["roles"] = class["roles"].([]any)[:pick(broken, 1, 2)]
		}),
	ruleStory("H12", "one-organisation", "One organisation could recover alone.",
		func(p *press, c doc, broken bool) {
			p.Recoverable()
			rawtuf.At(c, "recovery")["min_orgs"] = pick(broken, 1, 2)
		}),
	ruleStory("H13", "age", "A proof of the log may be as old as an hour at least.",
		func(_ *press, c doc, broken bool) {
			c["log"] = logRule("warn")
			rawtuf.At(c, "log")["max_age_seconds"] = pick(broken, 3599, 3600)
		}),
}
