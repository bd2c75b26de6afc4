//go:build unix

package exec

import (
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// A program that has ended while a child of it holds its output is an error, and the
// child is killed: the fifo, which the child holds too, is closed.
func TestChildrenThatStay(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	rawtuf.NoErr(t, syscall.Mkfifo(fifo, 0o600))
	closed := make(chan error, 1)
	go func() {
		r, err := os.Open(fifo)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		closed <- err
	}()
	s, err := parse("exec:/bin/sh?" + url.Values{"arg": {"-c", `exec 3>"$0"; sleep 100000 & echo output`, fifo}}.Encode())
	rawtuf.NoErr(t, err)
	s.cfg.Env, s.waitDelay = []string{"PATH=" + os.Getenv("PATH")}, time.Millisecond
	_, err = s.run(t.Context(), nil, s.args...)
	if err == nil || !strings.Contains(err.Error(), "processes that it started") {
		t.Error(err)
	}
	rawtuf.NoErr(t, <-closed)
}
