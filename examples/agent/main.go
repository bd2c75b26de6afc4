// Command agent is a small product that updates itself. Everything that
// concerns updates is in update.go; pin.json is the whole of its trust.
//
//	go build -ldflags "-X main.version=1.1" ./examples/agent
//
// It says which version runs, looks for an update, and where there is one
// replaces its own binary and starts again as the new version.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"github.com/visum-dev/visum/client"
)

// The pin that is checked in belongs to a repository that does not exist. A
// product puts its own here: repo.Pin makes it.
//
//go:embed pin.json
var pin []byte

// Set by the linker.
var version = "1.0"

func main() {
	state := flag.String("state", "", "folder for the update state (default: in the user's cache folder)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *state); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintf(os.Stderr, "agent %s: %v\n", version, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, state string) error {
	fmt.Printf("agent %s: running\n", version)
	if state == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		state = filepath.Join(cache, "agent")
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	os.Remove(exe + ".old") // what ran before the last update
	rel, err := update(ctx, state, exe, version)
	if errors.Is(err, client.ErrUpToDate) {
		fmt.Printf("agent %s: staying: %v\n", version, err)
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Printf("agent %s: installed %s: %s\n", version, rel.Version, rel.Approved)
	next := exec.CommandContext(ctx, exe, os.Args[1:]...)
	next.Stdin, next.Stdout, next.Stderr = os.Stdin, os.Stdout, os.Stderr
	return next.Run()
}
