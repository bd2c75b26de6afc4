package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// view shows the fleet: as a live picture in a terminal, otherwise as plain lines.
type view struct {
	out   io.Writer
	quiet bool
	live  bool
	color bool
	drawn int // lines of the last picture
}

func newView(out *os.File, quiet bool) *view {
	fi, err := out.Stat()
	live := err == nil && fi.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	return &view{out: out, quiet: quiet, live: live && !quiet, color: live && os.Getenv("NO_COLOR") == ""}
}

func (v *view) paint(color int, s string) string {
	if !v.color {
		return s
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", color, s)
}

func (v *view) clear() {
	if v.drawn > 0 {
		fmt.Fprintf(v.out, "\x1b[%dA\x1b[J", v.drawn)
		v.drawn = 0
	}
}

// say prints an event.
func (v *view) say(w *system, text string) {
	if !v.quiet {
		v.clear()
		fmt.Fprintf(v.out, "day %3d  %s\n", w.day, v.paint(1, text))
	}
}

// show draws the fleet at the end of a day.
func (v *view) show(w *system, f *fleet) {
	if v.quiet || !v.live && w.day%10 != 9 {
		return
	}
	v.clear()
	roots := f.shares(func(m *machine) string { return fmt.Sprintf("root %d", m.root) })
	locations := f.shares(func(m *machine) string { return "from " + m.location })
	states := f.shares(func(m *machine) string { return m.state })
	if !v.live {
		fmt.Fprintf(v.out, "day %3d  %s | %s | %s\n", w.day, line(roots), line(locations), line(states))
		return
	}
	lines := []string{fmt.Sprintf("day %3d of %d", w.day, lastDay)}
	for i, group := range []map[string]int{roots, locations, states} {
		for _, name := range slices.Sorted(maps.Keys(group)) {
			n := group[name]
			lines = append(lines, fmt.Sprintf("  %-14s %s %d", name, v.paint(32+i, strings.Repeat("█", (n*50+len(f.machines)-1)/len(f.machines))), n))
		}
	}
	fmt.Fprintln(v.out, strings.Join(lines, "\n"))
	v.drawn = len(lines)
}

func line(shares map[string]int) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(shares)) {
		out = append(out, fmt.Sprintf("%s: %d", name, shares[name]))
	}
	return strings.Join(out, ", ")
}

// results prints expected and actual values; the error states that they differ.
func (v *view) results(w *system, f *fleet) error {
	size := len(f.machines)
	arrived, fresh, problems, checks, away := 0, 0, 0, 0, 0
	newest := fmt.Sprintf("1.%d.0", w.release)
	var first []string
	for _, m := range f.machines {
		checks += m.checks
		if m.root == 4 && m.state == "ok" && m.location == "location-b" {
			arrived++
		}
		if m.version == newest {
			fresh++
		}
		if m.off[1] > 0 || m.from > 0 {
			away++
		}
		problems += len(m.problems)
		if len(m.problems) > 0 && len(first) < 5 {
			first = append(first, m.name+", "+m.problems[0])
		}
	}
	met := "none"
	if f.refused > 0 {
		met = "some"
	}
	failed := 0
	t := tabwriter.NewWriter(v.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(v.out, "\nFour months, %d clients, %d of them off for months or installed later, %d checks for updates.\n\n", size, away, checks)
	for _, r := range []struct{ what, want, got string }{
		{"clients that trust the last root and use location B", fmt.Sprint(size), fmt.Sprint(arrived)},
		{"clients that have the newest release, " + newest, fmt.Sprint(size), fmt.Sprint(fresh)},
		{"roots published by the parties", "4", fmt.Sprint(len(w.honest))},
		{"forged roots and releases kept as evidence", "some", met},
		{"accepted forgeries, rollbacks, or requests at A after its end", "0", fmt.Sprint(problems)},
	} {
		verdict := v.paint(32, "ok")
		if r.want != r.got {
			verdict = v.paint(31, "FAILED")
			failed++
		}
		fmt.Fprintf(t, "  %s\texpected %s\tactual %s\t%s\n", r.what, r.want, r.got, verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range first {
		fmt.Fprintln(v.out, "  "+p)
	}
	if failed > 0 {
		return errors.New("not every expectation held")
	}
	fmt.Fprintln(v.out, "\nEvery expectation held.")
	return nil
}
