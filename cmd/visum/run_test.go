package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/cmd/visum/internal/cli"
)

// pair is a repository for development with a vendor and a review centre, whose
// processes share a clock and an exchange.
type pair struct {
	t   *testing.T
	dir string
	mu  sync.Mutex
	at  time.Time
}

func newPair(t *testing.T, kinds string) *pair {
	t.Helper()
	return newPairAt(t, kinds, time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC))
}

func newPairAt(t *testing.T, kinds string, at time.Time) *pair {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the checks are shell scripts")
	}
	p := &pair{t: t, dir: filepath.Join(t.TempDir(), "d"), at: at}
	p.command(0, "dev", p.dir, "--product", "rules", "--serve=false")
	p.edit("identity.toml", "  party = \"vendor\"\n  pin", "  party = \"vendor\"\n  automation = ["+kinds+"]\n  pin")
	p.edit("identity.toml", "  party = \"review\"\n  pin", "  party = \"review\"\n  automation = ["+kinds+"]\n  pin")
	p.edit("visum.toml", "storage", "exchange = \"../exchange\"\nstorage")
	p.write("in/a", "a 1")
	return p
}

func (p *pair) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func (p *pair) pass(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = p.at.Add(d)
}

func (p *pair) write(name, content string) {
	p.t.Helper()
	path := filepath.Join(filepath.Dir(p.dir), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) edit(name, old, now string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	data, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(data, []byte(old)) {
		p.t.Fatalf("%s has no %q: %v\n%s", name, old, err, data)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte(old), []byte(now), 1), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// dropKey takes a key out of the key ring.
func (p *pair) dropKey(label string) {
	p.t.Helper()
	p.command(0, "key", "remove", label)
}

func (p *pair) process(out *bytes.Buffer, args ...string) *cli.Process {
	env := map[string]string{"VISUM_IDENTITY": filepath.Join(p.dir, "identity.toml"), "PATH": os.Getenv("PATH")}
	return &cli.Process{Args: args, Out: out, Err: out, Now: p.now, Getenv: func(k string) string { return env[k] }, Environ: func() []string { return nil }}
}

// command runs one command and requires its exit status.
func (p *pair) command(status int, args ...string) string {
	p.t.Helper()
	var out bytes.Buffer
	if got := cli.Main(p.t.Context(), p.process(&out, args...)); got != status {
		p.t.Fatalf("%q: exit status %d, want %d\n%s", args, got, status, out.String())
	}
	return out.String()
}

func (p *pair) once(status int, party string, args ...string) string {
	p.t.Helper()
	return p.command(status, append([]string{"-C", p.dir, "--as", party, "run", "--once"}, args...)...)
}

func (p *pair) in() string { return filepath.Join(filepath.Dir(p.dir), "in") + "=rules/" }

// rounds runs a process, and calls between after each round with its number and the
// time that it waits; the process is interrupted when between returns false.
func (p *pair) rounds(party string, between func(round int, wait time.Duration, out *bytes.Buffer) bool, args ...string) []map[string]any {
	p.t.Helper()
	ctx, interrupt := context.WithCancel(p.t.Context())
	defer interrupt()
	var out bytes.Buffer
	proc := p.process(&out, append([]string{"-C", p.dir, "--as", party, "--json", "run", "--every", "15s"}, args...)...)
	n := 0
	proc.Wait = func(ctx context.Context, d time.Duration) error {
		n++
		if n > 100 || !between(n, d, &out) {
			interrupt()
			return ctx.Err()
		}
		p.pass(d)
		return nil
	}
	if got := cli.Main(ctx, proc); got != 0 {
		p.t.Fatalf("exit status %d\n%s", got, out.String())
	}
	return p.events(out.String())
}

// events reads JSON lines, and checks that help run names their members and events.
func (p *pair) events(out string) (events []map[string]any) {
	p.t.Helper()
	help := strings.NewReplacer(",", " ", ".", " ", ":", " ", "(digest)", "").Replace(p.command(0, "run", "--help"))
	words := strings.Fields(help[strings.Index(help, "With --json"):])
	for line := range strings.Lines(out) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			p.t.Fatalf("%q: %v", line, err)
		}
		for name := range e {
			if !slices.Contains(words, name) {
				p.t.Errorf("the help does not name the member %s", name)
			}
		}
		if !slices.Contains(words, fmt.Sprint(e["event"])) {
			p.t.Errorf("the help does not name the event %s", e["event"])
		}
		for _, name := range []string{"time", "event", "repo_id", "party"} {
			if e[name] == nil {
				p.t.Errorf("%s lacks %s", line, name)
			}
		}
		events = append(events, e)
	}
	return events
}

