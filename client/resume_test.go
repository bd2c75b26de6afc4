package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// child is this binary as another process of a test: it saves the release, as a depot's
// client.
func child(what string) {
	err := func() error {
		if err := prepareChild(what); err != nil {
			return err
		}
		pin, err := os.ReadFile(os.Getenv("VISUM_TEST_PIN"))
		if err != nil {
			return err
		}
		c, err := client.New(pin, &client.Config{Dir: os.Getenv("VISUM_TEST_DIR"), UnsafeLoopback: true, Now: clock})
		if err != nil {
			return err
		}
		return refreshAndSave(c, os.Getenv("VISUM_TEST_FILE"))
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// process is a child that saves to the file.
func (d *depot) process(what, file string) *exec.Cmd {
	d.t.Helper()
	pin := filepath.Join(d.t.TempDir(), "pin.json")
	mustWrite(d.t, pin, d.pin())
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "VISUM_TEST_CHILD="+what, "VISUM_TEST_PIN="+pin, "VISUM_TEST_DIR="+d.dir, "VISUM_TEST_FILE="+file)
	return cmd
}

// A process killed during a download leaves its part; the next one requests the rest,
// and no byte twice.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	d := newDepot(t, 1, 4*mib)
	p := d.mirrors[0]
	dir := t.TempDir()
	file := filepath.Join(dir, "agent")
	for at := mib; at < 4*mib; at += mib {
		p.tell(func(_ int, w http.ResponseWriter, r *http.Request, file http.HandlerFunc) {
			// One more MiB, then nothing until the client is dead.
			file(&cutter{w, mib, func() { <-r.Context().Done(); hangUp() }}, r)
		})
		cmd := d.process("save", file)
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { cmd.Wait(); close(ended) }()
		for len(parts(t, dir)) == 0 || size(t, parts(t, dir)[0]) < int64(at) {
			select {
			case <-ended:
				t.Fatal("ended before it was killed")
			case <-time.After(time.Millisecond):
			}
		}
		cmd.Process.Kill()
		<-ended
		left := part(t, dir, at)
		if fi, err := os.Stat(left); err != nil || runtime.GOOS != "windows" && fi.Mode() != 0o600 {
			t.Errorf("mode %v, %v", fi.Mode(), err)
		}
		if got := files(t, dir); !slices.Equal(got, []string{filepath.Base(left)}) {
			t.Errorf("left %q", got)
		}
		want := ask{-1, "", mib}
		if at > mib {
			want = ask{int64(at - mib), fmt.Sprintf(`"%d-%x"`, 4*mib, d.content[:8]), mib}
		}
		if got := p.asked(); len(got) != 1 || got[0] != want {
			t.Errorf("asked %v, want %v", got, want)
		}
	}
	p.tell(nil)
	d.saves(file)
	if got := p.asked(); len(got) != 1 || got[0].from != 3*mib || sent(got) != mib {
		t.Errorf("asked %v", got)
	}
}

// Killed at any time, repeatedly: at the end the file is correct, and nothing else is
// left.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	d := newDepot(t, 2, 2*mib)
	slow := func(_ int, w http.ResponseWriter, r *http.Request, file http.HandlerFunc) {
		file(slowly{w}, r)
	}
	d.mirrors[0].tell(slow)
	d.mirrors[1].tell(slow)
	dir := t.TempDir()
	file := filepath.Join(dir, "agent")
	rounds := 10
	if testing.Short() {
		rounds = 4
	}
	for i := range rounds {
		cmd := d.process("save", file)
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+17*i) * time.Millisecond)
		cmd.Process.Kill()
		if cmd.Wait(); cmd.ProcessState.ExitCode() == 1 {
			t.Fatal("failed before it was killed")
		}
		if list := parts(t, dir); len(list) > 1 {
			t.Fatalf("parts %q", list)
		}
	}
	d.mirrors[0].tell(nil)
	d.saves(file)
}

// slowly takes a millisecond for each write.
type slowly struct{ http.ResponseWriter }

func (s slowly) Write(b []byte) (n int, err error) {
	for piece := range slices.Chunk(b, 16<<10) {
		m, err := s.ResponseWriter.Write(piece)
		if n += m; err != nil {
			return n, err
		}
		time.Sleep(time.Millisecond)
	}
	return n, nil
}

