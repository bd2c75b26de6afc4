package witness_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/repo/witness"
)

// Requests for the signed tree are signed again with the present time, once a second. The
// times never decrease: a clock that is a minute behind gets the newest time, one that is
// further behind nothing, until it is right again.
func TestTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sees := func(old, size, at int64, signatures int) {
		t.Helper()
		before := len(w.key.signed)
		if got := w.signs(log, old, size); got != at || len(w.key.signed)-before != signatures {
			t.Fatalf("signed at %d, %d times, want at %d, %d times", got, len(w.key.signed)-before, at, signatures)
		}
	}
	sees(0, 3, start, 1)
	sees(3, 3, start, 0) // within one second
	w.mem.Wrote()
	sees(3, 3, start, 0)
	if wrote := w.mem.Wrote(); len(wrote) > 0 {
		t.Fatalf("a repetition within one second wrote %q", wrote)
	}
	w.now++
	sees(3, 3, start+1, 1)
	sees(3, 4, start+1, 1) // a growth in the same second
	w.now += 1000
	sees(4, 4, start+1001, 1)
	w.now -= 60
	sees(4, 4, start+1001, 0)
	sees(4, 5, start+1001, 1)
	w.restart()
	sees(5, 6, start+1001, 1)
	w.now--
	const unavailable = "witness: not available now\n"
	w.refuses(log.request(6, 6), 503, unavailable)
	w.refuses(log.request(6, 7), 503, unavailable)
	_, err := w.AddCheckpoint(t.Context(), []byte(log.request(6, 7)))
	is(t, err, witness.ErrUnavailable, "witness: not available now: the clock is behind the newest cosignature, 2026-09-21T14:30:01Z")
	for _, now := range []int64{0, -1, 253402300800} {
		right := w.now
		w.now = now
		w.refuses(log.request(6, 7), 503, unavailable)
		w.now = right
	}
	w.now += 61 + 1
	sees(6, 7, start+1002, 1)
	// The time is that after the check.
	w.check = func(context.Context, witness.Growth) error {
		w.now += 100
		return nil
	}
	sees(7, 8, start+1102, 1)
	w.check = func(context.Context, witness.Growth) error {
		w.now -= 200
		return nil
	}
	w.refuses(log.request(8, 9), 503, unavailable)
	w.key.intact(t, log)
}

// While a check runs, other requests of the log wait, until their context ends: one is
// signed, and those that ask for the same get its line. Checkpoints are served meanwhile.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.signs(log, 0, 3)
		checks := 0
		w.check = func(ctx context.Context, g witness.Growth) error {
			checks++
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		// ask sends two requests for 5 entries, and returns what they got, in order.
		ask := func(old int64) (answers func() []string) {
			got := make(chan string, 2)
			for range 2 {
				go func() {
					line, err := w.AddCheckpoint(t.Context(), []byte(log.request(old, 5)))
					if err != nil {
						line = []byte(err.Error())
					}
					got <- string(line)
				}()
			}
			return func() []string { return slices.Sorted(slices.Values([]string{<-got, <-got})) }
		}
		growth := ask(3)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := w.AddCheckpoint(ctx, []byte(log.request(3, 5)))
		is(t, err, witness.ErrUnavailable, "witness: not available now: context deadline exceeded")
		is(t, err, context.DeadlineExceeded, "")
		if _, err := w.Checkpoint(t.Context(), origin); err != nil {
			t.Fatal(err)
		}
		got := growth()
		if got[0] != "witness: the newest signed tree has 5 entries, the proof is from 3" || checks != 1 {
			t.Fatalf("%d checks, %q", checks, got)
		}
		w.verifies(log, 5, got[1])
		w.now++
		if got := ask(5)(); got[0] != got[1] || checks != 2 {
			t.Fatalf("%d checks, %q", checks, got)
		}
		// The context of the request is that of the check.
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = w.AddCheckpoint(ctx, []byte(log.request(5, 6)))
		is(t, err, witness.ErrCheck, "witness: not signed now: context deadline exceeded")
		w.check = nil
		w.signs(log, 5, 6)
		w.key.intact(t, log)
	})
}
