package git

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/githost"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
)

// refusedBy runs a write and checks its error, its text, and that the branch has not
// changed.
func refusedBy(t *testing.T, h *host, b *Branch, want error, says ...string) {
	t.Helper()
	before := h.head()
	err := b.Replace(t.Context(), "metadata/t", []byte("old"), []byte("new"))
	if !errors.Is(err, want) || errors.Is(err, storage.ErrConflict) != (want == storage.ErrConflict) {
		t.Fatalf("got %v, want %v", err, want)
	}
	for _, s := range append(says, branch) {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%v does not say %q", err, s)
		}
	}
	if h.head() != before {
		t.Error("the branch has changed")
	}
}

// A host refuses the push in different ways.
func TestRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("starts some hundred processes of git; not with -short")
	}
	t.Run("a hook", func(t *testing.T) {
		h := prepare(t)
		h.hook("pre-receive", "echo 'files of secrets are not accepted' >&2; exit 1")
		refusedBy(t, h, h.open(), ErrRefused, "files of secrets are not accepted", "pre-receive hook declined")
	})
	t.Run("a protected branch", func(t *testing.T) {
		h := prepare(t)
		h.config("receive.denyNonFastForwards", "true")
		refusedBy(t, h, h.open(), ErrRefused, "non-fast-forward", "permits forced pushes")
	})
	t.Run("a lock that stays", func(t *testing.T) {
		h := prepare(t)
		b := h.open()
		b.wait = sleepNot
		rawtuf.NoErr(t, os.WriteFile(filepath.Join(h.dir, "refs", "heads", branch+".lock"), nil, 0o600))
		refusedBy(t, h, b, ErrRefused)
	})
	t.Run("no repository", func(t *testing.T) {
		h := newHost(t)
		b := h.open()
		rawtuf.NoErr(t, os.RemoveAll(h.dir))
		_, err := b.Read(t.Context(), "metadata/t")
		if err == nil || !strings.Contains(err.Error(), "does not appear to be a git repository") || !strings.Contains(err.Error(), "git ls-remote") {
			t.Fatal(err)
		}
	})
	t.Run("no space", func(t *testing.T) {
		rawtuf.Program(t, "sh", "a shell")
		h := prepare(t)
		script := filepath.Join(memoryDir(t), "git")
		rawtuf.NoErr(t, os.WriteFile(script, []byte("#!/bin/sh\nulimit -f 200\ntrap '' XFSZ\nexec "+h.git+" \"$@\"\n"), 0o755))
		b := h.open(func(o *Options) { o.Program = script })
		before := h.head()
		if err := b.Create(t.Context(), "targets/big", strings.NewReader(random(4<<20))); err == nil || errors.Is(err, storage.ErrConflict) {
			t.Fatal(err)
		}
		if h.head() != before {
			t.Error("the branch has changed")
		}
	})
}

