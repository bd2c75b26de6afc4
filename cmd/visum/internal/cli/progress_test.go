package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo/storage"
)

// steps reports n bytes of a file in ten steps of the clock.
func steps(p *progress, clock *time.Time, step time.Duration) {
	for i := range 11 {
		p.update(storage.Progress{Path: "targets/demo/demo", Done: int64(i) << 20, Total: 10 << 20})
		*clock = clock.Add(step)
	}
}

func testProgress(width int) (*progress, *bytes.Buffer, *time.Time) {
	var b bytes.Buffer
	clock := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	return &progress{w: &b, width: width, now: func() time.Time { return clock }}, &b, &clock
}

// Without a terminal there is one plain line every five seconds.
func TestProgressLines(t *testing.T) {
	p, b, clock := testProgress(0)
	steps(p, clock, 2500*time.Millisecond)
	p.clear()
	want := " 20 % 409.6 KiB/s targets/demo/demo\n 40 % 409.6 KiB/s targets/demo/demo\n 60 % 409.6 KiB/s targets/demo/demo\n" +
		" 80 % 409.6 KiB/s targets/demo/demo\n100 % 409.6 KiB/s targets/demo/demo\n"
	if b.String() != want {
		t.Errorf("got %q", b.String())
	}
	p, b, clock = testProgress(0)
	steps(p, clock, 400*time.Millisecond)
	if b.Len() > 0 {
		t.Errorf("short work: %q", b.String())
	}
}

// On a terminal there is a bar, which fits into the line and is removed at the end.
func TestProgressBar(t *testing.T) {
	p, b, clock := testProgress(60)
	steps(p, clock, 50*time.Millisecond)
	if got := b.String(); got != "\r[########################] 100 % targets/demo/demo\x1b[K" {
		t.Errorf("work of half a second: %q", got)
	}
	p, b, clock = testProgress(60)
	steps(p, clock, 200*time.Millisecond)
	p.update(storage.Progress{Path: "x\r\n\x1b[2J" + strings.Repeat("y", 300), Done: 1, Total: -1, Files: 7})
	p.clear()
	p.clear()
	lines := strings.Split(b.String(), "\r")
	if len(lines) != 11 || lines[1] != "[#######.................]  30 % targets/demo/demo\x1b[K" || lines[10] != "\x1b[K" || strings.Count(b.String(), "\x1b[K") != 10 {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
	for _, l := range lines {
		if l = strings.TrimSuffix(l, "\x1b[K"); len(l) > 59 || strings.ContainsAny(l, "\n\x1b") {
			t.Errorf("%d characters: %q", len(l), l)
		}
	}
}

func TestSizeText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 300 << 20: "300.0 MiB", 5 << 30: "5.0 GiB", 3 << 50: "3072.0 TiB"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
