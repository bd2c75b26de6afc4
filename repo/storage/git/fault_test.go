package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/storage"
)

// operations are calls on the files of [prepare], with the state that they leave.
var operations = []struct {
	name, after string
	call        func(context.Context, *Branch) error
}{
	{"Create", "metadata/t:3:old targets/kept:4 targets/new:3 targets/old:3", func(ctx context.Context, b *Branch) error {
		return b.Create(ctx, "targets/new", strings.NewReader("new"))
	}},
	{"CreateAgain", stateOld, func(ctx context.Context, b *Branch) error {
		return b.Create(ctx, "targets/kept", strings.NewReader("kept"))
	}},
	{"Replace", "metadata/t:3:new targets/kept:4 targets/old:3", func(ctx context.Context, b *Branch) error {
		return b.Replace(ctx, "metadata/t", []byte("old"), []byte("new"))
	}},
	{"Remove", "metadata/t:3:old targets/kept:4", func(ctx context.Context, b *Branch) error {
		return b.Remove(ctx, "targets/old", time.Now().Add(time.Hour))
	}},
	{"Read", stateOld, func(ctx context.Context, b *Branch) error {
		data, err := b.Read(ctx, "metadata/t")
		if err == nil && string(data) != "old" {
			return fmt.Errorf("read %q", data)
		}
		return err
	}},
	{"Batch", stateNew, work},
}

var errFault = errors.New("fault")

// fault is a way in which a command of git fails.
type fault struct {
	name  string
	after bool // it takes effect
	out   string
}

// Every command of every call fails, once and for good, before it and after it. The
// branch has the former files or the new ones, success means the new ones, and a
// conflict that nothing changed.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("starts some hundred processes of git; not with -short")
	}
	for _, op := range operations {
		if !rawtuf.Long && op.name != "Batch" {
			continue
		}
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			ready := prepare(t)
			whole := ready.copy().open()
			c := count(whole)
			rawtuf.NoErr(t, op.call(t.Context(), whole))
			n := len(c.all) + 3 // a fault makes further commands
			if n < 5 || n > 40 {
				t.Errorf("%d commands", n)
			}
			for _, x := range []fault{{"before", false, ""}, {"after", true, ""}, {"refused", false, "!\tx:refs/heads/pages\t[remote rejected] (hook declined)\n"},
				{"refused, and done", true, "!\tx:refs/heads/pages\t[remote rejected] (cannot lock ref)\n"}} {
				for _, once := range []bool{true, false} {
					if !rawtuf.Long && (!once || x.name == "refused") {
						continue
					}
					for i := range n {
						if !rawtuf.Long && (i%2 != 0 || x.after == (i%4 == 0)) {
							continue // every fourth command before it, others after it
						}
						what := fmt.Sprintf("command %d %s, once: %t", i, x.name, once)
						h := ready.copy()
						b := h.open()
						b.wait = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
						k, run := 0, b.run
						b.run = func(ctx context.Context, c *command) error {
							fails := k == i || k > i && !once
							k++
							if !fails {
								return run(ctx, c)
							}
							if x.after {
								if err := run(ctx, c); err != nil {
									return err
								}
							}
							c.out = []byte(x.out)
							return &runError{what: c.args[0], out: c.out, err: errFault}
						}
						err := op.call(t.Context(), b)
						b.run = run
						switch got := h.state(); {
						case err == nil && got != op.after:
							t.Errorf("%s: success, and the branch has %s", what, got)
						case got != stateOld && got != op.after:
							t.Errorf("%s: the branch has %s", what, got)
						case errors.Is(err, storage.ErrConflict) && (got != stateOld || op.after != stateOld):
							t.Errorf("%s: %v, and the branch has %s", what, err, got)
						case errors.Is(err, fs.ErrNotExist):
							t.Errorf("%s: %v", what, err)
						}
						if err := op.call(t.Context(), b); err != nil && !errors.Is(err, storage.ErrConflict) {
							t.Errorf("%s: then: %v", what, err)
						}
					}
				}
			}
		})
	}
}

// A call ends with its context, whatever git does, and git ends too.
func TestCancelledDuringPush(t *testing.T) {
	rawtuf.Program(t, "sh", "a shell")
	h := prepare(t)
	b := h.open()
	fifo, alive := h.dir+"/reached", h.dir+"/alive"
	rawtuf.Run(t, "", rawtuf.Program(t, "mkfifo", "Debian's coreutils"), fifo, alive)
	h.hook("pre-receive", "exec 9>"+alive+"; echo here >"+fifo+"; sleep 1000")
	ended := make(chan struct{})
	go func() { // reads until the hook and what it started have ended
		rawtuf.Run(t, "", rawtuf.Program(t, "cat", "Debian's coreutils"), alive)
		close(ended)
	}()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		rawtuf.Run(t, "", rawtuf.Program(t, "cat", "Debian's coreutils"), fifo)
		cancel()
	}()
	err := b.Replace(ctx, "metadata/t", []byte("old"), []byte("new"))
	if !errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrConflict) {
		t.Fatal(err)
	}
	<-ended
	if got := h.state(); got != stateOld {
		t.Errorf("the branch has %s", got)
	}
	h.hook("pre-receive", "exit 0")
	rawtuf.NoErr(t, b.Replace(t.Context(), "metadata/t", []byte("old"), []byte("new")))
}
