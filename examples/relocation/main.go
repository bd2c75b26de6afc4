// Command relocation moves a running repository under load, from one host to
// another with new keys, while a fleet of real clients goes on updating from it
// and an attacker takes the old place with every key that the vendor had:
//
//	go run ./examples/relocation
//
// Three places are three web servers on loopback; the clients are package
// client, each with its own pin, state and habits of sleeping; four months pass
// in about a minute. The exit status is 0 only if every expectation held. With
// NO_COLOR there is no colour; where the output is no terminal, plain lines.
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
	fleet := flag.Int("fleet", 300, "how many clients, 10 to 20000")
	seed := flag.Uint64("seed", 1, "for the habits of the clients")
	quiet := flag.Bool("quiet", false, "only the result")
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
		fmt.Fprintln(os.Stderr, "\nrelocation: interrupted; nothing is left behind")
		os.Exit(130)
	case err != nil:
		fmt.Fprintf(os.Stderr, "\nrelocation: %v\n", err)
		os.Exit(1)
	}
}

// run is the whole story; its error says what did not go as it should.
func run(ctx context.Context, size int, seed uint64, v *view) error {
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	f, err := newFleet(w, size, seed)
	if err != nil {
		return err
	}
	return f.story(ctx, v)
}

// story lives through the days.
func (f *fleet) story(ctx context.Context, v *view) error {
	w := f.w
	for w.day = 0; w.day <= lastDay; w.day++ {
		if err := w.morning(ctx, v); err != nil {
			return fmt.Errorf("day %d: %w", w.day, err)
		}
		if err := f.live(ctx); err != nil {
			return fmt.Errorf("day %d: %w", w.day, err)
		}
		v.show(w, f)
	}
	return v.results(w, f)
}
