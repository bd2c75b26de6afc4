package witness_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/witness"
)

// story is the life of a log: it grows, is signed again, forks, and grows. Each step may be
// refused by a faulty storage; a fork may never be signed.
func (w *world) story() (failed int) {
	for _, x := range []struct {
		b         *branch
		old, size int64
	}{{log, 0, 3}, {log, 3, 5}, {log, 5, 5}, {fork, 5, 5}, {fork, 5, 7}, {log, 5, 7}} {
		status, answer := w.post(x.b.request(x.old, x.size))
		switch {
		case status == 503:
			failed++
			if answer != "witness: not available now\n" {
				w.t.Fatal(answer)
			}
		case x.b == fork && (status == 422 || status == 409): // a state that did not grow leaves nothing to compare
		case x.b == log && status == 200:
			w.verifies(x.b, x.size, answer)
		case status == 409 && failed > 0:
		default:
			w.t.Fatalf("%d to %d: %d %s", x.old, x.size, status, answer)
		}
		w.now++
	}
	return failed
}

// finish asks for a size until it is signed, as a log does.
func (w *world) finish(size int64) {
	w.t.Helper()
	var old int64
	for range 2 {
		status, answer := w.post(log.request(old, size))
		if status == 200 {
			w.verifies(log, size, answer)
			return
		}
		if _, err := fmt.Sscanf(answer, "%d\n", &old); status != 409 || err != nil {
			w.t.Fatal(status, answer)
		}
	}
	w.t.Fatalf("%d entries are not signed", size)
}

// The storage fails at its n-th call, for each n, before the effect of the call and after
// it, once or from then on (the process is killed). The witness never signs two trees, and
// a process that starts after it continues without repair.
func TestStorageFails(t *testing.T) {
	t.Parallel()
	calls := 0
	for _, kill := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			for n := 1; ; n++ {
				w := newWorld(t)
				s := &faulty{Storage: w.mem, n: n, after: after, kill: kill}
				w.store = s
				w.restart()
				failed := w.story()
				if s.count < n {
					if failed > 0 {
						t.Fatalf("%d requests failed without a fault", failed)
					}
					calls = n - 1
					break
				}
				w.key.intact(t, log)
				if kill {
					if failed == 0 && n < 18 {
						t.Fatalf("killed at call %d, and no request failed", n)
					}
					w.store = w.mem
					w.restart()
				}
				w.finish(7)
				w.refuses(fork.request(7, 9), 422, "witness: request: tlog: not in the tree: the tree of 7 entries is not the beginning of the one of 9 entries\n")
				w.finish(9)
				w.key.intact(t, log)
				note, err := w.Checkpoint(t.Context(), origin)
				noErr(t, err)
				w.verifies(log, 9, strings.TrimPrefix(string(note), log.note(9)))
				if list, err := w.Evidence(t.Context(), origin); err != nil || len(list) == 0 {
					t.Fatal(list, err)
				}
			}
		}
	}
	if calls < 16 {
		t.Fatalf("only %d calls", calls)
	}
}

// The key fails, or signs with another key: nothing leaves the witness. The state may be
// that of the new tree, and the log is signed from there.
func TestKeyFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signs(log, 0, 3)
	w.key.failing = errFault
	status, answer := w.post(log.request(3, 5))
	if status != 503 || answer != "witness: not available now\n" {
		t.Fatal(status, answer)
	}
	_, err := w.AddCheckpoint(t.Context(), []byte(log.request(5, 5)))
	is(t, err, witness.ErrUnavailable, `witness: not available now: key "witness.example/w1": the disk is on fire`)
	is(t, err, errFault, "")
	note, err := w.Checkpoint(t.Context(), origin)
	noErr(t, err)
	w.verifies(log, 3, strings.TrimPrefix(string(note), log.note(3))) // the newest that was signed
	w.refuses(fork.request(5, 5), 422, notTheBeginning+"5 entries\n") // already a fork of what may have been signed
	w.key.failing = nil
	w.signs(log, 5, 5)
	wrong := newKey()
	wrong.Signer = wrongSigner{w.key}
	w.key = wrong
	w.restart()
	_, err = w.AddCheckpoint(t.Context(), []byte(log.request(5, 7)))
	is(t, err, witness.ErrUnavailable, `witness: not available now: key "witness.example/w1": the signature does not verify`)
	w.key = newKey()
	w.restart()
	w.refuses(log.request(5, 7), 409, "7\n")
	w.signs(log, 7, 7)
}

