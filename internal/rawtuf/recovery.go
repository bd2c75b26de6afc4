package rawtuf

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
)

// Recoverable adds a recovery rule to the charter: two keys of a bank and one of a
// university, of which two of both organisations must sign, and a hold of ten days in
// five root checks.
func (r *Repo) Recoverable() {
	r.AddKeys(r.Root, "bank1", "bank2", "university")
	r.Charter()["recovery"] = Doc{"keyids": r.IDs("bank1", "bank2", "university"),
		"orgs":      []any{Doc{"name": "bank", "keyids": r.IDs("bank1", "bank2")}, Doc{"name": "university", "keyids": r.IDs("university")}},
		"threshold": 2, "min_orgs": 2, "hold_seconds": 864000, "min_ticks": 5, "counter": 1}
}

// Recover serves a recovery statement by the named keys and the root that it names. All
// root keys and online keys of that root are new and have names by [Fresh]. The
// repository continues with it.
func (r *Repo) Recover(edit func(statement Doc), keys ...string) {
	tip := r.Root
	n := tip["version"].(int) + 1
	later := Stamp(Now.AddDate(1, 0, 0))
	regular := fmt.Sprintf("%v.root.json", n)
	r.NextRoot(func() {
		c, roles := r.Charter(), At(r.Root, "roles")
		var names []string
		for _, party := range []string{"vendor", "review"} {
			fresh := []string{Fresh(n, party+"1"), Fresh(n, party+"2")}
			r.AddKeys(r.Root, fresh...)
			names = append(names, fresh...)
			for _, p := range c["parties"].([]any) {
				if At(p)["name"] == party {
					At(p)["keyids"] = r.IDs(fresh...)
				}
			}
		}
		roles["root"] = r.Role(3, names...)
		r.Signers["root"] = names
		for _, role := range []string{"timestamp", "snapshot"} {
			r.AddKeys(r.Root, Fresh(n, role))
			roles[role] = r.Role(1, Fresh(n, role))
			r.Signers[role] = []string{Fresh(n, role)}
		}
		c["epoch"] = c["epoch"].(int) + 1
		r.Root["expires"] = later
	})
	for _, role := range r.Roles {
		role["expires"] = later
	}
	delete(r.Files, regular)
	s := Doc{"_type": "x-visum-recovery", "spec_version": "1.0.31", "version": 1, "expires": Stamp(Now.AddDate(0, 3, 0)), "repo_id": RepoID,
		"tip": NameOf(tip), "root": NameOf(r.Root), "reason": "the vendor is gone"}
	edit(s)
	r.Files[fmt.Sprintf("recovery/%d.statement.json", n-1)] = r.Sign(s, keys...)
	r.Files[fmt.Sprintf("recovery/%d.root.json", n)] = r.Sign(r.Root, r.Signers["root"]...)
}

// NameOf returns a root's version and hash, as recovery statements name it.
func NameOf(root Doc) Doc {
	var plain any
	if err := json.Unmarshal(Marshal(root), &plain); err != nil {
		panic(err)
	}
	b, err := cjson.EncodeCanonical(plain)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(b)
	return Doc{"version": root["version"], "sha256": hex.EncodeToString(sum[:])}
}

// Fresh is the name of a key that the recovery to root n introduced.
func Fresh(n int, key string) string { return fmt.Sprintf("new%d-%s", n, key) }
