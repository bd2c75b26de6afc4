package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
)

const (
	indexName = ".visum/index"
	indexHead = "visum index 1"
	noJekyll  = ".nojekyll"
	emptyBlob = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
	maxChain  = 32 // commits that a message names
)

// file is a file in a tree.
type file struct {
	oid     string
	mode    string
	size    int64 // -1: not a regular file
	written int64 // Unix time in nanoseconds; 0: in the commit that is made now
}

func (f file) regular() bool { return f.mode == "100644" || f.mode == "100755" }

// state is what a commit has. It is not changed after it is made.
type state struct {
	tip   string // "": there is no branch
	chain []string
	ours  bool            // it has an index
	files map[string]file // by path in the branch
	dirs  map[string]int  // number of files below each folder
}

var oidForm = regexp.MustCompile(`^[0-9a-f]{40}$`)

// load reads a commit that is in the local copy.
func (b *Branch) load(ctx context.Context, tip string) (*state, error) {
	s := &state{tip: tip, files: map[string]file{}, dirs: map[string]int{}}
	if tip == "" {
		s.ours = true
		return s, nil
	}
	index := tip + ":" + b.folder + indexName
	out, err := b.git(ctx, command{args: []string{"cat-file", "--batch"}, stdin: strings.NewReader(tip + "\n" + index + "\n"), limit: maxTree})
	if err != nil {
		return nil, err
	}
	message, rest, err := batchObject(out, "commit")
	if err != nil {
		return nil, err
	}
	header, body, _ := bytes.Cut(message, []byte("\n\n"))
	s.chain = chainOf(body)
	known := map[string]file{}
	if content, _, err := batchObject(rest, "blob"); err == nil {
		s.ours = true
		parseIndex(content, known)
	}
	if out, err = b.git(ctx, command{args: []string{"ls-tree", "-r", "-z", "--full-tree", tip}, limit: maxTree}); err != nil {
		return nil, err
	}
	var unsized []string
	for _, line := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if line == "" {
			continue
		}
		info, path, ok := strings.Cut(line, "\t")
		fields := strings.Fields(info)
		if !ok || len(fields) != 3 || !oidForm.MatchString(fields[2]) {
			return nil, fmt.Errorf("git ls-tree: unexpected output %s", text.Quote(line))
		}
		f := file{mode: fields[0], oid: fields[2], size: -1, written: committed(header)}
		if k, ok := known[strings.TrimPrefix(path, b.folder)]; ok && strings.HasPrefix(path, b.folder) && k.oid == f.oid {
			f.size, f.written = k.size, k.written
		} else if f.regular() {
			unsized = append(unsized, path)
		}
		s.files[path] = f
		eachDir(path, func(dir string) { s.dirs[dir]++ })
	}
	return s, b.sizes(ctx, s, unsized)
}

// sizes fills in the sizes of files that are not in the index.
func (b *Branch) sizes(ctx context.Context, s *state, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	var ask strings.Builder
	for _, p := range paths {
		ask.WriteString(s.files[p].oid + "\n")
	}
	out, err := b.git(ctx, command{args: []string{"cat-file", "--batch-check=%(objectname) %(objectsize)"}, stdin: strings.NewReader(ask.String()), limit: maxTree})
	if err != nil {
		return err
	}
	sizes := lines(out)
	if len(sizes) != len(paths) {
		return errors.New("git cat-file: unexpected output")
	}
	for i, p := range paths {
		oid, size, _ := strings.Cut(sizes[i], " ")
		f := s.files[p]
		if f.size, err = strconv.ParseInt(size, 10, 64); err != nil || oid != f.oid {
			return fmt.Errorf("git cat-file: unexpected output %s", text.Quote(sizes[i]))
		}
		s.files[p] = f
	}
	return nil
}

// batchObject splits the first object from the output of cat-file --batch.
func batchObject(out []byte, kind string) (content, rest []byte, err error) {
	head, rest, _ := bytes.Cut(out, []byte("\n"))
	fields := strings.Fields(string(head))
	if len(fields) == 3 && fields[1] == kind {
		if n, err := strconv.Atoi(fields[2]); err == nil && n >= 0 && n < len(rest) {
			return rest[:n], rest[n+1:], nil
		}
	}
	return nil, nil, fmt.Errorf("git cat-file: no %s: %s", kind, text.Bytes(head))
}

// committed is the time of a commit in nanoseconds.
func committed(header []byte) int64 {
	for line := range strings.Lines(string(header)) {
		if who, ok := strings.CutPrefix(line, "committer "); ok {
			if f := strings.Fields(who); len(f) >= 2 {
				if n, err := strconv.ParseInt(f[len(f)-2], 10, 64); err == nil && n > 0 && n < 1<<33 {
					return n * int64(time.Second)
				}
			}
		}
	}
	return 1
}

const chainKey = "visum-after: "

