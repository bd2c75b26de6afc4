package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"
)

// errInterrupted ends a command whose question was not answered.
var errInterrupted = errors.New("interrupted at a question")

// terminal reports whether a person can be asked.
func (a *app) terminal() bool { return a.In != nil && term.IsTerminal(int(a.In.Fd())) }

// confirm asks before a change. --yes answers it.
func (a *app) confirm(question string) error {
	if a.yes {
		return nil
	}
	if !a.terminal() {
		return usage("%s: there is no terminal to ask; --yes answers it", question)
	}
	return a.agree(question)
}

// agree asks a question that --yes does not answer.
func (a *app) agree(question string) error {
	answer, err := a.prompt(question + " [y/N] ")
	if err != nil {
		return err
	}
	if answer != "y" && answer != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

// ask asks for a line.
func (a *app) ask(what string) (string, error) {
	if !a.terminal() {
		return "", usage("there is no terminal to ask for the %s", what)
	}
	return a.prompt(what + ": ")
}

// prompt shows a text and reads a line of at most 4 kB.
func (a *app) prompt(shown string) (string, error) {
	data, err := a.read(shown, func() (out []byte, err error) {
		for b := make([]byte, 1); len(out) < 4096; {
			n, err := a.In.Read(b)
			if n == 1 && b[0] == '\n' {
				break
			}
			out = append(out, b[:n]...)
			if err == io.EOF && len(out) > 0 {
				break
			}
			if err != nil {
				return nil, err
			}
		}
		return out, nil
	})
	return strings.TrimSpace(string(data)), err
}

// secret shows a text and reads a line that the terminal does not show.
func (a *app) secret(shown string) ([]byte, error) {
	defer fmt.Fprintln(a.Err)
	return a.read(shown, func() ([]byte, error) { return term.ReadPassword(int(a.In.Fd())) })
}

// read reads an answer. It ends with the command: a signal does not end a read of the
// terminal. Then the terminal is as it was before.
func (a *app) read(shown string, fn func() ([]byte, error)) ([]byte, error) {
	a.bar.clear()
	before, err := term.GetState(int(a.In.Fd()))
	if err != nil {
		return nil, err
	}
	fmt.Fprint(a.Err, shown)
	type answer struct {
		data []byte
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		data, err := fn()
		got <- answer{data, err}
	}()
	select {
	case x := <-got:
		return x.data, x.err
	case <-a.ctx.Done():
		return nil, errors.Join(errInterrupted, term.Restore(int(a.In.Fd()), before))
	}
}
