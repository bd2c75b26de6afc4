// Package archtest checks the rules that the whole source tree obeys.
package archtest

import (
	"bytes"
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/visum-dev/visum"

// imports returns the direct imports of a package's files, tests left out.
func imports(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	n := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		n++
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, path)
		}
	}
	if n == 0 {
		t.Fatalf("no files in %s", dir)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func refuse(t *testing.T, dir string, forbidden ...string) {
	t.Helper()
	for _, path := range imports(t, dir) {
		for _, f := range forbidden {
			if path == f || strings.HasSuffix(f, "/") && strings.HasPrefix(path, f) {
				t.Errorf("%s imports %s", dir, path)
			}
		}
	}
}

// examples -> client, repo -> tuf -> internal.
func TestImportsRunOneWay(t *testing.T) {
	refuse(t, "client", module+"/repo", module+"/repo/", module+"/examples/")
	for _, dir := range []string{"repo", "repo/relocate"} {
		refuse(t, dir, module+"/client", module+"/client/", module+"/repo/drill", module+"/repo/keys", module+"/examples/")
	}
	refuse(t, "repo/storage", module+"/client", module+"/client/", module+"/repo", module+"/repo/", module+"/examples/")
	// Storages in object stores are imported by programs and link the SDK there only.
	refuse(t, "repo/storage/git", module+"/client", module+"/client/", module+"/repo", module+"/repo/mirror", module+"/repo/relocate", module+"/repo/drill", module+"/repo/keys", module+"/repo/signing", module+"/repo/storage/s3", module+"/examples/")
	refuse(t, "repo/storage/s3", module+"/client", module+"/client/", module+"/repo", module+"/repo/mirror", module+"/repo/relocate", module+"/repo/drill", module+"/repo/keys", module+"/repo/signing", module+"/examples/")
	for _, dir := range []string{"client", "repo", "repo/storage", "repo/mirror", "repo/relocate", "repo/signing", "repo/drill", "tuf"} {
		refuse(t, dir, module+"/repo/storage/git", module+"/repo/storage/s3", "github.com/aws/")
	}
	refuse(t, "repo/keys", module+"/client", module+"/client/", module+"/repo", module+"/repo/", module+"/examples/")
	refuse(t, "tuf/attestation", module+"/client", module+"/client/", module+"/repo", module+"/repo/", module+"/examples/")
	refuse(t, "tuf/receipt", module+"/client", module+"/client/", module+"/repo", module+"/repo/", module+"/tuf/gotuf", module+"/internal/metafile", module+"/examples/")
	refuse(t, "repo/cosign", module+"/client", module+"/client/", module+"/repo", module+"/repo/", module+"/examples/")
	refuse(t, "repo/tiles", module+"/client", module+"/client/", module+"/repo/mirror", module+"/repo/relocate", module+"/repo/drill", module+"/repo/keys", module+"/repo/witness", module+"/repo/cosign", module+"/repo/storage/s3", module+"/repo/storage/git", module+"/examples/")
	refuse(t, "repo", module+"/repo/tiles", module+"/repo/witness")
	refuse(t, "repo/witness", module+"/client", module+"/client/", module+"/repo", module+"/repo/mirror", module+"/repo/relocate", module+"/repo/drill", module+"/repo/keys", module+"/repo/signing", module+"/examples/")
	refuse(t, "tuf/tlog", module+"/client", module+"/client/", module+"/repo", module+"/repo/", module+"/tuf", module+"/examples/")
	refuse(t, "tuf", module+"/client", module+"/client/", module+"/repo", module+"/repo/", module+"/examples/")
	refuse(t, "repo/charter", "os", "net/http", module+"/client", module+"/client/", module+"/repo/relocate", module+"/repo/drill", module+"/repo/mirror", module+"/examples/")
	refuse(t, "repo", module+"/repo/charter", module+"/repo/exchange")
	refuse(t, "repo/exchange", module+"/client", module+"/client/", module+"/repo/mirror", module+"/repo/relocate", module+"/repo/drill", module+"/repo/keys", module+"/repo/storage/s3", module+"/examples/")
	refuse(t, "repo/mirror", module+"/client", module+"/client/", module+"/repo", module+"/repo/relocate", module+"/repo/drill", module+"/repo/keys", module+"/examples/")
	for _, dir := range []string{"internal/walk", "internal/chain", "internal/metafile"} {
		refuse(t, dir, module+"/client", module+"/client/", module+"/repo", module+"/repo/mirror", module+"/repo/relocate", module+"/repo/drill", module+"/repo/keys", module+"/examples/")
	}
	for _, dir := range []string{"internal/wire", "internal/layout", "internal/text", "internal/durable"} {
		refuse(t, dir, module+"/client", module+"/repo", module+"/repo/", module+"/tuf", module+"/tuf/", module+"/examples/")
	}
}

// A key store is imported by programs only: client and repo link none of the stores, and
// each store is a package of its own, which imports neither client nor repo.
func TestKeyStores(t *testing.T) {
	const keys = module + "/repo/keys"
	allowed := []string{keys, keys + "/internal/store", module + "/tuf"}
	stores := []string{"repo/keys/awskms", "repo/keys/exec", "repo/keys/hashivault", "repo/keys/internal/store", "repo/keys/keystest", "repo/keys/pkcs11"}
	for _, dir := range stores {
		for _, path := range imports(t, dir) {
			if strings.HasPrefix(path, module) && !slices.Contains(allowed, path) && !strings.HasPrefix(path, module+"/internal/") {
				t.Errorf("%s imports %s", dir, path)
			}
		}
	}
	out, err := exec.Command("go", "list", "-deps", module+"/client", module+"/repo", module+"/repo/mirror", module+"/repo/relocate", module+"/repo/drill", module+"/tuf/gotuf").Output()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(out), module+"/"); n < 10 {
		t.Fatalf("only %d packages", n)
	}
	for _, path := range strings.Fields(string(out)) {
		if path == keys || strings.HasPrefix(path, keys+"/") {
			t.Errorf("client or repo reaches %s", path)
		}
	}
	for _, path := range imports(t, "repo/keys") {
		if strings.HasPrefix(path, keys+"/") {
			t.Errorf("repo/keys imports %s, so every program links it", path)
		}
	}
}