// A state that is damaged or was edited is not signed from, until it is restored.
func TestStateDamaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signs(log, 0, 5)

	w.now++
	w.signs(log, 5, 7)
	good := w.mem.Files[stateFile]
	hash := strings.Split(log.text(7), "\n")[2]
	for name, edit := range map[string]func(string) string{
		"empty":                 func(string) string { return "" },
		"cut off":               func(s string) string { return s[:len(s)/2] },
		"twice":                 func(s string) string { return s + s },
		"large":                 func(s string) string { return s + strings.Repeat(" ", 1<<20) },
		"another member":        func(s string) string { return strings.Replace(s, "{", `{"x":1,`, 1) },
		"another root":          func(s string) string { return strings.Replace(s, hash, hash[1:]+"=", 1) },
		"no checkpoint":         func(s string) string { return strings.Replace(s, `"checkpoint"`, `"cosigned"`, 1) },
		"not signed by the log": func(s string) string { return strings.Replace(s, "— "+origin, "— x", 1) },
		"no time":               func(s string) string { return strings.Replace(s, fmt.Sprint(w.now), "0", 1) },
		"a late time":           func(s string) string { return strings.Replace(s, fmt.Sprint(w.now), "253402300800", 1) },
		"an earlier time":       func(s string) string { return strings.Replace(s, fmt.Sprint(w.now), fmt.Sprint(w.now-1), 1) },
		"an older checkpoint": func(s string) string {
			return strings.Replace(s, quoted(log.note(7)), quoted(log.note(5)), 1)
		},
		"a wrong cosignature": func(s string) string { return strings.Replace(s, "— "+name+" ", "— "+name+" A", 1) },
	} {
		w.mem.Files[stateFile] = []byte(edit(string(good)))
		if string(w.mem.Files[stateFile]) == string(good) {
			t.Fatalf("%s: nothing was edited", name)
		}
		w.restart()
		for _, request := range []string{log.request(7, 9), log.request(7, 7), log.request(0, 7), fork.request(7, 7)} {
			w.refuses(request, 500, "witness: state not valid\n")
		}
		_, err := w.Checkpoint(t.Context(), origin)
		is(t, err, witness.ErrState, "")
		if !strings.HasPrefix(err.Error(), `witness: state not valid: state of "vendor.example/visum/0f6c/1": `) || strings.Contains(err.Error(), "\n") {
			t.Fatal(err)
		}
		w.mem.Files[stateFile] = good
		w.signs(log, 7, 7)
	}
	// A state of an earlier key of the witness keeps its size and time, and has no
	// cosignature to return.
	w.mem.Files[stateFile] = good
	other, err := witness.New(witness.Config{Name: "witness.example/w2", Signer: w.key, Storage: w.mem, Logs: keysOf(log), Now: nil})
	noErr(t, err)
	_, err = other.Checkpoint(t.Context(), origin)
	is(t, err, fs.ErrNotExist, "")
	if status, answer := post(other, log.request(0, 7)); status != 409 || answer != "7\n" {
		t.Fatal(status, answer)
	}

}

// A storage that is set back while the process runs is detected, until it is restored. A
// process that starts on it can't know, and signs from there: the log can then have two
// trees signed, and both cosigned checkpoints together prove it.
func TestSetBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	empty := maps.Clone(w.mem.Files)
	w.signs(log, 0, 3)
	small := maps.Clone(w.mem.Files)
	w.now++
	w.signs(log, 3, 5)
	early := maps.Clone(w.mem.Files)
	w.now++
	w.signs(log, 5, 5)
	newest := maps.Clone(w.mem.Files)
	watching := w.process(w.mem) // another one, which has only read
	if _, err := watching.Checkpoint(t.Context(), origin); err != nil {
		t.Fatal(err)
	}
	elsewhere := newWorld(t)
	elsewhere.signs(fork, 0, 5)
	elsewhere.now += 9
	elsewhere.signs(fork, 5, 5)
	for _, x := range []struct {
		files map[string][]byte
		size  int64
		says  string
	}{{empty, 0, "0 entries"}, {small, 3, "3 entries at 2026-09-21T14:13:20Z"}, {early, 5, "5 entries at 2026-09-21T14:13:21Z"}, {elsewhere.mem.Files, 5, "5 entries at 2026-09-21T14:13:29Z"}} {
		w.mem.Files = maps.Clone(x.files)
		for _, p := range []*witness.Witness{w.Witness, watching} {
			for _, b := range []*branch{log, fork} {
				_, err := p.AddCheckpoint(t.Context(), []byte(b.request(x.size, 7)))
				is(t, err, witness.ErrState, `witness: state not valid: state of "vendor.example/visum/0f6c/1": it was set back from 5 entries at 2026-09-21T14:13:22Z to `+x.says)
			}
			_, err := p.Checkpoint(t.Context(), origin)
			is(t, err, witness.ErrState, "")
		}
		w.mem.Files = maps.Clone(newest)
		w.signs(log, 5, 5)
	}
	w.signs(log, 5, 7)
	cosigned, err := w.Checkpoint(t.Context(), origin)
	noErr(t, err)
	w.key.intact(t, log)
	w.mem.Files = small
	w.restart()
	w.now++
	w.signs(fork, 3, 7)
	other, err := w.Checkpoint(t.Context(), origin)
	noErr(t, err)
	p := policy(t, log.Key, w.Key())
	a, err := p.Checkpoint(cosigned)
	noErr(t, err)
	b, err := p.Checkpoint(other)
	noErr(t, err)
	if a.Size != b.Size || a.Root == b.Root || len(a.Cosigners) != 1 || len(b.Cosigners) != 1 {
		t.Fatalf("%+v and %+v do not prove that the log has forked", a, b)
	}
}

// Conflicts without end, which no other process causes, are reported.
func TestConflicts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mem.Before = func(string) error { return fmt.Errorf("always: %w", storage.ErrConflict) }
	_, err := w.AddCheckpoint(t.Context(), []byte(log.request(0, 5)))
	is(t, err, witness.ErrUnavailable, "witness: not available now: other processes changed the state 10 times")
	if errors.Is(err, storage.ErrConflict) || len(w.key.signed) > 0 {
		t.Fatal(err)
	}
	w.mem.Before = nil
	w.signs(log, 0, 5)
}
