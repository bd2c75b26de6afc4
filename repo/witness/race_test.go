package witness_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/witness"
)

// Another process answers a request between any two steps of a process: at each call of the
// storage, in the check, and before the signature. Whatever the request is, the two never
// sign trees of two branches, and the log is signed in the end.
func TestBetweenTheSteps(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name    string
		b       *branch
		old     int64
		size    int64
		seconds int64 // between the requests
	}{
		{"the same", log, 3, 5, 0}, {"the same, later", log, 3, 5, 2}, {"a larger tree", log, 3, 7, 0}, {"a larger tree, later", log, 3, 7, 1},
		{"a smaller tree", log, 3, 4, 0}, {"again", log, 3, 3, 0}, {"again, later", log, 3, 3, 1}, {"a fork", fork, 3, 5, 0}, {"a larger fork", fork, 3, 7, 1}, {"a smaller fork", fork, 3, 4, 1},
	} {
		for step := 1; ; step++ {
			w := newWorld(t)
			w.signs(log, 0, 3)
			w.now++
			second := w.process(w.mem)
			at, busy := 0, false
			var status int
			step1 := func() {
				if busy {
					return
				}
				if at++; at == step {
					busy = true
					w.now += x.seconds
					status, _ = post(second, x.b.request(x.old, x.size))
					busy = false
				}
			}
			w.check = func(context.Context, witness.Growth) error { step1(); return nil }
			w.key.before = step1
			first, answer := post(w.process(&faulty{Storage: w.mem, n: -1, call: func(int) { step1() }}), log.request(3, 5))
			if at < step {
				if step < 6 {
					t.Fatalf("only %d steps", step-1)
				}
				break
			}
			if first != 200 && first != 409 && first != 422 || status != 200 && status != 409 && status != 422 {
				t.Fatalf("%s at step %d: %d and %d", x.name, step, first, status)
			}
			if first != 200 && status != 200 {
				t.Fatalf("%s at step %d: neither was signed: %d and %d", x.name, step, first, status)
			}
			if first == 200 {
				w.verifies(log, 5, answer)
			}
			w.key.intact(t, log, fork)
			if x.b == log || first == 200 {
				w.finish(9)
				w.key.intact(t, log)
			}
		}
	}
}

// A read that began before a write of the same process, and ends after it, is not taken for
// a storage that was set back.
func TestLateRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signs(log, 0, 3)
	s := &late{Storage: w.mem}
	w.store = s
	w.restart()
	w.signs(log, 3, 3)
	s.then = func() {
		s.then = nil
		w.signs(log, 3, 5)
	}
	note, err := w.Checkpoint(t.Context(), origin)
	noErr(t, err)
	w.verifies(log, 3, strings.TrimPrefix(string(note), log.note(3)))
	note, err = w.Checkpoint(t.Context(), origin)
	noErr(t, err)
	w.verifies(log, 5, strings.TrimPrefix(string(note), log.note(5)))
}

// late is a storage whose next Read returns after something else has happened.
type late struct {
	storage.Storage
	then func()
}

func (l *late) Read(ctx context.Context, name string) ([]byte, error) {
	data, err := l.Storage.Read(ctx, name)
	if l.then != nil {
		l.then()
	}
	return data, err
}

// Processes and goroutines race for a log and its fork on one storage, and the clock runs:
// all that is signed is of one branch. The fork that was refused is kept as evidence.
func TestRace(t *testing.T) {
	t.Parallel()
	race(t, repotest.NewMemory())
}

// The same in a directory, where each process has its own handle.
func TestRaceInDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	race(t, storage.Dir(dir), storage.Dir(dir))
}

func race(t *testing.T, stores ...storage.Storage) {
	w := newWorld(t)
	var mu sync.Mutex
	reads := int64(0)
	clock := func() int64 {
		mu.Lock()
		defer mu.Unlock()
		reads++
		return start + reads/8 - reads%5 // it runs, and goes back by some seconds
	}
	var all []*witness.Witness
	for i := range 3 {
		all = append(all, w.clocked(stores[i%len(stores)], clock))
	}
	_, err := all[0].AddCheckpoint(t.Context(), []byte(log.request(0, 3)))
	noErr(t, err)
	var wg sync.WaitGroup
	signed := make([]int64, 6) // the largest size of each client
	failures := make([]string, 6)
	for i := range signed {
		b, x := log, all[i/2]
		if i%2 == 1 {
			b = fork
		}
		wg.Go(func() {
			old := int64(3)
			for size := int64(4); size <= 9; {
				status, answer := post(x, b.request(min(old, size), size))
				switch status {
				case 200:
					signed[i], old = size, size
					size++
				case 409:
					if _, err := fmt.Sscanf(answer, "%d\n", &old); err != nil || old < 3 || old > 9 {
						failures[i] = answer
						return
					}
					size = max(size, old)
				case 422:
					return // the other branch was signed
				default:
					failures[i] = fmt.Sprint(status, answer)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, f := range failures {
		if f != "" {
			t.Fatal(f)
		}
	}
	w.key.intact(t, log, fork)
	var largest [2]int64
	for i, size := range signed {
		largest[i%2] = max(largest[i%2], size)
	}
	if largest[0] > 0 && largest[1] > 0 || max(largest[0], largest[1]) != 9 {
		t.Fatalf("the log was signed up to %d entries, and the fork up to %d", largest[0], largest[1])
	}
	list, err := all[2].Evidence(t.Context(), origin)
	noErr(t, err)
	if len(list) == 0 {
		t.Fatal("no evidence")
	}
}
