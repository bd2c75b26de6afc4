package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
)

// These tests use processes: the test program starts itself with PROCESS_TEST set to a
// job and its arguments.

// seededWorld has the same keys in every process.
func seededWorld(t *testing.T) *world {
	w := emptyWorld(t)
	w.Seeded = true
	return w
}

// founded is the seeded world, published and with one release.
func founded(t *testing.T) *world {
	t.Helper()
	w := seededWorld(t)
	w.Update(w.Define)
	w.Pin()
	w.Update(add("1"))
	w.Update(approve("1"))
	return w
}

// at returns a handle on a storage, with every key of the world.
func (w *world) at(s repo.Storage) *repo.Repo {
	cfg := w.Config()
	for _, name := range append(append([]string{}, vendorKeys...), reviewKeys...) {
		cfg.Signers = append(cfg.Signers, w.Signer(name))
	}
	return repo.New(s, cfg)
}

// pourLedger writes the ledger to the path that publishers of the directory use.
func (w *world) pourLedger(dir string) {
	w.T.Helper()
	w.LedgerDir = filepath.Join(dir, ledgerIn)
	pour(w.T, w.Ledger, w.LedgerDir)
}

// pour writes the storage from memory into a directory.
func pour(t testing.TB, m *memory, dir string) {
	t.Helper()
	for name, data := range m.Files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		noErr(t, os.MkdirAll(filepath.Dir(path), 0o777))
		noErr(t, os.WriteFile(path, data, 0o644))
	}
}

// memoryDir is a new directory, in memory if the system supports that, because these
// tests flush often.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "visum-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func job(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestProcess$")
	cmd.Env = append(os.Environ(), "PROCESS_TEST="+strings.Join(args, "|"))
	return cmd
}

// ledgerIn is the path of the ledger that all publishers of the directory share. A
// storage ignores names that begin with a dot.
const ledgerIn = ".ledger"

// TestProcess is the other process.
func TestProcess(t *testing.T) {
	args := strings.Split(os.Getenv("PROCESS_TEST"), "|")
	w := seededWorld(t)
	if len(args) > 1 {
		w.LedgerDir = filepath.Join(args[1], ledgerIn)
	}
	switch args[0] {
	case "":
		return
	case "publish":
		noErr(t, publishMany(t.Context(), w.at(repo.Folder(args[1])), args[2], args[3]))
	default:
		n, err := strconv.Atoi(args[3])
		noErr(t, err)
		s := &killer{Storage: repo.Folder(args[1]), n: n, count: new(int)}
		w.Wrap = func(ledger repo.Storage) repo.Storage { return &killer{ledger, s.n, s.count} }
		noErr(t, jobs[args[0]](w, s, args[2]))
	}
	fmt.Println("done")
}