func names(events []map[string]any) string {
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprint(e["event"]))
	}
	return strings.Join(out, " ")
}

// A file of the vendor's folder changes, the review centre's process has it checked, and
// the vendor's process publishes the approval: then it is offered. A round without work
// writes nothing.
func TestRunRounds(t *testing.T) {
	p := newPair(t, `"files:rules/"`)
	p.write("check", "#!/bin/sh\ntest \"$(cat \"$1\")\" != bad\n")
	check := filepath.Join(filepath.Dir(p.dir), "check")
	review := func() { p.once(0, "review", "--approve", "rules/", "--check", check) }
	quiet := 0
	events := p.rounds("vendor", func(round int, wait time.Duration, out *bytes.Buffer) bool {
		if wait != 15*time.Second {
			t.Errorf("waits %s", wait)
		}
		switch round {
		case 1, 4:
			review()
		case 3:
			quiet = out.Len()
			p.write("in/b", "b 1")
		case 6:
			return false
		}
		if round == 2 {
			quiet = out.Len()
		} else if round == 3 && out.Len() != quiet {
			t.Error("a round without work writes")
		}
		return true
	}, "--sync", p.in())
	if got, want := names(events), "started synced published published synced published published stopped"; got != want {
		t.Fatalf("%s\nwant %s", got, want)
	}
	for i, want := range map[int]bool{2: false, 3: true, 5: false, 6: true} {
		if events[i]["offered"] != want {
			t.Errorf("event %d: %v", i, events[i])
		}
	}
	if e := events[4]; e["files"] != 2.0 || e["changed"] != 1.0 || e["path"] != "rules/" || e["step"] != "sync" {
		t.Errorf("%v", e)
	}
	if out := p.command(0, "-C", p.dir, "--as", "vendor", "draft", "pull"); out != "no drafts\n" {
		t.Error(out)
	}
}

// An error of a round is reported; the next one begins later each time, with a bound,
// and work continues when the cause is gone.
func TestRunBacksOff(t *testing.T) {
	p := newPair(t, `"renew", "files:rules/"`)
	var waits []time.Duration
	away := p.dir + "/away"
	events := p.rounds("vendor", func(round int, wait time.Duration, _ *bytes.Buffer) bool {
		waits = append(waits, wait)
		switch round {
		case 1:
			if err := os.Rename(filepath.Join(p.dir, "repository"), away); err != nil {
				t.Fatal(err)
			}
		case 9:
			if err := os.Rename(away, filepath.Join(p.dir, "repository")); err != nil {
				t.Fatal(err)
			}
			p.write("in/b", "b 1")
		}
		return round < 11
	}, "--sync", p.in())
	s := time.Second
	want := []time.Duration{15 * s, 30 * s, 60 * s, 120 * s, 240 * s, 480 * s, 900 * s, 900 * s, 900 * s, 15 * s, 15 * s}
	if !slices.Equal(waits, want) {
		t.Errorf("waits %v\nwant %v", waits, want)
	}
	if got := names(events); strings.Count(got, "error") < 8 || !strings.HasSuffix(got, "synced published stopped") {
		t.Error(got)
	}
	retries := 0
	for _, e := range events {
		if e["retry_seconds"] != nil {
			retries++
			if e["reason"] == nil {
				t.Errorf("%v", e)
			}
		}
	}
	if retries != 8 {
		t.Errorf("%d rounds with errors reported", retries)
	}
}

// interrupting is a writer that interrupts the process at an event.
type interrupting struct {
	bytes.Buffer
	at        string
	interrupt func()
}

func (w *interrupting) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.at)) {
		w.interrupt()
	}
	return w.Buffer.Write(p)
}

