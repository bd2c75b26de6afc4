// Command quickstart shows what visum does, on one machine, with real programs, real
// servers on loopback and temporary folders: two parties publish releases, keys are
// compromised, and the repository moves.
//
//	go run ./examples/quickstart
//
// It prints one line for each act and a table of all steps; with -v it prints every
// step. With -file PATH it distributes that file instead of the example agent. With
// -keep DIR the repository, keys and state remain in that folder. The exit status is
// 0 only if every step had the expected result.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// out receives the output.
var out io.Writer = os.Stdout

func main() {
	file := flag.String("file", "", "distribute this file instead of the example agent")
	keep := flag.String("keep", "", "leave repository, keys and state in this folder (must not exist, or be empty)")
	verbose := flag.Bool("v", false, "print every step")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "quickstart: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	// After an interrupt the servers are closed and the temporary folder is removed.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *file, *keep, *verbose)
	stop()
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "\nquickstart: interrupted; servers are closed, temporary files are removed")
		os.Exit(130)
	case err != nil:
		fmt.Fprintf(os.Stderr, "\nquickstart: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file, keep string, verbose bool) (err error) {
	dir, cleanup, err := folder(keep)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	s, err := newDemo(ctx, dir, file, &narrator{out: out, verbose: verbose})
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.acts(); err != nil {
		return err
	}
	if err := s.summary(); err != nil {
		return err
	}
	next(dir, keep != "", file != "", verbose)
	return nil
}

// next prints what to do with a program of one's own.
func next(dir string, kept, ownFile, verbose bool) {
	if kept {
		fmt.Fprintf(out, `
Kept in %s:
   vendor/ and review/   keys, ledger and repository of each party
   location-*/           the repository as each location serves it
   pin.json              the pin, which is embedded in the product
   product/              the installed product and its state, for each machine
`, dir)
	}
	fmt.Fprint(out, "\nNext, with a program of your own:\n")
	if !verbose {
		fmt.Fprintln(out, "   -v           prints every step: what each machine reports, and why it refuses")
	}
	if !ownFile {
		fmt.Fprintln(out, "   -file PATH   distributes a file of yours in the same way")
	}
	if !kept {
		fmt.Fprintln(out, "   -keep DIR    keeps keys, repository and state for inspection")
	}
	fmt.Fprint(out, `   1. go get github.com/visum-dev/visum/client. examples/agent/update.go is all the code that a program needs.
   2. Create a repository for it. The package example of repo is a complete program.
   3. Embed the pin of that repository (method Pin of repo.Repo), as examples/agent/main.go embeds pin.json.
   4. Read docs/operating.md before you ship the program.
`)
}

// folder returns the folder to work in, and a function that removes it.
func folder(keep string) (dir string, cleanup func() error, err error) {
	if keep == "" {
		dir, err = os.MkdirTemp("", "visum-quickstart-")
		return dir, func() error { return os.RemoveAll(dir) }, err
	}
	if dir, err = filepath.Abs(keep); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	there, err := os.ReadDir(dir)
	if err == nil && len(there) > 0 {
		err = fmt.Errorf("-keep %s: the folder is not empty", keep)
	}
	return dir, func() error { return nil }, err
}