func sleepNot(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// Another program pushes to the branch.
func TestStranger(t *testing.T) {
	commit := func(h *host, tree string) string {
		return strings.TrimSpace(h.run("", "commit-tree", "-m", "by hand", strings.TrimSpace(tree)))
	}
	t.Run("a branch of something else", func(t *testing.T) {
		h := newHost(t)
		blob := strings.TrimSpace(h.run("a site", "hash-object", "-w", "--stdin"))
		site := commit(h, h.run("100644 blob "+blob+"\tindex.html\n", "mktree"))
		h.run("", "update-ref", "refs/heads/"+branch, site)
		b := h.open()
		if data, err := b.Read(t.Context(), "index.html"); err != nil || string(data) != "a site" {
			t.Fatal(data, err)
		}
		err := b.Create(t.Context(), "metadata/1.root.json", strings.NewReader("x"))
		if !errors.Is(err, ErrForeignBranch) || !strings.Contains(err.Error(), ".visum/index") || h.head() != site {
			t.Fatal(err)
		}
		// With the file that the error names the owner agrees, and other files stay.
		empty := strings.TrimSpace(h.run("", "hash-object", "-w", "--stdin"))
		sub := strings.TrimSpace(h.run("100644 blob "+empty+"\tindex\n", "mktree"))
		h.run("", "update-ref", "refs/heads/"+branch, commit(h, h.run("100644 blob "+blob+"\tindex.html\n040000 tree "+sub+"\t.visum\n", "mktree")))
		rawtuf.NoErr(t, b.Create(t.Context(), "metadata/1.root.json", strings.NewReader("x")))
		if got := h.state(); got != "index.html:6 metadata/1.root.json:1" {
			t.Error(got)
		}
	})
	t.Run("in the meantime", func(t *testing.T) {
		h := prepare(t)
		b := h.open()
		rawtuf.NoErr(t, b.Create(t.Context(), "targets/new", strings.NewReader("new")))
		blob := strings.TrimSpace(h.run("a site", "hash-object", "-w", "--stdin"))
		site := commit(h, h.run("100644 blob "+blob+"\tindex.html\n", "mktree"))
		h.run("", "update-ref", "refs/heads/"+branch, site)
		// The file that Replace expects is gone.
		refusedBy(t, h, b, storage.ErrConflict)
		if err := b.Create(t.Context(), "targets/y", strings.NewReader("y")); !errors.Is(err, ErrForeignBranch) || h.head() != site {
			t.Fatal(err)
		}
	})
	t.Run("a commit on top", func(t *testing.T) {
		h := prepare(t)
		b := h.open()
		rawtuf.NoErr(t, b.Create(t.Context(), "targets/new", strings.NewReader("new")))
		blob := strings.TrimSpace(h.run("updates.example.org\n", "hash-object", "-w", "--stdin"))
		tree := h.run(h.run("", "ls-tree", branch)+"100644 blob "+blob+"\tCNAME\n", "mktree")
		h.run("", "update-ref", "refs/heads/"+branch, strings.TrimSpace(h.run("", "commit-tree", "-p", branch, "-m", "by hand", strings.TrimSpace(tree))))
		rawtuf.NoErr(t, b.Replace(t.Context(), "metadata/t", []byte("old"), []byte("new")))
		if got := h.state(); got != "CNAME:20 metadata/t:3:new targets/kept:4 targets/new:3 targets/old:3" {
			t.Error(got)
		}
		if n := strings.TrimSpace(h.run("", "rev-list", "--count", branch)); n != "1" {
			t.Errorf("%s commits", n)
		}
	})
	t.Run("links and submodules", func(t *testing.T) {
		h := prepare(t)
		blob := strings.TrimSpace(h.run("/etc/passwd", "hash-object", "-w", "--stdin"))
		tree := h.run(h.run("", "ls-tree", branch)+"120000 blob "+blob+"\tlink\n160000 commit "+h.head()+"\tmodule\n100755 blob "+blob+"\tprogram\n", "mktree", "--missing")
		h.run("", "update-ref", "refs/heads/"+branch, commit(h, tree))
		b := h.open()
		for name, says := range map[string]string{"link": "symbolic link", "module": "submodule"} {
			_, err := b.Read(t.Context(), name)
			_, err2 := b.Open(t.Context(), name)
			for _, err := range []error{err, err2, b.Create(t.Context(), name, strings.NewReader("/etc/passwd")), b.Replace(t.Context(), name, []byte("/etc/passwd"), []byte("x"))} {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: %v", name, err)
				}
			}
			var failed error
			for _, err := range b.List(t.Context(), name) {
				failed = err
			}
			if failed == nil {
				t.Errorf("%s is listed", name)
			}
		}
		if data, err := b.Read(t.Context(), "program"); err != nil || string(data) != "/etc/passwd" {
			t.Error(data, err)
		}
		rawtuf.NoErr(t, b.Replace(t.Context(), "metadata/t", []byte("old"), []byte("new"))) // others are not in the way
	})
	t.Run("the branch is removed", func(t *testing.T) {
		h := prepare(t)
		b := h.open()
		rawtuf.NoErr(t, b.Create(t.Context(), "targets/new", strings.NewReader("new")))
		h.run("", "update-ref", "-d", "refs/heads/"+branch)
		refusedBy(t, h, b, storage.ErrConflict)
		rawtuf.NoErr(t, b.Create(t.Context(), "targets/y", strings.NewReader("y")))
		if got := h.state(); got != "targets/y:1" {
			t.Error(got)
		}
	})
}

