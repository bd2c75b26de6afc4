package git

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/storage"
)

// sshHost lets a real sshd serve the host to git, without a port: ssh starts it and talks
// to its standard input and output. It returns the part of a URI before the path, and the
// directory with the keys.
func (h *host) sshHost(t *testing.T) (remote, dir string) {
	t.Helper()
	sshd, keygen := rawtuf.Program(t, "sshd", "Debian's openssh-server"), rawtuf.Program(t, "ssh-keygen", "Debian's openssh-client")
	ssh := rawtuf.Program(t, "ssh", "Debian's openssh-client")
	me, err := user.Current()
	rawtuf.NoErr(t, err)
	if os.Geteuid() == 0 { // where the daemon separates privileges; the package makes it when the service starts
		rawtuf.NoErr(t, os.MkdirAll("/run/sshd", 0o755))
	}
	dir = t.TempDir()
	for _, key := range []string{"host", "user"} {
		rawtuf.Run(t, "", keygen, "-q", "-N", "", "-t", "ed25519", "-f", filepath.Join(dir, key))
	}
	public := func(key string) string {
		data, err := os.ReadFile(filepath.Join(dir, key+".pub"))
		rawtuf.NoErr(t, err)
		return string(data)
	}
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		rawtuf.NoErr(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	write("authorized", public("user"))
	write("known", "git.example "+public("host"))
	config := write("sshd_config", fmt.Sprintf("HostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nLogLevel ERROR\nSetEnv PATH=%s\n",
		filepath.Join(dir, "host"), filepath.Join(dir, "authorized"), os.Getenv("PATH")))
	t.Setenv("GIT_SSH_COMMAND", fmt.Sprintf("%s -F none -o BatchMode=yes -o LogLevel=ERROR -o ProxyCommand='%s -i -f %s' -o UserKnownHostsFile=%s -i %s", ssh, sshd, config, filepath.Join(dir, "known"), filepath.Join(dir, "user")))
	return me.Username + "@git.example", dir
}

// Over ssh, with both forms of a remote: two machines see each other's changes, and one of
// two that change the same file is told.
func TestSSH(t *testing.T) {
	if testing.Short() {
		t.Skip("starts sshd; not with -short")
	}
	h := newHost(t)
	remote, dir := h.sshHost(t)
	open := func(uri string) storage.Storage {
		t.Helper()
		b, err := Open(t.Context(), uri, &Options{Program: h.git, CacheDir: memoryDir(t)})
		rawtuf.NoErr(t, err)
		return b
	}
	a, b := open("git:ssh://"+remote+h.dir+"#"+branch), open("git:"+remote+":"+h.dir+"#"+branch)
	rawtuf.NoErr(t, a.Create(t.Context(), "metadata/1.root.json", strings.NewReader("root")))
	rawtuf.NoErr(t, b.Replace(t.Context(), "metadata/timestamp.json", nil, []byte("1")))
	for _, s := range []storage.Storage{a, b} {
		for name, want := range map[string]string{"metadata/1.root.json": "root", "metadata/timestamp.json": "1"} {
			if got, err := s.Read(t.Context(), name); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
	}
	rawtuf.NoErr(t, a.Replace(t.Context(), "metadata/timestamp.json", []byte("1"), []byte("2")))
	if err := b.Replace(t.Context(), "metadata/timestamp.json", []byte("1"), []byte("3")); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("after a change by another machine: %v", err)
	}

	// Another host key, and a key that the host does not know: the branch stays, and the
	// error names a command that shows the cause.
	for file, content := range map[string]string{"known": "", "authorized": ""} {
		path := filepath.Join(dir, file)
		was, err := os.ReadFile(path)
		rawtuf.NoErr(t, err)
		rawtuf.NoErr(t, os.WriteFile(path, []byte(content), 0o600))
		err = a.Replace(t.Context(), "metadata/timestamp.json", []byte("2"), []byte("4"))
		if err == nil || errors.Is(err, storage.ErrConflict) || !strings.Contains(err.Error(), "git ls-remote ssh://") {
			t.Errorf("without %s: %v", file, err)
		}
		rawtuf.NoErr(t, os.WriteFile(path, was, 0o600))
	}
	if got, err := b.Read(t.Context(), "metadata/timestamp.json"); err != nil || string(got) != "2" {
		t.Errorf("at the end: %q, %v", got, err)
	}
}
