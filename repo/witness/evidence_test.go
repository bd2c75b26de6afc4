package witness_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo/witness"
	"github.com/visum-dev/visum/tuf/tlog"
)

const notTheBeginning = "witness: request: tlog: not in the tree: the tree of 5 entries is not the beginning of the one of "

// kept returns the evidence as kinds and sizes, after it was verified without the witness.
func (w *world) kept() (out string) {
	w.t.Helper()
	list, err := w.Evidence(w.t.Context(), origin)
	noErr(w.t, err)
	for _, e := range list {
		p := policy(w.t, log.Key, w.Key())
		known, err := p.Checkpoint(e.Known)
		noErr(w.t, err)
		presented, err := p.Checkpoint(e.Presented)
		noErr(w.t, err)
		if known.Root != log.trees[known.Size].Root || known.Root == presented.Root || e.At.Unix() != w.now {
			w.t.Fatalf("%+v", e)
		}
		out += e.Kind + " " + string(rune('0'+known.Size)) + " " + string(rune('0'+presented.Size)) + "; "
	}
	return out
}

// A log that forks is refused, and both of its checkpoints are kept: another root of the
// newest size is proof whatever the old size says, and a larger tree without a proof may be.
// The log that was signed is still signed.
func TestFork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signs(log, 0, 5)
	w.refuses(fork.request(5, 5), 422, notTheBeginning+"5 entries\n")
	if got := w.kept(); got != "fork 5 5; " {
		t.Fatal(got)
	}
	// The same fork again, in any way, is not kept twice.
	w.refuses(fork.request(5, 5), 422, notTheBeginning+"5 entries\n")
	w.refuses(fork.request(3, 5), 409, "5\n")
	w.refuses(fork.request(0, 5), 409, "5\n")
	w.refuses(body(5, []tlog.Hash{{}}, fork.note(5)), 422, notTheBeginning+"5 entries\n")
	if got := w.kept(); got != "fork 5 5; " {
		t.Fatal(got)
	}
	w.refuses(fork.request(5, 7), 422, notTheBeginning+"7 entries\n")
	w.refuses(fork.request(5, 7), 422, notTheBeginning+"7 entries\n")
	w.refuses(fork.request(3, 7), 409, "5\n") // nothing is compared
	w.refuses(fork.request(3, 4), 409, "5\n")
	if got := w.kept(); got != "fork 5 5; unproven 5 7; " {
		t.Fatal(got)
	}
	w.signs(log, 5, 7)
	w.refuses(fork.request(3, 7), 409, "7\n")
	w.restart()
	if got := w.kept(); got != "fork 5 5; fork 7 7; unproven 5 7; " {
		t.Fatal(got)
	}
	w.signs(log, 7, 9)
	w.key.intact(t, log)
}

// Evidence is bounded, the first is kept, and wrong proofs, which anyone can send, take no
// room from forks.
func TestEvidenceIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signs(log, 0, 5)
	forks := make([]*branch, witness.MaxEvidence+1)
	for i := range forks {
		forks[i] = grown(origin, strings.Repeat("x", i+1), 3, 6)
		w.refuses(forks[i].request(5, 6), 422, notTheBeginning+"6 entries\n")
	}
	for _, f := range forks {
		w.refuses(f.request(5, 5), 422, notTheBeginning+"5 entries\n")
	}
	list, err := w.Evidence(t.Context(), origin)
	noErr(t, err)
	if len(list) != 2*witness.MaxEvidence {
		t.Fatalf("%d are kept", len(list))
	}
	for i, e := range list {
		want, size := witness.Fork, int64(5)
		if i >= witness.MaxEvidence {
			want, size = witness.Unproven, 6
		}
		if e.Kind != want || string(e.Presented) != forks[i%witness.MaxEvidence].note(size) {
			t.Fatalf("%d: %+v", i, e)
		}
	}
	if len(w.mem.Files) != 1+len(list) {
		t.Fatalf("%d files", len(w.mem.Files))
	}
	w.signs(log, 5, 9)
}