// web is the host behind HTTP.
func web(t *testing.T) (*githost.Host, string) {
	t.Helper()
	root := memoryDir(t)
	g, err := githost.New(program(t), root)
	rawtuf.NoErr(t, err)
	rawtuf.NoErr(t, g.Init("r"))
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	return g, s.URL
}

func openWeb(t *testing.T, url string) *Branch {
	t.Helper()
	b, err := Open(t.Context(), "git:"+url+"/r.git#"+branch, &Options{CacheDir: memoryDir(t), UnsafeLoopback: true})
	rawtuf.NoErr(t, err)
	return b
}

// A host over HTTP: credentials come from the user's helper, and nothing else of the
// user's configuration is used.
func TestHTTP(t *testing.T) {
	rawtuf.Program(t, "sh", "a shell")
	home := memoryDir(t)
	mark := filepath.Join(home, "ran")
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
	t.Setenv("GIT_CONFIG_VALUE_0", "touch "+mark)
	t.Setenv("GIT_EXTERNAL_DIFF", "touch "+mark)
	t.Setenv("GIT_ALLOW_PROTOCOL", "ext:file:http")
	rawtuf.NoErr(t, os.MkdirAll(filepath.Join(home, "hooks"), 0o755))
	for _, hook := range []string{"pre-push", "reference-transaction", "post-index-change"} {
		rawtuf.NoErr(t, os.WriteFile(filepath.Join(home, "hooks", hook), []byte("#!/bin/sh\ntouch "+mark+"\n"), 0o755))
	}
	config := "[core]\n\thooksPath = " + home + "/hooks\n\tfsmonitor = touch " + mark + "\n\tsshCommand = touch " + mark + "\n\taskPass = touch " + mark + "\n" +
		"[protocol]\n\tallow = always\n[url \"ext::touch " + mark + " %S \"]\n\tinsteadOf = http://\n[credential]\n\thelper = \"!f() { echo username=publisher; echo password=secret-token; }; f\"\n"
	rawtuf.NoErr(t, os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o600))
	g, url := web(t)
	g.User, g.Password = "publisher", "secret-token"
	b := openWeb(t, url)
	rawtuf.NoErr(t, b.Create(t.Context(), "targets/big", strings.NewReader(random(3<<20))))
	rawtuf.NoErr(t, b.Replace(t.Context(), "metadata/t", nil, []byte("1")))
	if data, err := openWeb(t, url).Read(t.Context(), "metadata/t"); err != nil || string(data) != "1" {
		t.Fatal(data, err)
	}

	g.ReadOnly = true
	err := b.Replace(t.Context(), "metadata/t", []byte("1"), []byte("2"))
	if err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	g.ReadOnly, g.Password = false, "another-token"
	err = b.Replace(t.Context(), "metadata/t", []byte("1"), []byte("2"))
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), branch) {
		t.Error(err)
	}
	if _, err := os.Lstat(mark); err == nil {
		t.Error("a program of the configuration was started")
	}
	b, err = Open(t.Context(), "git:http://127.0.0.1:1/r.git#"+branch, &Options{CacheDir: memoryDir(t), UnsafeLoopback: true})
	rawtuf.NoErr(t, err)
	if _, err := b.Read(t.Context(), "metadata/t"); err == nil || !strings.Contains(err.Error(), "network") {
		t.Error(err)
	}
}

