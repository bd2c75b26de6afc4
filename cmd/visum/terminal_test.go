package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// screen is a shell in a terminal of tmux.
type screen struct {
	t          *testing.T
	tmux, sock string
	n          int
}

func newScreen(t *testing.T, dir string, env ...string) *screen {
	t.Helper()
	s := &screen{t: t, tmux: rawtuf.Program(t, "tmux", "Debian's tmux")}
	sock, err := os.MkdirTemp("", "t") // the path of a socket must be short
	rawtuf.NoErr(t, err)
	s.sock = filepath.Join(sock, "s")
	cmd := exec.Command(s.tmux, "-S", s.sock, "-f", "/dev/null", "new-session", "-d", "-x", "150", "-y", "50", "-c", dir, "PS1='> ' sh")
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		_ = exec.Command(s.tmux, "-S", s.sock, "kill-server").Run()
		os.RemoveAll(sock)
	})
	return s
}

func (s *screen) content() string {
	s.t.Helper()
	out, err := exec.Command(s.tmux, "-S", s.sock, "capture-pane", "-p", "-J").CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// shows waits until the screen shows a text.
func (s *screen) shows(text string, meanwhile ...func()) {
	s.t.Helper()
	for range 20_000 {
		if strings.Contains(s.content(), text) {
			return
		}
		for _, fn := range meanwhile {
			fn()
		}
	}
	s.t.Fatalf("the screen does not show %q:\n%s", text, strings.TrimSpace(s.content()))
}

func (s *screen) keys(keys ...string) {
	s.t.Helper()
	if out, err := exec.Command(s.tmux, append([]string{"-S", s.sock, "send-keys"}, keys...)...).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
}

// begin clears the screen, so that it shows nothing of the last command, and types one.
func (s *screen) begin(command string) {
	s.t.Helper()
	s.n++
	s.keys("-R")
	s.keys("-l", fmt.Sprintf(`%s; echo "status $? of %d"`, command, s.n))
	s.keys("Enter")
}

// ends waits for the end of the command, and requires its exit status.
func (s *screen) ends(status int) string {
	s.t.Helper()
	end := fmt.Sprintf(" of %d\n", s.n)
	s.shows(end)
	got := s.content()
	if want := fmt.Sprintf("status %d%s", status, end); !strings.Contains(got, want) {
		s.t.Errorf("want %q:\n%s", want, got)
	}
	return got
}

// run runs a command that must succeed.
func (s *screen) run(command string) {
	s.t.Helper()
	s.begin(command)
	s.ends(0)
}

// treeSum is a hash of all files below a directory, but ledgers, which record what was
// read, and targets, which no role lists yet.
func treeSum(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	rawtuf.NoErr(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == "ledger" || d.Name() == "targets") {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(h, "%s %x\n", path, sha256.Sum256(data))
		return err
	}))
	return fmt.Sprintf("%x", h.Sum(nil))
}

// Ctrl-C at a question: the command ends, nothing has changed, and the terminal shows
// what is typed again.
func TestInterruptedQuestion(t *testing.T) {
	if testing.Short() {
		t.Skip("runs processes; not with -short")
	}
	t.Parallel()
	dir := t.TempDir()
	rawtuf.NoErr(t, os.WriteFile(filepath.Join(dir, "kestrel"), []byte("kestrel 1.0\n"), 0o600))
	s := newScreen(t, dir, "VISUM_IDENTITY="+filepath.Join(dir, "d", "identity.toml"))
	s.run("visum dev d --product kestrel --serve=false >/dev/null")
	s.run("visum -C d --as vendor add kestrel --product kestrel --version 1.0.0 --platform any -o 1.draft >/dev/null")
	s.run("mkdir v r empty; export VISUM_IDENTITY=identity.toml")
	s.run("cd r; for k in root release; do visum key new $k --unsafe-plain --for \"review $k\"; done >/dev/null; visum key pub --party review >../v/review.keys; cd ..")
	s.run("cd v; for k in root release online; do visum key new $k --unsafe-plain --for \"vendor $k\"; done >/dev/null; cd ..")
	s.run("cd v; visum init --product x --repo repository --url https://a.example/ --roots-url https://b.example/ --keys review.keys --renews hand -o ../root1.draft 2>/dev/null >/dev/null; cd ..")
	s.run("export VISUM_IDENTITY=$PWD/d/identity.toml")
	for name, x := range map[string]struct {
		command string
		before  []string // questions that are answered, and the answers
		asks    string
	}{
		"passphrase":        {"cd empty; VISUM_IDENTITY=i visum key new root --for 'vendor root'; (exit $?)", nil, "passphrase of"},
		"passphrase, twice": {"cd empty; VISUM_IDENTITY=i visum key new root --for 'vendor root'; (exit $?)", []string{"passphrase of", "correct horse"}, ", again"},
		"publish":           {"visum -C d --as vendor add kestrel --product kestrel --version 1.1.0 --platform any", nil, "publish? [y/N]"},
		"digest to join":    {"VISUM_IDENTITY=r/identity.toml visum -C r join root1.draft --as review", nil, "digest that the other party reads to you"},
		"digest to sign":    {"visum -C d --as review draft sign 1.draft", nil, "[y/N]"},
		"init":              {"VISUM_IDENTITY=empty/i visum -C empty init", nil, "name of the product"},
		"init --solo": {"VISUM_IDENTITY=empty/i visum -C empty init --solo --product x --repo repository --url https://a.example/ --min-operators 1 --renews hand",
			[]string{"address at a second operator", "", "passphrase of", "correct horse", ", again", "correct horse"}, "publish root 1? [y/N]"},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			was := treeSum(t, dir)
			s.begin(x.command)
			for i := 0; i < len(x.before); i += 2 {
				s.shows(x.before[i])
				s.keys("-l", x.before[i+1]+"\n")
			}
			s.shows(x.asks)
			s.keys("C-c")
			if got := s.ends(1); !strings.Contains(got, "interrupted at a question") {
				t.Errorf("says not what happened:\n%s", got)
			}
			if strings.Contains(x.command, "cd empty") {
				s.run("cd ..")
			}
			if treeSum(t, dir) != was {
				t.Error("files have changed")
			}
		})
	}
}

