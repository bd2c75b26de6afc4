// Package rawtuf has a small repository for tests. Its documents are Go maps, so that
// a test can make any document, malformed or hostile, and sign it with any keys. It
// shares no code for encoding and signing with package tuf.
package rawtuf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Doc is a JSON object.
type Doc = map[string]any

// Now is the time of all tests. Healthy metadata is valid for a month from then.
var Now = time.Date(2030, 1, 15, 12, 0, 0, 0, time.UTC)

// Path is the path of the release in the repository of [New].
const Path = "agent/agent-11.4.0.tar.gz"

// RepoID is the repo_id of the repository of [New].
const RepoID = "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1"

// Repo is a repository: documents, signers and published files.
type Repo struct {
	Root    Doc                      // the newest root's signed part
	Roles   map[string]Doc           // the other roles' signed parts
	Signers map[string][]string      // names of the keys that sign a role
	Keys    map[string]crypto.Signer // by name; [Repo.Key] creates missing ones
	Files   map[string][]byte        // served files, by name
}

// New returns a healthy repository of two parties, published: two root keys and
// one release key each, root threshold 3, one class "agent" with a hold role.
// Root is v1, everything else v5.
func New() *Repo { return healthy().Clone() }

var healthy = sync.OnceValue(func() *Repo {
	r := plain()
	r.Signers["root"] = []string{"vendor1", "vendor2", "review1", "review2"}
	r.Signers["vendor-agent"], r.Signers["review-agent"], r.Signers["hold"] = []string{"va"}, []string{"ra"}, []string{"ra"}
	r.AddKeys(r.Root, "vendor1", "vendor2", "review1", "review2", "va", "ra")
	roles := r.Root["roles"].(Doc)
	roles["root"] = r.Role(3, "vendor1", "vendor2", "review1", "review2")
	r.Root["x-visum"] = Doc{
		"schema": 1, "repo_id": RepoID, "seq": 1, "epoch": 1, "signed_at": Stamp(Now),
		"parties": []any{
			Doc{"name": "vendor", "keyids": r.IDs("vendor1", "vendor2"), "min": 1},
			Doc{"name": "review", "keyids": r.IDs("review1", "review2"), "min": 1},
		},
		"classes": []any{Doc{"name": "agent", "prefix": "agent/",
			"roles": []any{
				Doc{"party": "vendor", "role": "vendor-agent", "keyids": r.IDs("va"), "threshold": 1},
				Doc{"party": "review", "role": "review-agent", "keyids": r.IDs("ra"), "threshold": 1},
			},
			"hold": Doc{"role": "hold", "keyids": r.IDs("ra"), "threshold": 1, "max_seconds": 604800},
		}},
		"floors":    Doc{"timestamp": 1, "snapshot": 1, "targets": 1},
		"locations": Locations(),
		"retired":   []any{Doc{"id": "attic", "hosts": []any{"old.vendor.example"}}},
	}
	for _, role := range []string{"vendor-agent", "review-agent", "hold"} {
		r.Roles[role] = Targets()
	}
	// The delegations for standard TUF clients: the review role first, terminating.
	r.Delegate("targets", "review-agent", Doc{"paths": []any{"agent/*"}, "terminating": true}, "ra")
	r.Delegate("targets", "vendor-agent", Doc{"paths": []any{"agent/*"}, "terminating": true}, "va")
	r.AddTarget(Path, "the agent", Doc{"product": "agent", "version": "11.4.0", "channel": "stable",
		"platform": "linux/amd64", "sequence": 7}, "vendor-agent", "review-agent")
	r.PublishRoot()
	r.Publish()
	return r
})

// NewPlain returns a healthy TUF repository without a charter: targets lists
// "top.txt" and delegates "lib/*" to the role lib, which lists "lib/a.txt".
func NewPlain() *Repo { return healthyPlain().Clone() }

var healthyPlain = sync.OnceValue(func() *Repo {
	r := plain()
	r.Roles["lib"], r.Signers["lib"] = Targets(), []string{"lib"}
	r.AddTarget("top.txt", "top", nil, "targets")
	r.AddTarget("lib/a.txt", "a", nil, "lib")
	r.Delegate("targets", "lib", Doc{"paths": []any{"lib/*"}, "terminating": false}, "lib")
	r.PublishRoot()
	r.Publish()
	return r
})

func plain() *Repo {
	r := &Repo{Roles: map[string]Doc{}, Signers: map[string][]string{}, Keys: map[string]crypto.Signer{}, Files: map[string][]byte{}}
	roles := Doc{}
	r.Root = Signed("root", 1)
	r.Root["consistent_snapshot"], r.Root["roles"] = true, roles
	for _, role := range []string{"root", "timestamp", "snapshot", "targets"} {
		r.Signers[role] = []string{role}
		roles[role] = r.Role(1, role)
		r.AddKeys(r.Root, role)
	}
	r.Roles["timestamp"], r.Roles["snapshot"], r.Roles["targets"] = Signed("timestamp", 5), Signed("snapshot", 5), Targets()
	return r
}

