package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/visum-dev/visum/repo/keys"
)

// machine is a directory with an environment, as a CI runner has.
type machine struct {
	t   *testing.T
	dir string
	env []string
}

// run runs a shell script and requires its exit status.
func (m *machine) run(status int, script string, env ...string) string {
	m.t.Helper()
	cmd := exec.Command("bash", "-e", "-c", script) // as GitHub Actions does
	cmd.Dir = m.dir
	cmd.Env = append(m.env[:len(m.env):len(m.env)], env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if got := cmd.ProcessState.ExitCode(); err != nil && got == -1 || got != status {
		m.t.Fatalf("%s\nexit status %d, want %d, %v:\n%s", script, got, status, err, out.String())
	}
	return out.String()
}

func (m *machine) write(name, content string) {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// party makes a party with keys that a program signs with, without a passphrase.
func (m *machine) party(name string, labels ...string) {
	m.t.Helper()
	for _, label := range labels {
		m.write(name+"/keys/x", "")
		file := filepath.Join(m.dir, name, "keys", label+".key")
		if _, err := keys.UnsafeGeneratePlain(file, label); err != nil {
			m.t.Fatal(err)
		}
		m.run(0, fmt.Sprintf(`cd %s && visum key add %s "$SIGNER?arg=%s" --for '%s %s'`, name, label, filepath.ToSlash(file), name, label))
	}
}

// blocks are the code blocks of docs/ci.md, by the file that their first line names, or
// by that line.
func blocks(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "ci.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		first, second, _ := strings.Cut(m[1], "\n")
		if strings.HasPrefix(first, "#!") {
			first, _, _ = strings.Cut(second, "\n")
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(first, "# "), ",")
		out[name] = m[1]
	}
	return out
}

// step is a step of a workflow.
type step struct {
	name, uses, run string
	env             map[string]string
}

// steps reads the steps of a workflow: the part of YAML that the files of ci init use.
func steps(t *testing.T, workflow string) (env map[string]string, out []step) {
	t.Helper()
	env = map[string]string{}
	lines := strings.Split(workflow, "\n")
	in := "" // the mapping that lines with a deeper indentation belong to
	for i := 0; i < len(lines); i++ {
		line := strings.TrimLeft(lines[i], " ")
		indent := len(lines[i]) - len(line)
		item := strings.HasPrefix(line, "- ") && indent == 6
		if item {
			out = append(out, step{env: map[string]string{}})
			line, indent = line[2:], 8
		}
		key, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case !ok || strings.HasPrefix(line, "#"):
		case indent == 0:
			in = key
		case indent == 2 && in == "env":
			env[key] = value
		case len(out) == 0:
		case indent == 8:
			s := &out[len(out)-1]
			switch in = key; key {
			case "name":
				s.name = value
			case "uses":
				s.uses = value
			case "run":
				s.run = value
				if value == "|" {
					s.run = ""
					for i+1 < len(lines) && (strings.HasPrefix(lines[i+1], "          ") || lines[i+1] == "") {
						i++
						s.run += strings.TrimPrefix(lines[i], "          ") + "\n"
					}
				}
			}
		case indent == 10 && in == "env":
			out[len(out)-1].env[key] = value
		}
	}
	if len(out) < 4 {
		t.Fatalf("only %d steps in\n%s", len(out), workflow)
	}
	return env, out
}

// workflow runs the scripts of a workflow.
func (m *machine) workflow(text string, want ...string) (log string) {
	m.t.Helper()
	env, all := steps(m.t, text)
	var vars, names []string
	for k, v := range env {
		vars = append(vars, k+"="+v)
	}
	for _, s := range all {
		if s.uses != "" {
			continue
		}
		names = append(names, s.name)
		more := vars
		for k, v := range s.env {
			more = append(more, k+"="+v)
		}
		log += m.run(0, s.run, more...)
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		m.t.Fatalf("steps %q, want %q", names, want)
	}
	return log
}

// object reads or writes an object of the bucket without the tool.
func object(t *testing.T, method, url string, data []byte) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return out
}

const charterScript = `
pub() { (cd "$1" && visum key pub "$2"); }
cat >vendor/charter.json <<EOF
{"visum-charter": 1, "repo_id": "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1",
 "keys": {"vendor-root": $(pub vendor root), "vendor-release": $(pub vendor release), "online": $(pub vendor online),
  "review-root": $(pub review root), "review-release": $(pub review release)},
 "parties": [{"name": "vendor", "keys": ["vendor-root"]}, {"name": "review", "keys": ["review-root"]}],
 "roles": {"timestamp": {"keys": ["online"]}, "snapshot": {"keys": ["online"]}, "targets": {"keys": ["online"]}},
 "classes": [{"name": "kestrel", "prefix": "kestrel/", "roles": [
  {"party": "vendor", "role": "vendor-kestrel", "keys": ["vendor-release"]},
  {"party": "review", "role": "review-kestrel", "keys": ["review-release"]}]}],
 "locations": [
  {"id": "main", "tier": "primary", "operator": "vendor-host", "base": "https://updates.vendor.example/r/", "paths": {"metadata": "metadata/", "targets": "targets/"}},
  {"id": "rdv", "tier": "rendezvous", "operator": "review-host", "base": "https://updates.review.example/r/", "paths": {"metadata": "metadata/"}}]}
EOF
cd vendor
visum init --from charter.json --repo "$BUCKET" --as vendor -o root1.draft
digest=$(visum draft show root1.draft | sed -n 's/^digest //p')
cp root1.draft ../review/
cd ../review
visum join root1.draft --as review --repo "$BUCKET" --digest "$digest"
cp root1.draft ../vendor/
cd ../vendor
visum draft publish root1.draft --yes
for p in . ../review; do printf 'exchange = "%s"\n' "$EXCHANGE" >>$p/visum.toml; done
`

