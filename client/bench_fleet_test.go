package client_test

import (
	"runtime"
	"testing"
	"time"
)

// BenchmarkFleet takes 10,000 clients (100 with -short) through a complete move, see
// fleet. Each must end at the last root, with the release on disk. Run it with
// -benchtime 1x.
func BenchmarkFleet(b *testing.B) {
	size := 10_000
	if testing.Short() {
		size = 100
	}
	f := newFleet(b, 1)
	cpu, start, runs := cpuTime(), time.Now(), 0
	for b.Loop() {
		f.run(b, size, runtime.GOMAXPROCS(0))
		runs++
	}
	clients := float64(runs * size)
	b.ReportMetric(clients/time.Since(start).Seconds(), "clients/s")
	b.ReportMetric(float64(cpuTime()-cpu)/clients/1e6, "cpu-ms/client")
	b.ReportMetric(float64(f.looks.Load())/clients, "refreshes/client")
	b.ReportMetric(float64(f.requests.Load())/clients, "requests/client")
}
