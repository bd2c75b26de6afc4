// Command agent is a small product that updates itself. update.go contains all code
// for updates; pin.json is the only trust anchor.
//
//	go build -ldflags "-X main.version=1.1" ./examples/agent
//
// It prints its version and checks for an update. If there is one, it replaces its own
// binary and starts the new version.
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

// The pin in the source tree belongs to a repository that does not exist. A product
// embeds the pin of its own repository, which Repo.Pin exports.
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
	os.Remove(exe + ".old") // the version before the last update
	rel, err := update(ctx, state, exe, version)
	if errors.Is(err, client.ErrUpToDate) {
		fmt.Printf("agent %s: no update: %v\n", version, err)
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
