package tlog_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// store writes a log in the layout of tlog-tiles, as a web server serves it.
func store(t *testing.T, l *rawlog.Log, dir string) {
	t.Helper()
	for path, data := range l.Files {
		file := filepath.Join(dir, filepath.FromSlash(path))
		rawtuf.NoErr(t, os.MkdirAll(filepath.Dir(file), 0o755))
		rawtuf.NoErr(t, os.WriteFile(file, data, 0o644))
	}
	rawtuf.NoErr(t, os.WriteFile(filepath.Join(dir, "checkpoint"), l.Note(time.Now()), 0o644))
}

// The reader of tessera reads a log that grows, over HTTP: checkpoints, each proven to
// continue the last one, entries, and proofs, which are those of package tlog. Once the
// partial tiles are removed it reads the full ones. A fork is refused.
func TestReaderOfTessera(t *testing.T) {
	l := rawlog.NewLog(origin)
	dir := t.TempDir()
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	root, err := url.Parse(server.URL + "/")
	rawtuf.NoErr(t, err)
	f, err := client.NewHTTPFetcher(root, server.Client())
	rawtuf.NoErr(t, err)
	verifier, err := note.NewVerifier(l.String())
	rawtuf.NoErr(t, err)
	var tracker *client.LogStateTracker
	for _, size := range sizes {
		l.Append(leaves(len(l.Leaves), size)...)
		store(t, l, dir)
		if tracker == nil {
			tracker, err = client.NewLogStateTracker(t.Context(), f.ReadTile, nil, verifier, origin, client.UnilateralConsensus(f.ReadCheckpoint))
		} else {
			_, _, _, err = tracker.Update(t.Context())
		}
		rawtuf.NoErr(t, err)
		if c := tracker.Latest(); c.Size != uint64(size) || !bytes.Equal(c.Hash, l.Tree.Root[:]) {
			t.Fatalf("tessera reads a tree of %d entries, want %d", c.Size, size)
		}
		readEntries(t, f, l)
	}
	pb, err := client.NewProofBuilder(t.Context(), uint64(len(l.Leaves)), f.ReadTile)
	rawtuf.NoErr(t, err)
	for _, i := range []int64{0, 255, 256, 511, 512, 699} {
		theirs, err := pb.InclusionProof(t.Context(), uint64(i))
		rawtuf.NoErr(t, err)
		ours, err := l.Tree.Inclusion(i)
		if err != nil || fmt.Sprint(slicesOf(ours)) != fmt.Sprint(theirs) {
			t.Fatalf("entry %d: another proof, %v", i, err)
		}
	}
	for path := range l.Files { // of the first two bundles
		if strings.Contains(path, ".p/") && !strings.Contains(path, "/002.p/") && !strings.HasPrefix(path, "tile/1/") {
			rawtuf.NoErr(t, os.Remove(filepath.Join(dir, path)))
		}
	}
	small, err := client.NewProofBuilder(t.Context(), 305, f.ReadTile)
	rawtuf.NoErr(t, err)
	if _, err := small.InclusionProof(t.Context(), 300); err != nil {
		t.Error("without partial tiles:", err)
	}
	readEntries(t, f, l)

	fork := rawlog.NewLog(origin)
	fork.Append(leaves(1, 720)...)
	store(t, fork, dir)
	if _, _, _, err := tracker.Update(t.Context()); err == nil || !strings.Contains(err.Error(), "consistency") {
		t.Errorf("a fork: %v", err)
	}
	l.Append(leaves(len(l.Leaves), 721)...)
	store(t, l, dir)
	if _, _, _, err := tracker.Update(t.Context()); err != nil || tracker.Latest().Size != 721 {
		t.Errorf("healed: %v", err)
	}
}

func readEntries(t *testing.T, f *client.HTTPFetcher, l *rawlog.Log) {
	t.Helper()
	for n := range (len(l.Leaves) + tlog.TileWidth - 1) / tlog.TileWidth {
		b, err := client.GetEntryBundle(t.Context(), f.ReadEntryBundle, uint64(n), uint64(len(l.Leaves)))
		rawtuf.NoErr(t, err)
		want := l.Leaves[n*tlog.TileWidth : min((n+1)*tlog.TileWidth, len(l.Leaves))]
		if fmt.Sprint(b.Entries) != fmt.Sprint(want) {
			t.Fatalf("bundle %d has %d entries, want %d", n, len(b.Entries), len(want))
		}
	}
}

const install = "the counterparts by: bash internal/interop/tlog/install.sh DIR, with DIR in PATH"

// The fsck of tessera accepts a stored log, and reports a changed bit of a tile or an entry.
func TestFsck(t *testing.T) {
	t.Parallel()
	program := rawtuf.Program(t, "tessera-fsck", install)
	l := rawlog.NewLog(origin)
	for _, size := range []int{1, 256, 300, 66_000} { // three levels of tiles
		l.Append(leaves(len(l.Leaves), size)...)
	}
	dir := t.TempDir()
	store(t, l, dir)
	key := filepath.Join(t.TempDir(), "key")
	rawtuf.NoErr(t, os.WriteFile(key, []byte(l.String()), 0o644))
	// On a damaged log fsck does not end, so check ends it once it has said what is wrong.
	check := func() (ok bool, output string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out := newOutput()
		cmd := exec.CommandContext(ctx, program, "-storage_url", "file://"+dir, "-public_key", key, "-ui=false", "-v=1", "-logtostderr")
		cmd.Stdout, cmd.Stderr = out, out
		rawtuf.NoErr(t, cmd.Start())
		go func() {
			out.wait(ctx, ":Invalid", "fsck failed", "Successfully fsck'd log with size 66000 and root ")
			cancel()
		}()
		cmd.Wait()
		s := out.String()
		return strings.Contains(s, "Successfully fsck'd"), s
	}
	if ok, out := check(); !ok {
		t.Fatalf("the log as written: %s", out)
	}
	for _, path := range []string{"tile/0/001", "tile/1/000", "tile/entries/257.p/208"} {
		file := filepath.Join(dir, path)
		good, err := os.ReadFile(file)
		rawtuf.NoErr(t, err)
		bad := bytes.Clone(good)
		bad[len(bad)-1] ^= 1
		rawtuf.NoErr(t, os.WriteFile(file, bad, 0o644))
		if ok, out := check(); ok || !strings.Contains(out, ":Invalid") && !strings.Contains(out, "fsck failed") {
			t.Errorf("%s has another bit: %s", path, out)
		}
		rawtuf.NoErr(t, os.WriteFile(file, good, 0o644))
	}
	if ok, out := check(); !ok {
		t.Errorf("healed: %s", out)
	}
}
