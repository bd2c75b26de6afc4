package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// These tests run the program as a black box: a process for each call, a server, two
// directories. They check what the official conformance suite checks, and some more.

// program is the file that was built from this package.
var program string

func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "conformance.exe")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

type doc = rawtuf.Doc

// world is a repository behind a server, and a client's two directories.
type world struct {
	t      *testing.T
	repo   *rawtuf.Repo
	hashes bool   // metadata files are listed with length and hash
	base   string // URL below which metadata/ and targets/ lie
	md, td string
	later  time.Duration // the client's clock, from rawtuf.Now on

	mu       sync.Mutex
	targets  map[string]string // served content, by the request's path below targets/
	hangUp   string            // metadata file that is answered by closing the connection
	requests []string          // paths below base, as sent
}

// newWorld is already initialised. For its repository see rawtuf.NewPlain.
func newWorld(t *testing.T) *world {
	t.Parallel()
	dir := t.TempDir()
	w := &world{t: t, repo: rawtuf.NewPlain(), md: filepath.Join(dir, "md"), td: filepath.Join(dir, "td"), targets: map[string]string{}}
	for _, d := range []string{w.md, w.td} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.publish()
	w.serve()
	w.init(w.repo.Files["1.root.json"])
	return w
}

func (w *world) init(root []byte) {
	w.t.Helper()
	file := filepath.Join(filepath.Dir(w.md), "trusted.json")
	if err := os.WriteFile(file, root, 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.exits(0, "--metadata-dir", w.md, "init", file)
}

// serve answers as the simple servers of test suites do: HTTP/1.0, one request per
// connection, and paths compared as they were sent. The prefix is a test's name with a
// slash in it, which must not be decoded in transit.
func (w *world) serve() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	const prefix = "/test%5Brsa%2Fx%20y%5D/"
	w.base = "http://" + l.Addr().String() + prefix
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				in := bufio.NewReader(conn)
				line, _ := in.ReadString('\n')
				for h := line; strings.TrimSpace(h) != ""; h, err = in.ReadString('\n') {
					if err != nil {
						return
					}
				}
				f := strings.Fields(line)
				if len(f) != 3 || f[0] != "GET" {
					fmt.Fprint(conn, "HTTP/1.0 501 Unsupported method\r\nContent-Length: 0\r\n\r\n")
					return
				}
				status, body := w.answer(strings.TrimPrefix(f[1], prefix))
				if status != "" {
					fmt.Fprintf(conn, "HTTP/1.0 %s\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
				}
			}()
		}
	}()
}

func (w *world) answer(path string) (status, body string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, path)
	name, meta := strings.CutPrefix(path, "metadata/")
	data, ok := w.targets[strings.TrimPrefix(path, "targets/")]
	if meta {
		var b []byte
		b, ok = w.repo.Files[name]
		data = string(b)
	}
	switch {
	case meta && name == w.hangUp:
		return "", ""
	case !ok:
		return "404 Not Found", "no"
	}
	return "200 OK", data
}

// exits runs the program and checks its exit code.
func (w *world) exits(want int, args ...string) {
	w.t.Helper()
	at := rawtuf.Now.Add(w.later)
	w.exitsAt(fmt.Sprintf("%+.3f", time.Until(at).Seconds()), want, args...)
}

func (w *world) exitsAt(faketime string, want int, args ...string) {
	w.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "FAKETIME="+faketime)
	out, err := cmd.CombinedOutput()
	w.mu.Lock() // the server has finished all its requests
	defer w.mu.Unlock()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		w.t.Fatalf("%q ends with %d, want %d:\n%s", args, got, want, out)
	}
}

func (w *world) urls() []string {
	return []string{"--metadata-url", w.base + "metadata/", "--metadata-dir", w.md}
}

// refresh checks the exit code, and that exactly these files were requested.
func (w *world) refresh(want int, requests ...string) {
	w.t.Helper()
	w.asked()
	w.exits(want, append(w.urls(), "refresh")...)
	w.wereAsked(requests)
}

// download is like refresh; it checks only the metadata files below the top level.
func (w *world) download(want int, names ...string) {
	w.t.Helper()
	args := w.urls()
	for _, n := range names {
		args = append(args, "--target-name", n)
	}
	w.exits(want, append(args, "--target-dir", w.td, "--target-base-url", w.base+"targets/", "download")...)
}

func (w *world) wereAsked(want []string) {
	w.t.Helper()
	got := w.asked()
	for i := range want {
		want[i] = "metadata/" + want[i] + ".json"
	}
	if !slices.Equal(got, want) {
		w.t.Fatalf("requested %q, want %q", got, want)
	}
}