// What is damaged or was edited is reported; restored, it is returned again.
func TestEvidenceDamaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signs(log, 0, 5)
	w.post(fork.request(5, 5))
	w.post(fork.request(5, 7))
	hash := strings.Split(fork.text(5), "\n")[2]
	for _, x := range []struct {
		name string
		edit func(string) string
	}{
		{"fork-1.json", func(s string) string { return strings.Replace(s, hash, hash[1:]+"=", 1) }},
		{"fork-1.json", func(s string) string { return strings.Replace(s, `"fork"`, `"unproven"`, 1) }},
		{"fork-1.json", func(s string) string { return strings.Replace(s, `"kind"`, `"sort"`, 1) }},
		{"fork-1.json", func(s string) string { return s + "{}" }},
		{"fork-1.json", func(s string) string { return s + strings.Repeat(" ", 1<<20) }},
		{"fork-1.json", func(string) string { return "" }},
		{"fork-1.json", func(string) string { return string(w.mem.Files[folder+"unproven-1.json"]) }},
		{"fork-1.json", func(s string) string { return strings.Replace(s, `— `, `— x`, 1) }},
		{"fork-1.json", func(s string) string { return strings.Replace(s, quoted(log.note(5)), quoted(fork.note(5)), 1) }},
		{"unproven-1.json", func(s string) string { return strings.Replace(s, `"unproven"`, `"fork"`, 1) }},
	} {
		name, edit := folder+x.name, x.edit
		good := w.mem.Files[name]
		w.mem.Files[name] = []byte(edit(string(good)))
		if string(w.mem.Files[name]) == string(good) {
			t.Fatal("nothing was edited")
		}
		_, err := w.Evidence(t.Context(), origin)
		is(t, err, witness.ErrState, "")
		if !strings.HasPrefix(err.Error(), "witness: state not valid: "+name+": ") {
			t.Fatal(err)
		}
		w.mem.Files[name] = good
		if got := w.kept(); got != "fork 5 5; unproven 5 7; " {
			t.Fatal(got)
		}
	}
	w.store = &faulty{Storage: w.mem, n: 1}
	w.restart()
	_, err := w.Evidence(t.Context(), origin)
	is(t, err, errFault, "witness: not available now: "+folder+"fork-1.json: the disk is on fire")
	is(t, err, witness.ErrUnavailable, "")
	if got := w.kept(); got != "fork 5 5; unproven 5 7; " {
		t.Fatal(got)
	}
}

// Evidence is kept although the request ends, and the log of the program names it, and what
// could not be kept.
func TestEvidenceIsReported(t *testing.T) {
	t.Parallel()
	var lines bytes.Buffer
	w := newWorld(t)
	s := &faulty{Storage: w.mem, n: -1}
	x, err := witness.New(witness.Config{Name: name, Signer: w.key, Logs: []tlog.Key{log.Key}, Storage: s, Now: func() time.Time { return time.Unix(w.now, 0) },
		Log: slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))})
	noErr(t, err)
	w.Witness = x
	w.signs(log, 0, 5)
	reports := func(want string) {
		t.Helper()
		if got := lines.String(); got != want {
			t.Fatalf("reported %s, want %s", got, want)
		}
		lines.Reset()
	}
	reports("")
	ctx, cancel := context.WithCancel(t.Context())
	s.n, s.count = 2, 0 // the read of the first file of evidence
	w.refuses(fork.request(5, 5), 422, notTheBeginning+"5 entries\n")
	reports("level=ERROR msg=\"evidence was not stored\" origin=vendor.example/visum/0f6c/1 kind=fork error=\"the disk is on fire\"\n")
	s.n, s.count = 3, 0 // its creation
	w.refuses(fork.request(5, 5), 422, notTheBeginning+"5 entries\n")
	reports("level=ERROR msg=\"evidence was not stored\" origin=vendor.example/visum/0f6c/1 kind=fork error=\"the disk is on fire\"\n")
	if got := w.kept(); got != "" {
		t.Fatal(got)
	}
	s.n, s.count, s.call = -1, 0, func(n int) {
		if n == 2 {
			cancel()
		}
	}
	_, err = w.AddCheckpoint(ctx, []byte(fork.request(5, 5)))
	is(t, err, tlog.ErrInclusion, strings.TrimSpace(notTheBeginning+"5 entries"))
	reports("level=WARN msg=\"evidence was stored\" origin=vendor.example/visum/0f6c/1 kind=fork size=5 file=" + folder + "fork-1.json\n")
	if ctx.Err() == nil || w.kept() != "fork 5 5; " {
		t.Fatal(w.kept())
	}
	w.refuses(fork.request(5, 5), 422, notTheBeginning+"5 entries\n")
	reports("")
	// Failures of a witness are reported with their cause, which the log is not told.
	w.key.failing = errFault
	status, text := w.post(log.request(5, 6))
	if status != 503 || text != "witness: not available now\n" {
		t.Fatal(status, text)
	}
	reports("level=ERROR msg=\"a request failed\" status=503 error=\"witness: not available now: key \\\"witness.example/w1\\\": the disk is on fire\"\n")
	w.key.failing = nil
	s.n, s.count, s.call = 3, 0, nil // the cosigned checkpoint
	w.signs(log, 6, 7)
	reports("level=WARN msg=\"the cosigned checkpoint was not stored\" origin=vendor.example/visum/0f6c/1 error=\"the disk is on fire\"\n")
	w.signs(log, 7, 8)
	reports("")
}

// Two processes that see one fork at the same time keep it once; two forks, both.
func TestEvidenceOfTwoProcesses(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		other *branch
		want  int
	}{{fork, 1}, {grown(origin, " of another fork", 3, 5), 2}} {
		w := newWorld(t)
		w.signs(log, 0, 5)
		second := w.process(w.mem)
		s := &faulty{Storage: w.mem, n: -1}
		s.call = func(n int) {
			if n == 3 { // between the read and the creation
				w.now++ // the files of the two differ
				post(second, x.other.request(5, 5))
				w.now--
			}
		}
		if status, _ := post(w.process(s), fork.request(5, 5)); status != 422 {
			t.Fatal(status)
		}
		list, err := w.Evidence(t.Context(), origin)
		noErr(t, err)
		if len(list) != x.want {
			t.Fatalf("%d are kept, want %d", len(list), x.want)
		}
	}
}
