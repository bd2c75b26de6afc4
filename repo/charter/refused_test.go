package charter_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/charter"
	"github.com/visum-dev/visum/tuf"
)

var ann, bea = repotest.Signer("ann").Key(), repotest.Signer("bea").Key()

// small is a document with one of everything, one member in each line.
const small = `{
  "visum-charter": 1,
  "repo_id": "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1",
  "keys": {
    "ann": ANN,
    "bea": BEA
  },
  "parties": [
    {"name": "vendor", "keys": ["ann"], "min": 1}
  ],
  "roles": {"timestamp": {"keys": ["bea"], "threshold": 1}},
  "classes": [
    {"name": "agent", "prefix": "agent/", "hash_bins": true,
     "roles": [{"party": "vendor", "role": "vendor-agent", "keys": ["bea"], "threshold": 1}],
     "hold": {"role": "hold", "keys": ["bea"], "threshold": 1, "max_seconds": 60}}
  ],
  "locations": [
    {"id": "a", "tier": "primary", "operator": "host", "jurisdiction": "CH", "base": "https://a.example.org/",
     "paths": {"metadata": "metadata/", "targets": "targets/"}, "priority": 7,
     "use_from": "2026-11-20T00:00:00Z", "use_until": "2027-11-20T00:00:00Z"}
  ],
  "retired": [{"id": "old", "hosts": ["old.example.org"]}],
  "probe": {"min_operators": 2, "every_seconds": 21600, "max_age_seconds": 2592000, "mode": "warn"},
  "recovery": {"orgs": [{"name": "bank", "keys": ["ann"]}], "threshold": 2, "min_orgs": 2, "hold_seconds": 1209600, "min_ticks": 14, "counter": 0}
}
`

func document() string {
	return strings.NewReplacer("ANN", keyText(ann), "BEA", keyText(bea)).Replace(small)
}

