package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// demo is the state of the demonstration: locations, parties, the product, and the
// result of each step.
type demo struct {
	*narrator
	ctx      context.Context
	dir      string
	product  product
	a, b, z  *location // the old location, the new one, and the review centre's, which serves roots only
	serving  *location // the one that the vendor publishes to
	vendor   *vendor
	review   *reviewer
	attacker *vendor  // the vendor's keys, used by the attacker
	forged   []byte   // the attacker's root
	frozen   string   // a copy of location A from before the compromise
	old      string   // a copy of the repository from before the first approval
	approved []string // the paths that the review centre approved last
	fromA    int      // requests at location A by the last run of the product
	results  []result
}

// machines are the names of the machines on which the product is installed.
var machines = []string{"one", "two", "three"}

// result is one line of the table at the end.
type result struct {
	step, want, got string
	ok              bool
	traffic         traffic
	took            time.Duration
}

// narrator prints the acts: with verbose set every line, otherwise one line for each
// act, and every line of an act that failed.
type narrator struct {
	out     io.Writer
	verbose bool
	lines   bytes.Buffer // of the act that runs
}

// begin starts an act.
func (n *narrator) begin(title string) {
	n.lines.Reset()
	if n.verbose {
		fmt.Fprintf(n.out, "\n%s\n", title)
	} else {
		fmt.Fprintf(n.out, "%s ... ", title)
	}
}

// say prints one or more lines of an act.
func (n *narrator) say(format string, args ...any) {
	to := io.Writer(&n.lines)
	if n.verbose {
		to = n.out
	}
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Fprintf(to, "   %s\n", strings.TrimRight(line, "\n"))
	}
}

// end finishes an act.
func (n *narrator) end(ok bool) {
	switch {
	case n.verbose:
	case ok:
		fmt.Fprintln(n.out, "ok")
	default:
		fmt.Fprintf(n.out, "FAILED\n%s", n.lines.Bytes())
	}
}

func newDemo(ctx context.Context, dir, file string, n *narrator) (*demo, error) {
	s := &demo{narrator: n, ctx: ctx, dir: dir, frozen: filepath.Join(dir, "attacker", "frozen"), old: filepath.Join(dir, "attacker", "old")}
	build := filepath.Join(dir, "build")
	if err := os.MkdirAll(build, 0o755); err != nil {
		return nil, err
	}
	if file != "" {
		fi, err := os.Stat(file)
		if err != nil {
			return nil, fmt.Errorf("-file: %w", err)
		}
		if !fi.Mode().IsRegular() {
			return nil, fmt.Errorf("-file %s: not a regular file", file)
		}
		if file, err = filepath.Abs(file); err != nil {
			return nil, err
		}
		s.product = &fileProduct{file: file, dir: build}
	} else {
		s.product = &agentProduct{dir: build}
	}
	for _, l := range []struct {
		to   **location
		name string
	}{{&s.a, "A"}, {&s.b, "B"}, {&s.z, "Z"}} {
		var err error
		if *l.to, err = newLocation(l.name, filepath.Join(dir, "location-"+strings.ToLower(l.name))); err != nil {
			s.close()
			return nil, err
		}
	}
	s.serving = s.a
	return s, nil
}

func (s *demo) close() {
	for _, l := range []*location{s.a, s.b, s.z} {
		if l != nil {
			l.stop()
		}
	}
}

// acts runs the five acts in order.
func (s *demo) acts() error {
	for _, act := range []struct {
		title string
		run   func() error
	}{
		{"1. A vendor and a review centre create a repository", s.twoParties},
		{"2. The vendor publishes 1.1 alone: no machine installs it", s.vendorAlone},
		{"3. The review centre examines and approves 1.1: machines install it", s.reviewed},
		{"4. Every key of the vendor and location A are compromised: the attacker ships nothing", s.compromise},
		{"5. The repository moves from location A to location B, with new keys: every machine follows", s.move},
	} {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		s.begin(act.title)
		before := len(s.results)
		err := act.run()
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		ok := err == nil
		for _, r := range s.results[before:] {
			ok = ok && r.ok
		}
		s.end(ok)
		if err != nil {
			return err
		}
	}
	return nil
}

// machine is the folder in which a copy of the product is installed.
func (s *demo) machine(name string) string { return filepath.Join(s.dir, "product", name) }

// expect runs the product on a machine, which checks for an update, and compares the
// version that runs afterwards, and a text that the output must contain. It reports
// the requests to each location, the bytes received, and the duration.
func (s *demo) expect(step, machine, want, text string) error {
	for _, l := range []*location{s.a, s.b, s.z} {
		l.take()
	}
	start := time.Now()
	got, output, err := s.product.run(s.ctx, s.machine(machine))
	if err != nil {
		return err
	}
	r := result{step: step, want: want, got: got, took: time.Since(start)}
	var per []string
	s.fromA = 0
	for _, l := range []*location{s.a, s.b, s.z} {
		if t := l.take(); t.requests > 0 {
			per = append(per, fmt.Sprintf("location %s %s", l.name, t))
			if l == s.a {
				s.fromA = t.requests
			}
			r.traffic.requests += t.requests
			r.traffic.bytes += t.bytes
		}
	}
	for _, line := range output {
		s.say("| %s", line)
	}
	s.say("Requests: %s; %s.", strings.Join(per, "; "), r.took.Round(time.Millisecond))
	r.ok = got == want && strings.Contains(strings.Join(output, "\n"), text)
	s.results = append(s.results, r)
	if !r.ok {
		s.say("UNEXPECTED RESULT: version %s; expected %s and the text %q", got, want, text)
	}
	return nil
}

// check adds a line to the table for something other than a run of the product.
func (s *demo) check(step, want, got string) {
	s.results = append(s.results, result{step: step, want: want, got: got, ok: want == got})
	if want != got {
		s.say("UNEXPECTED RESULT: %s: %s; expected %s", step, got, want)
	}
}

// summary prints the table; its error states how many steps failed.
func (s *demo) summary() error {
	fmt.Fprint(s.out, "\nSummary\n")
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "   step\texpected\tactual\t\trequests\tbytes\ttime")
	failed := 0
	for _, r := range s.results {
		verdict := "ok"
		if !r.ok {
			verdict = "FAILED"
			failed++
		}
		if r.traffic.requests == 0 && r.took == 0 {
			fmt.Fprintf(w, "   %s\t%s\t%s\t%s\t\t\t\n", r.step, r.want, r.got, verdict)
			continue
		}
		fmt.Fprintf(w, "   %s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.step, r.want, r.got, verdict, r.traffic.requests, size(r.traffic.bytes), r.took.Round(time.Millisecond))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d steps had another result than expected", failed, len(s.results))
	}
	fmt.Fprintf(s.out, "\nAll %d steps had the expected result.\n", len(s.results))
	return nil
}

// evidence counts the refused files that a machine keeps, and returns the last reason.
func (s *demo) evidence(machine string) (n int, reason string, err error) {
	files, err := filepath.Glob(filepath.Join(s.machine(machine), "state", "*", "evidence", "*.reason.json"))
	if err != nil || len(files) == 0 {
		return 0, "", errors.Join(err)
	}
	data, err := os.ReadFile(files[len(files)-1])
	return len(files), string(data), err
}