// asked returns the requests since the last call.
func (w *world) asked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.requests
	w.requests = nil
	return r
}

// askedRoles returns the delegated roles and targets that were requested.
func (w *world) askedRoles() []string {
	return slices.DeleteFunc(w.asked(), func(p string) bool {
		_, name, _ := strings.Cut(strings.TrimSuffix(p, ".json"), ".")
		return p == "metadata/timestamp.json" || slices.Contains([]string{"root", "snapshot", "targets"}, name)
	})
}

// trusts checks the versions of all files in the metadata directory. Every file with
// the suffix .json must be metadata.
func (w *world) trusts(want map[string]int) {
	w.t.Helper()
	got := map[string]int{}
	files, err := filepath.Glob(filepath.Join(w.md, "*.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, file := range files {
		var md struct{ Signed struct{ Version int } }
		if err := json.Unmarshal(w.read(file), &md); err != nil {
			w.t.Fatal(file, err)
		}
		got[strings.TrimSuffix(filepath.Base(file), ".json")] = md.Signed.Version
	}
	if !maps.Equal(got, want) {
		w.t.Fatalf("trusts %v, want %v", got, want)
	}
}

func (w *world) read(file string) []byte {
	w.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// has checks the contents of the target directory, in the order of storing.
func (w *world) has(want ...string) {
	w.t.Helper()
	type stored struct {
		at   time.Time
		data string
	}
	var all []stored
	err := filepath.WalkDir(w.td, func(file string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		fi, err := e.Info()
		all = append(all, stored{fi.ModTime(), string(w.read(file))})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.SortStableFunc(all, func(a, b stored) int { return a.at.Compare(b.at) })
	var got []string
	for _, s := range all {
		got = append(got, s.data)
	}
	if !slices.Equal(got, want) {
		w.t.Fatalf("the target directory has %q, want %q", got, want)
	}
}

// publish raises the named roles, snapshot and timestamp, and signs everything.
func (w *world) publish(roles ...string) {
	w.repo.Bump(roles...)
	w.sign()
}

func (w *world) sign() {
	w.mu.Lock()
	defer w.mu.Unlock()
	listed := func(role string) doc {
		f := w.repo.PublishRole(role)
		if !w.hashes {
			delete(f, "length")
			delete(f, "hashes")
		}
		return f
	}
	meta := doc{}
	for role := range w.repo.Roles {
		if role != "timestamp" && role != "snapshot" {
			meta[role+".json"] = listed(role)
		}
	}
	w.repo.Roles["snapshot"]["meta"] = meta
	w.repo.Roles["timestamp"]["meta"] = doc{"snapshot.json": listed("snapshot")}
	w.repo.PublishTimestamp()
}

// serveFile changes the content that is served under a name, without recording it.
func (w *world) serveFile(name string, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if data == nil {
		delete(w.repo.Files, name)
	} else {
		w.repo.Files[name] = data
	}
}

// add lists a target in a role and serves it.
func (w *world) add(role, path, content string) {
	w.repo.AddTarget(path, content, nil, role)
	w.serveTarget(path, content, rawtuf.At(w.repo.Roles[role], "targets", path, "hashes")["sha256"].(string))
}

func (w *world) serveTarget(path, content, hash string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	dir, base := "", path
	if i := strings.LastIndex(path, "/") + 1; i > 0 {
		dir, base = path[:i], path[i:]
	}
	w.targets[dir+hash+"."+base] = content
}

// delegate makes a role, empty at first, and lets another delegate to it.
func (w *world) delegate(by, role string, how doc, keys ...string) {
	if w.repo.Roles[role] == nil {
		w.repo.Roles[role] = rawtuf.Targets()
		w.repo.Signers[role] = keys
	}
	w.repo.Delegate(by, role, how, keys...)
}

// edit changes root's entry of a role: its keys, threshold and signers.
func (w *world) role(role string, threshold int, keys, signers []string) {
	w.repo.AddKeys(w.repo.Root, keys...)
	rawtuf.At(w.repo.Root, "roles")[role] = w.repo.Role(threshold, keys...)
	w.repo.Signers[role] = signers
}

// at is the state of a client that saw all roles at these versions.
func at(root, timestamp, snapshot, targets int) map[string]int {
	m := map[string]int{"root": root, "timestamp": timestamp, "snapshot": snapshot, "targets": targets}
	maps.DeleteFunc(m, func(_ string, v int) bool { return v == 0 })
	return m
}
