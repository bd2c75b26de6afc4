package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/visum-dev/visum/internal/text"
)

// Storage holds a repository's files, for example in a directory or a bucket. It keeps
// bytes and verifies no signatures. Package storagetest tests implementations.
//
// Names are relative and slash-separated, such as "metadata/1.root.json" or
// "targets/agent/HASH.agent-1.0". Every method refuses the names that [CheckName]
// refuses. Names that differ only in case may denote the same file, and a file "a" may
// preclude a file "a/b".
//
// Methods must be safe for concurrent use, also by other processes on other handles of
// the same storage. When a method succeeds, its change is durable and visible to all
// handles. After an error, or after the process dies, either nothing or everything was
// changed: no reader ever sees part of a file. Nothing was changed if the error is
// [ErrConflict] or an error of the reader, or if ctx ended before the call. Errors of
// the underlying medium are returned wrapped.
type Storage interface {
	// Read returns the whole file; the caller owns the slice. The error wraps
	// [fs.ErrNotExist] if there is no file. Read is for metadata: a file of more than
	// [MaxRead] bytes is an error.
	Read(ctx context.Context, name string) ([]byte, error)

	// Create makes an immutable file with all bytes of r. If the file exists with the
	// same bytes, Create succeeds. If it exists with other bytes, or is removed during
	// the comparison, the error is [ErrConflict]. Of several concurrent calls for the
	// same name with different bytes, one succeeds.
	//
	// r may be large and slow. Create streams it, reads it at most once, may stop before
	// its end, and does not close it. Errors of r are returned wrapped. ctx is checked
	// between reads; Create does not interrupt a blocked Read.
	Create(ctx context.Context, name string, r io.Reader) error

	// Replace replaces the content old of the file by new (compare-and-swap). If old is
	// nil, there must be no file; an empty old that is not nil means an empty file. The
	// error is [ErrConflict] if the content differs, even if it is already new: after an
	// unknown result the caller must read the file and decide. Of several concurrent
	// calls with the same old content, one succeeds. Replace is for metadata: new has at
	// most [MaxRead] bytes. Replace keeps neither slice.
	Replace(ctx context.Context, name string, old, new []byte) error
}