// Signed returns the common members of metadata.
func Signed(typ string, version int) Doc {
	return Doc{"_type": typ, "spec_version": "1.0.31", "version": version, "expires": Stamp(Now.AddDate(0, 1, 0))}
}

// Targets returns an empty targets role at v5.
func Targets() Doc {
	d := Signed("targets", 5)
	d["targets"] = Doc{}
	return d
}

// Locations returns three locations of three operators.
func Locations() []any {
	location := func(id, tier, operator, host string) Doc {
		return Doc{"id": id, "tier": tier, "operator": operator, "jurisdiction": "CH", "base": "https://" + host + "/r/",
			"paths": Doc{"metadata": "metadata/", "targets": "targets/"}, "priority": 10}
	}
	return []any{
		location("main", "primary", "vendor-ch", "updates.vendor.example"),
		location("cdn", "mirror", "cdn-x", "updates.cdn.example"),
		location("rdv", "rendezvous", "review", "updates.review.example"),
	}
}

// Stamp formats a time as in TUF metadata.
func Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Key returns the key with that name: a fixed ed25519 key, unless the test has set
// another one.
func (r *Repo) Key(name string) crypto.Signer {
	if r.Keys[name] == nil {
		seed := sha256.Sum256([]byte(name))
		r.Keys[name] = ed25519.NewKeyFromSeed(seed[:])
	}
	return r.Keys[name]
}

// KeyDoc returns a key in the form of metadata, and its id.
func (r *Repo) KeyDoc(name string) (id string, key Doc) {
	k, err := metadata.KeyFromPublicKey(r.Key(name).Public())
	if err != nil {
		panic(err)
	}
	if p, ok := r.Key(name).Public().(*ecdsa.PublicKey); ok && p.Curve.Params().BitSize == 384 {
		k.Scheme = metadata.KeySchemeECDSA_SHA2_P384
	}
	if id, err = k.ID(); err != nil {
		panic(err)
	}
	return id, Doc{"keytype": k.Type, "scheme": k.Scheme, "keyval": Doc{"public": k.Value.PublicKey}}
}

// IDs returns the ids of the named keys.
func (r *Repo) IDs(names ...string) []any {
	var out []any
	for _, n := range names {
		id, _ := r.KeyDoc(n)
		out = append(out, id)
	}
	return out
}

// Role returns a role's entry with its key ids and threshold.
func (r *Repo) Role(threshold int, names ...string) Doc {
	return Doc{"keyids": r.IDs(names...), "threshold": threshold}
}

// AddKeys writes keys into the "keys" of a root or of delegations.
func (r *Repo) AddKeys(to Doc, names ...string) {
	if to["keys"] == nil {
		to["keys"] = Doc{}
	}
	for _, n := range names {
		id, key := r.KeyDoc(n)
		to["keys"].(Doc)[id] = key
	}
}

// Delegate appends a delegation with threshold 1 to a role. how holds its members for
// paths.
func (r *Repo) Delegate(by, role string, how Doc, keys ...string) {
	if r.Roles[by]["delegations"] == nil {
		r.Roles[by]["delegations"] = Doc{"keys": Doc{}, "roles": []any{}}
	}
	d := r.Roles[by]["delegations"].(Doc)
	r.AddKeys(d, keys...)
	entry := r.Role(1, keys...)
	entry["name"], entry["terminating"] = role, false
	maps.Copy(entry, how)
	d["roles"] = append(d["roles"].([]any), entry)
}

// AddTarget lists a file in roles. release is its custom.visum, or nil.
func (r *Repo) AddTarget(path, content string, release Doc, roles ...string) {
	for _, role := range roles {
		f := FileOf([]byte(content))
		if release != nil {
			f["custom"] = Doc{"visum": Copy(release)}
		}
		r.Roles[role]["targets"].(Doc)[path] = f
	}
}

// FileOf describes bytes: length and sha256.
func FileOf(data []byte) Doc {
	sum := sha256.Sum256(data)
	return Doc{"length": len(data), "hashes": Doc{"sha256": hex.EncodeToString(sum[:])}}
}

// At returns the object at a path of member names and array indexes.
func At(x any, path ...any) Doc {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			x = x.(Doc)[p]
		case int:
			x = x.([]any)[p]
		}
	}
	return x.(Doc)
}

// Charter returns the newest root's charter.
func (r *Repo) Charter() Doc { return At(r.Root, "x-visum") }

// Sign returns the metadata file of a signed part, signed by the named keys.
func (r *Repo) Sign(signed Doc, names ...string) []byte {
	sigs := []any{}
	msg := canonical(signed) // once: it takes longer than the signatures
	for _, n := range names {
		id, _ := r.KeyDoc(n)
		sigs = append(sigs, Doc{"keyid": id, "sig": hex.EncodeToString(r.signature(msg, n))})
	}
	return Marshal(Doc{"signatures": sigs, "signed": signed})
}

// Signature signs the canonical form of v with one key.
func (r *Repo) Signature(v any, name string) []byte { return r.signature(canonical(v), name) }

