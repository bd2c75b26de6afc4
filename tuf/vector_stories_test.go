package tuf_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// story generates a vector and its healthy twin, the same without the defect.
type story struct {
	name, about                  string
	find, expect, contains, role string
	twinFind, twinRole           string // if the twin requests another target
	build                        func(t testing.TB, broken bool) *press
}

// plainStory changes the repository without a charter. The healthy twin gets the same change with
// broken false.
func plainStory(change func(p *press, broken bool)) func(testing.TB, bool) *press {
	return func(_ testing.TB, broken bool) *press {
		p := newPress(rawtuf.NewPlain())
		change(p, broken)
		return p
	}
}

func charterStory(change func(p *press, broken bool)) func(testing.TB, bool) *press {
	return func(_ testing.TB, broken bool) *press {
		p := newPress(rawtuf.New())
		change(p, broken)
		return p
	}
}

// pick returns bad if the story is broken.
func pick[T any](broken bool, bad, good T) T {
	if broken {
		return bad
	}
	return good
}

// twice gives one key two ids in a role of root with threshold 2.
func twice(p *press, role string, broken bool) {
	keys := rawtuf.At(p.Root, "keys")
	id, key := p.KeyDoc(role)
	entry := doc{"keyids": []any{id, "second"}, "threshold": 2}
	keys[id] = key
	if broken {
		again := rawtuf.Copy(key).(doc)
		rawtuf.At(again, "keyval")["public"] = strings.ToUpper(rawtuf.At(key, "keyval")["public"].(string))
		keys["second"] = again
	} else {
		_, keys["second"] = p.KeyDoc(role + "2")
	}
	rawtuf.At(p.Root, "roles")[role] = entry
	p.tamper[role] = func(env doc) {
		sig := p.Signature(env["signed"], pick(broken, role, role+"2"))
		env["signatures"] = append(env["signatures"].([]any), doc{"keyid": "second", "sig": hex.EncodeToString(sig)})
	}
}

// traversal adds a delegated role of any name that lists lib/a.txt.
func traversal(bad string) func(p *press, broken bool) {
	return func(p *press, broken bool) {
		name := pick(broken, bad, "name")
		p.delegation()["name"] = name
		p.Roles[name], p.Signers[name] = p.Roles["lib"], p.Signers["lib"]
		delete(p.Roles, "lib")
		p.Publish()
	}
}