// An interrupt in the middle of a step lets the step complete, and the last event says
// which one it was.
func TestRunStops(t *testing.T) {
	p := newPair(t, `"files:rules/"`)
	ctx, interrupt := context.WithCancel(t.Context())
	out := &interrupting{at: `"event":"synced"`, interrupt: interrupt}
	proc := p.process(nil, "-C", p.dir, "--as", "vendor", "--json", "run", "--sync", p.in())
	proc.Out, proc.Err = out, out
	if got := cli.Main(ctx, proc); got != 0 {
		t.Fatalf("exit status %d\n%s", got, out.String())
	}
	events := p.events(out.String())
	if got := names(events); got != "started synced published stopped" {
		t.Fatal(got)
	}
	if e := events[3]; e["step"] != "sync" || !strings.Contains(fmt.Sprint(e["reason"]), "the step sync was the last one") {
		t.Errorf("%v", e)
	}
	if p.once(0, "vendor", "--sync", p.in()) != "" {
		t.Error("the step was not completed")
	}
}

// Each party renews what it can: the vendor publishes a new timestamp, the review centre
// sends its role to the exchange, once. What it may not renew is reported.
func TestRunRenews(t *testing.T) {
	p := newPair(t, `"renew"`)
	if out := p.once(0, "vendor"); out != "" {
		t.Error(out)
	}
	p.pass(13 * time.Hour)
	if out := p.once(0, "vendor"); !strings.Contains(out, "renewed timestamp") {
		t.Error(out)
	}
	p.pass(46 * 24 * time.Hour)
	if out := p.once(3, "review"); !strings.Contains(out, "renewed review-rules") || !strings.Contains(out, " sent draft ") || !strings.Contains(out, "due timestamp") {
		t.Error(out)
	}
	if out := p.once(3, "review"); strings.Contains(out, "sent") || strings.Contains(out, "renewed") {
		t.Errorf("sent again: %s", out)
	}
	if out := p.once(0, "vendor"); !strings.Contains(out, "published draft") || !strings.Contains(out, "renewed") {
		t.Error(out)
	}
	for _, party := range []string{"vendor", "review"} {
		if out := p.once(0, party); out != "" {
			t.Error(out)
		}
	}
	p.pass(14 * time.Hour)
	p.edit("identity.toml", `automation = ["renew"]`, `automation = ["files:rules/"]`)
	if out := p.once(3, "vendor"); !strings.Contains(out, "due timestamp") || strings.Contains(out, "renewed") {
		t.Error(out)
	}
}

// A renewal of a role that waits for keys of this party is signed, and its signature is
// sent; other drafts of the exchange are not.
func TestRunSignsRenewals(t *testing.T) {
	p := newPair(t, `"renew", "files:rules/"`)
	p.once(0, "vendor", "--sync", p.in())
	identity, err := os.ReadFile(filepath.Join(p.dir, "identity.toml"))
	if err != nil {
		t.Fatal(err)
	}
	// Without the release key the vendor's renewal lacks its signature.
	p.dropKey("vendor-release")
	p.write("in/b", "b 1")
	out := p.once(5, "vendor", "--sync", p.in())
	if !strings.Contains(out, " sent draft ") || !strings.Contains(out, "missing: vendor-rules") {
		t.Error(out)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "identity.toml"), identity, 0o600); err != nil {
		t.Fatal(err)
	}
	// The draft adds a file, so a person signs it, although files:rules/ is listed.
	out = p.once(3, "vendor")
	if strings.Contains(out, " signed ") || !strings.Contains(out, "target rules/b changes") {
		t.Error(out)
	}
}

// Another process publishes between the draft of this one and its publication: this one
// makes its draft again.
func TestRunTriesAgain(t *testing.T) {
	p := newPair(t, `"files:rules/"`)
	p.write("other/x", "x")
	done := false
	out := &interrupting{at: " synced ", interrupt: func() {
		if !done {
			done = true
			p.once(0, "vendor", "--sync", filepath.Join(filepath.Dir(p.dir), "other")+"=rules/")
		}
	}}
	proc := p.process(nil, "-C", p.dir, "--as", "vendor", "run", "--once", "--sync", p.in())
	proc.Out, proc.Err = out, out
	if got := cli.Main(t.Context(), proc); got != 0 || !done {
		t.Fatalf("exit status %d, %v\n%s", got, done, out.String())
	}
	list := p.command(3, "-C", p.dir, "--as", "review", "review", "list")
	if !strings.Contains(list, "rules/x, ") || !strings.Contains(list, "rules/a, ") {
		t.Error(list)
	}
}

