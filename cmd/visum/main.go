// Command visum works with repositories of signed software updates: it makes and signs
// releases, approves them as a review centre, publishes, renews, verifies, copies and
// serves. visum help lists the commands; visum help exit-status lists what the exit
// status means.
//
// The command is a thin layer over the packages of the module.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/visum-dev/visum/cmd/visum/internal/cli"
)

func main() { os.Exit(run(time.Now)) }

func run(now func() time.Time) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return cli.Main(ctx, &cli.Process{Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Environ: os.Environ, Now: now})
}
