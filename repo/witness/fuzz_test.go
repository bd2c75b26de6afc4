package witness_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/repo/witness"
	"github.com/visum-dev/visum/tuf/tlog"
)

// FuzzAddCheckpoint checks the law of an answer, for any body: a line is a cosignature of
// the checkpoint in the body, which has the signature of the log and continues the tree of
// the state; any other answer changes nothing but evidence.
func FuzzAddCheckpoint(f *testing.F) {
	other := rawlog.NewSigner("other.example/log", tlog.TypeLog)
	for _, b := range []*branch{log, fork} {
		for old := range int64(6) {
			for size := old; size < 8; size++ {
				f.Add([]byte(b.request(old, size)))
			}
		}
		f.Add([]byte(b.request(4, 6) + other.Sign(b.text(6), time.Time{})))
	}
	f.Add([]byte("old 4\n\n" + log.note(4) + log.note(6)))
	f.Add([]byte("old 4\n\n\n\n"))
	f.Add([]byte(body(4, make([]tlog.Hash, 64), log.note(6))))
	before := newWorld(f)
	before.signs(log, 0, 4)
	f.Fuzz(func(t *testing.T, request []byte) {
		w := newWorld(t)
		w.mem.Files = maps.Clone(before.mem.Files)
		w.now++
		status, answer := w.post(string(request))
		state := string(w.mem.Files[stateFile])
		if status != 200 {
			if state != string(before.mem.Files[stateFile]) || len(w.key.signed) > 0 || status < 400 || status >= 500 || !strings.HasSuffix(answer, "\n") || strings.Count(answer, "\n") != 1 {
				t.Fatalf("%d %q", status, answer)
			}
			w.signs(log, 4, 6)
			return
		}
		_, note, _ := strings.Cut(string(request), "\n\n")
		text, _, err := tlog.SplitNote([]byte(note))
		noErr(t, err)
		_, size, _, err := tlog.ParseCheckpointText(text)
		noErr(t, err)
		// Only the trees of the log continue that of the state.
		if size < 4 || size > 9 || text != log.text(size) {
			t.Fatalf("signed %q", text)
		}
		if at := w.verifies(log, size, answer); at != w.now {
			t.Fatalf("signed at %d", at)
		}
		w.finish(9)
	})
}

// FuzzHistory checks that no history of requests, forks, faults, kills, restarts and
// changes of the clock makes two processes on one storage sign two trees of which one is not
// the beginning of the other, or a larger tree with an earlier time, and that the log can
// be signed after each.
func FuzzHistory(f *testing.F) {
	f.Add([]byte{0x03, 0x35, 0x57, 0x79})
	f.Add([]byte{0x03, 0xf2, 0x35, 0x85, 0xe1, 0x55, 0xd9, 0xb7, 0x77, 0xc9, 0x79})
	f.Add([]byte{0xf1, 0x02, 0xf4, 0xa3, 0x24, 0xf5, 0xb9, 0x46, 0xf6, 0x67})
	f.Add([]byte("\xf3\x03\xf7\x83\xf2\x35\xb5\xf8\x85\xe0\x55\xdf\x79\xd1\xa7"))
	f.Fuzz(func(t *testing.T, ops []byte) {
		w := newWorld(t)
		stores := []*faulty{{Storage: w.mem, n: -1}, {Storage: w.mem, n: -1}}
		both := []*witness.Witness{w.process(stores[0]), w.process(stores[1])}
		for i, op := range ops[:min(len(ops), 40)] {
			high, low := int64(op>>4), int64(op&0xf)
			p := i % 2
			switch {
			case high <= 9 && low <= 9: // a growth, or a fork
				b := log
				if (i/2)%3 == 2 {
					b = fork
				}
				status, answer := post(both[p], b.request(min(high, low), max(high, low)))
				if status == 200 {
					w.verifies(b, max(high, low), answer)
				} else if status != 409 && status != 422 && status != 503 {
					t.Fatal(status, answer)
				}
			case high == 0xd:
				w.now += low - 8
			case high == 0xe:
				w.now += low * low * 100
			case high == 0xf: // the next calls fail at the one with this number
				stores[p].count, stores[p].n, stores[p].after, stores[p].kill = 0, int(low%8), low >= 8, i%3 == 0
			default: // a new process
				stores[p] = &faulty{Storage: w.mem, n: -1}
				both[p] = w.process(stores[p])
			}
		}
		w.key.intact(t, log, fork)
		w.store = w.mem
		w.restart()
		w.now += 1000
		b := log // whichever branch was signed goes further
		if status, answer := w.post(log.request(0, 0)); status == 409 {
			var size int64
			if _, err := fmt.Sscan(answer, &size); err != nil {
				t.Fatal(answer)
			}
			if status, _ := w.post(log.request(size, size)); status != 200 {
				b = fork
			}
			w.signs(b, size, 9)
		} else {
			w.signs(b, 0, 9)
		}
		w.key.intact(t, log, fork)
	})
}