// Each row makes one thing of a valid document wrong. The error names the member and its
// line.
func TestRefused(t *testing.T) {
	t.Parallel()
	parse(t, []byte(document()))
	for name, x := range map[string]struct {
		old, new string
		path     string
		line     int
		says     string
	}{
		"no mark":                {`"visum-charter": 1,`, ``, "", 1, "no member visum-charter"},
		"later version":          {`"visum-charter": 1`, `"visum-charter": 2`, "visum-charter", 2, "at most 1"},
		"unknown member":         {`"retired": [`, `"retried": [`, "retried", 22, "unknown member"},
		"unknown member below":   {`"min": 1`, `"minimum": 1`, "parties[0].minimum", 9, "unknown member"},
		"other case":             {`"min": 1`, `"Min": 1`, "parties[0].Min", 9, "unknown member"},
		"hostile name":           {`"min": 1`, `"m\nin\u001b": 1`, `parties[0]."m\nin\x1b"`, 9, "unknown member"},
		"duplicate":              {`"min": 1`, `"min": 1, "min": 2`, "parties[0].min", 9, "second member"},
		"duplicate, escaped":     {`"min": 1`, `"min": 1, "m\u0069n": 1`, "parties[0].min", 9, "second member"},
		"duplicate label":        {`"bea": {`, `"ann": {`, "keys.ann", 6, "second member"},
		"string for integer":     {`"min": 1`, `"min": "1"`, "parties[0].min", 9, "integer was expected, it is a string"},
		"integer for string":     {`"name": "vendor"`, `"name": 7`, "parties[0].name", 9, "string was expected, it is a number"},
		"object for array":       {`"keys": ["ann"], "min"`, `"keys": {}, "min"`, "parties[0].keys", 9, "array was expected, it is an object"},
		"array for object":       {`{"metadata": "metadata/", "targets": "targets/"}`, `[]`, "locations[0].paths", 19, "object was expected, it is an array"},
		"null":                   {`"jurisdiction": "CH"`, `"jurisdiction": null`, "locations[0].jurisdiction", 18, "it is null"},
		"string for boolean":     {`"hash_bins": true`, `"hash_bins": "true"`, "classes[0].hash_bins", 13, "true or false was expected"},
		"fraction":               {`"priority": 7`, `"priority": 7.0`, "locations[0].priority", 19, "an integer of at most"},
		"exponent":               {`"priority": 7`, `"priority": 7e0`, "locations[0].priority", 19, "an integer of at most"},
		"negative":               {`"priority": 7`, `"priority": -7`, "locations[0].priority", 19, "at least 0"},
		"negative zero":          {`"priority": 7`, `"priority": -0`, "locations[0].priority", 19, "it is -0"},
		"huge":                   {`"counter": 0`, `"counter": 9007199254740992`, "recovery.counter", 24, "an integer of at most"},
		"zero min":               {`"min": 1`, `"min": 0`, "parties[0].min", 9, "at least 1"},
		"zero threshold":         {`"keys": ["bea"], "threshold": 1}}`, `"keys": ["bea"], "threshold": 0}}`, "roles.timestamp.threshold", 11, "at least 1"},
		"eleven years":           {`"max_seconds": 60`, `"max_seconds": 347846400`, "classes[0].hold.max_seconds", 15, "an integer of at most"},
		"mode":                   {`"mode": "warn"`, `"mode": "Warn"`, "probe.mode", 23, "warn or enforce"},
		"time with fraction":     {`"use_from": "2026-11-20T00:00:00Z"`, `"use_from": "2026-11-20T00:00:00.5Z"`, "locations[0].use_from", 20, "a time of the form"},
		"time with offset":       {`"use_from": "2026-11-20T00:00:00Z"`, `"use_from": "2026-11-20T00:00:00+00:00"`, "locations[0].use_from", 20, "a time of the form"},
		"empty time":             {`"use_from": "2026-11-20T00:00:00Z"`, `"use_from": ""`, "locations[0].use_from", 20, "a time of the form"},
		"no name":                {`"name": "vendor", `, ``, "parties[0]", 9, "no member name"},
		"unknown label":          {`"keys": ["ann"], "min"`, `"keys": ["eve"], "min"`, "parties[0].keys[0]", 9, "no key has the label"},
		"label twice":            {`"keys": ["ann"], "min"`, `"keys": ["ann", "ann"], "min"`, "parties[0].keys[1]", 9, "named twice"},
		"key without a role":     {`    "ann": {`, "    \"cem\": " + keyText(repotest.Signer("cem").Key()) + ",\n    \"ann\": {", "keys.cem", 5, "no role has this key"},
		"one key twice":          {keyText(bea), keyText(ann), "keys.bea", 6, "the same key as \"ann\""},
		"key of another form":    {keyText(bea), `{"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "00"}}`, "keys.bea", 6, "not a key of scheme ed25519"},
		"key with a member":      {`"scheme": "ed25519", "keyval": {"public": "` + ann.Public, `"x": 1, "scheme": "ed25519", "keyval": {"public": "` + ann.Public, "keys.ann.x", 5, "unknown member"},
		"text for a key":         {keyText(bea), `"bea"`, "keys.bea", 6, "neither PEM nor"},
		"private key":            {keyText(bea), `"-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n"`, "keys.bea", 6, "not a public key"},
		"two lines of OpenSSH":   {keyText(bea), quoted(sshLine(bea) + sshLine(ann)), "keys.bea", 6, "more than one line"},
		"options of OpenSSH":     {keyText(bea), quoted("no-pty " + sshLine(bea)), "keys.bea", 6, "neither PEM nor"},
		"not UTF-8":              {`"name": "vendor"`, "\"name\": \"vendor\xff\"", "parties[0].name", 9, "not valid"},
		"name not UTF-8":         {`"name": "vendor"`, "\"name\xff\": \"vendor\"", "parties[0].\"name�\"", 9, "not valid"},
		"unpaired surrogate":     {`"name": "vendor"`, `"name": "vendor\ud800"`, "parties[0].name", 9, "not valid"},
		"cut":                    {`"bea": {`, `"bea": {`, "", 0, ""},
		"two documents":          {"\n}\n", "\n}\n{}\n", "", 26, "after the end"},
		"deep":                   {`"jurisdiction": "CH"`, `"jurisdiction": ` + strings.Repeat("[", 1000), "", 18, "levels of nesting"},
		"comma at the end":       {`"keys": ["ann"], "min"`, `"keys": ["ann",], "min"`, "parties[0].keys[1]", 9, "invalid character"},
		"white space of Unicode": {`"retired": [`, "\u00a0\"retired\": [", "", 22, "invalid character"},
	} {
		t.Run(name, func(t *testing.T) {
			d := document()
			if strings.Count(d, x.old) < 1 {
				t.Fatalf("%q is not in the document", x.old)
			}
			d = strings.Replace(d, x.old, x.new, 1)
			if name == "cut" {
				d, x.path, x.line, x.says = d[:strings.Index(d, `"bea": `)+20], "keys.bea.keytype", 6, "too early"
			}
			root, labels, err := charter.Parse([]byte(d))
			if name == "deep" {
				if e, ok := err.(*charter.Error); ok {
					x.path = e.Path
				}
			}
			e := wantErr(t, err, tuf.ErrMalformed, unquoted(x.path, err), x.says)
			if e.Line != x.line {
				t.Errorf("%v, want line %d", err, x.line)
			}
			if labels != nil || !reflect.DeepEqual(root, repo.Root{}) {
				t.Error("a refused document has a result")
			}
			if s := err.Error(); !strings.HasPrefix(s, "charter: line ") || strings.ContainsAny(s, "\n\x1b") {
				t.Errorf("%q", s)
			}
		})
	}
}

