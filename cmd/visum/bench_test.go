package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// The time until a command that does nothing has ended. The other program is git, which a
// user of a shell knows.
func BenchmarkStart(b *testing.B) {
	git := rawtuf.Program(b, "git", "git")
	started := func(name string, args ...string) time.Duration {
		begin := time.Now()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		return time.Since(begin)
	}
	var ours, theirs time.Duration
	for b.Loop() {
		ours += started("visum", "--help")
		theirs += started(git, "help", "-a")
	}
	b.ReportMetric(float64(ours.Milliseconds())/float64(b.N), "ms/start")
	b.ReportMetric(float64(ours)/float64(theirs), "x-git")
}

// A release of 300 MB is added to a directory and published. The other way is to copy the
// file there, with its bytes on disk, and to sign nothing.
func BenchmarkAdd(b *testing.B) {
	const size = 300 << 20
	dir := b.TempDir()
	big := filepath.Join(dir, "kestrel")
	f, err := os.Create(big)
	rawtuf.NoErr(b, err)
	_, err = io.CopyN(f, rand.Reader, size)
	rawtuf.NoErr(b, err)
	rawtuf.NoErr(b, f.Close())
	run := func(args ...string) {
		cmd := exec.Command("visum", args...)
		cmd.Env = append(os.Environ(), "VISUM_IDENTITY="+filepath.Join(dir, "d", "identity.toml"))
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	run("dev", filepath.Join(dir, "d"), "--product", "kestrel", "--serve=false")
	var ours, theirs time.Duration
	n := 0
	for b.Loop() {
		n++
		// Other bytes each time, so that they are stored again.
		f, err := os.OpenFile(big, os.O_WRONLY, 0)
		rawtuf.NoErr(b, err)
		_, err = fmt.Fprintf(f, "%20d", n)
		rawtuf.NoErr(b, err)
		rawtuf.NoErr(b, f.Close())
		begin := time.Now()
		run("-C", filepath.Join(dir, "d"), "--as", "vendor", "add", big, "--product", "kestrel", "--version", fmt.Sprint(n), "--platform", "any", "--publish")
		ours += time.Since(begin)
		begin = time.Now()
		src, err := os.Open(big)
		rawtuf.NoErr(b, err)
		dst, err := durable.Create(filepath.Join(dir, fmt.Sprint("copy-", n)))
		rawtuf.NoErr(b, err)
		_, err = io.Copy(dst, src)
		rawtuf.NoErr(b, err)
		rawtuf.NoErr(b, dst.Commit())
		rawtuf.NoErr(b, src.Close())
		theirs += time.Since(begin)
		rawtuf.NoErr(b, os.Remove(filepath.Join(dir, fmt.Sprint("copy-", n))))
	}
	b.ReportMetric(float64(b.N)*size/1e6/ours.Seconds(), "MB/s")
	b.ReportMetric(float64(ours)/float64(theirs), "x-copy")
}
