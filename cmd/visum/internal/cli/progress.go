package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
)

const (
	barEvery  = 100 * time.Millisecond // on a terminal
	lineEvery = 5 * time.Second        // elsewhere
	barAfter  = 500 * time.Millisecond // shorter work has no bar
	barWidth  = 24
)

// progress shows how far a long call is: a bar on a terminal, or else one line every five
// seconds. Everything goes to standard error.
type progress struct {
	w        io.Writer
	width    int // of the terminal; 0: no terminal
	now      func() time.Time
	mu       sync.Mutex
	begin    time.Time
	last     time.Time // of the last output
	path     string    // the current file
	began    time.Time // its first bytes
	shown    bool      // the terminal shows a bar
	finished int       // files
}

// progress returns the function for the Progress fields of the library. It is for one
// call of the tool.
func (a *app) progress() func(storage.Progress) {
	if a.bar == nil {
		a.bar = &progress{w: a.Err, now: time.Now}
		if f, ok := a.Err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			a.bar.width = 80
			if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
				a.bar.width = width
			}
		}
	}
	return a.bar.update
}

func (p *progress) update(x storage.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.begin.IsZero() {
		p.begin, p.last = now, now
	}
	if x.Path != p.path {
		p.path, p.began = x.Path, now
	}
	p.finished = max(p.finished, x.Files)
	every := lineEvery
	if p.width > 0 {
		if every = barEvery; now.Sub(p.begin) < barAfter {
			return
		}
	}
	if now.Sub(p.last) < every {
		return
	}
	p.last = now
	if p.width == 0 {
		fmt.Fprintln(p.w, p.line(x, now))
		return
	}
	line := p.line(x, now)
	if x.Total > 0 {
		full := int(min(x.Done, x.Total) * barWidth / x.Total)
		line = "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "] " + line
	}
	if most := p.width - 1; len(line) > most { // a full line would scroll
		line = line[:max(most, 0)]
	}
	fmt.Fprintf(p.w, "\r%s\x1b[K", line)
	p.shown = true
}

func (p *progress) line(x storage.Progress, now time.Time) string {
	var b strings.Builder
	switch {
	case x.Total > 0:
		fmt.Fprintf(&b, "%3d %% ", min(x.Done, x.Total)*100/x.Total)
	case x.Total < 0:
		fmt.Fprintf(&b, "%s ", sizeText(x.Done))
	}
	if d := now.Sub(p.began); d >= time.Second {
		fmt.Fprintf(&b, "%s/s ", sizeText(int64(float64(x.Done)/d.Seconds())))
	}
	if p.finished > 0 {
		fmt.Fprintf(&b, "%d files ", p.finished)
	}
	b.WriteString(text.Name(x.Path)) // last, since it may be cut off
	return b.String()
}

// clear removes the bar, before other output.
func (p *progress) clear() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// sizeText formats a number of bytes.
func sizeText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	x, i := float64(n), 0
	for x >= 1024 && i < len(units)-1 {
		x, i = x/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", x, units[i])
}
