//go:build unix

package client_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// A named pipe, a socket or a link to a device in place of a file or directory of the
// state does not block: it is replaced or ignored. This test hangs if one is opened.
func TestPipesInTheState(t *testing.T) {
	t.Parallel()
	plant := map[string]func(t *testing.T, file string){
		"pipe": func(t *testing.T, file string) { must(t, syscall.Mkfifo(file, 0o666)) },
		"socket": func(t *testing.T, file string) {
			// A socket needs a short path.
			short := filepath.Join(quickDir(t), "s")
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
			must(t, err)
			l.SetUnlinkOnClose(false)
			must(t, l.Close())
			must(t, os.Rename(short, file))
		},
		"link to a device": func(t *testing.T, file string) { must(t, os.Symlink("/dev/zero", file)) },
		"link to a pipe": func(t *testing.T, file string) {
			must(t, syscall.Mkfifo(file+"-pipe", 0o666))
			must(t, os.Symlink(filepath.Base(file)+"-pipe", file))
		},
	}
	for _, name := range []string{"roots", "roles", "evidence", "recovery", "trying", "saves", "lock", "state.json", "state.bak", "timestamp.json", "snapshot.json",
		"roots/2.root.json", "roots/3.root.json", "roles/6.vendor-agent.json", "recovery/2.statement.json", "trying/x"} {
		for kind, put := range plant {
			t.Run(name+" is a "+kind, func(t *testing.T) {
				w := newWeb(t)
				w.repo.NextRoot(nothing)
				renew(w.repo)
				w.good(w.client(), 2)
				file := w.state(filepath.FromSlash(name))
				must(t, os.RemoveAll(file))
				must(t, os.MkdirAll(filepath.Dir(file), 0o700))
				put(t, file)
				c := w.client()
				a := w.approved(c)
				must(t, c.Save(t.Context(), a, filepath.Join(t.TempDir(), "agent")))
				must(t, w.client().Save(t.Context(), a, filepath.Join(t.TempDir(), "agent"))) // without a refresh before
				renew(w.repo)
				w.good(w.client(), 2)
			})
		}
	}
}

// If the state directory itself is a pipe, that is an error.
func TestStateFolderIsAPipe(t *testing.T) {
	w := newWeb(t)
	a := w.approved(w.client())
	must(t, os.RemoveAll(w.state()))
	must(t, syscall.Mkfifo(w.state(), 0o666))
	if _, err := w.client().Refresh(t.Context()); err == nil {
		t.Error("no error")
	}
	must(t, w.client().Save(t.Context(), a, filepath.Join(t.TempDir(), "agent")))
}

func inode(t *testing.T, file string) uint64 {
	t.Helper()
	fi, err := os.Lstat(file)
	must(t, err)
	return fi.Sys().(*syscall.Stat_t).Ino
}

// A file that has the right bytes already is kept only if no other user can change it
// later.
func TestSaveReplacesWhatOthersCanChange(t *testing.T) {
	for name, tt := range map[string]struct {
		make     func(t *testing.T, file string)
		replaced bool
	}{
		"its own":            {func(t *testing.T, file string) {}, false},
		"readable by all":    {func(t *testing.T, file string) { must(t, os.Chmod(file, 0o644)) }, false},
		"for its group":      {func(t *testing.T, file string) { must(t, os.Chmod(file, 0o660)) }, false},
		"writable by all":    {func(t *testing.T, file string) { must(t, os.Chmod(file, 0o666)) }, true},
		"with a second name": {func(t *testing.T, file string) { must(t, os.Link(file, file+"-2")) }, true},
		"another user's":     {func(t *testing.T, file string) { must(t, os.Chown(file, 12345, -1)) }, true},
		"a link to a file": {func(t *testing.T, file string) {
			must(t, os.Rename(file, file+"-2"))
			must(t, os.Symlink(file+"-2", file))
		}, true},
	} {
		if name == "another user's" && os.Geteuid() != 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			w := newWeb(t)
			c := w.client()
			a := w.approved(c)
			file := filepath.Join(t.TempDir(), "agent")
			mustWrite(t, file, []byte("the agent"))
			tt.make(t, file)
			before := inode(t, file)
			w.asked("")
			must(t, c.Save(t.Context(), a, file))
			if replaced := inode(t, file) != before; replaced != tt.replaced || (len(w.asked("")) > 0) != tt.replaced {
				t.Errorf("replaced: %v", replaced)
			}
			fi, err := os.Lstat(file)
			must(t, err)
			if st := fi.Sys().(*syscall.Stat_t); !fi.Mode().IsRegular() || int(st.Uid) != os.Geteuid() || st.Nlink != 1 || fi.Mode().Perm()&0o002 != 0 {
				t.Errorf("%s of user %d with %d names", fi.Mode(), st.Uid, st.Nlink)
			}
			before = inode(t, file)
			must(t, c.Save(t.Context(), a, file))
			if inode(t, file) != before {
				t.Error("replaced again")
			}
		})
	}
}

