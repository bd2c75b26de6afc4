package tiles

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
)

// seedOf returns VISUM_SEED, or a new seed for each run, which a failure reports.
func seedOf(t testing.TB) uint64 {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("VISUM_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("VISUM_SEED=%d", seed)
	return seed
}

// turns lets one of several goroutines run at a time, from one call of the log to the next,
// in an order and with crashes that a random generator decides.
type turns struct {
	rng     *rand.Rand
	crashes bool
	waiting []chan verdict // by goroutine; nil: it has ended
	events  chan event
	total   int // calls
}

type event struct {
	writer int
	reply  chan verdict // nil: it has ended
}

// run starts the goroutines and returns when all have ended.
func (x *turns) run(writers int, fn func(writer int, turn func() verdict)) {
	x.waiting, x.events = make([]chan verdict, writers), make(chan event)
	for w := range writers {
		go func() {
			reply := make(chan verdict)
			turn := func() verdict { x.events <- event{w, reply}; return <-reply }
			defer func() { x.events <- event{w, nil} }() // also after a failure
			turn()
			fn(w, turn)
		}()
	}
	for range writers {
		e := <-x.events
		x.waiting[e.writer] = e.reply
	}
	for left := writers; left > 0; {
		w := x.rng.IntN(writers)
		if x.waiting[w] == nil {
			continue
		}
		v := works
		if x.crashes && x.rng.IntN(25) == 0 {
			v = diesBefore + verdict(x.rng.IntN(2))
		}
		x.total++
		x.waiting[w] <- v
		e := <-x.events
		if x.waiting[e.writer] = e.reply; e.reply == nil {
			left--
		}
	}
}

// Six writers race, and die at random calls: no second tree of one size is ever signed,
// and each batch is in the log once and in one piece.
func TestRace(t *testing.T) {
	t.Parallel()
	rounds := 40
	if rawtuf.Long {
		rounds = 1000
	}
	seed := seedOf(t)
	signed := 0
	for round := range rounds {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		w := grown(t, 250+rng.IntN(8))
		start := int(w.tree.Size)
		x := &turns{rng: rng, crashes: round%6 > 0}
		const writers, each = 6, 2
		failed := make([]error, writers)
		x.run(writers, func(writer int, turn func() verdict) {
			failed[writer] = w.writer(writer, each, turn)
		})
		err := errors.Join(failed...)
		if w.signer.fork != "" {
			err = errors.Join(err, errors.New(w.signer.fork))
		}
		if err == nil {
			_, err = w.log().Checkpoint(t.Context())
		}
		if err != nil {
			t.Fatalf("VISUM_SEED=%d, round %d: %v", seed, round, err)
		}
		entries := w.newest()[start:]
		got := bytes.Join(entries, []byte("\n"))
		want := 0
		for writer := range writers {
			for n := range each {
				batch := raceBatch(writer, n)
				want += len(batch)
				if bytes.Count(got, bytes.Join(batch, []byte("\n"))) != 1 {
					t.Fatalf("VISUM_SEED=%d, round %d: batch %d of writer %d:\n%s", seed, round, n, writer, got)
				}
			}
		}
		if len(entries) != want {
			t.Fatalf("VISUM_SEED=%d, round %d: %d entries, want %d", seed, round, len(entries), want)
		}
		signed += len(w.signer.roots)
	}
	t.Logf("%d trees signed", signed)
}

func raceBatch(writer, n int) [][]byte {
	var out [][]byte
	for i := range 1 + (writer+n)%3 {
		out = append(out, fmt.Appendf(nil, "(%d %d %d)", writer, n, i))
	}
	return out
}

// writer appends batches as a publisher does: it looks at the newest checkpoint first, and
// appends what is not in the log yet.
func (w *world) writer(writer, batches int, turn func() verdict) error {
	for n := range batches {
		batch := raceBatch(writer, n)
		for done := false; !done; {
			l := w.at(&steps{turn: turn}) // a new process
			for {
				last, err := l.Checkpoint(w.Context())
				if errors.Is(err, errDead) {
					break
				}
				if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, repo.ErrConflict) {
					return err
				}
				if done = slices.ContainsFunc(w.newest(), func(e []byte) bool { return bytes.Equal(e, batch[0]) }); done {
					break
				}
				note, err := l.Append(w.Context(), last, batch)
				switch {
				case err == nil:
					h, err := openHead(note, l.key)
					if err != nil || w.signer.roots[h.size] != h.root {
						return fmt.Errorf("Append returned %q: %w", note, err)
					}
					if e := w.newest()[h.size-1]; !bytes.Equal(e, batch[len(batch)-1]) {
						return fmt.Errorf("the last entry of the returned checkpoint is %q", e)
					}
					done = true
				case errors.Is(err, repo.ErrConflict), errors.Is(err, errDead):
				case strings.Contains(err.Error(), "another process has appended more"):
				default:
					return err
				}
				if done || errors.Is(err, errDead) {
					break
				}
			}
		}
	}
	return nil
}

