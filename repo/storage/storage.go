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

// Storage is where a repository's files are: a folder, a bucket. It keeps bytes
// and judges none of them. Package storagetest has the examiner for
// implementations.
//
// Names are relative and slash-separated, such as "metadata/1.root.json" or
// "targets/agent/HASH.agent-1.0"; [CheckName] has the rule, and every method
// refuses what it refuses. Names that differ only in case may be one name, and
// where there is a file "a" there may be no room for "a/b".
//
// Methods may be called by many goroutines, and by other processes on other
// handles of the same storage. A method that succeeded has made its change for
// good, and everybody sees it. A method that failed, or whose process died, has
// changed nothing or everything: nobody ever sees part of a file. It is nothing
// when the error is [ErrConflict] or the reader's, or when ctx had ended before
// the call. Errors of the storage itself are passed on, wrapped.
type Storage interface {
	// Read returns the whole file, the caller's to keep. The error wraps
	// [fs.ErrNotExist] when there is none. It is for metadata: more than
	// [MaxRead] bytes are an error.
	Read(ctx context.Context, name string) ([]byte, error)

	// Create makes a file that never changes again, with all that r has. The
	// file being there already with the same bytes is success; with other bytes
	// it is [ErrConflict], also when the file is removed while it is compared. Of
	// many who create the same name at once with different bytes, one succeeds.
	//
	// r may be large and slow: it is streamed, read at most once, not to its end
	// if the answer is known before, and not closed. Its error is returned,
	// wrapped. ctx is looked at between reads; a Read that blocks is r's affair.
	Create(ctx context.Context, name string, r io.Reader) error

	// Replace gives the file the content new if its content is old: compare and
	// swap. With old nil there must be no file; empty and not nil means an empty
	// file. Otherwise it is [ErrConflict], also when the content is new already:
	// who did not see his own success has to read and decide. Of many
	// who replace the same content at once, one succeeds. It is for metadata:
	// new may have [MaxRead] bytes. Both slices stay the caller's.
	Replace(ctx context.Context, name string, old, new []byte) error
}

// Source is a place that files are read from, whatever their size: a [Storage]
// by way of [SourceOf], or any of package client's sources (a web server, a
// file system, a bundle), which have the same method.
type Source interface {
	// Open returns the file for reading. The error wraps [fs.ErrNotExist] where
	// there is none, and only then. Reading ends when ctx does. The caller closes it.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// A Storage may do more than it must; who needs it asks by a type assertion.
// Package storagetest examines these too where they are there. A Storage that is
// a [SourceRef] lets large files be read.
type (
	// Lister is a Storage that can say what it has: needed to find what nobody
	// names any more.
	Lister interface {
		// List yields the files whose names begin with prefix, in no particular
		// order, each once. A file that comes or goes meanwhile may be among them
		// or not. Names that [CheckName] refuses are passed over. After an error
		// nothing follows.
		List(ctx context.Context, prefix string) iter.Seq2[FileInfo, error]
	}
	// Remover is a Storage that can remove files.
	Remover interface {
		// Remove removes the file if it was last written before that time, and
		// returns [ErrConflict] otherwise. A Create that finds its file there
		// counts as a write: a publisher relies on the file from then on. A file
		// that is not there is success. The clock is the storage's: leave a margin.
		Remove(ctx context.Context, name string, before time.Time) error
	}
	// Copier is a Storage that can copy a file within itself, so that its bytes do
	// not travel.
	Copier interface {
		// Copy is Create of the file to with the bytes of the file from, with all that
		// is said there: a file that is there already with the same bytes is success,
		// with others it is [ErrConflict], and to counts as written now. The error
		// wraps [fs.ErrNotExist] where there is no file from. The two are files of
		// their own: that one is removed or replaced is nothing to the other.
		Copy(ctx context.Context, from, to string) error
	}
)

// FileInfo is what a [Lister] says of a file.
type FileInfo struct {
	Name    string
	Size    int64     // bytes
	Written time.Time // last, by Create or Replace; see [Remover]
}

// MaxRead bounds what Read returns and Replace takes: 64 MiB.
const MaxRead = 64 << 20

// CheckName reports why name can't be the name of a file in a [Storage]; the
// error wraps [fs.ErrInvalid]. The rule is the same for all storages, so that a
// repository can be copied from any of them to any other:
//
//   - elements separated by single slashes, none of them "." or "..", no slash
//     at either end; at most 1024 bytes, an element at most 255
//   - valid UTF-8 without control characters and without \ : * ? " < > |
//   - no element ends with a dot or a space, or is a device name of Windows
//     such as NUL or com1.txt
//   - neither the first nor the last element begins with a dot: such names are
//     left to the storage for its own needs
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

// isDevice reports whether Windows takes a path element for a device, whatever
// the folder and whatever follows the first dot.
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

// Progress is how far a long call is.
type Progress struct {
	Path  string // of the file at hand, in storage; in [Tx.Add], which names it only then, without its hash
	Done  int64  // bytes of it
	Total int64  // its bytes, -1 where that is not known; in Tx.Add, which reads a file twice, twice as many
	Files int    // that are done with, in this call
}

// ErrConflict: another process changed the storage while the call was at work. The call
// changed nothing; read again, and decide again.
var ErrConflict = errors.New("somebody else published first")
