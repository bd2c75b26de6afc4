package main_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// A witness from the tool signs the growth of a log, refuses a fork, knows after a restart
// what it signed, and visum tlog check verifies what it signed.
func TestWitness(t *testing.T) {
	if testing.Short() {
		t.Skip("runs processes; not with -short")
	}
	t.Parallel()
	dir := t.TempDir()
	env := append(os.Environ(), "VISUM_IDENTITY="+filepath.Join(dir, "identity.toml"))
	visum := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("visum", args...)
		cmd.Env, cmd.Dir = env, dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	visum("key", "new", "witness", "--unsafe-plain")
	key := strings.TrimSpace(visum("witness", "key", "--key", "witness", "--name", "witness.example/w1"))
	l := rawlog.NewLog("vendor.example/visum/1")
	policy := "log " + l.Key.String() + "\nwitness one " + key + "\nquorum one\n"
	serve := func() (address string, stop func()) {
		cmd := exec.Command("visum", "witness", "serve", "--key", "witness", "--name", "witness.example/w1", "--storage", filepath.Join(dir, "state"),
			"--log", l.Key.String(), "--listen", "127.0.0.1:0")
		cmd.Env, cmd.Dir = env, dir
		out, err := cmd.StderrPipe()
		rawtuf.NoErr(t, err)
		rawtuf.NoErr(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if _, rest, ok := strings.Cut(lines.Text(), "serving "); ok {
				address = strings.Fields(rest)[0]
				break
			}
		}
		if address == "" {
			t.Fatal("the witness does not serve")
		}
		go func() { _, _ = io.Copy(io.Discard, out) }()
		return address, func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	}
	add := func(address string, l *rawlog.Log, old int64) (int, string) {
		t.Helper()
		proof, err := l.Tree.Consistency(old)
		rawtuf.NoErr(t, err)
		body := fmt.Sprintf("old %d\n", old)
		for _, h := range proof {
			body += base64.StdEncoding.EncodeToString(h[:]) + "\n"
		}
		resp, err := http.Post(address+"add-checkpoint", "", bytes.NewReader(append([]byte(body+"\n"), l.Note(time.Now())...)))
		rawtuf.NoErr(t, err)
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		rawtuf.NoErr(t, err)
		return resp.StatusCode, string(got)
	}
	address, stop := serve()
	l.Append([]byte("one"), []byte("two"))
	status, line := add(address, l, 0)
	if status != http.StatusOK {
		t.Fatal(status, line)
	}
	proof := l.Proof(1, append(l.Note(time.Now()), line...))
	for name, data := range map[string][]byte{"policy": []byte(policy), "entry": []byte("two"), "two.tlog-proof": proof} {
		rawtuf.NoErr(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	if got := visum("tlog", "check", "--policy", "policy", "--entry", "entry", "two.tlog-proof"); !strings.Contains(got, "entry 1 of 2 in the log vendor.example/visum/1") || !strings.Contains(got, "cosigned by one at") {
		t.Error(got)
	}
	p, err := tlog.ParsePolicy(policy)
	rawtuf.NoErr(t, err)
	if _, err := p.Verify([]byte("two"), proof); err != nil {
		t.Error(err)
	}
	fork := rawlog.NewLog("vendor.example/visum/1")
	fork.Append([]byte("three"), []byte("four"))
	if status, _ := add(address, fork, 2); status != http.StatusUnprocessableEntity {
		t.Errorf("a fork: %d", status)
	}
	stop()
	address, stop = serve()
	defer stop()
	if status, size := add(address, l, 0); status != http.StatusConflict || size != "2\n" {
		t.Errorf("after a restart: %d, %q", status, size)
	}
	l.Append([]byte("three"))
	if status, line := add(address, l, 2); status != http.StatusOK {
		t.Errorf("growth after a restart: %d, %q", status, line)
	}
}
