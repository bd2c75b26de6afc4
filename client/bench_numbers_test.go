package client_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// BenchmarkFindIn100k verifies a role of 100,000 targets that three keys signed,
// and looks one up, each time in a new process without a state.
func BenchmarkFindIn100k(b *testing.B) {
	s := newShelf(b, 1)
	crowd(s.repo)
	s.repo.PublishRoot()
	s.publish()
	s.side.Root, s.side.Name = s.repo.Files["1.root.json"], "pool/42/package-000066.tar.gz"
	var ours used
	n := 0
	for b.Loop() {
		u := s.of(b, "ours", "find").mustRun(b)
		ours.CPU, ours.Peak, n = ours.CPU+u.CPU, max(ours.Peak, u.Peak), n+1
	}
	ours.CPU /= max(1, time.Duration(n))
	theirs := s.of(b, "go-tuf", "find").mustRun(b)
	b.ReportMetric(ours.CPU.Seconds(), "cpu-s")
	b.ReportMetric(theirs.CPU.Seconds(), "cpu-s-go-tuf")
	b.ReportMetric(ratio(theirs.CPU, ours.CPU), "cpu-go-tuf/ours")
	b.ReportMetric(mibs(ours.Peak), "peak-MiB")
	b.ReportMetric(mibs(theirs.Peak), "peak-MiB-go-tuf")
}

// BenchmarkCorruptFiles damages each of three cached files in four ways and counts the
// cases after which a client never refreshes again.
func BenchmarkCorruptFiles(b *testing.B) {
	s := newShelf(b, 1)
	lasting := func(who string) (n float64) {
		files := map[string][]string{
			"ours":   {"plain/timestamp.json", "plain/snapshot.json", "plain/roles/6.targets.json"},
			"go-tuf": {"metadata/timestamp.json", "metadata/snapshot.json", "metadata/targets.json"},
		}[who]
		for _, file := range files {
			for _, damage := range []string{"empty", "truncated", "zeros", "garbage"} {
				one := s.of(b, who, "refresh")
				one.mustRun(b)
				file := filepath.Join(one.Dir, filepath.FromSlash(file))
				was, err := os.ReadFile(file)
				if err != nil {
					b.Fatal(err)
				}
				bad := map[string][]byte{"empty": nil, "truncated": was[:len(was)/2], "zeros": make([]byte, len(was)), "garbage": []byte("\xff{]garbage")}[damage]
				if err := os.WriteFile(file, bad, 0o600); err != nil {
					b.Fatal(err)
				}
				one.Runs = 3
				if u := one.run(b); u.Failed == one.Runs {
					n++
				}
			}
		}
		return n
	}
	var ours float64
	for b.Loop() {
		ours = lasting("ours")
	}
	b.ReportMetric(ours, "failures-of-12")
	b.ReportMetric(lasting("go-tuf"), "failures-of-12-go-tuf")
	if ours > 0 {
		b.Errorf("%.0f of 12 damaged files were not repaired", ours)
	}
}

// BenchmarkSixProcesses refreshes 40 times in each of six processes with one state
// directory, while the repository publishes, and counts the failures.
func BenchmarkSixProcesses(b *testing.B) {
	s := newShelf(b, 1)
	failures := func(who string) float64 {
		done := make(chan struct{})
		var publisher, all sync.WaitGroup
		publisher.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(10 * time.Millisecond):
					s.publish()
				}
			}
		})
		one := s.of(b, who, "refresh")
		one.Runs = 40
		results := make([]used, 6)
		for i := range results {
			all.Go(func() { results[i] = one.run(b) })
		}
		all.Wait()
		close(done)
		publisher.Wait()
		n := 0
		for _, u := range results {
			n += u.Failed
		}
		return float64(n)
	}
	var ours float64
	for b.Loop() {
		ours += failures("ours")
	}
	b.ReportMetric(ours, "failures")
	b.ReportMetric(failures("go-tuf"), "failures-go-tuf")
	if ours > 0 {
		b.Errorf("%.0f refreshes failed", ours)
	}
}

// BenchmarkRevokedRootKey lets an attacker with a revoked root key, the online keys and
// the network serve a product that has seen the revocation and restarts with its old
// embedded root. It reports 1 if the attack succeeds.
func BenchmarkRevokedRootKey(b *testing.B) {
	s := newShelf(b, 1)
	attacker := newShelf(b, 2)
	s.repo.NextRoot(func() {
		s.repo.AddKeys(s.repo.Root, "root2")
		rawtuf.At(s.repo.Root, "roles")["root"] = s.repo.Role(1, "root2")
		s.repo.Signers["root"] = []string{"root", "root2"}
	})
	s.publish()
	// The attacker's next root follows the old one, with other online keys.
	attacker.repo.NextRoot(func() {
		attacker.repo.AddKeys(attacker.repo.Root, "evil")
		for _, role := range []string{"timestamp", "snapshot", "targets"} {
			rawtuf.At(attacker.repo.Root, "roles")[role] = attacker.repo.Role(1, "evil")
			attacker.repo.Signers[role] = []string{"evil"}
		}
	})
	attacker.publish()
	believed := func(who string) float64 {
		one := s.of(b, who, "save")
		one.mustRun(b)
		if err := os.Remove(one.file()); err != nil {
			b.Fatal(err)
		}
		one.URL = attacker.side.URL
		if u := one.run(b); u.Failed > 0 {
			return 0
		}
		if fi, err := os.Stat(one.file()); err != nil || fi.Size() != 2 {
			b.Errorf("%s saved other bytes: %v", who, err)
		}
		return 1
	}
	var ours float64
	for b.Loop() {
		ours = believed("ours")
	}
	b.ReportMetric(ours, "believed")
	b.ReportMetric(believed("go-tuf"), "believed-go-tuf")
	if ours > 0 {
		b.Error("a revoked key is accepted")
	}
}
