package witness_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/witness"
)

// Requests of one log: each grows by an entry, or asks for the same tree a second later, on
// a directory (two files are written and flushed) and in memory.
func BenchmarkAddCheckpoint(b *testing.B) {
	for _, s := range []struct {
		name  string
		store func(*testing.B) storage.Storage
	}{
		{"directory", func(b *testing.B) storage.Storage { return storage.Dir(b.TempDir()) }},
		{"memory", func(*testing.B) storage.Storage { return repotest.NewMemory() }},
	} {
		for _, grows := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/grows=%v", s.name, grows), func(b *testing.B) {
				log := rawlog.NewLog(origin)
				log.Append([]byte("first"))
				now := int64(start)
				w, err := witness.New(witness.Config{Name: name, Signer: newKey(), Logs: keysOf(&branch{Log: log}), Storage: s.store(b), Now: func() time.Time { return time.Unix(now, 0) }})
				noErr(b, err)
				old := int64(0)
				for b.Loop() {
					b.StopTimer()
					now++
					if grows && old > 0 {
						log.Append([]byte("entry"))
					}
					proof, err := log.Tree.Consistency(old)
					noErr(b, err)
					r := httptest.NewRequest("POST", "/add-checkpoint", strings.NewReader(body(old, proof, string(log.Note(time.Time{})))))
					rec := httptest.NewRecorder()
					b.StartTimer()
					w.ServeHTTP(rec, r)
					if rec.Code != 200 {
						b.Fatal(rec.Code, rec.Body)
					}
					old = log.Tree.Size
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
			})
		}
	}
}