var stories = []story{
	{name: "CVE-2015-9258-algorithm", find: "top.txt", expect: "ErrThreshold", contains: "0 of 1 needed keys of timestamp",
		about: "A client took the algorithm from the signature, which an attacker controls, and used a key of one kind as one of another.\n  The key determines the kind of its signatures; other members of a signature are ignored.",
		build: func(t testing.TB, broken bool) *press {
			p := newPress(rawtuf.NewPlain())
			p.Keys["timestamp"] = newFixedECDSA(t, "timestamp")
			p.AddKeys(p.Root, "timestamp")
			rawtuf.At(p.Root, "roles")["timestamp"] = p.Role(1, "timestamp")
			p.tamper["timestamp"] = func(env doc) {
				s := env["signatures"].([]any)[0].(doc)
				s["method"] = "ed25519"
				if broken {
					s["sig"] = hexSign(p.Repo, "forger", canonical(t, env["signed"]))
				}
			}
			p.PublishRoot()
			p.Publish()
			return p
		}},
	{name: "CVE-2015-9258-scheme", find: "top.txt", expect: "ErrThreshold", contains: "0 of 1 needed keys of timestamp",
		about: "A client could be made to use a key of one kind as one of another.\n  A key whose type and scheme do not belong together verifies nothing, not even a valid signature of its owner.",
		build: func(t testing.TB, broken bool) *press {
			p := newPress(rawtuf.NewPlain())
			p.Keys["timestamp"] = newFixedECDSA(t, "timestamp")
			_, key := p.KeyDoc("timestamp")
			key["scheme"] = pick(broken, "ed25519", key["scheme"])
			id := p.IDs("timestamp")[0].(string)
			rawtuf.At(p.Root, "keys")[id] = key
			rawtuf.At(p.Root, "roles")["timestamp"] = p.Role(1, "timestamp")
			p.PublishRoot()
			p.Publish()
			return p
		}},
	{name: "CVE-2015-9259", find: "top.txt", expect: "ErrExpired", contains: "root v1",
		about: "A client did not check the expiry of the root, so an old root with compromised keys was valid for ever.\n  If the last root of the chain is expired, the refresh fails.",
		build: plainStory(func(p *press, broken bool) {
			p.Root["expires"] = pick[any](broken, rawtuf.Stamp(rawtuf.Now.AddDate(0, 0, -1)), p.Root["expires"])
			p.PublishRoot()
		})},
	{name: "CVE-2020-6173", find: "lib/a.txt", expect: "ErrTooLarge", contains: "more than 1024 signatures",
		about: "A file with very many invalid signatures kept clients busy for minutes before they refused it.\n  The number of signatures is bounded before any is verified.",
		build: plainStory(func(p *press, broken bool) {
			p.tamper["lib"] = func(env doc) {
				for i := range pick(broken, 1100, 11) {
					env["signatures"] = append(env["signatures"].([]any), doc{"keyid": strconv.Itoa(i), "sig": ""})
				}
			}
			p.Publish()
		})},
	{name: "CVE-2020-6174", find: "top.txt", expect: "ErrMalformed", contains: "two signatures of key id",
		about: "Signatures were counted instead of keys, so one key could meet any threshold.\n  Two signatures with one key id are refused; the timestamp here needs two keys.",
		build: plainStory(func(p *press, broken bool) {
			p.AddKeys(p.Root, "timestamp2")
			rawtuf.At(p.Root, "roles")["timestamp"] = p.Role(2, "timestamp", "timestamp2")
			if broken {
				p.tamper["timestamp"] = same
			} else {
				p.Signers["timestamp"] = []string{"timestamp", "timestamp2"}
			}
			p.PublishRoot()
			p.Publish()
		})},
	{name: "CVE-2020-15093", find: "top.txt", expect: "ErrMalformed", contains: "two signatures of key id",
		about: "The uniqueness of the keys that met a threshold was not checked: one key could sign more than once.\n  Here a root of two keys is signed twice by one of them.",
		build: plainStory(func(p *press, broken bool) {
			p.AddKeys(p.Root, "root2")
			rawtuf.At(p.Root, "roles")["root"] = p.Role(2, "root", "root2")
			p.Signers["root"] = []string{"root", "root2"}
			p.PublishRoot()
			if broken {
				p.Signers["root"], p.tamper["root"] = []string{"root"}, same
			}
			p.NextRoot(func() {})
		})},
	{name: "CVE-2020-15163-trusted-root", find: "top.txt", expect: "ErrThreshold", contains: "root v3: not enough signatures: 0 of 1 needed keys of the trusted root",
		about: "A root that had failed its verification was trusted the next time, because it was in the cache.\n  Root 3 is not signed by the keys of root 2: the update of roots fails, and root 3 is not used.",
		build: plainStory(func(p *press, broken bool) {
			p.NextRoot(func() {})
			p.NextRoot(func() {
				p.AddKeys(p.Root, "root2")
				rawtuf.At(p.Root, "roles")["root"] = p.Role(1, "root2")
				p.Signers["root"] = pick(broken, []string{"root2"}, []string{"root", "root2"})
			})
		})},
	{name: "CVE-2020-15163-new-root", find: "top.txt", expect: "ErrThreshold", contains: "root v2: not enough signatures: 0 of 1 needed keys of the new root",
		about: "A new root was verified with the keys of the previous root, and not with its own.\n  Root 2 names a key that did not sign it: possibly a key without an owner.",
		build: plainStory(func(p *press, broken bool) {
			p.NextRoot(func() {
				p.AddKeys(p.Root, "root2")
				rawtuf.At(p.Root, "roles")["root"] = p.Role(1, "root2")
				p.Signers["root"] = pick(broken, []string{"root"}, []string{"root", "root2"})
			})
		})},
	{name: "CVE-2021-41131", find: "lib/a.txt", expect: "ok", role: "../../name", twinRole: "name",
		about: "A client used the name of a delegated role as a file name, and wrote outside its folder.\n  Here a role's name is data: it is compared and returned unchanged, and nothing is written.",
		build: plainStory(traversal("../../name"))},
	{name: "CVE-2021-41131-charter", find: rawtuf.Path, expect: "ErrCharter", contains: "H10",
		about: "A client used the name of a role as a file name, and wrote outside its folder.\n  Under a charter only plain names are valid for the roles of a class.",
		build: charterStory(func(p *press, broken bool) {
			p.NextRoot(func() {
				role := rawtuf.At(p.Charter(), "classes", 0, "roles", 1)
				role["role"] = pick[any](broken, "../../review-agent", role["role"])
			})
		})},
	{name: "CVE-2021-41149", find: "../../../etc/cron.d/agent", expect: "ok", role: "targets", twinFind: "agent",
		about: "A client used the name of a target as a file name, and wrote outside its folder (so did another, CVE-2026-24137).\n  Here a target's name is data: the caller chooses the name on disk.",
		build: plainStory(func(p *press, broken bool) {
			p.AddTarget(pick(broken, "../../../etc/cron.d/agent", "agent"), "the agent", nil, "targets")
			p.Publish()
		})},
	{name: "CVE-2021-41149-charter", find: "agent/../../etc/agent", expect: "ok", role: "review-agent", twinFind: "agent/agent",
		about: "A client used the name of a target as a file name, and wrote outside its folder.\n  Under a charter too a name is data: its prefix determines the class, it is not resolved, and both parties must list exactly this name.",
		build: charterStory(func(p *press, broken bool) {
			p.AddTarget(pick(broken, "agent/../../etc/agent", "agent/agent"), "the agent", nil, "vendor-agent", "review-agent")
			p.Publish()
		})},
	{name: "CVE-2021-41150", find: "lib/a.txt", expect: "ok", role: "/etc/name", twinRole: "name",
		about: "Another client used a delegated role's name as a path.\n  The name, here an absolute path, is returned unchanged, as data.",
		build: plainStory(traversal("/etc/name"))},
	{name: "CVE-2022-29173-timestamp", find: "top.txt", expect: "ErrRollback", contains: "timestamp v4: rollback: trusted v5",
		about: "A client did not compare versions, so every old file was accepted (rollback).\n  It trusts timestamp 5 and is served 4, which was signed earlier and is not expired.",
		build: plainStory(func(p *press, broken bool) {
			p.remember()
			p.set("timestamp", "version", pick(broken, 4, 6))
			p.PublishTimestamp()
		})},
	{name: "CVE-2022-29173-snapshot", find: "top.txt", expect: "ErrRollback", contains: "lists snapshot v4, trusted v5",
		about: "A client did not compare versions, so every old file was accepted (rollback).\n  It trusts a timestamp that lists snapshot 5 and is served a newer one that lists snapshot 4.",
		build: plainStory(func(p *press, broken bool) {
			p.remember()
			p.set("timestamp", "version", 6)
			p.set("snapshot", "version", pick(broken, 4, 6))
			p.Publish()
		})},
	{name: "CVE-2022-29173-targets", find: "top.txt", expect: "ErrRollback", contains: "lists targets.json v4, trusted v5",
		about: "A client did not compare versions, so every old file was accepted (rollback).\n  It trusts a snapshot that lists targets 5 and is served a newer one that lists targets 4.",
		build: plainStory(func(p *press, broken bool) {
			p.remember()
			p.Bump()
			p.set("targets", "version", pick(broken, 4, 6))
			p.Publish()
		})},
	{name: "CVE-2024-47534", find: "x/1", expect: "ok", role: "a", twinRole: "a",
		about: "A client traversed delegations in the wrong order, and could use a target of a role of low priority.\n  targets delegates to a, then to b, which delegates to c: the entry of a counts, whatever b and c list.",
		build: func(t testing.TB, broken bool) *press {
			lines := []string{"^ > a: x/*", "^ > b: x/*", "b > c: x/*", "a = x/1"}
			if broken {
				lines = append(lines, "b = x/1", "c = x/1")
			}
			return newPress(tree(t, lines...))
		}},
	{name: "CVE-2024-47534-terminating", find: "x/1", expect: "ErrNoTarget", twinRole: "a",
		about: "A client traversed delegations in the wrong order, which also determines the end of the search.\n  a comes first, is terminating and does not list the name: c, below b, is not visited.",
		build: func(t testing.TB, broken bool) *press {
			lines := []string{"^ > a!: x/*", "^ > b: x/*", "b > c: x/*", "c = x/1"}
			if !broken {
				lines = append(lines, "a = x/1")
			}
			return newPress(tree(t, lines...))
		}},
	{name: "CVE-2025-2885", find: "top.txt", expect: "ErrMismatch", contains: "the root after v1 must be v2",
		about: "A client did not check the version of the next root, so a root that removed a key could be skipped.\n  The file served as root 2 has version 3 and valid signatures.",
		build: plainStory(func(p *press, broken bool) {
			p.NextRoot(func() { p.Root["version"] = pick(broken, 3, 2) })
			p.Files["2.root.json"] = p.Files[pick(broken, "3.root.json", "2.root.json")]
			delete(p.Files, "3.root.json")
		})},
	{name: "CVE-2025-2886", find: "x/1", expect: "ErrNoTarget", twinRole: "b",
		about: "A client did not stop at a terminating delegation, and used a target of a role that must not be visited.\n  a is terminating and lists nothing; b, after it, is not visited.",
		build: func(t testing.TB, broken bool) *press {
			return newPress(tree(t, pick(broken, "^ > a!: x/*", "^ > a: x/*"), "^ > b: x/*", "b = x/1"))
		}},
	{name: "CVE-2025-2887", find: "lib/a.txt", expect: "ErrRollback", contains: "lists lib.json v4, trusted v5",
		about: "Versions of delegated roles could go back (rollback): only that of targets was compared.\n  The client trusts a snapshot that lists lib 5 and is served one that lists lib 4.",
		build: plainStory(func(p *press, broken bool) {
			p.remember()
			p.Bump()
			p.set("lib", "version", pick(broken, 4, 6))
			p.Publish()
		})},
	{name: "CVE-2025-2887-gone", find: "top.txt", expect: "ErrRollback", contains: "lib.json is no longer listed",
		about: "Delegated roles were not compared with previously trusted ones.\n  A listed role must remain listed; otherwise an older version could be listed again later.",
		build: plainStory(func(p *press, broken bool) {
			p.remember()
			p.Bump()
			if broken {
				delete(p.Roles, "lib")
			}
			p.Publish()
		})},
	{name: "CVE-2025-2888", find: "top.txt", expect: "ErrRollback", contains: "timestamp v6: rollback: lists snapshot v4, trusted v5",
		about: "A client stored a timestamp before it detected the rollback of the snapshot in it, and could not refresh any more.\n  Timestamp 6 is refused here; the twin accepts another timestamp 6 with the same priors.",
		build: plainStory(func(p *press, broken bool) {
			p.remember()
			p.set("timestamp", "version", 6)
			p.set("snapshot", "version", pick(broken, 4, 7))
			p.Publish()
		})},
	{name: "CVE-2026-6966", find: "lib/a.txt", expect: "ErrMalformed", contains: "lib v5: malformed: two signatures of key id",
		about: "For delegated roles one signature, copied, met any threshold.\n  lib needs two keys, and one of them signed twice.",
		build: plainStory(func(p *press, broken bool) {
			d := rawtuf.At(p.Roles["targets"], "delegations")
			p.AddKeys(d, "lib2")
			p.delegation()["keyids"], p.delegation()["threshold"] = p.IDs("lib", "lib2"), 2
			if broken {
				p.tamper["lib"] = same
			} else {
				p.Signers["lib"] = []string{"lib", "lib2"}
			}
			p.Publish()
		})},
	{name: "CVE-2026-6967-expired", find: "lib/a.txt", expect: "ErrExpired", contains: "lib v5",
		about: "The expiry of delegated roles and the hash and length in the snapshot were not checked.\n  Here lib is expired.",
		build: plainStory(func(p *press, broken bool) {
			p.set("lib", "expires", pick(broken, rawtuf.Stamp(rawtuf.Now), rawtuf.Stamp(rawtuf.Now.AddDate(0, 0, 1))))
			p.Publish()
		})},
	{name: "CVE-2026-6967-hash", find: "lib/a.txt", expect: "ErrMismatch", contains: "lib v5: does not match: sha256 differs",
		about: "The expiry of delegated roles and the hash and length in the snapshot were not checked.\n  Here lib is not the listed file, but is signed by the right key and has the same version and length.",
		build: plainStory(func(p *press, broken bool) {
			if broken {
				p.set("lib", "expires", rawtuf.Stamp(rawtuf.Now.AddDate(0, 2, 0)))
				p.PublishRole("lib")
			}
		})},
	{name: "CVE-2026-6967-length", find: "lib/a.txt", expect: "ErrMismatch", contains: "are listed",
		about: "The expiry of delegated roles and the hash and length in the snapshot were not checked.\n  Here lib is longer than listed; no hash is listed.",
		build: plainStory(func(p *press, broken bool) {
			entry := rawtuf.At(p.Roles["snapshot"], "meta", "lib.json")
			delete(entry, "hashes")
			p.PublishSnapshot()
			if broken {
				p.Files["5.lib.json"] = append(p.Files["5.lib.json"], "\n\n"...)
			}
		})},
	{name: "CVE-2026-6968", find: "/etc/agent", expect: "ok", role: "targets", twinFind: "etc/agent",
		about: "Tools wrote a target under its absolute name, outside the given folder.\n  Here a name that is an absolute path is only a name.",
		build: plainStory(func(p *press, broken bool) {
			p.AddTarget(pick(broken, "/etc/agent", "etc/agent"), "the agent", nil, "targets")
			p.Publish()
		})},
	{name: "CVE-2026-23991-signed", find: "top.txt", expect: "ErrMalformed", contains: "timestamp",
		about: "Valid JSON that is not metadata crashed a client before any signature was verified.\n  Here signed is not an object.",
		build: plainStory(func(p *press, broken bool) {
			if broken {
				p.tamper["timestamp"] = func(env doc) { env["signed"] = []any{"timestamp"} }
			}
			p.PublishTimestamp()
		})},
	{name: "CVE-2026-23991-type", find: "top.txt", expect: "ErrMalformed", contains: "_type",
		about: "Valid JSON that is not metadata crashed a client before any signature was verified.\n  Here _type is not a string, in the next root.",
		build: plainStory(func(p *press, broken bool) {
			if broken {
				p.tamper["root"] = func(env doc) { rawtuf.At(env, "signed")["_type"] = []any{} }
			}
			p.NextRoot(func() {})
		})},
	{name: "CVE-2026-23991-missing", find: "top.txt", expect: "ErrMalformed", contains: "targets",
		about: "Valid JSON that is not metadata crashed a client before any signature was verified.\n  Here a targets role without a listed hash has no members.",
		build: plainStory(func(p *press, broken bool) {
			entry := rawtuf.At(p.Roles["snapshot"], "meta", "targets.json")
			delete(entry, "hashes")
			delete(entry, "length")
			p.PublishSnapshot()
			if broken {
				p.Files["5.targets.json"] = []byte("{}\n")
			}
		})},
	{name: "CVE-2026-23992", find: "lib/a.txt", expect: "ErrMalformed", contains: "threshold is 0",
		about: "A threshold of zero or less was met by no signatures at all.\n  lib is delegated to with threshold 0, and has no signature.",
		build: plainStory(func(p *press, broken bool) {
			if broken {
				p.delegation()["threshold"], p.Signers["lib"] = 0, nil
			}
			p.Publish()
		})},
	{name: "CVE-2026-23992-negative", find: "lib/a.txt", expect: "ErrMalformed", contains: "threshold is -1",
		about: "A threshold of zero or less was met by no signatures at all.\n  lib is delegated to with threshold -1, and has no signature.",
		build: plainStory(func(p *press, broken bool) {
			if broken {
				p.delegation()["threshold"], p.Signers["lib"] = -1, nil
			}
			p.Publish()
		})},
	{name: "CVE-2026-23992-root", find: "top.txt", expect: "ErrMalformed", contains: "root v2: malformed: malformed JSON: threshold is 0",
		about: "A threshold of zero or less was met by no signatures at all.\n  Root 2 has threshold 0 for timestamp.",
		build: plainStory(func(p *press, broken bool) {
			p.NextRoot(func() { rawtuf.At(p.Root, "roles", "timestamp")["threshold"] = pick(broken, 0, 1) })
		})},
	{name: "CVE-2026-24686", find: rawtuf.Path, expect: "ErrCharter", contains: "H1",
		about: "A client used the name of a repository as a folder name, and wrote outside its folder.\n  The identity of a repository, which may name a folder, must be 32 hex digits: root 2, signed by all keys, has another one.",
		build: charterStory(func(p *press, broken bool) {
			p.NextRoot(func() { p.Charter()["repo_id"] = pick(broken, "../../../../../../../escaped-repo", rawtuf.RepoID) })
		})},
	{name: "CVE-2026-24686-pin", find: rawtuf.Path, expect: "ErrCharter", contains: "H1",
		about: "A client used the name of a repository as a folder name, and wrote outside its folder.\n  Here both the pin and the root in it have such a name.",
		build: func(_ testing.TB, broken bool) *press {
			r := rawtuf.New()
			r.Charter()["repo_id"] = pick(broken, "../../../../../../../escaped-repo", rawtuf.RepoID)
			p := newPress(r)
			p.repoID = pick(broken, "../../../../../../../escaped-repo", rawtuf.RepoID)
			return p
		}},
	{name: "GHSA-3633-5h82-39pq", find: "top.txt", expect: "ErrThreshold", contains: "1 of 2 needed keys of timestamp",
		about: "One public key under two key ids counted as two keys.\n  The timestamp needs two; the second id is the first key in upper case.",
		build: plainStory(func(p *press, broken bool) {
			twice(p, "timestamp", broken)
			p.PublishRoot()
			p.Publish()
		})},
	{name: "GHSA-3633-5h82-39pq-root", find: "top.txt", expect: "ErrThreshold", contains: "1 of 2 needed keys of the new root",
		about: "One public key under two key ids counted as two keys.\n  Here in the root role: an attacker who had the threshold once could keep control with one compromised root key.",
		build: plainStory(func(p *press, broken bool) {
			p.NextRoot(func() { twice(p, "root", broken) })
		})},
	{name: "GHSA-77hh-43cm-v8j6", find: "lib/a.txt", expect: "ErrNoTarget", twinRole: "bin-2",
		about: "With hash bins, any name was accepted as the name of a bin, so their key was valid for roles without a delegation.\n  A role that is not one of the bins lists the target; it is signed with their key and listed in the snapshot, but not visited.",
		build: func(t testing.TB, broken bool) *press {
			p := newPress(tree(t))
			delete(p.Roles, "lib")
			bins := p.Role(1, "bins")
			bins["bit_length"], bins["name_prefix"] = 2, "bin"
			d := doc{"succinct_roles": bins}
			p.AddKeys(d, "bins")
			p.set("targets", "delegations", d)
			for _, name := range []string{"bin-0", "bin-1", "bin-2", "bin-3", "bin-other"} {
				p.Roles[name], p.Signers[name] = rawtuf.Targets(), []string{"bins"}
			}
			sum := sha256.Sum256([]byte("lib/a.txt"))
			p.AddTarget("lib/a.txt", "a", nil, pick(broken, "bin-other", fmt.Sprintf("bin-%d", sum[0]>>6)))
			p.Publish()
			return p
		}},
}
