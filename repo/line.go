package repo

import "github.com/visum-dev/visum/internal/text"

// lineError is an error whose text is one line of bounded length, whatever the wrapped
// errors contain.
type lineError struct{ err error }

func (e *lineError) Error() string { return text.Line(e.err.Error()) }
func (e *lineError) Unwrap() error { return e.err }

// oneLine is deferred by functions that read untrusted data. Untrusted text is quoted
// where a message is built. This is the last guard, for messages of storages and other
// packages.
func oneLine(err *error) {
	if *err == nil {
		return
	}
	if s := (*err).Error(); text.Line(s) != s {
		*err = &lineError{*err}
	}
}
