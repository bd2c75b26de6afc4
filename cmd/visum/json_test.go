package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/cmd/visum/internal/cli"
	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf/tlog"
)

// noJSON are the commands whose output is not one JSON object, with the reason.
var noJSON = map[string]string{
	"serve": "runs until it is interrupted", "witness serve": "runs until it is interrupted", "dev": "serves until it is interrupted",
	"charter show": "prints a document", "key pub": "prints a document or a key", "pin show": "prints a pin",
	"recover sign": "as draft sign", "recover publish": "as draft publish",
	"run": "prints one JSON object a line; docs/ci.md",
}

// teller runs commands and remembers the shape of what each prints.
type teller struct {
	t      *testing.T
	dir    string
	days   int
	shapes map[string]any
}

// run runs a command with --json, in a folder and with an identity of the test's
// directory. Only the words before the first flag or name of a file are its path.
func (x *teller) run(folder, path string, args ...string) map[string]any {
	x.t.Helper()
	var out, errs bytes.Buffer
	env := map[string]string{"VISUM_PASSPHRASE_FILE": filepath.Join(x.dir, "pass"), "VISUM_IDENTITY": filepath.Join(x.dir, folder, "identity.toml")}
	all := append(strings.Fields(path), args...)
	all = append(all, "--json", "-C", filepath.Join(x.dir, folder))
	status := cli.Main(context.Background(), &cli.Process{Args: all, Out: &out, Err: &errs, Environ: os.Environ, Getenv: func(name string) string { return env[name] },
		Now: func() time.Time { return time.Now().AddDate(0, 0, x.days) }})
	if status != 0 && status != 3 && status != 5 || out.Len() == 0 {
		x.t.Fatalf("visum %q: status %d: %s", all, status, errs.String())
	}
	var v any
	d := json.NewDecoder(&out)
	if err := d.Decode(&v); err != nil || d.More() {
		x.t.Fatalf("visum %q: want one object: %v", all, err)
	}
	x.shapes[path] = merged(x.shapes[path], shapeOf(v))
	result, _ := v.(map[string]any)
	return result
}

// shapeOf replaces values by the names of their types, and lists by the shape of their
// elements. An object whose members are data, such as versions or labels, is a map.
func shapeOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, m := range v {
			if dataName.MatchString(name) {
				name = "*"
			}
			out[name] = merged(out[name], shapeOf(m))
		}
		return out
	case []any:
		var element any
		for _, e := range v {
			element = merged(element, shapeOf(e))
		}
		if element == nil {
			return []any{}
		}
		return []any{element}
	case string:
		if _, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return "time"
		}
		return "string"
	case bool:
		return "bool"
	case float64:
		return "number"
	}
	return "null"
}

// dataName matches names of members that are data: key ids and version numbers.
var dataName = regexp.MustCompile(`^([0-9a-f]{64}|[0-9]+)$`)

// merged is the shape of two examples.
func merged(a, b any) any {
	switch x := a.(type) {
	case nil:
		return b
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok {
			return a
		}
		out := maps.Clone(x)
		for name, m := range y {
			out[name] = merged(x[name], m)
		}
		return out
	case []any:
		y, ok := b.([]any)
		switch {
		case !ok || len(y) == 0:
			return a
		case len(x) == 0:
			return b
		}
		return []any{merged(x[0], y[0])}
	case string:
		if b == "string" {
			return b
		}
	}
	return a
}