func canonical(v any) []byte {
	msg, err := cjson.EncodeCanonical(v)
	if err != nil {
		panic(err)
	}
	return msg
}

func (r *Repo) signature(msg []byte, name string) []byte {
	var opts crypto.SignerOpts = crypto.Hash(0)
	switch p := r.Key(name).Public().(type) {
	case *ecdsa.PublicKey:
		opts = crypto.SHA256
		if p.Curve.Params().BitSize == 384 {
			opts = crypto.SHA384
		}
	case *rsa.PublicKey:
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	switch opts.HashFunc() {
	case crypto.SHA256:
		sum := sha256.Sum256(msg)
		msg = sum[:]
	case crypto.SHA384:
		sum := sha512.Sum384(msg)
		msg = sum[:]
	}
	sig, err := r.Key(name).Sign(rand.Reader, msg, opts)
	if err != nil {
		panic(err)
	}
	return sig
}

// Marshal encodes anything as JSON.
func Marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// PublishRoot signs Root and serves it under its version.
func (r *Repo) PublishRoot() {
	r.Files[fmt.Sprintf("%v.root.json", r.Root["version"])] = r.Sign(r.Root, r.Signers["root"]...)
}

// NextRoot creates and serves the next version of root, changed by edit. If the charter
// changed, NextRoot increments its seq.
func (r *Repo) NextRoot(edit func()) {
	r.Root = Copy(r.Root).(Doc)
	r.Root["version"] = r.Root["version"].(int) + 1
	if c, ok := r.Root["x-visum"].(Doc); ok {
		before := Marshal(without(c))
		edit()
		if c, ok := r.Root["x-visum"].(Doc); ok && string(before) != string(Marshal(without(c))) {
			if seq, ok := c["seq"].(int); ok {
				c["seq"] = seq + 1
			}
		}
	} else {
		edit()
	}
	r.PublishRoot()
}

func without(charter Doc) Doc {
	c := maps.Clone(charter)
	for _, name := range []string{"seq", "signed_at", "prev_root_sha256"} {
		delete(c, name)
	}
	return c
}

// Bump raises the versions of the named roles, of snapshot and timestamp.
func (r *Repo) Bump(roles ...string) {
	for _, role := range append(roles, "snapshot", "timestamp") {
		r.Roles[role]["version"] = r.Roles[role]["version"].(int) + 1
	}
}

// Publish signs and serves all roles, each listed by the next.
func (r *Repo) Publish() {
	meta := Doc{}
	for _, role := range slices.Sorted(maps.Keys(r.Roles)) {
		if role != "timestamp" && role != "snapshot" {
			meta[role+".json"] = r.PublishRole(role)
		}
	}
	r.Roles["snapshot"]["meta"] = meta
	r.PublishSnapshot()
}

// PublishSnapshot signs and serves snapshot, and a timestamp that lists it.
func (r *Repo) PublishSnapshot() {
	r.Roles["timestamp"]["meta"] = Doc{"snapshot.json": r.PublishRole("snapshot")}
	r.PublishTimestamp()
}

// PublishTimestamp signs and serves timestamp.
func (r *Repo) PublishTimestamp() {
	r.Files["timestamp.json"] = r.Sign(r.Roles["timestamp"], r.Signers["timestamp"]...)
}

// PublishRole signs and serves one role, and returns its entry for the snapshot.
func (r *Repo) PublishRole(role string) Doc {
	data := r.Sign(r.Roles[role], r.Signers[role]...)
	name := fmt.Sprintf("%v.%s.json", r.Roles[role]["version"], role)
	if r.Root["consistent_snapshot"] != true {
		name = role + ".json"
	}
	r.Files[name] = data
	f := FileOf(data)
	f["version"] = r.Roles[role]["version"]
	return f
}

// Pin returns the pin of the repository of [New]: root v1, the review keys, the locations.
func (r *Repo) Pin() Doc {
	var root any
	if err := json.Unmarshal(r.Files["1.root.json"], &root); err != nil {
		panic(err)
	}
	var keys []any
	for _, n := range []string{"review1", "review2"} {
		_, k := r.KeyDoc(n)
		keys = append(keys, k)
	}
	return Doc{"schema": 1, "repo_id": RepoID, "root": root,
		"review": Doc{"party": "review", "min": 1, "keys": keys}, "locations": Locations()}
}

// Clone returns a copy that shares only keys with r.
func (r *Repo) Clone() *Repo {
	c := &Repo{Root: Copy(r.Root).(Doc), Roles: map[string]Doc{}, Signers: map[string][]string{}, Keys: maps.Clone(r.Keys), Files: maps.Clone(r.Files)}
	for name, d := range r.Roles {
		c.Roles[name] = Copy(d).(Doc)
	}
	for name, s := range r.Signers {
		c.Signers[name] = slices.Clone(s)
	}
	return c
}

// Copy copies documents deeply.
func Copy(v any) any {
	switch v := v.(type) {
	case Doc:
		out := make(Doc, len(v))
		for k, e := range v {
			out[k] = Copy(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = Copy(e)
		}
		return out
	}
	return v
}