// publishMany publishes the given number of files under names with the prefix who.
func publishMany(ctx context.Context, r *repo.Repo, who, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for i := range n {
		edit := add(fmt.Sprintf("%s-%03d", who, i))
		err := r.Update(ctx, edit)
		for errors.Is(err, repo.ErrConflict) {
			err = r.Update(ctx, edit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Two processes publish into one directory, each as fast as it can: nothing is lost or
// broken.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	each := 30
	if rawtuf.Long {
		each = 100
	}
	w, dir := founded(t), memoryDir(t)
	pour(t, w.Store, dir)
	w.pourLedger(dir)
	var both sync.WaitGroup
	for _, who := range []string{"a", "b"} {
		both.Go(func() {
			if out, err := job("publish", dir, who, strconv.Itoa(each)).CombinedOutput(); err != nil || !strings.Contains(string(out), "done") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	both.Wait()
	w.Store = scoop(t, dir)
	if got := len(w.pending()); got != 2*each {
		t.Errorf("%d releases, want %d", got, 2*each)
	}
	report, err := mirror.Verify(t.Context(), repo.Folder(dir), w.Pin(), options(w.Config()))
	if err != nil || report.Err() != nil || report.Targets != 2*each+1 {
		t.Errorf("%v, %v", report, err)
	}
}

// killer is a storage whose process kills itself at the n-th event: before a write, in
// the middle of the written data, or after it.
type killer struct {
	repo.Storage
	n     int
	count *int // shared with the ledger's
}

func (k *killer) event() {
	if *k.count++; *k.count == k.n {
		self, _ := os.FindProcess(os.Getpid())
		self.Kill()
		time.Sleep(time.Hour)
	}
}

func (k *killer) Create(ctx context.Context, name string, r io.Reader) error {
	k.event()
	err := k.Storage.Create(ctx, name, io.MultiReader(io.LimitReader(r, 3), act(k.event), r))
	k.event()
	return err
}

func (k *killer) Replace(ctx context.Context, name string, old, new []byte) error {
	k.event()
	err := k.Storage.Replace(ctx, name, old, new)
	k.event()
	return err
}

func (k *killer) Remove(ctx context.Context, name string, before time.Time) error {
	k.event()
	err := k.Storage.(storage.Remover).Remove(ctx, name, before)
	k.event()
	return err
}

func (k *killer) List(ctx context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	return k.Storage.(storage.Lister).List(ctx, prefix)
}

// act is an empty reader that does something when it is reached.
type act func()

func (a act) Read([]byte) (int, error) { a(); return 0, io.EOF }

// jobs are the operations to be killed: they use a storage, and another directory to
// read from.
var jobs = map[string]func(w *world, s repo.Storage, from string) error{
	"release": func(w *world, s repo.Storage, _ string) error {
		return w.at(s).Update(w.T.Context(), add("2"))
	},
	"announcement and release": func(w *world, s repo.Storage, _ string) error {
		return w.at(s).Update(w.T.Context(), w.Again(func(tx *repo.Tx) error {
			return errors.Join(announce(tx), tx.Add("vendor", "agent/2", strings.NewReader("agent 2"), release("2")), tx.Approve("review", "agent/2", nil))
		}))
	},
	"refresh": func(w *world, s repo.Storage, _ string) error {
		w.Now = w.Now.AddDate(0, 0, 20) // all but root
		return w.at(s).Renew(w.T.Context())
	},
	"clone": func(w *world, s repo.Storage, from string) error {
		pin, err := os.ReadFile(filepath.Join(from, "pin.json"))
		if err != nil {
			return err
		}
		return mirror.Clone(w.T.Context(), s, storage.SourceOf(repo.Folder(from)), pin, options(w.Config()))
	},
	"prune": func(w *world, s repo.Storage, _ string) error {
		w.Now = time.Now().AddDate(0, 0, 60) // relative to the real clock, which a directory uses
		_, err := w.at(s).Prune(w.T.Context(), nil)
		return err
	},
}

// A process dies at any event of any job. Clients see the old state or the new one,
// and the same job completes the interrupted work without leaving errors behind.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	past := founded(t)
	from := memoryDir(t)
	future := past.Copy()
	noErr(t, jobs["announcement and release"](future, future.Store, ""))
	pour(t, future.Store, from)
	noErr(t, os.WriteFile(filepath.Join(from, "pin.json"), past.Pin(), 0o644))
	for name, x := range map[string]struct {
		days int
		old  string
		goal string
	}{
		"release":                  {0, "root 1 agent/1", "root 1 agent/1"},
		"announcement and release": {0, "root 1 agent/1", "root 2 agent/1 agent/2"},
		"refresh":                  {20, "root 1 agent/1", "root 1 agent/1"},
		"clone":                    {0, "root 1 agent/1", "root 2 agent/1 agent/2"},
		"prune":                    {0, "root 1 agent/1", "root 1 agent/1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			step := 5
			switch {
			case testing.Short():
				step = 4
			case rawtuf.Long:
				step = 1
			}
			for n := 1; ; n += step {
				dir := memoryDir(t)
				pour(t, past.Store, dir)
				past.Copy().pourLedger(dir)
				out, err := job(name, dir, from, strconv.Itoa(n)).CombinedOutput()
				done := strings.Contains(string(out), "done")
				if done != (err == nil) || strings.Contains(string(out), "FAIL") {
					t.Fatalf("event %d: %v: %s", n, err, out)
				}
				w := past.Copy()
				w.T, w.Now = t, past.Now
				w.Store, w.LedgerDir = scoop(t, dir), filepath.Join(dir, ledgerIn)
				// A root that changes no key verifies the old content, and the new content verifies
				// under the old root: between the two writes this state is visible.
				if got := w.Product().State(); got != x.old && got != x.goal && got != strings.Replace(x.old, "root 1", "root 2", 1) && got != strings.Replace(x.goal, "root 2", "root 1", 1) {
					t.Fatalf("killed at event %d: clients see %q", n, got)
				}
				if done {
					if n < 4 {
						t.Fatalf("done after %d events", n)
					}
					w.Now = past.Now.AddDate(0, 0, x.days)
					w.Sees(x.goal)
					break
				}
				noErr(t, jobs[name](w, repo.Folder(dir), from))
				w.Now = past.Now.AddDate(0, 0, x.days)
				w.Store = scoop(t, dir)
				w.Sees(x.goal)
				report, err := mirror.Verify(t.Context(), repo.Folder(dir), past.Pin(), options(w.Config()))
				if err != nil || report.Err() != nil || name == "prune" && len(report.Findings) > 0 {
					t.Fatalf("killed at event %d, and healed: %v\n%v", n, err, report)
				}
			}
		})
	}
}