// docs/json.md has the shape of what each command prints with --json. A change of a
// name is seen there. go test ./cmd/visum -run TestJSON -update writes it.
func TestJSON(t *testing.T) {
	if testing.Short() {
		t.Skip("runs every command; not with -short")
	}
	x := &teller{t: t, dir: t.TempDir(), shapes: map[string]any{}}
	write := func(name, content string) string {
		path := filepath.Join(x.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	story(x, write)
	var b strings.Builder
	b.WriteString(jsonHead)
	for _, path := range cli.Commands() {
		shape, seen := x.shapes[path]
		why, excused := noJSON[path]
		switch {
		case seen == excused:
			t.Errorf("visum %s: seen %t, without JSON %t", path, seen, excused)
		case excused:
			fmt.Fprintf(&b, "\n## visum %s\n\nNo object: %s.\n", path, why)
		default:
			data, err := json.MarshalIndent(shape, "", "  ")
			if err != nil || bytes.Contains(data, []byte(`"null"`)) || regexp.MustCompile(`"[A-Z][A-Za-z]*":`).Match(data) {
				t.Errorf("visum %s: a list that is null, or a member with a capital letter: %v %s", path, err, data)
			}
			fmt.Fprintf(&b, "\n## visum %s\n\n```json\n%s\n```\n", path, data)
		}
	}
	path := filepath.Join("..", "..", "docs", "json.md")
	if *update {
		write("done", "")
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != b.String() {
		t.Errorf("the output differs from docs/json.md: go test ./cmd/visum -run TestJSON -update: %v", err)
		for i, line := range strings.Split(b.String(), "\n") {
			if had := strings.Split(string(want), "\n"); i >= len(had) || had[i] != line {
				t.Errorf("line %d: %s", i+1, line)
				break
			}
		}
	}
}

const jsonHead = `# JSON output

With ` + "`--json`" + ` each command prints one object. This page has the shape of each: the members with the type of their values, ` + "`time`" + ` for RFC 3339 in UTC, and lists with the shape of an element; "*" is a member whose name is data, such as a version or a key id. A member that a command leaves out in some cases is listed too. Names are stable: members are added, none is renamed or removed within a major version. Durations are seconds if the name ends with ` + "`_seconds`" + `, nanoseconds if it ends with ` + "`_ns`" + `; lengths are bytes; hashes are lower-case hex.

Errors are text on standard error; ` + "`visum help exit-status`" + ` has the statuses. The page is written by a test that runs every command.
`

// story runs every command once or more.
func story(x *teller, write func(name, content string) string) {
	t := x.t
	write("pass", "correct horse battery staple\n")
	www := httptest.NewServer(mirror.Handler(storage.Dir(filepath.Join(x.dir, "vendor", "repository"))))
	t.Cleanup(www.Close)
	at := func(parts ...string) string { return filepath.Join(append([]string{x.dir}, parts...)...) }
	copyFile := func(from, to string) {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(strings.TrimPrefix(to, x.dir+string(filepath.Separator)), string(data))
	}
	for party, purposes := range map[string][]string{"third": {"witness"}, "vendor": {"root", "release", "online", "hold"}, "review": {"root", "release"}, "bank": {"recovery"}, "law": {"recovery"}, "centre": {"root", "release"}} {
		for _, p := range purposes {
			x.run(party, "key new", party+"-"+p, "--unsafe-plain", "--for", party+" "+p)
		}
	}
	x.run("third", "witness key", "--key", "third-witness", "--name", "third.example/w1")
	l, cosigner := rawlog.NewLog("vendor.example/visum/1"), rawlog.NewSigner("third.example", tlog.TypeCosigner)
	l.Append([]byte("an entry"))
	x.run("third", "tlog check", "--policy", write("policy", "log "+l.Key.String()+"\nwitness third "+cosigner.String()+"\nquorum third\n"),
		"--entry", write("entry", "an entry"), write("tlog-proof", string(l.Proof(0, l.Note(time.Now(), cosigner)))))
	pub := func(party string) string {
		var out bytes.Buffer
		cli.Main(context.Background(), &cli.Process{Args: []string{"key", "pub", "--party", party}, Out: &out, Err: os.Stderr, Getenv: func(n string) string {
			return map[string]string{"VISUM_IDENTITY": at(party, "identity.toml")}[n]
		}})
		return write(party+".keys", out.String())
	}
	text := func(folder string, args ...string) string {
		var out, errs bytes.Buffer
		status := cli.Main(context.Background(), &cli.Process{Args: append(args, "-C", at(folder)), Out: &out, Err: &errs, Getenv: func(n string) string {
			return map[string]string{"VISUM_IDENTITY": at(folder, "identity.toml")}[n]
		}})
		if status != 0 {
			t.Fatalf("visum %q: %s", args, errs.String())
		}
		return out.String()
	}
	x.run("vendor", "init", "--product", "kestrel", "--repo", "repository", "--url", www.URL+"/", "--operator", "vendor-host", "--roots-url", "https://updates.review.example/r/", "--keys", pub("review"), "--unsafe-loopback", "-o", at("root1.draft"))
	digest := x.run("vendor", "draft show", at("root1.draft"))["digest"].(string)
	x.run("review", "join", at("root1.draft"), "--as", "review", "--digest", digest, "--unsafe-loopback")
	x.run("vendor", "draft publish", at("root1.draft"), "--yes")
	x.run("vendor", "location list")
	pin := write("pin.json", text("vendor", "pin", "show"))
	x.run("vendor", "pin fingerprint", pin)
	x.run("vendor", "config")
	x.run("vendor", "key list")

	// A recovery rule, for later, by the charter document.
	var doc map[string]any
	if err := json.Unmarshal([]byte(text("vendor", "charter", "show")), &doc); err != nil {
		t.Fatal(err)
	}
	orgs := []any{}
	for _, org := range []string{"bank", "law"} {
		var keys struct {
			Keys []struct{ Key any } `json:"keys"`
		}
		data, err := os.ReadFile(pub(org))
		if err == nil {
			err = json.Unmarshal(data, &keys)
		}
		if err != nil {
			t.Fatal(err)
		}
		doc["keys"].(map[string]any)[org] = keys.Keys[0].Key
		orgs = append(orgs, map[string]any{"name": org, "keys": []any{org}})
	}
	doc["recovery"] = map[string]any{"orgs": orgs, "threshold": 2, "min_orgs": 2, "hold_seconds": 86400, "min_ticks": 2}
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	// both lets the review centre sign a draft, and publishes it.
	both := func(draft string, flags ...string) {
		t.Helper()
		x.run("review", "clone", at("vendor", "repository"), at("review", "repository"), "--pin", pin, "--unsafe-loopback")
		d := x.run("review", "draft show", draft)["digest"].(string)
		x.run("review", "draft sign", draft, "--digest", d)
		x.run("vendor", "draft publish", append([]string{draft, "--yes"}, flags...)...)
	}
	x.run("vendor", "charter diff", write("charter.json", string(data)))
	x.run("vendor", "charter apply", at("charter.json"), "-o", at("rule.draft"))
	// A key that no key store of visum opens signs the bytes of the draft.
	x.run("review", "clone", at("vendor", "repository"), at("review", "repository"), "--pin", pin, "--unsafe-loopback")
	x.run("review", "draft payload", at("rule.draft"), "root", "-o", at("root.bin"))
	signer, err := keys.Open(t.Context(), keys.FileURI(at("review", "keys", "review-root.key")), nil)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.Sign(t.Context(), mustRead(t, at("root.bin")))
	if err != nil {
		t.Fatal(err)
	}
	x.run("review", "draft attach", at("rule.draft"), "root", "--key", "review-root", "--signature", write("root.sig", string(sig)))
	both(at("rule.draft"))

	// Releases.
	file := write("kestrel", "kestrel 1.0\n")
	x.run("vendor", "add", file, "--product", "kestrel", "--version", "1.0.0", "--channel", "beta", "--platform", "any", "--source", "git+https://example.org/kestrel@9d0c17", "-o", at("1.draft"))
	copyFile(at("1.draft"), at("other.draft"))
	x.run("vendor", "draft missing", at("1.draft"))
	x.run("vendor", "draft merge", at("1.draft"), at("other.draft"))
	x.run("review", "clone", at("vendor", "repository"), at("review", "repository"), "--pin", pin, "--unsafe-loopback")
	x.run("review", "review list", "--in", at("1.draft"))
	x.run("review", "review approve", "kestrel@1.0.0", "--in", at("1.draft"), "--reviewer", "reviewer 1")
	x.run("vendor", "draft publish", at("1.draft"), "--yes")
	approve := func() {
		t.Helper()
		x.run("review", "clone", at("vendor", "repository"), at("review", "repository"), "--pin", pin, "--unsafe-loopback")
		x.run("review", "review approve", "kestrel@1.0.0", "-o", at("a.draft"))
		x.run("vendor", "draft publish", at("a.draft"), "--yes")
	}
	x.run("vendor", "promote", "kestrel@1.0.0", "--to", "stable", "--rollout", "50%", "--publish")
	approve()
	x.run("vendor", "rollout", "kestrel@1.0.0", "100%", "--publish")
	approve()
	bad := write("bad", "kestrel 1.1\n")
	x.run("vendor", "add", bad, "--product", "kestrel", "--version", "1.1.0", "--platform", "any", "--publish")
	x.run("review", "clone", at("vendor", "repository"), at("review", "repository"), "--pin", pin, "--unsafe-loopback")
	x.run("vendor", "status")
	x.run("review", "review get", "kestrel@1.1.0", "-o", at("look"))
	if string(mustRead(t, at("look", "kestrel", "stable", "1.1.0", "any", "bad"))) != "kestrel 1.1\n" {
		t.Error("review get wrote other bytes")
	}
	x.run("review", "review refuse", "kestrel@1.1.0", "--reason", "data loss", "-o", at("r.draft"))
	x.run("vendor", "draft publish", at("r.draft"), "--yes")
	write("rules/1", "a rule\n")
	x.run("vendor", "sync", at("rules"), "kestrel/rules/", "--publish")
	x.run("vendor", "remove", "kestrel/rules/1", "--publish")
	x.run("vendor", "hold", "kestrel@1.0.0", "--reason", "a doubt", "--for", "1d", "--publish")
	x.run("vendor", "verify", file, "--pin", pin, "--from", at("vendor", "repository"), "--unsafe-loopback")
	x.run("vendor", "unhold", "kestrel@1.0.0", "--publish")

	// Auditors and operators.
	x.run("vendor", "verify", file, "--pin", pin, "--from", at("vendor", "repository"), "--unsafe-loopback")
	x.run("vendor", "receipt", file, "--path", "kestrel/stable/1.0.0/any/kestrel", "-o", at("kestrel.receipt"))
	x.run("vendor", "verify", file, "--pin", pin, "--receipt", at("kestrel.receipt"), "--unsafe-loopback")
	for _, what := range []string{"releases", "roots", "keys", "statements"} {
		x.run("vendor", "history "+what)
	}
	x.run("vendor", "get", "kestrel", "--pin", pin, "--from", at("vendor", "repository"), "--unsafe-loopback", "-o", at("got"))
	x.run("vendor", "status", "--within", "400d")
	x.run("vendor", "renew")
	x.run("vendor", "fsck", "--mirror", at("review", "repository"))
	x.run("vendor", "prune", "--dry-run")
	x.run("vendor", "bundle", at("bundle.zip"), "--metadata", "--targets", "kestrel/")
	x.run("vendor", "ledger export", at("ledger.export"))
	x.run("vendor", "ledger import", at("ledger.export"))
	x.run("vendor", "ledger adopt")
	x.run("vendor", "ledger show")
	x.run("review", "ledger show")
	x.run("vendor", "man", at("man"))
	write("program/main.go", "package main\n")
	x.run("vendor", "embed", at("program"), "--product", "kestrel")

	// The exchange, and CI.
	write("exchange/README", "")
	write("vendor/visum.toml", string(mustRead(t, at("vendor", "visum.toml")))+"exchange = \""+filepath.ToSlash(at("exchange"))+"\"\n")
	x.run("vendor", "add", write("kestrel2", "kestrel 2\n"), "--product", "kestrel", "--version", "2.0.0", "--platform", "any", "-o", at("2.draft"))
	x.run("vendor", "draft send", at("2.draft"))
	x.run("vendor", "draft pull", "--out", at("pulled"))
	x.run("vendor", "ci init", "shell", "--ledger", at("ciledger"), "--allow", "renew")

	// A move, keys, and another organisation.
	x.run("vendor", "location add", "mirror", "--base", "https://mirror.bank.example/r/", "--operator", "bank", "-o", at("l.draft"))
	both(at("l.draft"))
	x.run("vendor", "location remove", "roots", "--dry-run")
	for _, p := range []string{"root", "release", "online"} {
		x.run("vendor", "key new", p+"-2", "--unsafe-plain", "--for", "vendor "+p)
	}
	x.run("vendor", "key compromised", "vendor-release", "vendor-online")
	x.run("vendor", "key rotate", "vendor-release=release-2", "--dry-run")
	x.run("vendor", "party replace", "review", "--name", "centre", "--keys", pub("centre"), "--dry-run")
	move := at("move.json")
	x.run("vendor", "move new", move, "--from", "main", "--to", "ch,https://updates.vendor-ch.example/r/,operator=vendor-ch", "--cutover", "8d", "--retire", "40d", "--sunset", "50d")
	x.run("vendor", "move plan", move)
	x.run("vendor", "move status", move)
	x.run("vendor", "move preflight", "--offline", "--move", move)
	x.run("vendor", "move drill", "--move", move)
	x.run("vendor", "move announce", move, "-o", at("announce.draft"))
	both(at("announce.draft"))
	log := write("access.log", `192.0.2.1 - - [28/Nov/2026:10:00:00 +0000] "GET /r/metadata/4.root.json HTTP/1.1" 404 9`+"\n")
	x.run("vendor", "move adoption", "--location", "main", "--move", move, log)
	x.run("vendor", "move roots-only", at("old-host"))
	x.run("vendor", "move abort", move, "--dry-run")
	x.run("vendor", "move emergency", move, "--dry-run")
	x.days = 9
	x.run("vendor", "renew")
	x.run("vendor", "move cutover", move, "-o", at("cutover.draft"))
	both(at("cutover.draft"), "--move", move)
	x.days = 41
	x.run("vendor", "renew")
	x.run("vendor", "move retire", move, "--dry-run")
	x.run("vendor", "recall", "kestrel@1.0.0", "--reason", "data loss", "--publish")
	x.run("vendor", "key remove", "vendor-hold")
	x.run("vendor", "key add", "hold-2", "file:"+filepath.ToSlash(at("vendor", "keys", "vendor-hold.key")), "--for", "vendor hold")

	// The review centre has lost its root key.
	if err := json.Unmarshal([]byte(text("vendor", "charter", "show")), &doc); err != nil {
		t.Fatal(err)
	}
	x.run("vendor", "key new", "root-3", "--unsafe-plain", "--for", "vendor root")
	x.run("vendor", "key new", "online-3", "--unsafe-plain", "--for", "vendor online")
	var next any
	if err := json.Unmarshal([]byte(text("vendor", "key", "pub", "online-3")), &next); err != nil {
		t.Fatal(err)
	}
	doc["keys"].(map[string]any)["online-2"] = next
	if data, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	draft := at("recover.draft")
	x.run("vendor", "recover stage", write("recovered.json", string(data)), "--reason", "fire", "-o", draft)
	digest = x.run("vendor", "draft show", draft)["digest"].(string)
	for _, org := range []string{"review", "bank", "law"} {
		if org != "review" {
			write(org+"/visum.toml", strings.Split(string(mustRead(t, at("vendor", "visum.toml"))), "exchange")[0])
			write(org+"/identity.toml", string(mustRead(t, at(org, "identity.toml")))+fmt.Sprintf("\n[[repository]]\n%sparty = %q\npin = %q\nledger = \"ledger\"\nunsafe_loopback = true\n", strings.Split(string(mustRead(t, at("vendor", "visum.toml"))), "storage")[0], org, pin))
		}
		x.run(org, "clone", at("vendor", "repository"), at(org, "repository"), "--pin", pin, "--unsafe-loopback")
		if org != "review" {
			x.run(org, "ledger adopt", "--digest", x.run(org, "ledger adopt")["digest"].(string))
		}
		x.run(org, "draft sign", draft, "--digest", digest)
	}
	x.run("vendor", "draft publish", draft, "--yes")
	x.run("vendor", "recover renew", "--reason", "fire", "--dry-run")
	x.run("vendor", "fsck")
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