// interrupted leaves a part of half a MiB, of a release of one.
func interrupted(t *testing.T) (d *depot, dir string) {
	d = newDepot(t, 1, mib)
	dir = t.TempDir()
	d.mirrors[0].tell(first(cutAfter(mib/2), down))
	if err := d.save(t.Context(), filepath.Join(dir, "agent")); err == nil {
		t.Fatal("no error")
	}
	part(t, dir, mib/2)
	if got := d.records(); len(got) != 1 {
		t.Fatalf("records %q", got)
	}
	d.mirrors[0].tell(nil)
	return d, dir
}

// The part was modified in the meantime.
func TestPartsInOddStates(t *testing.T) {
	t.Parallel()
	const half = mib / 2
	for name, c := range map[string]struct {
		does func(t *testing.T, d *depot, part string)
		from []int64 // the requests that follow
	}{
		"as it was":                              {func(*testing.T, *depot, string) {}, []int64{half}},
		"shorter":                                {func(t *testing.T, d *depot, part string) { must(t, os.Truncate(part, 1000)) }, []int64{1000}},
		"empty":                                  {func(t *testing.T, d *depot, part string) { must(t, os.Truncate(part, 0)) }, []int64{-1}},
		"longer":                                 {func(t *testing.T, d *depot, part string) { must(t, os.Truncate(part, mib+1)) }, []int64{-1}},
		"zeros at the end, as after a power cut": {func(t *testing.T, d *depot, part string) { must(t, os.Truncate(part, half+1000)) }, []int64{half + 1000, -1}},
		"of the same length, but wrong":          {func(t *testing.T, d *depot, part string) { must(t, os.Truncate(part, mib)) }, []int64{-1}},
		"wrong":                                  {func(t *testing.T, d *depot, part string) { mustWrite(t, part, d.bad(0, 1)[:half]) }, []int64{half, -1}},
		"all there":                              {func(t *testing.T, d *depot, part string) { mustWrite(t, part, d.content) }, nil},
		"gone":                                   {func(t *testing.T, d *depot, part string) { must(t, os.Remove(part)) }, []int64{-1}},
		"a folder": {func(t *testing.T, d *depot, part string) {
			must(t, os.Remove(part))
			must(t, os.Mkdir(part, 0o700))
			t.Cleanup(func() { os.Remove(part) })
		}, []int64{-1}},
		"no record": {func(t *testing.T, d *depot, part string) {
			must(t, os.Remove(part))
			must(t, os.Remove(d.records()[0]))
		}, []int64{-1}},
		"junk record": {func(t *testing.T, d *depot, part string) {
			must(t, os.Remove(part))
			mustWrite(t, d.records()[0], []byte("{]"))
		}, []int64{-1}},
		"huge record": {func(t *testing.T, d *depot, part string) {
			must(t, os.Remove(part))
			must(t, os.Truncate(d.records()[0], 65<<20))
		}, []int64{-1}},
		"empty record": {func(t *testing.T, d *depot, part string) {
			must(t, os.Remove(part))
			must(t, os.Truncate(d.records()[0], 0))
		}, []int64{-1}},
		"a folder as record": {func(t *testing.T, d *depot, part string) {
			record := d.records()[0]
			must(t, os.Remove(part))
			must(t, os.Remove(record))
			must(t, os.MkdirAll(filepath.Join(record, "in"), 0o700))
		}, []int64{-1}},
		"a folder as lock": {func(t *testing.T, d *depot, part string) {
			lock := strings.TrimSuffix(d.records()[0], "json") + "lock"
			must(t, os.Remove(lock))
			must(t, os.MkdirAll(filepath.Join(lock, "in"), 0o700))
		}, []int64{half}},
		// A process was killed between the commit and the removal of its record, or
		// another one saved the file.
		"file saved already": {func(t *testing.T, d *depot, part string) {
			mustWrite(t, filepath.Join(filepath.Dir(part), "agent"), d.content)
		}, nil},
		"file saved already, part gone": {func(t *testing.T, d *depot, part string) {
			must(t, os.Remove(part))
			mustWrite(t, filepath.Join(filepath.Dir(part), "agent"), d.content)
		}, nil},
		"no folder for records": {func(t *testing.T, d *depot, part string) {
			saves := filepath.Dir(d.records()[0])
			must(t, os.Remove(part))
			must(t, os.RemoveAll(saves))
			mustWrite(t, saves, nil)
		}, []int64{-1}},
	} {
		t.Run(name, func(t *testing.T) {
			d, dir := interrupted(t)
			left := part(t, dir, half)
			c.does(t, d, left)
			if err := d.save(t.Context(), filepath.Join(dir, "agent")); err != nil {
				t.Fatal(err)
			}
			if name == "a folder" { // which must not be removed
				must(t, os.Remove(left))
			}
			d.holds(filepath.Join(dir, "agent"))
			var from []int64
			for _, a := range d.mirrors[0].asked() {
				from = append(from, a.from)
			}
			if !slices.Equal(from, c.from) {
				t.Errorf("asked from %v, want %v", from, c.from)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An attacker who replaces the part, or writes to the state directory, cannot make Save
// write or remove a file elsewhere.
func TestPartsLeadNowhere(t *testing.T) {
	d, dir := interrupted(t)
	file, precious := filepath.Join(dir, "agent"), filepath.Join(t.TempDir(), "precious")
	mustWrite(t, precious, []byte("precious"))
	check := func(what string) {
		t.Helper()
		if got, err := os.ReadFile(precious); err != nil || string(got) != "precious" {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		if got := files(t, filepath.Dir(precious)); len(got) != 1 {
			t.Errorf("%s: %q", what, got)
		}
	}
	// Links in place of the part.
	for what, link := range map[string]func(string, string) error{"symbolic link": os.Symlink, "hard link": os.Link} {
		left := parts(t, dir)[0]
		must(t, os.Remove(left))
		if err := link(precious, left); err != nil || runtime.GOOS == "windows" {
			t.Skip(err)
		}
		if err := d.save(t.Context(), file); err != nil {
			t.Fatal(err)
		}
		check(what)
		must(t, os.Remove(left))
		d.holds(file)
		d, dir = interrupted(t)
		file = filepath.Join(dir, "agent")
	}
	// Records that name other files.
	record := d.records()[0]
	data, err := os.ReadFile(record)
	must(t, err)
	for _, change := range []map[string]string{
		{"part": filepath.Base(precious)}, {"part": precious}, {"part": "../" + filepath.Base(filepath.Dir(precious)) + "/precious"}, {"part": ""},
		{"file": precious, "part": "precious"}, {"file": filepath.Dir(precious), "part": filepath.Base(filepath.Dir(precious))},
	} {
		forged := map[string]string{}
		must(t, json.Unmarshal(data, &forged))
		for k, v := range change {
			forged[k] = v
		}
		mustWrite(t, record, rawtuf.Marshal(forged))
		must(t, os.RemoveAll(file))
		if err := d.save(t.Context(), file); err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprint(change))
	}
	// A state directory that leads elsewhere.
	saves := filepath.Dir(record)
	must(t, os.RemoveAll(saves))
	must(t, os.Symlink(filepath.Dir(precious), saves))
	must(t, os.Remove(file))
	if err := d.save(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	check("saves is a link")
}

// A part of another release, or of another file with the same number in the state, is
// removed. Others stay until they are old.
func TestUselessParts(t *testing.T) {
	d, dir := interrupted(t)
	old := filepath.Join(dir, ".visum-0123456789abcdef.part")
	mustWrite(t, old, nil)
	must(t, os.Chtimes(old, time.Now().AddDate(0, 0, -31), time.Now().AddDate(0, 0, -31)))
	young := filepath.Join(dir, ".visum-0123456789abcde0.part")
	mustWrite(t, young, nil)
	must(t, os.Chtimes(young, time.Now().AddDate(0, 0, -29), time.Now().AddDate(0, 0, -29)))
	d.content = noise(mib + 1)[1:]
	d.repo.AddTarget(rawtuf.Path, string(d.content), nil, "vendor-agent", "review-agent")
	renew(d.repo)
	if err := d.save(t.Context(), filepath.Join(dir, "agent")); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{filepath.Base(young), "agent"}) {
		t.Errorf("left %q", got)
	}
	if got := d.mirrors[0].asked(); len(got) != 1 || got[0].from != -1 {
		t.Errorf("asked %v", got)
	}
}

// Only larger files have a record; and without a state directory none is kept.
func TestDownloadsWithoutRecord(t *testing.T) {
	d := newDepot(t, 1, 64<<10)
	dir := t.TempDir()
	file := filepath.Join(dir, "agent")
	d.mirrors[0].tell(first(cutAfter(40_000), down))
	if err := d.save(t.Context(), file); err == nil || len(files(t, dir)) > 0 {
		t.Errorf("%v, left %q", err, files(t, dir))
	}
	d = newDepot(t, 1, mib)
	d.mirrors[0].tell(first(cutAfter(mib/2), down))
	c := d.client(func(cfg *client.Config) { cfg.Dir, cfg.Store = "", client.MemStore() })
	a := d.approved(c)
	if err := c.Save(t.Context(), a, file); err == nil || len(files(t, dir)) > 0 {
		t.Errorf("%v, left %q", err, files(t, dir))
	}
	// Within one call it is resumed nevertheless.
	d.mirrors[0].tell(first(cutAfter(mib/2), nil))
	if err := c.Save(t.Context(), a, file); err != nil {
		t.Fatal(err)
	}
	d.holds(file)
	if got := d.mirrors[0].asked(); len(got) != 2 || sent(got) != mib {
		t.Errorf("asked %v", got)
	}
}

// Many processes and goroutines save to one file, with interruptions and malicious
// locations: each succeeds, and nothing is left.
func TestManySaveOneFile(t *testing.T) {
	t.Parallel()
	d := newDepot(t, 2, mib)
	d.mirrors[0].tell(func(n int, w http.ResponseWriter, r *http.Request, file http.HandlerFunc) {
		switch n % 4 {
		case 0:
			file(w, r)
		case 1:
			file(&cutter{w, 300_000, hangUp}, r)
		case 2:
			d.file(d.bad(0, mib))(&cutter{w, 200_000, hangUp}, r)
		case 3:
			hangUp()
		}
	})
	dir := t.TempDir()
	file := filepath.Join(dir, "agent")
	c := d.client(func(cfg *client.Config) { cfg.Retries = 5 })
	a := d.approved(c)
	for round := range 3 {
		var all sync.WaitGroup
		for range 3 {
			cmd := d.process("save", file)
			all.Go(func() {
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
		for range 3 {
			all.Go(func() {
				if err := c.Save(context.Background(), a, file); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		d.holds(file)
		if round < 2 {
			must(t, os.Remove(file))
		}
	}
}

// Two clients with different state directories do not write to the same part.
func TestTwoStatesOneFile(t *testing.T) {
	d, dir := interrupted(t)
	file := filepath.Join(dir, "agent")
	other := *d
	other.dir = t.TempDir()
	d.mirrors[0].tell(first(cutAfter(mib/4), down))
	if err := other.save(t.Context(), file); err == nil {
		t.Fatal("no error")
	}
	if got := parts(t, dir); len(got) != 2 {
		t.Fatalf("parts %q", got)
	}
	d.mirrors[0].tell(nil)
	if err := d.save(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	part(t, dir, mib/4)
	must(t, os.Remove(file))
	other.saves(file)
	if got := d.mirrors[0].asked(); len(got) != 2 || sent(got) != mib/2+mib-mib/4 {
		t.Errorf("asked %v", got)
	}
}

// A directory without write permission is detected before anything is requested; a
// read-only state only prevents resuming later.
func TestFoldersThatCantBeWrittenTo(t *testing.T) {
	d := newDepot(t, 1, mib)
	c := d.client()
	a := d.approved(c)
	for _, dir := range []string{readOnly(t), filepath.Join(d.records0(), "none")} {
		if err := c.Save(t.Context(), a, filepath.Join(dir, "agent")); err == nil || strings.Contains(err.Error(), "download failed") {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if got := d.mirrors[0].asked(); len(got) > 0 {
		t.Errorf("asked %v", got)
	}
	saves := filepath.Join(d.dir, rawtuf.RepoID, "saves")
	must(t, os.RemoveAll(saves))
	mountReadOnly(t, filepath.Join(d.dir, rawtuf.RepoID))
	file := filepath.Join(t.TempDir(), "agent")
	if err := c.Save(t.Context(), a, file); err != nil {
		t.Fatal(err)
	}
	d.holds(file)
	if _, err := os.Stat(saves); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state was written to: %v", err)
	}
}

// records0 is a directory that does not exist.
func (d *depot) records0() string { return filepath.Join(d.dir, "nowhere") }