// Source reads files of any size. [SourceOf] makes one from a [Storage]. The sources of
// package client (a web server, a file system, a bundle) have the same method.
type Source interface {
	// Open returns the file for reading. The error wraps [fs.ErrNotExist] if and only if
	// there is no file. Reads fail after ctx ends. The caller closes the file.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// Optional interfaces of a Storage, which callers detect by a type assertion. Package
// storagetest tests those that are implemented. A Storage that implements [Source] can
// also return large files.
type (
	// Lister is a Storage that can list its files. It is required to find files
	// that no metadata lists any more.
	Lister interface {
		// List yields the files whose names begin with prefix, in no particular order,
		// each once. A file that is created or removed during the listing may be included
		// or not. Names that [CheckName] refuses are skipped. An error ends the listing.
		List(ctx context.Context, prefix string) iter.Seq2[FileInfo, error]
	}
	// Remover is a Storage that can remove files.
	Remover interface {
		// Remove removes the file if its last write was before the time before, and
		// returns [ErrConflict] otherwise. A Create of an existing file counts as a write,
		// because a publisher relies on the file from then on. Remove succeeds if there is
		// no file. Write times are those of the storage's clock, so allow a margin.
		Remove(ctx context.Context, name string, before time.Time) error
	}
	// Cleaner is a Storage in which a process that died leaves something that is no file,
	// such as the parts of an upload to a bucket.
	Cleaner interface {
		// Clean removes what was left before the time before, and returns the number of
		// uploads that it removed. No write that still runs may have begun before that
		// time, which is that of the storage's clock.
		Clean(ctx context.Context, before time.Time) (uploads int, err error)
	}
	// Copier is a Storage that can copy a file internally, without transferring its
	// bytes through the caller.
	Copier interface {
		// Copy creates the file to with the bytes of the file from, under the rules of
		// Create: it succeeds if to exists with the same bytes, the error is [ErrConflict]
		// if to exists with other bytes, and the call counts as a write of to. The error
		// wraps [fs.ErrNotExist] if from does not exist. The files are independent:
		// removing or replacing one does not affect the other.
		Copy(ctx context.Context, from, to string) error
	}
)

// File is a file with its content.
type File struct {
	Name string // valid for [CheckName]
	Data []byte // owned by the caller
}

// FileInfo describes a file that a [Lister] yields.
type FileInfo struct {
	Name    string    // as in [Storage]
	Size    int64     // bytes
	Written time.Time // last Create or Replace; see [Remover]
}

// MaxRead is the size limit of Read and Replace in bytes: 64 MiB.
const MaxRead = 64 << 20

// CheckName reports why name is not valid for a file in a [Storage]; the error wraps
// [fs.ErrInvalid]. The rule is the same for all storages, so that a repository can be
// copied between any two of them:
//
//   - elements separated by single slashes, none of them "." or "..", no slash
//     at either end; at most 1024 bytes, an element at most 255
//   - valid UTF-8 without control characters and without \ : * ? " < > |
//   - no element ends with a dot or a space, or is a device name of Windows
//     such as NUL or com1.txt
//   - neither the first nor the last element begins with a dot: such names are
//     reserved for the storage
func CheckName(name string) error {
	if why := badName(name); why != "" {
		return fmt.Errorf("storage: name %s: %w: %s", text.Quote(name), fs.ErrInvalid, why)
	}
	return nil
}

func badName(name string) string {
	switch {
	case name == "":
		return "empty"
	case len(name) > 1024:
		return "longer than 1024 bytes"
	case !utf8.ValidString(name):
		return "not UTF-8"
	case name[0] == '/':
		return "absolute"
	}
	if i := strings.IndexFunc(name, func(r rune) bool {
		return unicode.IsControl(r) || strings.ContainsRune(`\:*?"<>|`, r)
	}); i >= 0 {
		r, _ := utf8.DecodeRuneInString(name[i:])
		return fmt.Sprintf("character %+q", r)
	}
	elements := strings.Split(name, "/")
	for i, e := range elements {
		switch {
		case e == "":
			return "empty element"
		case e == "." || e == "..":
			return "element " + e
		case len(e) > 255:
			return "element longer than 255 bytes"
		case e[0] == '.' && (i == 0 || i == len(elements)-1):
			return "first or last element begins with a dot"
		case e[len(e)-1] == '.' || e[len(e)-1] == ' ':
			return "element ends with a dot or a space"
		case isDevice(e):
			return "device name of Windows"
		}
	}
	return ""
}

// isDevice reports whether a path element is a device name of Windows, in any directory
// and with any extension.
func isDevice(element string) bool {
	base, _, _ := strings.Cut(element, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	digit, ok := strings.CutPrefix(base, "COM")
	if !ok {
		digit, ok = strings.CutPrefix(base, "LPT")
	}
	return ok && utf8.RuneCountInString(digit) == 1 && strings.Contains("0123456789¹²³", digit)
}

// Progress is the progress of a long call.
type Progress struct {
	Path  string // the current file, by its name in storage; in repo.Tx.Add without the hash, which is not yet known
	Done  int64  // bytes processed of it
	Total int64  // bytes of it, -1 if unknown; in repo.Tx.Add, which reads a file twice, twice its size
	Files int    // files completed in this call
}

type progressKey struct{}

// WithProgress returns a context for Create. A storage that must read a file completely
// before it can send it reports the sending to fn, with the size of the file as Total, in
// the goroutine of the call. With others, what was read of the file shows the progress.
func WithProgress(ctx context.Context, fn func(Progress)) context.Context {
	return context.WithValue(ctx, progressKey{}, fn)
}

// ProgressOf returns the function of [WithProgress], for implementations of storages; nil
// if there is none.
func ProgressOf(ctx context.Context) func(Progress) {
	fn, _ := ctx.Value(progressKey{}).(func(Progress))
	return fn
}

// ErrConflict: another process changed the storage during the call. The call changed
// nothing. Read the storage again before retrying.
var ErrConflict = errors.New("changed concurrently by another process")
