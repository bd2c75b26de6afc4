package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// counter counts the commands of git.
type counter struct {
	mu  sync.Mutex
	all []string
}

func count(b *Branch) *counter {
	c, run := &counter{}, b.run
	b.run = func(ctx context.Context, x *command) error {
		c.mu.Lock()
		c.all = append(c.all, x.args[0])
		c.mu.Unlock()
		return run(ctx, x)
	}
	return c
}

// take returns the number of each command since the last call.
func (c *counter) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := map[string]int{}
	for _, x := range c.all {
		n[x]++
	}
	c.all = nil
	return n
}

// A repository is published to a branch, verified, copied to another branch and pruned.
// Each act is one push, and the branch is one commit at any time.
func TestRepository(t *testing.T) {
	ctx, h := t.Context(), newHost(t)
	b := h.open()
	c := count(b)
	w := repotest.Empty(t)
	w.Now, w.Elsewhere = time.Now().UTC().Truncate(time.Second), b
	acts := func(what string, pushes, asks int) {
		t.Helper()
		n := c.take()
		if n["push"] != pushes || n["ls-remote"]+n["fetch"] > asks {
			t.Errorf("%s: %v, want %d pushes and at most %d questions", what, n, pushes, asks)
		}
		if got := h.run("", "rev-list", "--count", branch); strings.TrimSpace(got) != "1" {
			t.Fatalf("%s: the branch has %s commits", what, got)
		}
	}
	signers := func() *repo.Repo { return w.Open() }
	w.Update(w.Define)
	c.take()
	begin := time.Now()
	err := signers().Update(ctx, func(tx *repo.Tx) error {
		if err := tx.Add("vendor", "agent/agent-1.0", strings.NewReader(strings.Repeat("1.0", 1<<20)), repotest.Release("1.0")); err != nil {
			return err
		}
		return tx.Approve("review", "agent/agent-1.0", nil)
	})
	rawtuf.NoErr(t, err)
	t.Logf("a release: %s, %v", time.Since(begin), c.all)
	acts("a release", 1, 1)
	w.Now = w.Now.Add(time.Minute)
	begin = time.Now()
	rawtuf.NoErr(t, signers().Renew(ctx))
	t.Logf("a renewal: %s, %v", time.Since(begin), c.all)
	acts("a renewal", 1, 1)

	// The branch is what a web server sends.
	names := strings.Split(strings.TrimSpace(h.run("", "ls-tree", "-r", "--name-only", branch)), "\n")
	for _, want := range []string{".nojekyll", ".visum/index", "metadata/1.root.json", "metadata/timestamp.json"} {
		if !slices.Contains(names, want) {
			t.Errorf("the branch has no %s", want)
		}
	}
	h.run("", "fsck", "--strict")

	pin, err := w.Open().Pin(ctx)
	rawtuf.NoErr(t, err)
	opt := repotest.Options(w.Config())
	c.take()
	report, err := mirror.Verify(ctx, b, pin, opt)
	if err != nil || report.Err() != nil {
		t.Fatal(report, err)
	}
	acts("a verification", 0, 1)

	// A reader with a local copy of its own needs no rights to write.
	reader := h.open(func(o *Options) { o.ReadOnly = true })
	other := newHost(t).open()
	o := count(other)
	rawtuf.NoErr(t, mirror.Clone(ctx, other, reader, pin, opt))
	if n := o.take(); n["push"] != 1 {
		t.Errorf("a clone: %v", n)
	}
	report, err = mirror.Verify(ctx, other, pin, opt, mirror.Mirror{Name: "reader", Source: reader})
	if err != nil || report.Err() != nil {
		t.Fatal(report, err)
	}
	if err := reader.Create(ctx, "targets/x", strings.NewReader("x")); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}

	// A file that no metadata lists is removed when it is old enough, in a commit of its own.
	orphan := "targets/agent/" + strings.Repeat("ab", 32) + ".agent-0.9"
	rawtuf.NoErr(t, b.Create(ctx, orphan, strings.NewReader("old")))
	before, err := b.Size(ctx)
	rawtuf.NoErr(t, err)
	w.Now = w.Now.Add(2 * time.Hour)
	c.take()
	removed, err := w.Open().Prune(ctx, &repo.PruneOptions{Drafts: time.Hour})
	if err != nil || len(removed) != 1 || removed[0].Name != orphan {
		t.Fatal(removed, err)
	}
	acts("a prune", 1, 1)
	after, err := b.Size(ctx)
	if err != nil || after.Files != before.Files-1 || after.Bytes >= before.Bytes {
		t.Errorf("%v, then %v, %v", before, after, err)
	}
	if report, err = mirror.Verify(ctx, b, pin, opt); err != nil || report.Err() != nil {
		t.Fatal(report, err)
	}
}