// The files of docs/ci.md are those that ci init writes, and they work: they publish,
// the result is verified, and a client updates from it.
func TestCIPage(t *testing.T) {
	signerPath, err := exec.LookPath("signer")
	bash, err2 := exec.LookPath("bash")
	if err != nil || err2 != nil {
		t.Skip(err, err2, bash)
	}
	backend := s3mem.New()
	if err := backend.CreateBucket("acme"); err != nil {
		t.Fatal(err)
	}
	fake := gofakes3.New(backend).Server()
	server := httptest.NewServer(fake)
	defer server.Close()
	uri := func(prefix string) string {
		return "s3://acme/" + prefix + "?region=eu-central-1&endpoint=" + server.URL
	}
	m := &machine{t: t, dir: t.TempDir()}
	m.env = []string{"GORACE=" + os.Getenv("GORACE"), "PATH=" + m.dir + "/bin:" + os.Getenv("PATH"), "HOME=" + m.dir, "XDG_CONFIG_HOME=" + m.dir + "/config", "VISUM_IDENTITY=identity.toml",
		"AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=not a secret", "BUCKET=" + uri("kestrel"), "EXCHANGE=" + uri("exchange"),
		"SIGNER=exec:/" + strings.TrimPrefix(filepath.ToSlash(signerPath), "/"), "GITHUB_SERVER_URL=https://example.org", "GITHUB_REPOSITORY=acme/kestrel"}
	m.party("vendor", "root", "release", "online")
	m.party("review", "root", "release")
	m.run(0, charterScript)
	vendor, review := *m, *m
	vendor.dir, review.dir = filepath.Join(m.dir, "vendor"), filepath.Join(m.dir, "review")
	vendor.run(0, "visum pin show -o ../pin.json")

	page := blocks(t)
	ledger := uri("ledger")
	out := vendor.run(0, `visum ci init github --ledger '`+ledger+`' --allow renew,release:kestrel/ && visum ci init shell --ledger '`+ledger+`' --allow renew,release:kestrel/`)
	if !strings.Contains(out, "copied the records of this identity's ledger") || !strings.Contains(out, ".visum/ci.toml is like that already") {
		t.Fatal(out)
	}
	for _, name := range []string{".github/workflows/release.yml", ".github/workflows/renew.yml", "ci/visum.sh"} {
		have, err := os.ReadFile(filepath.Join(vendor.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if page[name] != string(have) {
			t.Errorf("docs/ci.md has another %s than ci init writes:\n%s", name, have)
		}
	}
	// The example identity file is valid.
	m.write("example/identity.toml", page[".visum/ci.toml"])
	m.write("example/visum.toml", page["visum.toml"])
	m.run(0, "cd example && visum config")

	// A runner has the checkout, programs, and neither the keys nor the ledger of a person.
	m.write("bin/go", "#!/bin/sh\necho go \"$@\"\n")
	m.write("bin/goreleaser", "#!/bin/sh\necho goreleaser \"$@\"\nrm -rf dist; cp -r ../built dist\n")
	built := func(version string) {
		m.write("built/metadata.json", fmt.Sprintf(`{"project_name":"kestrel","version":"%s","commit":"9d0c17"}`, version))
		m.write("built/artifacts.json", `[{"name":"kestrel","path":"dist/kestrel","goos":"linux","goarch":"amd64","type":"Binary"}]`)
		m.write("built/kestrel", "kestrel "+version)
	}
	vendor.run(0, "mv identity.toml ledger ..")
	get := func(status int, installed string) string {
		return m.run(status, "visum get kestrel --platform linux/amd64 --pin pin.json --state state --installed "+installed+` --from "$BUCKET" -o kestrel`)
	}

	// Release 1.4.0 with GitHub Actions. The review centre approves, the cron workflow
	// publishes the approval, and a client updates.
	built("1.4.0")
	log := vendor.workflow(page[".github/workflows/release.yml"], "install", "build", "publish")
	for _, want := range []string{"go install github.com/visum-dev/visum/cmd/visum@latest", "goreleaser release --clean", "published. NOT OFFERED yet: waits for review"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
	get(3, "1.3.0")
	approve := func(version string) {
		review.run(0, `visum review approve kestrel@`+version+` -o approve.draft && visum draft send approve.draft`)
	}
	approve("1.4.0")
	log = vendor.workflow(page[".github/workflows/renew.yml"], "install", "renew", "prune", "status")
	if !strings.Contains(log, "and OFFERED") {
		t.Fatal(log)
	}
	get(0, "1.3.0")
	m.run(0, `visum verify kestrel --pin pin.json --from "$BUCKET" | grep ^OFFERED && test "$(cat kestrel)" = "kestrel 1.4.0"`)

	document := server.URL + "/acme/ledger/0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1.ledger.json"
	older := object(t, http.MethodGet, document, nil)

	// Release 1.5.0 with the shell script.
	built("1.5.0")
	shell := vendor
	shell.env = append(m.env[:len(m.env):len(m.env)], "VISUM_IDENTITY=") // the script has a default
	shell.run(0, "goreleaser release && VISUM_SOURCE=git+https://example.org/kestrel ci/visum.sh release dist")
	// The review centre's process may only read the vendor's bucket.
	reading := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead && strings.HasPrefix(r.URL.Path, "/acme/kestrel/") {
			http.Error(w, "read only", http.StatusForbidden)
			return
		}
		fake.ServeHTTP(w, r)
	}))
	defer reading.Close()
	m.write("check", "#!/bin/sh\ntest \"$(cat \"$1\")\" = \"kestrel $VISUM_VERSION\"\n")
	review.run(0, "sed -i.bak '/^storage/s,endpoint=[^\"]*,endpoint="+reading.URL+",' visum.toml; sed -i.bak 's,^  repo_id.*,&\\n  automation = [\"release:kestrel/\"],' identity.toml")
	if out := review.run(0, "visum run --once --approve kestrel/ --check ../check"); !strings.Contains(out, "approved kestrel/stable/1.5.0/linux-amd64/kestrel") {
		t.Error(out)
	}
	review.run(0, "visum draft pull")
	shell.run(0, "ci/visum.sh renew")
	get(0, "1.4.0")
	m.run(0, `test "$(cat kestrel)" = "kestrel 1.5.0"`)
	get(3, "1.5.0")
	shell.run(0, "ci/visum.sh renew")
	shell.run(2, "ci/visum.sh")

	// What the machine may not sign needs a person, whatever the flags say.
	if out := shell.run(1, "VISUM_IDENTITY=.visum/ci.toml visum recall kestrel@1.5.0 --reason x --publish --yes"); !strings.Contains(out, "not permitted for automation") {
		t.Error(out)
	}

	// A machine that lasts refuses a backup of the ledger that is older than what it has seen.
	newest := object(t, http.MethodGet, document, nil)
	object(t, http.MethodPut, document, older)
	if out := shell.run(1, "VISUM_IDENTITY=.visum/ci.toml visum renew"); !strings.Contains(out, "it is an older copy") {
		t.Error(out)
	}
	object(t, http.MethodPut, document, newest)
	if out := shell.run(0, "mv .visum/ledger-seen seen; : >.visum/ledger-seen; ci/visum.sh status; rm .visum/ledger-seen; mv seen .visum/ledger-seen"); !strings.Contains(out, "warning: an older copy of the ledger would not be noticed") {
		t.Error(out)
	}

	// Each line of the crontab, and what a monitoring system reads.
	ran := 0
	for line := range strings.Lines(page["minute hour day month weekday command"]) {
		fields := strings.Fields(line)
		if len(fields) < 6 || strings.HasPrefix(line, "#") {
			continue
		}
		command := strings.Join(fields[5:], " ")
		command = strings.NewReplacer("/srv/kestrel", vendor.dir, "https://updates.acme.example/r/", `"$BUCKET"`, "/srv/mirror", filepath.Join(m.dir, "mirror")).Replace(command)
		shell.run(0, command)
		ran++
	}
	if ran != 5 {
		t.Errorf("%d lines in the crontab", ran)
	}
	if out := shell.run(0, "ci/visum.sh check status"); !strings.Contains(out, "OK: status") {
		t.Error(out)
	}
	shell.run(0, `visum get kestrel --platform linux/amd64 --pin ../pin.json --from ../mirror -o ../mirrored`)
	m.run(0, `cd vendor && cp visum.toml keep && sed 's,^storage.*,storage = "../mirror",' keep >visum.toml && rm ../mirror/targets/kestrel/stable/1.5.0/linux-amd64/*.kestrel`)
	if out := shell.run(2, "ci/visum.sh check fsck"); !strings.Contains(out, "CRITICAL: fsck") {
		t.Error(out)
	}
	m.run(0, `cd vendor && echo 'storage = "../nothing"' >visum.toml`)
	if out := shell.run(3, "ci/visum.sh check status"); !strings.Contains(out, "UNKNOWN: status") {
		t.Error(out)
	}
	shell.run(3, "ci/visum.sh check nonsense")
}