// The verifier has no access to network, disk, log or clock.
func TestVerifierIsPure(t *testing.T) {
	for _, dir := range []string{"tuf", "tuf/attestation", "tuf/receipt", "tuf/tlog", "internal/wire"} {
		refuse(t, dir, "os", "net", "net/http", "log", "log/slog", "math/rand", "math/rand/v2", "path/filepath", "syscall", "io/ioutil")
		files, _ := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file, "_test.go") && bytes.Contains(src, []byte("time.Now")) {
				t.Errorf("%s asks for the time", file)
			}
		}
	}
}

// client and repo meet in the tool, in examples and in tests, and in the one package that
// rehearses a repository against clients, which no other package imports. go-tuf's machinery
// is used there alone too, as the counterpart: elsewhere only its vocabulary is
// (see the package comment of visum).
func TestWhereClientAndRepoMeet(t *testing.T) {
	const meeting = module + "/repo/drill"
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(p.ImportPath, module+"/examples/") || strings.HasPrefix(p.ImportPath, module+"/cmd/") {
			continue
		}
		if p.ImportPath == meeting {
			seen = slices.Contains(p.Imports, module+"/client") && slices.Contains(p.Imports, module+"/repo")
			continue
		}
		from := func(prefix string) bool {
			return slices.ContainsFunc(p.Imports, func(i string) bool { return i == prefix || strings.HasPrefix(i, prefix+"/") })
		}
		if from(meeting) || from(module+"/client") && from(module+"/repo") {
			t.Errorf("%s imports client and repo, or where they meet", p.ImportPath)
		}
		if slices.ContainsFunc(p.Imports, func(i string) bool {
			return strings.HasPrefix(i, "github.com/theupdateframework/go-tuf/v2/metadata/")
		}) {
			t.Errorf("%s imports go-tuf's machinery", p.ImportPath)
		}
	}
	if !seen {
		t.Errorf("%s was not seen to import both", meeting)
	}
}

// What a product links when it embeds client is bounded by name: a new module
// here is a decision, not an accident.
func TestWhatClientPullsIn(t *testing.T) {
	allowed := []string{
		"github.com/gofrs/flock",
		"golang.org/x/mod", // sumdb/note and sumdb/tlog, which import nothing else
		"golang.org/x/sys",
		module,
	}
	out, err := exec.Command("go", "list", "-deps", "-json=Module", module+"/client").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p struct{ Module *struct{ Path string } }
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if p.Module != nil && !seen[p.Module.Path] {
			seen[p.Module.Path] = true
			if !slices.Contains(allowed, p.Module.Path) {
				t.Errorf("client links %s", p.Module.Path)
			}
		}
	}
	if !seen[module] {
		t.Fatal("nothing listed")
	}
}

// What the README shows is part of tested Examples, letter for letter, but for the
// indentation of a part of a function. Both snippets are short: 25 lines of a function,
// and ten lines without comments.
func TestREADMEShowsTheExamples(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		heading, file, from string
		lines               int
	}{
		{"## A client in 25 lines", "../../client/example_test.go", "func update", 25},
		{"## A repository in ten lines", "../../repo/example_test.go", "", 10},
	} {
		example, err := os.ReadFile(tt.file)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, ok := strings.Cut(string(readme), tt.heading+"\n\n```go\n")
		snippet, _, ok2 := strings.Cut(rest, "```")
		inside := "\t" + strings.ReplaceAll(strings.TrimSuffix(snippet, "\n"), "\n", "\n\t") + "\n"
		if !ok || !ok2 || !strings.Contains(string(example), snippet) && !strings.Contains(string(example), "\n"+inside) {
			t.Errorf("%s: the snippet is not part of %s", tt.heading, tt.file)
		}
		_, body, ok := strings.Cut(snippet, tt.from)
		n := 0
		for line := range strings.Lines(body) {
			if !strings.HasPrefix(line, "//") {
				n++
			}
		}
		if !ok || n > tt.lines {
			t.Errorf("%s takes %d lines", tt.heading, n)
		}
	}
}

// Both commands that the README promises are the ones that CI runs.
func TestREADMECommands(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	ci, err := os.ReadFile("../../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []string{"go run ./examples/quickstart", "go test ./..."} {
		if !strings.Contains(string(readme), "\n"+cmd+" ") || !strings.Contains(string(ci), cmd) {
			t.Errorf("%q stands in the README and in .ci/run", cmd)
		}
	}
}

// Files stay readable in one go, and have no notes for later work.
func TestFileSizes(t *testing.T) {
	n := 0
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		n++
		src, err := os.ReadFile(path)
		if lines := bytes.Count(src, []byte("\n")); lines > 600 {
			t.Errorf("%s has %d lines", path, lines)
		}
		for _, mark := range []string{"TO" + "DO", "FIX" + "ME"} {
			if bytes.Contains(src, []byte(mark)) {
				t.Errorf("%s leaves a %s", path, mark)
			}
		}
		return err
	})
	if err != nil || n < 20 {
		t.Fatal(n, err)
	}
}
