package client

import (
	"errors"
	"strings"

	"github.com/visum-dev/visum/internal/text"
)

// failed is an error of this package: one line of printable ASCII, 4 kB at most,
// whatever the errors of locations, disks and metadata in it say.
type failed struct {
	text string
	errs []error
}

func (f *failed) Error() string { return f.text }

func (f *failed) Unwrap() []error { return f.errs }

// join is errors.Join in one line.
func join(errs ...error) error {
	f := &failed{}
	var parts []string
	for _, err := range errs {
		if err != nil {
			f.errs, parts = append(f.errs, err), append(parts, oneLine(err))
		}
	}
	if f.errs == nil {
		return nil
	}
	f.text = text.Line(strings.Join(parts, "; "))
	return f
}

// failure is what an exported function returns of errs: it says whose error it is.
func failure(errs ...error) error {
	err := join(errs...)
	if err == nil || strings.HasPrefix(err.Error(), "client: ") {
		return err
	}
	return &failed{text.Line("client: " + err.Error()), []error{err}}
}

// oneLine is an error's message as one line, with what errors.Join put on several.
func oneLine(err error) string {
	if f, ok := errors.AsType[*failed](err); ok && err == error(f) {
		return f.text
	}
	return text.Line(strings.ReplaceAll(err.Error(), "\n", "; "))
}