// A machine without online keys sends what it lists to the exchange, once; what comes
// later is added to that draft. The review centre approves the whole, and the operator
// publishes it.
func TestRunWithoutOnlineKeys(t *testing.T) {
	p := newPair(t, `"files:rules/"`)
	identity, err := os.ReadFile(filepath.Join(p.dir, "identity.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"timestamp", "snapshot"} {
		p.dropKey(label)
	}
	if out := p.once(0, "vendor", "--sync", p.in()); !strings.Contains(out, "synced rules/ 1 of 1 files changed") || !strings.Contains(out, " sent draft ") {
		t.Error(out)
	}
	if out := p.once(0, "vendor", "--sync", p.in()); strings.Contains(out, " sent ") || !strings.Contains(out, "waits rules/ draft ") {
		t.Error(out)
	}
	p.write("in/b", "b")
	if out := p.once(0, "vendor", "--sync", p.in()); !strings.Contains(out, " sent draft ") {
		t.Error(out)
	}
	p.write("check", "#!/bin/sh\nexit 0\n")
	approve := []string{"--approve", "rules/", "--check", filepath.Join(filepath.Dir(p.dir), "check")}
	if out := p.once(0, "review", approve...); strings.Count(out, " sent draft ") != 1 || strings.Count(out, " approved ") != 2 {
		t.Error(out)
	}
	if out := p.once(0, "review", approve...); strings.Contains(out, " sent ") {
		t.Error(out)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "identity.toml"), identity, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := p.once(0, "vendor"); strings.Count(out, "published") != 1 || !strings.Contains(out, "and OFFERED") {
		t.Error(out)
	}
	p.command(0, "-C", p.dir, "--as", "vendor", "draft", "pull", "--prune")
	if out := p.command(0, "-C", p.dir, "--as", "vendor", "draft", "pull"); out != "no drafts\n" {
		t.Error(out)
	}
}

// What is approved while an approval waits for the operator is added to it, so that one
// publication has both.
func TestRunAddsToAnApproval(t *testing.T) {
	p := newPair(t, `"files:rules/"`)
	p.write("check", "#!/bin/sh\nexit 0\n")
	approve := []string{"--approve", "rules/", "--check", filepath.Join(filepath.Dir(p.dir), "check")}
	vendor := func() { p.once(0, "vendor", "--sync", p.in(), "--exchange", filepath.Join(p.dir, "none")) } // sees no approval
	vendor()
	for _, name := range []string{"b", "c"} {
		p.once(0, "review", approve...)
		if out := p.once(0, "review", approve...); out != "" {
			t.Errorf("approved again: %s", out)
		}
		p.write("in/"+name, name)
		vendor()
	}
	p.once(0, "review", approve...)
	if out := p.once(0, "vendor"); strings.Count(out, "published") != 1 || !strings.Contains(out, "and OFFERED") {
		t.Error(out)
	}
	if out := p.command(0, "-C", p.dir, "--as", "review", "review", "list"); out != "nothing waits\n" {
		t.Error(out)
	}
}

// The review centre's process approves a target once, tries a check that failed again
// after an hour, ends a check that takes too long, and leaves what it recalled to a person.
func TestRunChecks(t *testing.T) {
	p := newPair(t, `"renew", "files:rules/"`)
	p.write("in/bad", "bad")
	p.write("in/slow", "slow")
	p.once(0, "vendor", "--sync", p.in())
	p.write("check", "#!/bin/sh\ncase $(cat \"$1\") in bad) exit 1 ;; slow) exec sleep 60 ;; esac\n")
	check := filepath.Join(filepath.Dir(p.dir), "check")
	events := p.rounds("review", func(round int, wait time.Duration, _ *bytes.Buffer) bool {
		if round == 2 {
			p.write("check", "#!/bin/sh\nexit 0\n")
		}
		if round == 3 {
			p.pass(time.Hour)
		}
		return round < 5
	}, "--approve", "rules/", "--check", check, "--check-timeout", "1s")
	var got []string
	for _, e := range events {
		got = append(got, strings.TrimSpace(fmt.Sprint(e["event"], " ", e["path"])))
	}
	want := "started <nil>, check_failed rules/bad, check_failed rules/slow, approved rules/a, sent <nil>, approved rules/bad, approved rules/slow, sent <nil>, stopped <nil>"
	if strings.Join(got, ", ") != want { // a round checks in the order of the paths
		t.Errorf("%s\nwant %s", strings.Join(got, ", "), want)
	}
	for _, e := range events {
		if e["path"] == "rules/slow" && e["event"] == "check_failed" && !strings.Contains(fmt.Sprint(e["reason"]), "it took longer than 1s") {
			t.Errorf("%v", e)
		}
	}
	p.once(0, "vendor")

	// What a person has refused waits for a person.
	p.write("in/refused", "x")
	p.once(0, "vendor", "--sync", p.in())
	identity, err := os.ReadFile(filepath.Join(p.dir, "identity.toml"))
	if err != nil {
		t.Fatal(err)
	}
	p.edit("identity.toml", "  automation = [\"renew\", \"files:rules/\"]\n  pin", "  pin")
	p.edit("identity.toml", "  automation = [\"renew\", \"files:rules/\"]\n  pin", "  pin")
	p.command(0, "-C", p.dir, "--as", "review", "review", "refuse", "rules/refused", "--reason", "x", "-o", filepath.Join(p.dir, "refuse.draft"))
	if err := os.WriteFile(filepath.Join(p.dir, "identity.toml"), identity, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := p.once(3, "review", "--approve", "rules/", "--check", check); strings.Contains(out, " approved ") || !strings.Contains(out, "waits rules/refused: this party recalled or refused these bytes before") {
		t.Error(out)
	}
}

// The release data changes while the program examines the bytes: the new data is
// examined too before it is approved.
func TestRunExaminesWhatItApproves(t *testing.T) {
	p := newPairAt(t, `"release:rules/"`, time.Now()) // the program uses the clock of the machine
	visum, err := exec.LookPath("visum")
	if err != nil {
		t.Fatal(err)
	}
	p.command(0, "-C", p.dir, "--as", "vendor", "add", filepath.Join(filepath.Dir(p.dir), "in", "a"), "--product", "rules", "--version", "1.0.0", "--platform", "any", "--publish")
	log := filepath.Join(p.dir, "log")
	p.write("check", fmt.Sprintf("#!/bin/sh\ntest -e %s || %s --identity %s -C %s --as vendor rollout rules@1.0.0 50%% --publish || exit 1\necho $VISUM_PRODUCT $VISUM_VERSION $VISUM_CHANNEL $VISUM_PLATFORM >>%s\n",
		log, visum, filepath.Join(p.dir, "identity.toml"), p.dir, log))
	out := p.once(0, "review", "--approve", "rules/", "--check", filepath.Join(filepath.Dir(p.dir), "check"))
	data, err := os.ReadFile(log)
	if err != nil || string(data) != "rules 1.0.0 stable any\nrules 1.0.0 stable any\n" || strings.Count(out, " approved ") != 1 {
		t.Errorf("%q, %v\n%s", data, err, out)
	}
}

// Two processes of the vendor publish at the same time: each tries again, and nothing is
// lost.
func TestRunConcurrently(t *testing.T) {
	p := newPair(t, `"renew", "files:rules/"`)
	var wg sync.WaitGroup
	for i := range 3 {
		folder := fmt.Sprintf("in%d", i)
		p.write(folder+"/"+folder, folder)
		wg.Go(func() {
			var out bytes.Buffer
			proc := p.process(&out, "-C", p.dir, "--as", "vendor", "run", "--once", "--sync", filepath.Join(filepath.Dir(p.dir), folder)+"=rules/")
			// With the bound of attempts a conflict may remain, which is exit status 4.
			if got := cli.Main(t.Context(), proc); got != 0 && got != 4 {
				t.Errorf("exit status %d\n%s", got, out.String())
			}
		})
	}
	wg.Wait()
	for i := range 3 { // the next round completes what the bound has left
		p.once(0, "vendor", "--sync", filepath.Join(filepath.Dir(p.dir), fmt.Sprintf("in%d", i))+"=rules/")
	}
	out := p.command(3, "-C", p.dir, "--as", "review", "review", "list")
	for i := range 3 {
		if !strings.Contains(out, fmt.Sprintf("rules/in%d, ", i)) {
			t.Errorf("in%d is lost:\n%s", i, out)
		}
	}
}