// unquoted takes the path of an error for one that a test can't spell.
func unquoted(want string, err error) string {
	if e, ok := err.(*charter.Error); ok && strings.Contains(want, "�") {
		return e.Path
	}
	return want
}

func quoted(s string) string {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(data)
}

func sshLine(k tuf.Key) string {
	raw, err := hex.DecodeString(k.Public)
	if err != nil {
		panic(err)
	}
	pub, err := ssh.NewPublicKey(ed25519.PublicKey(raw))
	if err != nil {
		panic(err)
	}
	return string(ssh.MarshalAuthorizedKey(pub))
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	d := document()
	fits := d + strings.Repeat(" ", 1<<20-len(d))
	parse(t, []byte(fits))
	_, _, err := charter.Parse([]byte(fits + " "))
	wantErr(t, err, tuf.ErrTooLarge, "", "1048577 bytes, at most 1048576")

	var keys []tuf.Key
	for i := range 256 {
		keys = append(keys, repotest.Signer(strings.Repeat("x", i)).Key())
	}
	_, err = charter.Marshal(repo.Root{Targets: repo.Keys{Keys: keys}}, nil)
	noErr(t, err)
	keys = append(keys, ann)
	_, err = charter.Marshal(repo.Root{Targets: repo.Keys{Keys: keys}}, nil)
	wantErr(t, err, tuf.ErrTooLarge, "keys", "257 keys")
}

// Keys are pasted in the forms that people have.
func TestPastedKeys(t *testing.T) {
	t.Parallel()
	raw, err := hex.DecodeString(bea.Public)
	noErr(t, err)
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(raw))
	noErr(t, err)
	want := parse(t, []byte(document()))
	for _, text := range []string{quoted(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))), quoted(sshLine(bea)), quoted(strings.TrimSpace(sshLine(bea)) + " bea@review")} {
		if got := parse(t, []byte(strings.Replace(document(), keyText(bea), text, 1))); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v", text, got)
		}
	}
	// A key of an ECDSA token keeps the form, and so the id, that metadata has.
	p, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	noErr(t, err)
	point, err := p.PublicKey.Bytes()
	noErr(t, err)
	k := tuf.Key{Type: "ecdsa-sha2-nistp256", Scheme: "ecdsa-sha2-nistp256", Public: hex.EncodeToString(point)}
	root := repo.Root{Targets: repo.Keys{Keys: []tuf.Key{k}}}
	data, err := charter.Marshal(root, nil)
	noErr(t, err)
	if got := parse(t, data); got.Targets.Keys[0].ID() != k.ID() {
		t.Errorf("the id changed:\n%s", data)
	}
}

