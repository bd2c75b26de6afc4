// Package cli has the commands of the tool visum. Each command is a thin layer over the
// packages of the module: it reads the configuration, calls them, and prints what they
// return, as text or as JSON.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Process is what a command may use of its process.
type Process struct {
	Args     []string // without the name of the program
	In       *os.File
	Out, Err io.Writer
	Getenv   func(string) string
	Environ  func() []string  // of programs that sign (exec:)
	Now      func() time.Time // nil: time.Now
	// Wait waits between the rounds of run. nil: a timer. The error is that of ctx.
	Wait func(ctx context.Context, d time.Duration) error
}

// Exit statuses, the same for every command; see visum help exit-status.
const (
	statusDone      = 0
	statusError     = 1
	statusUsage     = 2
	statusFound     = 3
	statusConflict  = 4
	statusUnsigned  = 5
	statusUntrusted = 6
)

// usageError is an error of the command line or of the configuration.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// errFound ends a command that looked and found something, after its output.
var errFound = errors.New("found")

// statusOf returns the exit status for the error of a command.
func statusOf(err error) int {
	var bad *usageError
	switch {
	case err == nil:
		return statusDone
	case errors.Is(err, errFound), errors.Is(err, client.ErrUpToDate): // of get: nothing is offered
		return statusFound
	case errors.As(err, &bad):
		return statusUsage
	case errors.Is(err, storage.ErrConflict):
		return statusConflict
	case errors.Is(err, repo.ErrUnsigned):
		return statusUnsigned
	case errors.Is(err, tuf.ErrUntrusted):
		return statusUntrusted
	}
	return statusError
}

// app is one call of the tool.
type app struct {
	*Process
	ctx      context.Context
	json     bool
	identity string // path of the identity file
	folder   string // the working folder, with visum.toml
	as       string // the party that acts
	yes      bool
	dryRun   bool
	passFile string
	typed    []byte // the passphrase that was typed last
	machine  bool   // no person is asked, also on a terminal: run
	tokens   *tokenStore
	bar      *progress // nil: nothing long was done
}

// nextStep names what a person can do about an error; "" if that is not known.
func nextStep(err error) string {
	switch {
	case errors.Is(err, storage.ErrConflict):
		return "the repository changed in the meantime: run the command again"
	case errors.Is(err, repo.ErrUnsigned):
		return "sign with: visum draft sign DRAFT, on each machine that has one of the keys"
	}
	return ""
}

// print writes the result: v as JSON, or the lines.
func (a *app) print(v any, lines ...string) error {
	a.bar.clear()
	if a.json {
		e := json.NewEncoder(a.Out)
		e.SetEscapeHTML(false)
		return e.Encode(v)
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(a.Out, l); err != nil {
			return err
		}
	}
	return nil
}

// printFound prints the result of a command that looked, and ends it with exit status 3
// if it found something.
func (a *app) printFound(found bool, v any, lines ...string) error {
	if err := a.print(v, lines...); err != nil || !found {
		return err
	}
	return errFound
}

// note writes a line of progress, which is not part of the result.
func (a *app) note(format string, args ...any) {
	a.bar.clear()
	fmt.Fprintf(a.Err, format+"\n", args...)
}