// The number of HTTP requests of each act: the files that it needs come together.
func TestRequests(t *testing.T) {
	g, _ := web(t)
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { n.Add(1); g.ServeHTTP(w, r) }))
	t.Cleanup(s.Close)
	w := repotest.Empty(t)
	w.Now = time.Now().UTC().Truncate(time.Second)
	b := openWeb(t, s.URL)
	w.Elsewhere = b
	w.Update(w.Define)
	act := func(what string, most int64, fn func()) {
		t.Helper()
		n.Store(0)
		begin := time.Now()
		fn()
		t.Logf("%s: %d requests, %s", what, n.Load(), time.Since(begin).Round(time.Millisecond))
		if n.Load() > most {
			t.Errorf("%s: %d requests, want at most %d", what, n.Load(), most)
		}
	}
	open := w.Open()
	act("a release", 6, func() {
		rawtuf.NoErr(t, open.Update(t.Context(), func(tx *repo.Tx) error {
			return tx.Add("vendor", "agent/1", strings.NewReader(random(3<<20)), repotest.Release("1"))
		}))
	})
	act("a renewal", 6, func() { rawtuf.NoErr(t, w.Open().Renew(t.Context())) })
	w.Elsewhere = openWeb(t, s.URL)
	act("a renewal without a local copy", 10, func() { rawtuf.NoErr(t, w.Open().Renew(t.Context())) })
	w.Elsewhere = b
	act("a status after another publisher", 6, func() {
		_, err := w.Open().Status(t.Context(), w.Now)
		rawtuf.NoErr(t, err)
	})
}

// A host without partial clones sends all files.
func TestNoFilter(t *testing.T) {
	h := newHost(t)
	h.config("uploadpack.allowFilter", "false")
	rawtuf.NoErr(t, h.open().Create(t.Context(), "targets/big", strings.NewReader(random(2<<20))))
	b := h.open()
	rawtuf.NoErr(t, b.Replace(t.Context(), "metadata/t", nil, []byte("1")))
	f, err := b.Open(t.Context(), "targets/big")
	rawtuf.NoErr(t, err)
	defer f.Close()
	if n, err := countBytes(f); err != nil || n != 2<<20 {
		t.Fatal(n, err)
	}
	if got := h.state(); got != "metadata/t:1:1 targets/big:2097152" {
		t.Error(got)
	}
}

// A new commit is sent without the files that the host has, and a reader without the
// large ones.
func TestTransfer(t *testing.T) {
	h := newHost(t)
	b := h.open()
	rawtuf.NoErr(t, b.Create(t.Context(), "targets/big", strings.NewReader(random(8<<20))))
	h.run("", "gc", "-q")
	received := func() int64 {
		var n int64
		rawtuf.NoErr(t, filepath.WalkDir(filepath.Join(h.dir, "objects"), func(_ string, d os.DirEntry, err error) error {
			if info, err := d.Info(); err == nil && !d.IsDir() {
				n += info.Size()
			}
			return err
		}))
		return n
	}
	before := received()
	reader := h.open()
	rawtuf.NoErr(t, reader.Replace(t.Context(), "metadata/t", nil, []byte("1")))
	rawtuf.NoErr(t, b.Replace(t.Context(), "metadata/t", []byte("1"), []byte("2")))
	if n := received() - before; n > 100_000 {
		t.Errorf("two small changes sent %d bytes", n)
	}
	var local int64
	rawtuf.NoErr(t, filepath.WalkDir(reader.dir, func(_ string, d os.DirEntry, err error) error {
		if info, err := d.Info(); err == nil && !d.IsDir() {
			local += info.Size()
		}
		return err
	}))
	if local > 200_000 {
		t.Errorf("a new local copy has %d bytes", local)
	}
	f, err := reader.Open(t.Context(), "targets/big")
	rawtuf.NoErr(t, err)
	defer f.Close()
	if n, err := countBytes(f); err != nil || n != 8<<20 {
		t.Fatal(n, err)
	}
}
