package tuf_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/tuftest"
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
		p := newPress(tuftest.NewPlain())
		change(p, broken)
		return p
	}
}

func charterStory(change func(p *press, broken bool)) func(testing.TB, bool) *press {
	return func(_ testing.TB, broken bool) *press {
		p := newPress(tuftest.New())
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
	keys := tuftest.At(p.Root, "keys")
	id, key := p.KeyDoc(role)
	entry := doc{"keyids": []any{id, "second"}, "threshold": 2}
	keys[id] = key
	if broken {
		again := tuftest.Copy(key).(doc)
		tuftest.At(again, "keyval")["public"] = strings.ToUpper(tuftest.At(key, "keyval")["public"].(string))
		keys["second"] = again
	} else {
		_, keys["second"] = p.KeyDoc(role + "2")
	}
	tuftest.At(p.Root, "roles")[role] = entry
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
		about: "A client took the algorithm from the signature, which its forger writes, and read a key of one kind as one of another.\n  The kind of a signature is the kind of its key, and what else a signature claims is passed over.",
		build: func(t testing.TB, broken bool) *press {
			p := newPress(tuftest.NewPlain())
			p.Keys["timestamp"] = newFixedECDSA(t, "timestamp")
			p.AddKeys(p.Root, "timestamp")
			tuftest.At(p.Root, "roles")["timestamp"] = p.Role(1, "timestamp")
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
		about: "A client could be made to read a key of one kind as one of another.\n  A key whose type and scheme do not belong together verifies nothing, even what its owner did sign.",
		build: func(t testing.TB, broken bool) *press {
			p := newPress(tuftest.NewPlain())
			p.Keys["timestamp"] = newFixedECDSA(t, "timestamp")
			_, key := p.KeyDoc("timestamp")
			key["scheme"] = pick(broken, "ed25519", key["scheme"])
			id := p.IDs("timestamp")[0].(string)
			tuftest.At(p.Root, "keys")[id] = key
			tuftest.At(p.Root, "roles")["timestamp"] = p.Role(1, "timestamp")
			p.PublishRoot()
			p.Publish()
			return p
		}},
	{name: "CVE-2015-9259", find: "top.txt", expect: "ErrExpired", contains: "root v1",
		about: "A client did not look at the date of the root, so that an old one, whose keys had been stolen since, served for ever.\n  Past its date the last root of the chain ends the refresh.",
		build: plainStory(func(p *press, broken bool) {
			p.Root["expires"] = pick[any](broken, tuftest.Stamp(tuftest.Now.AddDate(0, 0, -1)), p.Root["expires"])
			p.PublishRoot()
		})},
	{name: "CVE-2020-6173", find: "lib/a.txt", expect: "ErrTooLarge", contains: "more than 1024 signatures",
		about: "A file with a great number of worthless signatures kept clients busy for minutes before they refused it.\n  Signatures are counted before any is checked.",
		build: plainStory(func(p *press, broken bool) {
			p.tamper["lib"] = func(env doc) {
				for i := range pick(broken, 1100, 11) {
					env["signatures"] = append(env["signatures"].([]any), doc{"keyid": strconv.Itoa(i), "sig": ""})
				}
			}
			p.Publish()
		})},
	{name: "CVE-2020-6174", find: "top.txt", expect: "ErrMalformed", contains: "two signatures of key id",
		about: "Signatures were counted instead of keys, so that who had one key could sign as often as the threshold asked for.\n  Two signatures under one key id are refused; the timestamp here needs two keys.",
		build: plainStory(func(p *press, broken bool) {
			p.AddKeys(p.Root, "timestamp2")
			tuftest.At(p.Root, "roles")["timestamp"] = p.Role(2, "timestamp", "timestamp2")
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
			tuftest.At(p.Root, "roles")["root"] = p.Role(2, "root", "root2")
			p.Signers["root"] = []string{"root", "root2"}
			p.PublishRoot()
			if broken {
				p.Signers["root"], p.tamper["root"] = []string{"root"}, same
			}
			p.NextRoot(func() {})
		})},
	{name: "CVE-2020-15163-trusted-root", find: "top.txt", expect: "ErrThreshold", contains: "root v3: not enough signatures: 0 of 1 needed keys of the trusted root",
		about: "A root that had failed its verification was trusted the next time, because it lay in the cache.\n  Root 3 is not signed by the keys of root 2: the walk ends with a refusal, and nothing opens from root 3.",
		build: plainStory(func(p *press, broken bool) {
			p.NextRoot(func() {})
			p.NextRoot(func() {
				p.AddKeys(p.Root, "root2")
				tuftest.At(p.Root, "roles")["root"] = p.Role(1, "root2")
				p.Signers["root"] = pick(broken, []string{"root2"}, []string{"root", "root2"})
			})
		})},
	{name: "CVE-2020-15163-new-root", find: "top.txt", expect: "ErrThreshold", contains: "root v2: not enough signatures: 0 of 1 needed keys of the new root",
		about: "A new root was held against the keys of the root before, and not against its own.\n  Root 2 names a key that did not sign it: perhaps nobody has that key.",
		build: plainStory(func(p *press, broken bool) {
			p.NextRoot(func() {
				p.AddKeys(p.Root, "root2")
				tuftest.At(p.Root, "roles")["root"] = p.Role(1, "root2")
				p.Signers["root"] = pick(broken, []string{"root"}, []string{"root", "root2"})
			})
		})},
	{name: "CVE-2021-41131", find: "lib/a.txt", expect: "ok", role: "../../name", twinRole: "name",
		about: "A client used the name of a delegated role as a file name, and wrote outside its folder.\n  Here a role's name is data: it is compared and handed back unchanged, and nothing is written.",
		build: plainStory(traversal("../../name"))},
	{name: "CVE-2021-41131-charter", find: tuftest.Path, expect: "ErrCharter", contains: "H10",
		about: "A client used the name of a role as a file name, and wrote outside its folder.\n  Where parties agree on the roles of a class, the charter takes plain names only.",
		build: charterStory(func(p *press, broken bool) {
			p.NextRoot(func() {
				role := tuftest.At(p.Charter(), "classes", 0, "roles", 1)
				role["role"] = pick[any](broken, "../../review-agent", role["role"])
			})
		})},
	{name: "CVE-2021-41149", find: "../../../etc/cron.d/agent", expect: "ok", role: "targets", twinFind: "agent",
		about: "A client used the name of a target as a file name, and wrote outside its folder (so did another, CVE-2026-24137).\n  Here a target's name is data: the caller says where on the disk it goes.",
		build: plainStory(func(p *press, broken bool) {
			p.AddTarget(pick(broken, "../../../etc/cron.d/agent", "agent"), "the agent", nil, "targets")
			p.Publish()
		})},
	{name: "CVE-2021-41149-charter", find: "agent/../../etc/agent", expect: "ok", role: "review-agent", twinFind: "agent/agent",
		about: "A client used the name of a target as a file name, and wrote outside its folder.\n  Under a charter too a name is data: its first characters say the class, nothing is resolved, and both parties must list it as it stands.",
		build: charterStory(func(p *press, broken bool) {
			p.AddTarget(pick(broken, "agent/../../etc/agent", "agent/agent"), "the agent", nil, "vendor-agent", "review-agent")
			p.Publish()
		})},
	{name: "CVE-2021-41150", find: "lib/a.txt", expect: "ok", role: "/etc/name", twinRole: "name",
		about: "Another client wrote a delegated role's file wherever the role's name led.\n  The name, here an absolute path, comes back unchanged, as data.",
		build: plainStory(traversal("/etc/name"))},
	{name: "CVE-2022-29173-timestamp", find: "top.txt", expect: "ErrRollback", contains: "timestamp v4: rollback: trusted v5",
		about: "A client compared versions with nothing, so that every old file passed.\n  It remembers timestamp 5 and is served 4, which was signed once and is still in date.",
		build: plainStory(func(p *press, broken bool) {
			p.remember()
			p.set("timestamp", "version", pick(broken, 4, 6))
			p.PublishTimestamp()
		})},
	{name: "CVE-2022-29173-snapshot", find: "top.txt", expect: "ErrRollback", contains: "lists snapshot v4, trusted v5",
		about: "A client compared versions with nothing, so that every old file passed.\n  It remembers a timestamp that lists snapshot 5 and is served a newer one that lists snapshot 4.",
		build: plainStory(func(p *press, broken bool) {
			p.remember()
			p.set("timestamp", "version", 6)
			p.set("snapshot", "version", pick(broken, 4, 6))
			p.Publish()
		})},
	{name: "CVE-2022-29173-targets", find: "top.txt", expect: "ErrRollback", contains: "lists targets.json v4, trusted v5",
		about: "A client compared versions with nothing, so that every old file passed.\n  It remembers a snapshot that lists targets 5 and is served a newer one that lists targets 4.",
		build: plainStory(func(p *press, broken bool) {
			p.remember()
			p.Bump()
			p.set("targets", "version", pick(broken, 4, 6))
			p.Publish()
		})},
	{name: "CVE-2024-47534", find: "x/1", expect: "ok", role: "a", twinRole: "a",
		about: "A client went through delegations in another order than they are written, and could take a target from a role of low priority.\n  targets delegates to a, then to b, which delegates to c: what a lists is what counts, whatever b and c say.",
		build: func(t testing.TB, broken bool) *press {
			lines := []string{"^ > a: x/*", "^ > b: x/*", "b > c: x/*", "a = x/1"}
			if broken {
				lines = append(lines, "b = x/1", "c = x/1")
			}
			return newPress(tree(t, lines...))
		}},
	{name: "CVE-2024-47534-terminating", find: "x/1", expect: "ErrNoTarget", twinRole: "a",
		about: "A client went through delegations in another order than they are written, which also decides who ends the search.\n  a is asked first, is terminating and lists nothing of that name: c, below b, is not asked.",
		build: func(t testing.TB, broken bool) *press {
			lines := []string{"^ > a!: x/*", "^ > b: x/*", "b > c: x/*", "c = x/1"}
			if !broken {
				lines = append(lines, "a = x/1")
			}
			return newPress(tree(t, lines...))
		}},
	{name: "CVE-2025-2885", find: "top.txt", expect: "ErrMismatch", contains: "the root after v1 must be v2",
		about: "A client did not check that the next root is the next one, and could be led past a root that withdrew a key.\n  Served as root 2 is a root that says it is 3, signed as it must be.",
		build: plainStory(func(p *press, broken bool) {
			p.NextRoot(func() { p.Root["version"] = pick(broken, 3, 2) })
			p.Files["2.root.json"] = p.Files[pick(broken, "3.root.json", "2.root.json")]
			delete(p.Files, "3.root.json")
		})},
	{name: "CVE-2025-2886", find: "x/1", expect: "ErrNoTarget", twinRole: "b",
		about: "A client did not stop at a terminating delegation, and took a target from a role that should not have been asked.\n  a is terminating and lists nothing; b, after it, is not looked at.",
		build: func(t testing.TB, broken bool) *press {
			return newPress(tree(t, pick(broken, "^ > a!: x/*", "^ > a: x/*"), "^ > b: x/*", "b = x/1"))
		}},
	{name: "CVE-2025-2887", find: "lib/a.txt", expect: "ErrRollback", contains: "lists lib.json v4, trusted v5",
		about: "Versions of delegated roles could go back: only those of targets were compared.\n  The client remembers a snapshot that lists lib 5 and is served one that lists lib 4.",
		build: plainStory(func(p *press, broken bool) {
			p.remember()
			p.Bump()
			p.set("lib", "version", pick(broken, 4, 6))
			p.Publish()
		})},
	{name: "CVE-2025-2887-gone", find: "top.txt", expect: "ErrRollback", contains: "lib.json is no longer listed",
		about: "Delegated roles were not compared with those that the client had seen before.\n  One that was listed must go on being listed, or it could come back older later.",
		build: plainStory(func(p *press, broken bool) {
			p.remember()
			p.Bump()
			if broken {
				delete(p.Roles, "lib")
			}
			p.Publish()
		})},
	{name: "CVE-2025-2888", find: "top.txt", expect: "ErrRollback", contains: "timestamp v6: rollback: lists snapshot v4, trusted v5",
		about: "A client kept a timestamp before it saw that the snapshot in it went back, and could not refresh any more.\n  Timestamp 6 is refused here; in the twin another timestamp 6 is taken from the same memory.",
		build: plainStory(func(p *press, broken bool) {
			p.remember()
			p.set("timestamp", "version", 6)
			p.set("snapshot", "version", pick(broken, 4, 7))
			p.Publish()
		})},
	{name: "CVE-2026-6966", find: "lib/a.txt", expect: "ErrMalformed", contains: "lib v5: malformed: two signatures of key id",
		about: "For delegated roles one signature, copied, met any threshold.\n  lib needs two keys, and one of them signed twice.",
		build: plainStory(func(p *press, broken bool) {
			d := tuftest.At(p.Roles["targets"], "delegations")
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
		about: "Delegated roles were not held against their date, nor against the hash and length that the snapshot lists.\n  Here lib is past its date.",
		build: plainStory(func(p *press, broken bool) {
			p.set("lib", "expires", pick(broken, tuftest.Stamp(tuftest.Now), tuftest.Stamp(tuftest.Now.AddDate(0, 0, 1))))
			p.Publish()
		})},
	{name: "CVE-2026-6967-hash", find: "lib/a.txt", expect: "ErrMismatch", contains: "lib v5: does not match: sha256 differs",
		about: "Delegated roles were not held against their date, nor against the hash and length that the snapshot lists.\n  Here lib is another file than the one that the snapshot lists, signed by the right key, of the same version and length.",
		build: plainStory(func(p *press, broken bool) {
			if broken {
				p.set("lib", "expires", tuftest.Stamp(tuftest.Now.AddDate(0, 2, 0)))
				p.PublishRole("lib")
			}
		})},
	{name: "CVE-2026-6967-length", find: "lib/a.txt", expect: "ErrMismatch", contains: "are listed",
		about: "Delegated roles were not held against their date, nor against the hash and length that the snapshot lists.\n  Here lib is longer than the snapshot says; no hash is listed.",
		build: plainStory(func(p *press, broken bool) {
			entry := tuftest.At(p.Roles["snapshot"], "meta", "lib.json")
			delete(entry, "hashes")
			p.PublishSnapshot()
			if broken {
				p.Files["5.lib.json"] = append(p.Files["5.lib.json"], "\n\n"...)
			}
		})},
	{name: "CVE-2026-6968", find: "/etc/agent", expect: "ok", role: "targets", twinFind: "etc/agent",
		about: "Tools wrote a target under its absolute name, outside the folder they were given.\n  A name that is a path on some disk is a name here, no more.",
		build: plainStory(func(p *press, broken bool) {
			p.AddTarget(pick(broken, "/etc/agent", "etc/agent"), "the agent", nil, "targets")
			p.Publish()
		})},
	{name: "CVE-2026-23991-signed", find: "top.txt", expect: "ErrMalformed", contains: "timestamp",
		about: "JSON that is valid, and no metadata, brought a client down before any signature was looked at.\n  Here signed is no object.",
		build: plainStory(func(p *press, broken bool) {
			if broken {
				p.tamper["timestamp"] = func(env doc) { env["signed"] = []any{"timestamp"} }
			}
			p.PublishTimestamp()
		})},
	{name: "CVE-2026-23991-type", find: "top.txt", expect: "ErrMalformed", contains: "_type",
		about: "JSON that is valid, and no metadata, brought a client down before any signature was looked at.\n  Here _type is no text, in the root that the walk tries next.",
		build: plainStory(func(p *press, broken bool) {
			if broken {
				p.tamper["root"] = func(env doc) { tuftest.At(env, "signed")["_type"] = []any{} }
			}
			p.NextRoot(func() {})
		})},
	{name: "CVE-2026-23991-missing", find: "top.txt", expect: "ErrMalformed", contains: "targets",
		about: "JSON that is valid, and no metadata, brought a client down before any signature was looked at.\n  Here nothing is there that should be, in a targets role whose hash the snapshot does not list.",
		build: plainStory(func(p *press, broken bool) {
			entry := tuftest.At(p.Roles["snapshot"], "meta", "targets.json")
			delete(entry, "hashes")
			delete(entry, "length")
			p.PublishSnapshot()
			if broken {
				p.Files["5.targets.json"] = []byte("{}\n")
			}
		})},
	{name: "CVE-2026-23992", find: "lib/a.txt", expect: "ErrMalformed", contains: "threshold is 0",
		about: "A threshold of zero or less was met by no signatures at all.\n  lib is delegated to with threshold 0, and nobody signed it.",
		build: plainStory(func(p *press, broken bool) {
			if broken {
				p.delegation()["threshold"], p.Signers["lib"] = 0, nil
			}
			p.Publish()
		})},
	{name: "CVE-2026-23992-negative", find: "lib/a.txt", expect: "ErrMalformed", contains: "threshold is -1",
		about: "A threshold of zero or less was met by no signatures at all.\n  lib is delegated to with threshold -1, and nobody signed it.",
		build: plainStory(func(p *press, broken bool) {
			if broken {
				p.delegation()["threshold"], p.Signers["lib"] = -1, nil
			}
			p.Publish()
		})},
	{name: "CVE-2026-23992-root", find: "top.txt", expect: "ErrMalformed", contains: "root v2: malformed: malformed JSON: threshold is 0",
		about: "A threshold of zero or less was met by no signatures at all.\n  Root 2 lets anybody sign timestamps.",
		build: plainStory(func(p *press, broken bool) {
			p.NextRoot(func() { tuftest.At(p.Root, "roles", "timestamp")["threshold"] = pick(broken, 0, 1) })
		})},
	{name: "CVE-2026-24686", find: tuftest.Path, expect: "ErrCharter", contains: "H1",
		about: "A client used the name of a repository as a folder's name, and wrote outside its own.\n  The identity of a repository, which may name a folder, is 32 hex digits and nothing else: root 2, signed by all, says otherwise.",
		build: charterStory(func(p *press, broken bool) {
			p.NextRoot(func() { p.Charter()["repo_id"] = pick(broken, "../../../../../../../escaped-repo", tuftest.RepoID) })
		})},
	{name: "CVE-2026-24686-pin", find: tuftest.Path, expect: "ErrCharter", contains: "H1",
		about: "A client used the name of a repository as a folder's name, and wrote outside its own.\n  Here the pin itself, and the root in it, name the folder: both would have agreed.",
		build: func(_ testing.TB, broken bool) *press {
			r := tuftest.New()
			r.Charter()["repo_id"] = pick(broken, "../../../../../../../escaped-repo", tuftest.RepoID)
			p := newPress(r)
			p.repoID = pick(broken, "../../../../../../../escaped-repo", tuftest.RepoID)
			return p
		}},
	{name: "GHSA-3633-5h82-39pq", find: "top.txt", expect: "ErrThreshold", contains: "1 of 2 needed keys of timestamp",
		about: "One public key under two key ids counted as two keys.\n  The timestamp needs two; the second id is the first key, written in capitals.",
		build: plainStory(func(p *press, broken bool) {
			twice(p, "timestamp", broken)
			p.PublishRoot()
			p.Publish()
		})},
	{name: "GHSA-3633-5h82-39pq-root", find: "top.txt", expect: "ErrThreshold", contains: "1 of 2 needed keys of the new root",
		about: "One public key under two key ids counted as two keys.\n  Here in the root role: the thief of one root key, and of a threshold once, would keep the root alone.",
		build: plainStory(func(p *press, broken bool) {
			p.NextRoot(func() { twice(p, "root", broken) })
		})},
	{name: "GHSA-77hh-43cm-v8j6", find: "lib/a.txt", expect: "ErrNoTarget", twinRole: "bin-2",
		about: "With hash bins, any name passed for one of the bins, so that their key vouched for roles that nobody delegated to.\n  The target is listed in a role beside the bins, signed with their key and listed in the snapshot; it is not looked at.",
		build: func(t testing.TB, broken bool) *press {
			p := newPress(tree(t))
			delete(p.Roles, "lib")
			bins := p.Role(1, "bins")
			bins["bit_length"], bins["name_prefix"] = 2, "bin"
			d := doc{"succinct_roles": bins}
			p.AddKeys(d, "bins")
			p.set("targets", "delegations", d)
			for _, name := range []string{"bin-0", "bin-1", "bin-2", "bin-3", "bin-other"} {
				p.Roles[name], p.Signers[name] = tuftest.Targets(), []string{"bins"}
			}
			sum := sha256.Sum256([]byte("lib/a.txt"))
			p.AddTarget("lib/a.txt", "a", nil, pick(broken, "bin-other", fmt.Sprintf("bin-%d", sum[0]>>6)))
			p.Publish()
			return p
		}},
}
