package layout

import (
	"io/fs"
	"net/url"
	"strings"
)

// URLPath returns the escaped path of a file below the metadata directory of a location,
// or below its targets directory. name is the name in a storage. The layout of metadata
// is flat except for recovery/: a slash in a role's name does not separate directories.
//
// A name that would lead out of the directory is an error that wraps [fs.ErrInvalid]. A
// role name cannot: it is always escaped into one element that begins with a number.
func URLPath(name string) (path string, metadata bool, err error) {
	rest, metadata := strings.CutPrefix(name, "metadata/")
	if !metadata {
		rest, _ = strings.CutPrefix(name, "targets/")
	}
	if rest == "" || rest == "." || rest == ".." || !metadata && !fs.ValidPath(rest) {
		return "", metadata, &fs.PathError{Op: "GET", Path: rest, Err: fs.ErrInvalid}
	}
	parts := []string{rest}
	if !metadata {
		parts = strings.Split(rest, "/")
	} else if last, ok := strings.CutPrefix(rest, "recovery/"); ok { // the files of roles begin with a number
		parts = []string{"recovery", last}
	}
	for i, p := range parts {
		parts[i] = escape(p)
	}
	return strings.Join(parts, "/"), metadata, nil
}

// escape escapes every character that servers may read in different ways: object stores
// treat a + in a path as a space.
func escape(element string) string {
	return strings.ReplaceAll(url.QueryEscape(element), "+", "%20")
}
