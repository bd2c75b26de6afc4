// Command quickstart tells the whole story of visum on one machine, with real
// programs, real servers on loopback and temporary folders:
//
//	go run ./examples/quickstart
//
// With -file PATH it distributes that file instead of the example agent; with
// -keep DIR the repository, keys and state stay there to look at. The exit
// status is 0 only if every step had exactly the outcome it should.
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

// out is where the story is told.
var out io.Writer = os.Stdout

func main() {
	file := flag.String("file", "", "distribute this file instead of the example agent")
	keep := flag.String("keep", "", "leave repository, keys and state in this folder (must not exist, or be empty)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "quickstart: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	// An interrupt ends the story in order: servers closed, temporary folder removed.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *file, *keep)
	stop()
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "\nquickstart: interrupted; nothing is left behind")
		os.Exit(130)
	case err != nil:
		fmt.Fprintf(os.Stderr, "\nquickstart: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file, keep string) (err error) {
	dir, cleanup, err := folder(keep)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	s, err := newStory(ctx, dir, file)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.tell(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	if keep != "" {
		fmt.Fprintf(out, "\nKept in %s: vendor/ and review/ with their keys and copies of the repository, place-*/ as served, product/ with the state.\n", dir)
	}
	return s.summary()
}

// folder returns the folder to work in and what removes it.
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
