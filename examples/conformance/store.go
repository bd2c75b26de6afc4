package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/durable"
)

// own is the directory below the metadata directory for files that suites ignore.
const own = ".visum"

// store keeps trusted metadata under names without versions, flat:
//
//	root.json timestamp.json snapshot.json targets.json ROLE.json
//
// and all other files in a separate directory. A file of another version than the one
// that is requested does no harm: the client verifies each file that it reads.
type store struct {
	client.Store // for all other files
	dir          string
}

func newStore(dir string) store { return store{client.DirStore(filepath.Join(dir, own)), dir} }

// file is the flat path of a file of the client, or "" if it has none.
func (s store) file(name string) string {
	role, isRole := strings.CutPrefix(name, "roles/")
	switch {
	case name == "timestamp.json" || name == "snapshot.json":
		return filepath.Join(s.dir, name)
	case isRole:
		// No delegated role has the name of one of the others: package tuf refuses that.
		_, role, _ = strings.Cut(role, ".") // the version
		return filepath.Join(s.dir, role)
	}
	return ""
}

func (s store) Read(name string, limit int64) ([]byte, error) {
	file := s.file(name)
	if file == "" {
		return s.Store.Read(name, limit)
	}
	fi, err := os.Lstat(file)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > limit {
		return nil, &fs.PathError{Op: "read", Path: file, Err: fs.ErrNotExist}
	}
	return os.ReadFile(file)
}

func (s store) Write(name string, data []byte) error {
	if file := s.file(name); file != "" {
		return durable.WriteFile(file, data, 0o644)
	}
	if err := s.Store.Write(name, data); err != nil {
		return err
	}
	if strings.HasPrefix(name, "roots/") { // the newest comes last
		return durable.WriteFile(filepath.Join(s.dir, "root.json"), data, 0o644)
	}
	return nil
}

func (s store) Remove(name string) error {
	file := s.file(name)
	if file == "" {
		return s.Store.Remove(name)
	}
	if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}
