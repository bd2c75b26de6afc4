package repo

import "github.com/visum-dev/visum/internal/text"

// lineError is an error whose text is one bounded line, whatever the errors
// within it say.
type lineError struct{ err error }

func (e *lineError) Error() string { return text.Line(e.err.Error()) }
func (e *lineError) Unwrap() error { return e.err }

// oneLine is deferred by the functions that read what others wrote. It is the
// last guard: foreign text is quoted where a message is made, but messages of
// storages and of other packages come from elsewhere.
func oneLine(err *error) {
	if *err == nil {
		return
	}
	if s := (*err).Error(); text.Line(s) != s {
		*err = &lineError{*err}
	}
}
