package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// TestMain lets this binary act as the product that other tests run and kill: it
// refreshes and saves repeatedly.
func TestMain(m *testing.M) {
	if what := os.Getenv("VISUM_TEST_CHILD"); what != "" {
		child(what)
		return
	}
	if os.Getenv(sideEnv) != "" {
		sideMain()
		return
	}
	if dir := os.Getenv("VISUM_TEST_COUNTRY"); dir != "" {
		citizen(dir)
		return
	}
	if os.Getenv("VISUM_TEST_STATE") != "" {
		product()
		return
	}
	os.Exit(m.Run())
}

func product() {
	die := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	pin, err := os.ReadFile(os.Getenv("VISUM_TEST_PIN"))
	if err != nil {
		die(err)
	}
	n, err := strconv.Atoi(os.Getenv("VISUM_TEST_ROUNDS"))
	if err != nil {
		die(err)
	}
	var log *slog.Logger
	if os.Getenv("VISUM_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for range n {
		c, err := client.New(pin, &client.Config{Log: log, Retries: -1, Dir: os.Getenv("VISUM_TEST_STATE"), UnsafeLoopback: true, Now: func() time.Time { return rawtuf.Now }})
		if err != nil {
			die(err)
		}
		if err := refreshAndSave(c, filepath.Join(os.Getenv("VISUM_TEST_STATE"), "agent")); err != nil {
			die(err)
		}
	}
}

func refreshAndSave(c *client.Client, file string) error {
	view, err := c.Refresh(context.Background())
	if err != nil {
		return err
	}
	a, err := view.Find(context.Background(), rawtuf.Path)
	if err != nil {
		return err
	}
	return c.Save(context.Background(), a, file)
}

func (w *web) process(rounds int) *exec.Cmd {
	w.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	pin := filepath.Join(w.t.TempDir(), "pin.json")
	mustWrite(w.t, pin, w.pin())
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "VISUM_TEST_STATE="+w.dir, "VISUM_TEST_PIN="+pin, fmt.Sprint("VISUM_TEST_ROUNDS=", rounds))
	return cmd
}

// publish publishes once per so many served requests, in parallel to them, and a root
// each fifth time, until stop is called. By a clock it would outrun slow clients: each
// new root makes their next refresh longer.
func (w *web) publish(requests int) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	due := make(chan struct{}, 1)
	w.mu.Lock()
	n := 0
	w.served = func() {
		if n++; n%requests == 0 {
			select {
			case due <- struct{}{}:
			default: // it is publishing
			}
		}
	}
	w.mu.Unlock()
	go func() {
		defer close(ended)
		for i := 1; ; i++ {
			select {
			case <-done:
				return
			case <-due:
			}
			w.mu.Lock()
			if i%5 == 0 {
				w.repo.NextRoot(nothing)
			}
			renew(w.repo)
			w.mu.Unlock()
		}
	}()
	return sync.OnceFunc(func() { close(done); <-ended })
}

func TestManyGoroutines(t *testing.T) {
	w := newWeb(t)
	w.sockets()
	stop := w.publish(10)
	defer stop()
	one, two := w.client(overSockets), w.client(overSockets)
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			c := one
			if i%4 == 0 {
				c = two
			}
			for range 5 {
				if err := refreshAndSave(c, filepath.Join(dir, fmt.Sprint("agent", i%3))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// Several processes with one directory, and a publisher in parallel.
func TestManyProcesses(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.sockets()
	var all sync.WaitGroup
	stop := w.publish(20)
	defer stop()
	rounds := 15
	switch {
	case testing.Short():
		rounds = 3
	case rawtuf.Long:
		rounds = 40
	}
	for range 6 {
		cmd := w.process(rounds)
		all.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	all.Wait()
}

// A product killed at any time leaves a state from which the next one continues.
func TestKilled(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.sockets()
	stop := w.publish(5)
	defer stop()
	for i := range 12 {
		cmd := w.process(1 << 20)
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+8*i+rand.IntN(10)) * time.Millisecond)
		cmd.Process.Kill()
		if cmd.Wait(); cmd.ProcessState.ExitCode() == 1 {
			t.Fatal("failed before it was killed")
		}
		if i%3 == 2 {
			if err := refreshAndSave(w.client(overSockets), filepath.Join(w.dir, "agent")); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(filepath.Join(w.dir, "agent")); err == nil && string(got) != "the agent" {
			t.Fatalf("%q", got)
		}
	}
	stop()
	if err := refreshAndSave(w.client(overSockets), filepath.Join(w.dir, "agent")); err != nil {
		t.Fatal(err)
	}
}

// No goroutine outlives a call, and nothing of the caller or of the process is changed.
func TestNothingIsLeftBehind(t *testing.T) {
	w := newWeb(t)
	w.sockets()
	global, shared := *http.DefaultClient, http.DefaultTransport.(*http.Transport)
	globalTransport := http.DefaultTransport
	before := runtime.NumGoroutine()
	c := w.client(overSockets)
	for i := range 60 {
		if i%20 == 0 {
			c = w.client(overSockets)
		}
		if err := refreshAndSave(c, filepath.Join(w.t.TempDir(), "agent")); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; runtime.NumGoroutine() > before; i++ {
		if i == 3000 { // a minute, for a busy machine
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(20 * time.Millisecond)
	}
	if http.DefaultClient.Transport != global.Transport || http.DefaultClient.CheckRedirect != nil || http.DefaultTransport != globalTransport || shared.DisableCompression || shared.ResponseHeaderTimeout != 0 {
		t.Error("net/http's defaults were changed")
	}
	given := &http.Client{Transport: http.DefaultTransport, Timeout: time.Minute}
	was := *given
	c = w.client(overSockets, func(cfg *client.Config) { cfg.HTTP = given })
	if err := refreshAndSave(c, filepath.Join(t.TempDir(), "agent")); err != nil {
		t.Fatal(err)
	}
	if given.CheckRedirect != nil || given.Transport != was.Transport || given.Timeout != was.Timeout || given.Jar != nil {
		t.Error("the caller's client was changed")
	}
	http.DefaultClient.CloseIdleConnections()
}