// chainOf returns the former tips that a message names, from the newest.
func chainOf(message []byte) (out []string) {
	for line := range strings.Lines(string(message)) {
		if oid, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), chainKey); ok && oidForm.MatchString(oid) && len(out) < maxChain {
			out = append(out, oid)
		}
	}
	return out
}

// parseIndex reads the sizes and write times of files. An invalid line is that of a
// person; its file has the size of its object and the time of the commit.
func parseIndex(data []byte, into map[string]file) {
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(fields) != 4 || !oidForm.MatchString(fields[0]) {
			continue
		}
		size, err := strconv.ParseInt(fields[1], 10, 64)
		written, err2 := strconv.ParseInt(fields[2], 10, 64)
		if err == nil && err2 == nil && size >= 0 && written > 0 {
			into[fields[3]] = file{oid: fields[0], size: size, written: written}
		}
	}
}

func (b *Branch) writeIndex(files map[string]file) []byte {
	var out bytes.Buffer
	out.WriteString(indexHead + "\n")
	for _, path := range slices.Sorted(maps.Keys(files)) {
		name, ok := strings.CutPrefix(path, b.folder)
		if f := files[path]; ok && f.regular() && storage.CheckName(name) == nil {
			fmt.Fprintf(&out, "%s %d %d %s\n", f.oid, f.size, f.written, name)
		}
	}
	return out.Bytes()
}

func eachDir(path string, fn func(dir string)) {
	for i := range len(path) {
		if path[i] == '/' {
			fn(path[:i])
		}
	}
}

// view is a state with changes.
type view struct {
	under interface {
		get(path string) (file, bool)
		below(dir string) int
	}
	files map[string]*file // nil: removed
	dirs  map[string]int   // differences
}

func newView(under interface {
	get(path string) (file, bool)
	below(dir string) int
}) *view {
	return &view{under: under, files: map[string]*file{}, dirs: map[string]int{}}
}

func (s *state) get(path string) (file, bool) { f, ok := s.files[path]; return f, ok }
func (s *state) below(dir string) int         { return s.dirs[dir] }

func (v *view) get(path string) (file, bool) {
	if f, ok := v.files[path]; ok {
		if f == nil {
			return file{}, false
		}
		return *f, true
	}
	return v.under.get(path)
}

func (v *view) below(dir string) int { return v.under.below(dir) + v.dirs[dir] }

// set changes a file; nil removes it.
func (v *view) set(path string, f *file) {
	_, had := v.get(path)
	n := 0
	if had {
		n--
	}
	if f != nil {
		n++
	}
	v.files[path] = f
	if n != 0 {
		eachDir(path, func(dir string) { v.dirs[dir] += n })
	}
}

// op is a change with its condition.
type op struct {
	kind   opKind
	path   string
	file   file      // of create and replace
	old    string    // object of the content that replace expects; "": no file
	before time.Time // of remove
}

type opKind int

const (
	opCreate opKind = iota
	opReplace
	opRemove
)

var errOther = fmt.Errorf("%w: the file exists with other content", storage.ErrConflict)

// apply makes the change if its condition holds.
func (o op) apply(v *view, now time.Time) error {
	f, exists := v.get(o.path)
	if exists && !f.regular() {
		return notRegular(f)
	}
	switch o.kind {
	case opCreate:
		if exists && f.oid != o.file.oid {
			return errOther
		}
	case opReplace:
		if !exists && o.old != "" {
			return fmt.Errorf("%w: the file does not exist", storage.ErrConflict)
		}
		if exists && f.oid != o.old {
			return errOther
		}
	case opRemove:
		if !exists {
			return nil
		}
		written := time.Unix(0, f.written)
		if f.written == 0 {
			written = now
		}
		if !written.Before(o.before) {
			return fmt.Errorf("%w: written at %s", storage.ErrConflict, written.UTC().Format(time.RFC3339))
		}
		v.set(o.path, nil)
		return nil
	}
	if !exists {
		if v.below(o.path) > 0 {
			return errors.New("there is a folder of this name")
		}
		var err error
		eachDir(o.path, func(dir string) {
			if _, is := v.get(dir); is {
				err = fmt.Errorf("there is a file %s", text.Name(dir))
			}
		})
		if err != nil {
			return err
		}
	}
	v.set(o.path, &o.file)
	return nil
}

func notRegular(f file) error {
	kind := "no regular file"
	switch f.mode {
	case "120000":
		kind = "a symbolic link"
	case "160000":
		kind = "a submodule"
	}
	return fmt.Errorf("it is %s, which another program put into the branch: %w", kind, fs.ErrInvalid)
}

// notForGit reports whether git refuses to hold a name, on this system or another: names
// that HFS+ or NTFS take for ".git".
func notForGit(name string) bool {
	for _, e := range strings.Split(name, "/") {
		e = strings.ToLower(strings.Map(func(r rune) rune {
			switch {
			case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
				return -1 // HFS+ ignores these
			}
			return r
		}, e))
		if e == ".git" || e == "git~1" {
			return true
		}
	}
	return false
}
