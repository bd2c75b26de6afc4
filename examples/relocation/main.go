// Command relocation moves a running repository under load, from one host to
// another with new keys. A fleet of real clients continues to update from it, and an
// attacker controls the old location and every old key of the vendor:
//
//	go run ./examples/relocation
//
// Three locations are three web servers on loopback. The clients are those of package
// client, each with its own pin, state and intervals. Four simulated months take about
// a minute. The exit status is 0 only if every expectation held. The output has no
// colour if NO_COLOR is set, and plain lines if it is not a terminal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	fleet := flag.Int("fleet", 300, "number of clients, 10 to 20000")
	seed := flag.Uint64("seed", 1, "seed of the clients' random intervals")
	quiet := flag.Bool("quiet", false, "print the result only")
	flag.Parse()
	if flag.NArg() > 0 || *fleet < 10 || *fleet > 20000 {
		fmt.Fprintln(os.Stderr, "relocation: no arguments, and -fleet from 10 to 20000")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *fleet, *seed, newView(os.Stdout, *quiet))
	stop()
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "\nrelocation: interrupted")
		os.Exit(130)
	case err != nil:
		fmt.Fprintf(os.Stderr, "\nrelocation: %v\n", err)
		os.Exit(1)
	}
}

// run creates the repository and the fleet, and lets all days pass. Its error states
// which expectation failed.
func run(ctx context.Context, size int, seed uint64, v *view) error {
	w, err := newSystem(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	f, err := newFleet(w, size, seed)
	if err != nil {
		return err
	}
	return f.days(ctx, v)
}

// days lets all days pass, one after the other.
func (f *fleet) days(ctx context.Context, v *view) error {
	w := f.w
	for w.day = 0; w.day <= lastDay; w.day++ {
		if err := w.morning(ctx, v); err != nil {
			return fmt.Errorf("day %d: %w", w.day, err)
		}
		if err := f.update(ctx); err != nil {
			return fmt.Errorf("day %d: %w", w.day, err)
		}
		v.show(w, f)
	}
	return v.results(w, f)
}
