package git

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

func TestURI(t *testing.T) {
	for uri, want := range map[string]*Branch{
		"git:https://codeberg.org/example/pages.git#kestrel":                  {remote: "https://codeberg.org/example/pages.git", branch: "kestrel"},
		"git:git@github.com:example/kestrel.git#gh-pages":                     {remote: "git@github.com:example/kestrel.git", branch: "gh-pages"},
		"git:ssh://git@gitlab.example:2222/~x/kestrel.git#pages/v1:updates/a": {remote: "ssh://git@gitlab.example:2222/~x/kestrel.git", branch: "pages/v1", folder: "updates/a/"},
		"git:https://[2001:db8::1]:8443/x#b":                                  {remote: "https://[2001:db8::1]:8443/x", branch: "b"},
	} {
		var b Branch
		if err := b.parseURI(uri); err != nil || b.remote != want.remote || b.branch != want.branch || b.folder != want.folder {
			t.Errorf("%s: %q %q %q, %v", uri, b.remote, b.branch, b.folder, err)
		}
	}
	for _, uri := range []string{
		"", "https://x.example/y#b", "git:", "git:#b", "git:https://x.example/y", "git:https://x.example/y#", "git:https://x.example/y#b#c",
		"git:ext::sh -c x#b", "git:ext::sh%20x#b", "git:-x@host:y#b", "git:--upload-pack=x#b", "git:x@-host:y#b", "git:x@host:-y#b", "git:ssh://-oProxyCommand=x/y#b", "git:ssh://host/-#b\n",
		"git:/tmp/x#b", "git:./x#b", "git:file:///tmp/x#b", "git:c:/x#b", "git:http://127.0.0.1/x#b", "git:http://x.example/y#b", "git:git://x.example/y#b", "git:ftp://x.example/y#b",
		"git:https://x:secret@x.example/y#b", "git:https://secret@x.example/y#b", "git:ssh://x:secret@x.example/y#b", "git:https://x.example/y?secret#b", "git:https://x.example/#b",
		"git:https://x.example/y#-b", "git:https://x.example/y#a..b", "git:https://x.example/y#a.lock", "git:https://x.example/y#a/.b", "git:https://x.example/y#a//b", "git:https://x.example/y#b^", "git:https://x.example/y#b@{1}",
		"git:https://x.example/y#b:", "git:https://x.example/y#b:/a", "git:https://x.example/y#b:../a", "git:https://x.example/y#b:.git", "git:https://x.example/y#b:a/.git/b",
		"git:https://x.example/y z#b", "git:https://x.example/\ny#b", "git:https://x.example/%0a#b\x00",
	} {
		_, err := Open(t.Context(), uri, &Options{CacheDir: t.TempDir()})
		if !errors.Is(err, ErrURI) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", uri, err)
		}
	}
	var b Branch
	b.opt.UnsafeLoopback = true
	for uri, ok := range map[string]bool{"git:http://127.0.0.1:1/x#b": true, "git:http://localhost/x#b": true, "git:http://[::1]/x#b": true, "git:http://x.example/y#b": false, "git:http://10.0.0.1/y#b": false, "git:http://localhost.example/y#b": false} {
		if err := b.parseURI(uri); (err == nil) != ok {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// Only what is named passes from the environment to git.
func TestEnvironment(t *testing.T) {
	got := environment([]string{"PATH=/bin", "GIT_DIR=x", "git_exec_path=x", "GIT_SSH_COMMAND=ssh -i key", "GIT_ALLOW_PROTOCOL=ext", "GIT_PROXY_COMMAND=x", "GIT_CONFIG_PARAMETERS='a=b'", "GIT_AUTHOR_NAME=me",
		"SSH_ASKPASS=x", "SSH_AUTH_SOCK=y", "LANGUAGE=de"}, [][2]string{{"credential.helper", "store"}})
	text := "\n" + strings.Join(got, "\n") + "\n"
	for _, want := range []string{"PATH=/bin", "GIT_SSH_COMMAND=ssh -i key", "GIT_AUTHOR_NAME=me", "GIT_COMMITTER_NAME=visum", "SSH_AUTH_SOCK=y", "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=credential.helper", "GIT_CONFIG_VALUE_0=store"} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, not := range []string{"GIT_DIR", "git_exec_path", "GIT_ALLOW_PROTOCOL", "GIT_PROXY_COMMAND", "GIT_CONFIG_PARAMETERS", "SSH_ASKPASS", "LANGUAGE"} {
		if strings.Contains(text, "\n"+not+"=") {
			t.Errorf("%s passes", not)
		}
	}
	if text := strings.Join(environment(nil, nil), "\n"); !strings.Contains(text, "GIT_SSH_COMMAND=ssh -o BatchMode=yes") {
		t.Error("ssh may ask")
	}
}

func TestProgram(t *testing.T) {
	if _, err := findProgram(t.Context(), filepath.Join(t.TempDir(), "git")); err == nil {
		t.Error("a program that does not exist")
	}
	rawtuf.Program(t, "sh", "a shell")
	for says, want := range map[string]string{"git version 2.31.8": "2.32 or newer", "hello": "is no git"} {
		path := filepath.Join(t.TempDir(), "git")
		rawtuf.NoErr(t, os.WriteFile(path, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755))
		if _, err := findProgram(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// Messages of git are bounded, on one line and without credentials.
func TestMessages(t *testing.T) {
	got := clean([]byte("fatal: unable to access 'https://me:secret@x.example/y/'\rfatal: again https://secret@x.example/\nremote: \nhint: see\nTo https://x.example\n" + strings.Repeat("long ", 2000)))
	if strings.Contains(got, "secret") || strings.Contains(got, "hint") || strings.ContainsAny(got, "\r\n") || len(got) > 1100 || !strings.Contains(got, "x.example") {
		t.Errorf("%q", got)
	}
	out := &tail{limit: 10}
	if _, err := out.Write(make([]byte, 11)); err == nil || len(out.data) != 10 || !out.over {
		t.Error("output is not bounded")
	}
	messages := &tail{limit: 10, drop: true}
	for range 100 {
		_, err := messages.Write([]byte("1234567"))
		rawtuf.NoErr(t, err)
	}
	if len(messages.data) > 20 {
		t.Error("messages are not bounded")
	}
}

// Names that git can't hold, files that are too large, and files where folders are.
func TestNames(t *testing.T) {
	ctx, b := t.Context(), newHost(t).open(func(o *Options) { o.MaxFile = 1000 })
	for _, name := range []string{"a/.git/b", "a/.GIT/b", "a/.gi\u200ct/b", "a/git~1/b", "git~1"} {
		_, err := b.Read(ctx, name)
		for op, err := range map[string]error{"Create": b.Create(ctx, name, strings.NewReader("x")), "Read": err} {
			if !errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s(%q) = %v", op, name, err)
			}
		}
	}
	err := b.Create(ctx, "targets/big", strings.NewReader(strings.Repeat("x", 1001)))
	if !errors.Is(err, tuf.ErrTooLarge) || !strings.Contains(err.Error(), "GitHub refuses files of more than 100 MiB") {
		t.Error(err)
	}
	rawtuf.NoErr(t, b.Create(ctx, "targets/big", strings.NewReader(strings.Repeat("x", 1000))))
	rawtuf.NoErr(t, b.Create(ctx, "a/b", strings.NewReader("x")))
	for _, name := range []string{"a", "a/b/c"} {
		if err := b.Create(ctx, name, strings.NewReader("x")); err == nil || errors.Is(err, storage.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Names that differ in case only are different files in git.
	rawtuf.NoErr(t, b.Create(ctx, "A/B", strings.NewReader("y")))
	rawtuf.NoErr(t, b.Remove(ctx, "a/b", time.Now().Add(time.Hour)))
	rawtuf.NoErr(t, b.Create(ctx, "a", strings.NewReader("x"))) // the folder is gone
}

// A local copy that was removed, damaged or left by a killed process is no obstacle.
func TestLocalCopy(t *testing.T) {
	ctx, h := t.Context(), prepare(t)
	b := h.open()
	if data, err := b.Read(ctx, "metadata/t"); err != nil || string(data) != "old" {
		t.Fatal(data, err)
	}
	left := filepath.Join(b.dir, "run", "git-left")
	rawtuf.NoErr(t, os.MkdirAll(left, 0o700))
	long := time.Now().Add(-2 * strayAge)
	rawtuf.NoErr(t, os.Chtimes(left, long, long))
	rawtuf.NoErr(t, os.WriteFile(filepath.Join(b.dir, "tip"), []byte(strings.Repeat("0", 39)+"1\n"), 0o600))
	rawtuf.NoErr(t, os.WriteFile(filepath.Join(b.shared, "config"), []byte("[core]\n\thooksPath = /tmp\n"), 0o600))
	again, err := Open(ctx, h.uri(), &b.opt)
	rawtuf.NoErr(t, err)
	if _, err := os.Lstat(left); err == nil {
		t.Error("a directory of a killed process stays")
	}
	rawtuf.NoErr(t, again.Replace(ctx, "metadata/t", []byte("old"), []byte("new")))
	rawtuf.NoErr(t, os.RemoveAll(filepath.Join(again.shared, "objects")))
	last, err := Open(ctx, h.uri(), &b.opt)
	rawtuf.NoErr(t, err)
	if data, err := last.Read(ctx, "metadata/t"); err != nil || string(data) != "new" {
		t.Fatal(data, err)
	}
	rawtuf.NoErr(t, last.Replace(ctx, "metadata/t", []byte("new"), []byte("old")))
}
