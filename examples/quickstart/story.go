package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// story is the state of what is told: places, parties, the product, and what
// came of each step.
type story struct {
	ctx      context.Context
	dir      string
	product  product
	a, b, z  *place // the old place, the new one, and the review centre's, which serves roots only
	serving  *place // the one that the vendor publishes to
	vendor   *vendor
	review   *reviewer
	stolen   *vendor  // the thief
	forged   []byte   // his root
	frozen   string   // what A served before the theft
	past     string   // what was published before the centre approved anything
	approved []string // what the centre approved last
	fromA    int      // requests at A by the product's last run
	results  []result
}

// machines have the product installed.
var machines = []string{"one", "two", "three"}

// result is one line of the table at the end.
type result struct {
	step, want, got string
	ok              bool
	traffic         traffic
	took            time.Duration
}

func newStory(ctx context.Context, dir, file string) (*story, error) {
	s := &story{ctx: ctx, dir: dir, frozen: filepath.Join(dir, "thief", "frozen"), past: filepath.Join(dir, "thief", "past")}
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
	for _, p := range []struct {
		to   **place
		name string
	}{{&s.a, "A"}, {&s.b, "B"}, {&s.z, "Z"}} {
		var err error
		if *p.to, err = newPlace(p.name, filepath.Join(dir, "place-"+strings.ToLower(p.name))); err != nil {
			s.close()
			return nil, err
		}
	}
	s.serving = s.a
	return s, nil
}

func (s *story) close() {
	for _, p := range []*place{s.a, s.b, s.z} {
		if p != nil {
			p.stop()
		}
	}
}

func (s *story) tell() error {
	for _, part := range []func() error{s.twoParties, s.vendorAlone, s.reviewed, s.thief, s.move} {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// title and say are the voice of the story.
func title(text string) { fmt.Fprintf(out, "\n%s\n", text) }

func say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Fprintf(out, "   %s\n", strings.TrimRight(line, "\n"))
	}
}

// machine is where a copy of the product is installed.
func (s *story) machine(name string) string { return filepath.Join(s.dir, "product", name) }

// expect lets the product on a machine look for an update and compares: the
// version that runs afterwards, and a text that it must have said ("" for any).
// It reports what was requested from whom, how much came and how long it took.
func (s *story) expect(step, machine, want, saying string) error {
	s.a.take()
	s.b.take()
	s.z.take()
	start := time.Now()
	got, said, err := s.product.run(s.ctx, s.machine(machine))
	if err != nil {
		return err
	}
	r := result{step: step, want: want, got: got, took: time.Since(start)}
	var per []string
	s.fromA = 0
	for _, p := range []*place{s.a, s.b, s.z} {
		if t := p.take(); t.requests > 0 {
			per = append(per, fmt.Sprintf("place %s %s", p.name, t))
			if p == s.a {
				s.fromA = t.requests
			}
			r.traffic.requests += t.requests
			r.traffic.bytes += t.bytes
		}
	}
	for _, line := range said {
		say("| %s", line)
	}
	say("Asked: %s; %s.", strings.Join(per, "; "), r.took.Round(time.Millisecond))
	r.ok = got == want && strings.Contains(strings.Join(said, "\n"), saying)
	if r.want += "; says: " + saying; saying == "" {
		r.want = want
	}
	s.results = append(s.results, r)
	if !r.ok {
		say("NOT AS IT SHOULD BE: version %s, should be %s", got, r.want)
	}
	return nil
}

// check adds a line to the table for something that is not a run of the product.
func (s *story) check(step, want, got string) {
	s.results = append(s.results, result{step: step, want: want, got: got, ok: want == got})
	if want != got {
		say("NOT AS IT SHOULD BE: %s: %s, should be %s", step, got, want)
	}
}

// summary prints the table; its error says how many steps went wrong.
func (s *story) summary() error {
	title("Summary")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "   step\tshould be\twas\t\trequests\tbytes\ttime")
	wrong := 0
	for _, r := range s.results {
		verdict := "ok"
		if !r.ok {
			verdict = "WRONG"
			wrong++
		}
		want, _, _ := strings.Cut(r.want, ";")
		if r.traffic.requests == 0 && r.took == 0 {
			fmt.Fprintf(w, "   %s\t%s\t%s\t%s\t\t\t\n", r.step, want, r.got, verdict)
			continue
		}
		fmt.Fprintf(w, "   %s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.step, want, r.got, verdict, r.traffic.requests, size(r.traffic.bytes), r.took.Round(time.Millisecond))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d steps did not have the outcome they should", wrong, len(s.results))
	}
	fmt.Fprintf(out, "\nAll %d steps had exactly the outcome they should.\n", len(s.results))
	return nil
}

// evidence counts the refused files that a machine keeps, and returns the last reason.
func (s *story) evidence(machine string) (n int, reason string, err error) {
	files, err := filepath.Glob(filepath.Join(s.machine(machine), "state", "*", "evidence", "*.reason.json"))
	if err != nil || len(files) == 0 {
		return 0, "", errors.Join(err)
	}
	data, err := os.ReadFile(files[len(files)-1])
	return len(files), string(data), err
}
