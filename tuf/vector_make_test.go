package tuf_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/visum-dev/visum/internal/rawtuf"
)

var update = flag.Bool("update", false, "write the vectors")

// press publishes a repository in a human-readable form: the files are indented and end in a
// newline, and the lists hold the hashes of that form.
type press struct {
	*rawtuf.Repo
	prior  map[string][]byte
	tamper map[string]func(env doc) // changes a role's file after signing, before it is listed
	pinned bool                     // trust pin.json rather than 1.root.json
	repoID string                   // repo_id of the pin; "": rawtuf.RepoID
}

func newPress(r *rawtuf.Repo) *press {
	p := &press{Repo: r, prior: map[string][]byte{}, tamper: map[string]func(doc){}, pinned: r.Root["x-visum"] != nil}
	p.Files = map[string][]byte{}
	p.PublishRoot()
	p.Publish()
	return p
}

func (p *press) seal(role string, signed doc) []byte {
	env := parse(p.Sign(signed, p.Signers[role]...))
	if f := p.tamper[role]; f != nil {
		f(env)
	}
	return append(pretty(rawtuf.Marshal(env)), '\n')
}

func (p *press) PublishRoot() {
	p.Files[fmt.Sprintf("%v.root.json", p.Root["version"])] = p.seal("root", p.Root)
}

func (p *press) NextRoot(edit func()) {
	p.Repo.NextRoot(edit)
	p.PublishRoot()
}

func (p *press) PublishRole(role string) doc {
	data := p.seal(role, p.Roles[role])
	p.Files[fmt.Sprintf("%v.%s.json", p.Roles[role]["version"], url.PathEscape(role))] = data
	f := rawtuf.FileOf(data)
	f["version"] = p.Roles[role]["version"]
	return f
}

// Publish serves the current files, and of earlier ones only roots.
func (p *press) Publish() {
	for name := range p.Files {
		if !strings.HasSuffix(name, ".root.json") {
			delete(p.Files, name)
		}
	}
	meta := doc{}
	for role := range p.Roles {
		if role != "timestamp" && role != "snapshot" {
			meta[role+".json"] = p.PublishRole(role)
		}
	}
	p.Roles["snapshot"]["meta"] = meta
	p.PublishSnapshot()
}

func (p *press) PublishSnapshot() {
	p.Roles["timestamp"]["meta"] = doc{"snapshot.json": p.PublishRole("snapshot")}
	p.PublishTimestamp()
}

func (p *press) PublishTimestamp() {
	p.Files["timestamp.json"] = p.seal("timestamp", p.Roles["timestamp"])
}

// remember stores the served files as the client's priors.
func (p *press) remember() {
	p.prior["timestamp"] = p.Files["timestamp.json"]
	p.prior["snapshot"] = p.Files[fmt.Sprintf("%v.snapshot.json", p.Roles["snapshot"]["version"])]
}

// set changes a role's document.
func (p *press) set(role, member string, v any) { p.Roles[role][member] = v }

// delegation returns the first delegation of targets.
func (p *press) delegation() doc { return rawtuf.At(p.Roles["targets"], "delegations", "roles", 0) }

// archive writes the files in the order in which a client reads them.
func (p *press) archive(header string) []byte {
	a := &txtar.Archive{Comment: []byte(header)}
	add := func(name string, data []byte) { a.Files = append(a.Files, txtar.File{Name: name, Data: data}) }
	if p.pinned {
		pin := p.Pin()
		if p.repoID != "" {
			pin["repo_id"] = p.repoID
		}
		add("pin.json", append(pretty(rawtuf.Marshal(pin)), '\n'))
		delete(p.Files, "1.root.json")
	} else {
		add("1.root.json", p.Files["1.root.json"])
		delete(p.Files, "1.root.json")
	}
	for _, role := range []string{"timestamp", "snapshot"} {
		if data := p.prior[role]; data != nil {
			add("prior/"+role+".json", data)
		}
	}
	rank := func(name string) string {
		version, role, _ := strings.Cut(name, ".")
		n, err := strconv.Atoi(version)
		if err != nil {
			n, role = 0, name
		}
		i := slices.Index([]string{"root.json", "timestamp.json", "snapshot.json", "targets.json"}, role)
		return fmt.Sprintf("%d %s %d", (i+5)%5, role, n) // the others, -1, come last
	}
	names := make([]string, 0, len(p.Files))
	for name := range p.Files {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(rank(a), rank(b)) })
	for _, name := range names {
		add(name, p.Files[name])
	}
	return txtar.Format(a)
}

// same adds a second signature by the first key, which an implementation that counts signatures
// instead of keys counts twice.
func same(env doc) {
	sigs := env["signatures"].([]any)
	first := sigs[0].(doc)
	env["signatures"] = append(sigs, doc{"keyid": first["keyid"], "sig": strings.ToUpper(first["sig"].(string))})
}

// fixedECDSA makes deterministic signatures.
type fixedECDSA struct{ *ecdsa.PrivateKey }

func (k fixedECDSA) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(nil, digest, opts)
}

func newFixedECDSA(t testing.TB, name string) crypto.Signer {
	seed := sha256.Sum256([]byte(name))
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return fixedECDSA{k}
}

// header is one line of a vector's head; "" without a value.
func header(key, value string) string {
	if value == "" {
		return ""
	}
	return key + ": " + value + "\n"
}

func (s story) files(t testing.TB) map[string][]byte {
	at := header("now", rawtuf.Stamp(rawtuf.Now))
	sick := header("name", s.name) + header("about", s.about) + at + header("find", s.find) +
		header("expect", s.expect) + header("contains", s.contains) + header("role", s.role)
	find, role := s.find, s.twinRole
	if s.twinFind != "" {
		find = s.twinFind
	}
	twin := header("name", s.name+"-healthy") + header("about", "The twin of "+s.name+" without the fault.") +
		at + header("find", find) + header("expect", "ok") + header("role", role)
	return map[string][]byte{
		s.name + ".txtar":         s.build(t, true).archive(sick),
		s.name + "-healthy.txtar": s.build(t, false).archive(twin),
	}
}

// The vectors are generated from the stories; go test -update writes them.
func TestVectorsAreGenerated(t *testing.T) {
	want := map[string][]byte{}
	for _, s := range slices.Concat(stories, ruleStories) {
		for name, data := range s.files(t) {
			if want[name] != nil {
				t.Fatalf("two stories are called %s", name)
			}
			want[name] = data
		}
	}
	if *update {
		if err := os.MkdirAll(vectorDir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, data := range want {
			if err := os.WriteFile(filepath.Join(vectorDir, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	have := vectorFS(t)
	for name := range have {
		if want[name] == nil {
			t.Errorf("%s: no story makes it", name)
		}
	}
	for name, data := range want {
		if have[name] == nil || !bytes.Equal(have[name].Data, data) {
			t.Errorf("%s is not what its story makes; go test -update", name)
		}
	}
}