// Writers that never die all make progress, with few attempts.
func TestRaceProgress(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	w := newWorld(t)
	x := &turns{rng: rand.New(rand.NewPCG(seed, 0))}
	x.run(6, func(writer int, turn func() verdict) {
		if err := w.writer(writer, 2, turn); err != nil {
			t.Errorf("VISUM_SEED=%d: %v", seed, err)
		}
	})
	t.Logf("%d calls for 12 batches", x.total)
	if x.total > 5000 {
		t.Errorf("VISUM_SEED=%d: %d calls for 12 batches", seed, x.total)
	}
}

// The writer of a batch that was recorded but not written is late: another writer appends
// first, and the late one changes nothing.
func TestLateWriter(t *testing.T) {
	w := grown(t, 3)
	old := w.last()
	var late error
	s := &steps{}
	recorded := false
	s.turn = func() verdict {
		if n := len(s.log); n > 0 && s.log[n-1] == "swap ledger" && !recorded {
			recorded = true // before it writes pending
			note, err := w.log().Append(t.Context(), old, leaves(3, 2))
			w.must(err)
			w.expect(leaves(3, 2))
			w.holds(note)
		}
		return works
	}
	_, late = w.at(s).Append(t.Context(), old, [][]byte{[]byte("late")})
	if !errors.Is(late, repo.ErrConflict) {
		t.Fatal(late)
	}
	w.holds(w.last())
	w.append(1)
}

// A process stops in each call of an Append while another one completes its batch and
// appends more. The first one reports its batch as appended, or that the log has grown.
func TestOvertaken(t *testing.T) {
	reported := map[string]int{}
	for k := 1; ; k++ {
		w := grown(t, 255)
		old := w.last()
		s, overtaken := &steps{}, false
		s.turn = func() verdict {
			if len(s.log) == k-1 && !overtaken {
				overtaken = true
				if _, err := w.log().Checkpoint(t.Context()); err != nil {
					t.Fatal(err)
				}
				if len(w.newest()) == 256 {
					w.expect([][]byte{[]byte("mine")})
				}
				w.append(2)
			}
			return works
		}
		note, err := w.at(s).Append(t.Context(), old, [][]byte{[]byte("mine")})
		if !overtaken {
			break
		}
		mine := w.tree.Size == 258
		switch {
		case errors.Is(err, repo.ErrConflict):
			reported["conflict"]++
			if mine {
				t.Fatalf("call %d: %v, but the leaf is in the log", k, err)
			}
		case err != nil:
			reported["overtaken"]++
			if errors.Is(err, repo.ErrFork) || !mine {
				t.Fatalf("call %d: %v", k, err)
			}
		default:
			t.Fatalf("call %d: Append returned %q although the log has grown", k, note)
		}
		w.holds(w.last())
	}
	if reported["conflict"] < 3 || reported["overtaken"] < 5 {
		t.Error(reported)
	}
}
