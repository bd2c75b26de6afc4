package mirror_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
)

// The quick verification of 100,000 targets, with the requests for each kind of file.
func BenchmarkVerifyQuick(b *testing.B) {
	w := newWorld(b)
	w.Pin()
	files := make([]repo.NewFile, 100_000)
	for i := range files {
		files[i] = repo.NewFile{Path: fmt.Sprintf("agent/rules/%06d", i), Open: func() (io.ReadSeekCloser, error) {
			return noClose{bytes.NewReader(fmt.Append(nil, "rule ", i))}, nil
		}}
	}
	w.Update(func(tx *repo.Tx) error { return tx.AddAll("vendor", files) })
	opt := repotest.Options(w.Config())
	opt.Quick = true
	for b.Loop() {
		s := &watched{memory: w.Store, onlyTargets: true}
		report, err := mirror.Verify(b.Context(), s, w.Pin(), opt)
		if err != nil || report.Err() != nil || report.Targets != len(files) {
			b.Fatal(report, err)
		}
		b.ReportMetric(float64(s.opened), "target-reads")
		b.ReportMetric(float64(report.Roles), "roles")
	}
}

type noClose struct{ *bytes.Reader }

func (noClose) Close() error { return nil }