// slow lets an object store read the targets that are uploaded in small steps.
type slow struct {
	next  http.Handler
	steps chan struct{}
	open  atomic.Bool
}

func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && strings.Contains(r.URL.Path, "/targets/") {
		r.Body = &slowBody{r.Body, s, r}
	}
	s.next.ServeHTTP(w, r)
}

type slowBody struct {
	io.ReadCloser
	s *slow
	r *http.Request
}

func (b *slowBody) Read(p []byte) (int, error) {
	if !b.s.open.Load() {
		select {
		case <-b.s.steps:
		case <-b.r.Context().Done():
			return 0, b.r.Context().Err()
		}
		p = p[:min(len(p), 64<<10)]
	}
	return b.ReadCloser.Read(p)
}

// An upload shows a bar. Ctrl-C ends it: the repository is as it was, and the same command
// completes it later. The bar is gone then.
func TestInterruptedUpload(t *testing.T) {
	if testing.Short() {
		t.Skip("runs processes; not with -short")
	}
	t.Parallel()
	backend := s3mem.New()
	rawtuf.NoErr(t, backend.CreateBucket("updates"))
	store := &slow{next: gofakes3.New(backend).Server(), steps: make(chan struct{})}
	store.open.Store(true)
	server := httptest.NewUnstartedServer(store)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it is interrupted
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(store.steps) }) // of a request that was not interrupted
	bucket := "s3://updates/kestrel?region=eu-central-1&endpoint=" + server.URL
	dir := t.TempDir()
	rawtuf.NoErr(t, os.WriteFile(filepath.Join(dir, "kestrel"), make([]byte, 100<<20), 0o600))
	s := newScreen(t, dir, "VISUM_IDENTITY="+filepath.Join(dir, "d", "identity.toml"), "AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=not a secret",
		"BUCKET="+bucket)
	s.run("visum dev d --product kestrel --serve=false >/dev/null")
	s.run(`visum clone d/repository "$BUCKET" --pin d/pin.json --unsafe-loopback >/dev/null`)
	config, err := os.ReadFile(filepath.Join(dir, "d", "visum.toml"))
	rawtuf.NoErr(t, err)
	config = bytes.Replace(config, []byte(`storage = "repository"`), []byte(`storage = "`+bucket+`"`), 1)
	rawtuf.NoErr(t, os.WriteFile(filepath.Join(dir, "d", "visum.toml"), config, 0o600))
	store.open.Store(false)
	s.begin("visum -C d --as vendor add kestrel --product kestrel --version 1.0.0 --platform any --publish")
	s.shows("[#", func() {
		select {
		case store.steps <- struct{}{}:
		default:
		}
	})
	if got := s.content(); !strings.Contains(got, " % ") || !strings.Contains(got, "kestrel") {
		t.Errorf("the bar has no share or no name:\n%s", got)
	}
	s.keys("C-c")
	if got := s.ends(1); strings.Contains(got, "[#") {
		t.Errorf("the bar is still there:\n%s", got)
	}
	store.open.Store(true)
	s.begin("visum -C d --as vendor fsck")
	if got := s.ends(0); !strings.Contains(got, "good: root v1") || !strings.Contains(got, "0 targets") {
		t.Errorf("after the interrupt:\n%s", got)
	}
	s.begin("visum -C d --as vendor add kestrel --product kestrel --version 1.0.0 --platform any --publish")
	if got := s.ends(0); strings.Contains(got, "[#") || !strings.Contains(got, "NOT OFFERED yet: waits for review") {
		t.Errorf("again:\n%s", got)
	}
	s.run("visum -C d --as vendor fsck >/dev/null")
}