// Save preserves the mode of the replaced file, and otherwise applies the umask. No
// saved file is world-writable.
func TestSaveMode(t *testing.T) {
	w := newWeb(t)
	c := w.client()
	a := w.approved(c)
	for _, tt := range []struct{ umask, before, want os.FileMode }{
		{0o022, 0, 0o644}, {0o077, 0, 0o600}, {0o002, 0, 0o664}, {0o000, 0, 0o664}, {0o027, 0, 0o640},
		{0o077, 0o755, 0o755}, {0o000, 0o600, 0o600}, {0o022, 0o640, 0o640}, {0o022, 0o777, 0o775},
	} {
		file := filepath.Join(t.TempDir(), "agent")
		if tt.before != 0 {
			mustWrite(t, file, []byte("old"))
			must(t, os.Chmod(file, tt.before))
		}
		was := syscall.Umask(int(tt.umask))
		err := c.Save(t.Context(), a, file)
		syscall.Umask(was)
		must(t, err)
		fi, err := os.Stat(file)
		must(t, err)
		if fi.Mode().Perm() != tt.want {
			t.Errorf("umask %04o, before %04o: %04o, want %04o", tt.umask, tt.before, fi.Mode().Perm(), tt.want)
		}
		list, err := os.ReadDir(filepath.Dir(file))
		must(t, err)
		if len(list) != 1 {
			t.Errorf("left %v", list)
		}
	}
}

// An attacker with all vendor keys but no key of the centre publishes another version
// of a large role for each refresh, and no set is ever complete. The state does not
// grow, and the last complete set stays. The next complete set is used.
func TestRolesDoNotPileUp(t *testing.T) {
	w := newWeb(t)
	w.good(w.client(), 1)
	pad := strings.Repeat("x", 1<<18)
	honest := w.repo.Clone()
	for i := range 12 {
		w.repo.Roles["vendor-agent"]["x-pad"] = pad
		w.repo.Bump("vendor-agent")
		w.repo.Publish()
		meta := rawtuf.At(w.repo.Roles["snapshot"], "meta", "review-agent.json")
		meta["version"] = 1000 // which no location has
		delete(meta, "hashes")
		delete(meta, "length")
		w.repo.PublishSnapshot()
		w.bad(w.client(), client.ErrNoContent)
		if list := files(t, w.state("roles")); len(list) > 4 {
			t.Fatalf("after %d refreshes: %q", i+1, list)
		}
	}
	if list := files(t, w.state("roles")); !strings.Contains(strings.Join(list, " "), "5.vendor-agent.json") {
		t.Errorf("the committed set has lost a role: %q", list)
	}
	for _, role := range []string{"timestamp", "snapshot", "vendor-agent"} {
		honest.Roles[role]["version"] = 30
	}
	honest.Roles["review-agent"]["version"] = 1001
	honest.Publish()
	w.repo = honest
	w.good(w.client(), 1)
	if list := files(t, w.state("roles")); len(list) != 3 {
		t.Errorf("%q", list)
	}
}

// full is a store whose roles use all available room.
type full struct{ client.Store }

func (f full) List(folder string) (map[string]int64, error) {
	list, err := f.Store.List(folder)
	if folder == "roles" {
		list["9.other.json"] = 256<<20 - 100
	}
	return list, err
}

// A role that does not fit is fetched again, and still used.
func TestRolesHaveABudget(t *testing.T) {
	w := newWeb(t)
	store := client.MemStore()
	w.good(w.client(func(cfg *client.Config) { cfg.Dir, cfg.Store = "", full{store} }), 1)
	if list, _ := store.List("roles"); len(list) > 0 {
		t.Errorf("kept %v", list)
	}
	w.good(w.client(func(cfg *client.Config) { cfg.Dir, cfg.Store = "", store }), 1)
	renew(w.repo)
	w.good(w.client(func(cfg *client.Config) { cfg.Dir, cfg.Store = "", store }), 1)
	if list, _ := store.List("roles"); len(list) != 3 {
		t.Errorf("kept %v", list)
	}
}