// A publish that loses a race is a conflict. Then the ledger has nothing of it, and the
// same publish succeeds.
func TestPublishLosesRace(t *testing.T) {
	ctx, h := t.Context(), newHost(t)
	b := h.open()
	w := repotest.Empty(t)
	w.Now, w.Elsewhere = time.Now().UTC().Truncate(time.Second), b
	w.Update(w.Define)
	w.Update(repotest.Add("1"))
	run, other, pushes := b.run, w.Copy(), 0
	other.Keys, other.Ledger, other.Elsewhere = w.Keys, w.Ledger, h.open()
	b.run = func(ctx context.Context, x *command) error {
		if x.args[0] == "push" {
			pushes++
		}
		if pushes == 2 { // the first one is that of the added file
			b.run = run
			other.Update(repotest.Add("3"))
		}
		return run(ctx, x)
	}
	if err := w.Try(repotest.Add("2")); !errors.Is(err, repo.ErrConflict) {
		t.Fatal(err)
	}
	w.Update(repotest.Add("2"))
	pending, err := w.Open().Pending(ctx, "review")
	if err != nil || len(pending) != 3 {
		t.Fatal(pending, err)
	}
}

// Calls that only read begin again if another process publishes a root in between: the
// ledger that both share is then ahead of what they have read.
func TestReadDuringPublish(t *testing.T) {
	ctx, h := t.Context(), newHost(t)
	b := h.open()
	w := repotest.Empty(t)
	w.Now, w.Elsewhere = time.Now().UTC().Truncate(time.Second), b
	w.Update(w.Define)
	w.Update(repotest.Add("0"))
	other := w.Copy()
	other.Keys, other.Ledger, other.Elsewhere = w.Keys, w.Ledger, h.open()
	run := b.run
	for what, call := range map[string]func(*repo.Repo) error{
		"Status":  func(r *repo.Repo) error { _, err := r.Status(ctx, w.Now); return err },
		"Pending": func(r *repo.Repo) error { _, err := r.Pending(ctx, "review"); return err },
		"Pin":     func(r *repo.Repo) error { _, err := r.Pin(ctx); return err },
	} {
		r := w.Open()
		b.run = func(ctx context.Context, x *command) error {
			err := run(ctx, x)
			if x.args[0] == "ls-remote" {
				b.run = run
				other.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
			}
			return err
		}
		if err := call(r); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The other process of the tests, see [job].
func TestProcess(t *testing.T) {
	args := strings.Split(os.Getenv("VISUM_GIT_TEST"), "|")
	if len(args) < 2 {
		return
	}
	opt := &Options{Program: program(t), CacheDir: args[2], UnsafeLocal: true}
	b, err := Open(t.Context(), args[1], opt)
	rawtuf.NoErr(t, err)
	switch args[0] {
	case "publish":
		w := seeded(t, b, args[3])
		publishMany(t, w, args[4], args[5])
	case "kill":
		killAt(t, b, args[3], args[4])
	}
	fmt.Println("done")
}

func job(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestProcess$")
	cmd.Env = append(os.Environ(), "VISUM_GIT_TEST="+strings.Join(args, "|"))
	return cmd
}

// seeded is a world whose keys follow from their names, with a ledger in a directory.
func seeded(t *testing.T, b storage.Storage, ledger string) *repotest.World {
	w := repotest.Empty(t)
	w.Seeded, w.LedgerDir, w.Elsewhere = true, ledger, b
	w.Now = time.Now().UTC().Truncate(time.Second)
	for _, name := range []string{"vendor-1", "vendor-2", "vendor-release", "targets", "timestamp", "snapshot", "review-1", "review-2", "review-release"} {
		w.Signer(name)
	}
	return w
}

func publishMany(t *testing.T, w *repotest.World, who, count string) {
	var n int
	_, err := fmt.Sscan(count, &n)
	rawtuf.NoErr(t, err)
	for i := range n {
		version := fmt.Sprintf("%s.%d", who, i)
		for {
			err := w.Open().Update(t.Context(), func(tx *repo.Tx) error {
				return tx.Add("vendor", "agent/"+version, strings.NewReader(version),
					&tuf.Release{Product: "agent-" + who, Version: version, Channel: "stable", Platform: "any"})
			})
			if err == nil {
				break
			}
			if !errors.Is(err, repo.ErrConflict) {
				t.Fatal(err)
			}
		}
	}
}

// Two processes publish to one branch, each as fast as it can: nothing is lost or broken.
func TestTwoProcesses(t *testing.T) {
	each := 8
	if rawtuf.Long {
		each = 100
	}
	h, ledger := newHost(t), memoryDir(t)
	b := h.open()
	w := seeded(t, b, ledger)
	w.Update(w.Define)
	var both sync.WaitGroup
	shared := memoryDir(t)
	for i := range 2 {
		cache := shared
		if i == 1 && rawtuf.Long {
			cache = memoryDir(t)
		}
		both.Go(func() {
			if out, err := job("publish", h.uri(), cache, ledger, fmt.Sprint(i+1), fmt.Sprint(each)).CombinedOutput(); err != nil || !strings.Contains(string(out), "done") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	both.Wait()
	pin, err := w.Open().Pin(t.Context())
	rawtuf.NoErr(t, err)
	report, err := mirror.Verify(t.Context(), b, pin, repotest.Options(w.Config()))
	if err != nil || report.Err() != nil || report.Targets != 2*each {
		t.Errorf("%v, %v", report, err)
	}
}
