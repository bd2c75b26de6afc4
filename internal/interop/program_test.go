//go:build unix

package interop_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is a program that runs until the test ends.
type server struct {
	t    *testing.T
	path string
	args []string
	port string // for the readiness check

	mu    sync.Mutex
	cmd   *exec.Cmd  // nil: not running
	ended chan error // receives when the program has ended
}

func run(t *testing.T, port, path string, args ...string) *server {
	t.Helper()
	s := &server{t: t, path: path, args: args, port: port}
	s.start()
	t.Cleanup(s.kill)
	return s
}

// start returns when the program accepts connections.
func (s *server) start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out bytes.Buffer // complete when the program has ended
	s.cmd, s.ended = exec.Command(s.path, s.args...), make(chan error, 1)
	s.cmd.Stdout, s.cmd.Stderr = &out, &out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // kills its workers too
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(s.cmd, s.ended)
	for range 600 {
		conn, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-s.ended:
			s.cmd = nil
			s.t.Fatalf("%s ended at once: %v\n%s", s.path, err, &out)
		case <-time.After(50 * time.Millisecond):
		}
	}
	s.t.Fatalf("%s takes no connections", s.path)
}

// kill ends the program and its children as a power failure does.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		s.t.Error(err)
	}
	<-s.ended
	for range 200 { // until the port is free
		conn, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err != nil {
			break
		}
		conn.Close()
		time.Sleep(20 * time.Millisecond)
	}
	s.cmd = nil
}

// freePorts returns ports that are currently unused. They are below the ephemeral
// range of the system, so that they stay free.
func freePorts(t *testing.T, n int) (ports []string) {
	t.Helper()
	for range 1000 {
		port := fmt.Sprint(20000 + rand.N(12000))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		defer l.Close()
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	t.Fatal("no free ports")
	return nil
}

func writeFile(t *testing.T, data string, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	noErr(t, os.WriteFile(file, []byte(data), 0o644))
	return file
}

func noErr(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
