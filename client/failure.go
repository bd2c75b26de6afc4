package client

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/visum-dev/visum/internal/text"
)

// failed is an error of this package: one line of printable ASCII of at most 4 kB,
// whatever the errors of locations, disks and metadata in it contain.
type failed struct {
	text string
	errs []error
}

func (f *failed) Error() string { return f.text }

func (f *failed) Unwrap() []error { return f.errs }

// join is errors.Join on one line.
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

// failure prepares errs for return by an exported function: it adds the prefix of this
// package.
func failure(errs ...error) error {
	err := join(errs...)
	if err == nil || strings.HasPrefix(err.Error(), "client: ") {
		return err
	}
	return &failed{text.Line("client: " + err.Error()), []error{err}}
}

// oneLine returns an error's message as one line; errors.Join uses several.
func oneLine(err error) string {
	if f, ok := errors.AsType[*failed](err); ok && err == error(f) {
		return f.text
	}
	return text.Line(strings.ReplaceAll(err.Error(), "\n", "; "))
}

// lines is a log handler that sanitizes the attributes of every record as failed does
// for errors: they contain names and messages from locations and metadata.
type lines struct{ slog.Handler }

func (l lines) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(lineAttr(a))
		return true
	})
	return l.Handler.Handle(ctx, out)
}

func (l lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		out[i] = lineAttr(a)
	}
	return lines{l.Handler.WithAttrs(out)}
}

func (l lines) WithGroup(name string) slog.Handler { return lines{l.Handler.WithGroup(name)} }

func lineAttr(a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	switch err, isErr := a.Value.Any().(error); {
	case isErr && err != nil:
		return slog.Any(a.Key, join(err))
	case a.Value.Kind() == slog.KindString:
		return slog.String(a.Key, text.Line(a.Value.String()))
	}
	return a
}