// A root that a document can't state is refused, not rounded.
func TestMarshalRefused(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		edit       func(r *repo.Root)
		path, says string
	}{
		"fraction of a second": {func(r *repo.Root) { r.Probe.Every += time.Millisecond }, "", "can't state"},
		"fraction in a time":   {func(r *repo.Root) { r.Locations[0].UseFrom = r.Locations[0].UseFrom.Add(1) }, "", "can't state"},
		"negative":             {func(r *repo.Root) { r.Parties[0].Min = -1 }, "parties[0].min", "at least 1"},
		"not UTF-8":            {func(r *repo.Root) { r.RepoID = "\xff" }, "repo_id", "not valid"},
		"zero key":             {func(r *repo.Root) { r.Parties[0].Keys = []tuf.Key{{}} }, "", "unsupported key"},
		"key twice":            {func(r *repo.Root) { r.Parties[0].Keys = []tuf.Key{ann, ann} }, "parties[0].keys[1]", "twice"},
		"part of a probe":      {func(r *repo.Root) { r.Probe.Every = 0 }, "probe.every_seconds", "at least 1"},
	} {
		root := parse(t, []byte(document()))
		x.edit(&root)
		_, err := charter.Marshal(root, nil)
		if e, ok := err.(*charter.Error); ok && name == "zero key" {
			x.path = e.Path
		}
		if e := wantErr(t, err, tuf.ErrMalformed, x.path, x.says); e.Line != 0 || !strings.HasPrefix(err.Error(), "charter: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Healed: a time in another zone is the same time.
	root := parse(t, []byte(document()))
	root.Locations[0].UseFrom = root.Locations[0].UseFrom.In(time.FixedZone("", 3600))
	data, err := charter.Marshal(root, nil)
	noErr(t, err)
	if got := parse(t, data); !reflect.DeepEqual(got, parse(t, []byte(document()))) {
		t.Errorf("%+v", got)
	}
}

// FuzzParse checks the laws for every document that Parse accepts: its canonical form is
// the same root with the same labels, and its own canonical form.
func FuzzParse(f *testing.F) {
	f.Add([]byte(document()))
	f.Add([]byte(`{"visum-charter": 1}`))
	f.Add([]byte(`{"visum-charter": 1, "keys": {"key-` + ann.ID()[:20] + `": ` + keyText(ann) + `}, "roles": {"targets": {"keys": ["key-` + ann.ID()[:20] + `"]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		root, labels, err := charter.Parse(data)
		if err != nil {
			if s := err.Error(); strings.Contains(s, "\n") || len(s) > 4096 {
				t.Errorf("%q", s)
			}
			return
		}
		canonical, err := charter.Marshal(root, labels)
		noErr(t, err)
		again, names, err := charter.Parse(canonical)
		noErr(t, err)
		if !reflect.DeepEqual(again, root) || !reflect.DeepEqual(names, labels) {
			t.Errorf("%s\nis\n%+v\nwant\n%+v", canonical, again, root)
		}
		twice, err := charter.Marshal(again, names)
		noErr(t, err)
		if !bytes.Equal(twice, canonical) {
			t.Errorf("%s\nhas the canonical form\n%s", canonical, twice)
		}
	})
}

// FuzzMarshal checks the law for roots with any text and numbers: what Marshal writes
// reads as the same root.
func FuzzMarshal(f *testing.F) {
	f.Add("agent", "CH\u2028<&>\"\\", int64(3), int64(60), uint8(0))
	f.Fuzz(func(t *testing.T, name, place string, n, seconds int64, bits uint8) {
		root := repo.Root{RepoID: name, Timestamp: repo.Keys{Threshold: int(n)}, Snapshot: repo.Keys{Keys: []tuf.Key{ann}, Threshold: 1}, Targets: repo.Keys{Threshold: 1},
			Parties:   []repo.Party{{Name: place, Keys: []tuf.Key{ann, bea}, Min: int(n)}},
			Classes:   []repo.Class{{Name: name, Prefix: place, HashBins: bits&1 > 0, Hold: &repo.Hold{Role: name, Keys: repo.Keys{Threshold: 1}, Max: time.Duration(seconds)}}},
			Locations: []tuf.Location{{ID: name, Jurisdiction: place, Priority: int(n), UseFrom: time.Unix(seconds, int64(bits&2)).UTC()}},
			Retired:   []tuf.Retired{{ID: place, Hosts: []string{name, place}}},
			Probe:     tuf.Probe{MinOperators: 1, Every: time.Second, MaxAge: time.Duration(seconds), Enforce: bits&4 > 0},
			Recovery:  &repo.RecoveryRule{Orgs: []repo.Org{{Name: name}}, Threshold: int(n), MinOrgs: 1, Hold: time.Hour, MinTicks: 3, Counter: n}}
		data, err := charter.Marshal(root, map[string]string{ann.ID(): name, bea.ID(): place})
		if err != nil {
			return
		}
		got, _, err := charter.Parse(data)
		noErr(t, err)
		if n == 0 { // the defaults
			root.Timestamp.Threshold, root.Parties[0].Min, root.Recovery.Threshold = 1, 1, 1
		}
		if !reflect.DeepEqual(got, root) {
			t.Errorf("%s\nis\n%+v\nwant\n%+v", data, got, root)
		}
	})
}
