package text

// lineError is an error whose text is one line of bounded length, whatever the wrapped
// errors contain.
type lineError struct{ err error }

func (e *lineError) Error() string { return Line(e.err.Error()) }
func (e *lineError) Unwrap() error { return e.err }

// OneLine is deferred by functions that read untrusted data. Untrusted text is quoted
// where a message is built. This is the last guard, for messages of storages and other
// packages.
func OneLine(err *error) {
	if *err == nil {
		return
	}
	if s := (*err).Error(); Line(s) != s {
		*err = &lineError{*err}
	}
}
