package tlog_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// output collects what a program writes.
type output struct {
	mu      sync.Mutex
	data    bytes.Buffer
	written chan struct{} // has a value after each Write
}

func newOutput() *output { return &output{written: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.written <- struct{}{}:
	default:
	}
	return o.data.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data.String()
}

// wait returns once the program has written one of the texts.
func (o *output) wait(ctx context.Context, texts ...string) bool {
	for {
		s := o.String()
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(s, text) }) {
			return true
		}
		select {
		case <-o.written:
		case <-ctx.Done():
			return false
		}
	}
}

// process is a program that runs until the test ends.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   *output
	ended context.Context // done when the program has ended
}

// start runs a program, and returns once it accepts connections.
func start(t *testing.T, network, address, program string, args ...string) *process {
	t.Helper()
	ended, end := context.WithCancel(context.Background())
	p := &process{t: t, cmd: exec.Command(program, args...), out: newOutput(), ended: ended}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	rawtuf.NoErr(t, p.cmd.Start())
	go func() { p.cmd.Wait(); end() }()
	t.Cleanup(p.kill)
	for range 6000 {
		if conn, err := net.Dial(network, address); err == nil {
			conn.Close()
			return p
		}
		select {
		case <-ended.Done():
			t.Fatalf("%s ended: %s", program, p.out)
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("%s accepts no connections: %s", program, p.out)
	return nil
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended.Done()
}

// freeAddress returns an address on loopback at which nothing listens. Its port is below
// the ephemeral range of the system, so that it stays free.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.N(12000))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}
