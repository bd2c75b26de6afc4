package client

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/tuf"
)

// resumeLock is the exclusive right to resume the part of a file, and to leave one. The
// locks and records are in the state directory, in saves/NN.lock and saves/NN.json,
// where NN is from a hash of the file's path: at most 256 of each, and if two files
// share one, only one of them can be resumed. The part's name is random and stored only
// there. So two clients that do not share a state directory, and do not see each
// other's locks, never write to the same part.
//
// A nil resumeLock means that no lock was obtained; the download is not resumable.
type resumeLock struct {
	c      *Client
	root   *os.Root
	name   string // below saves
	unlock func()
	want   record
	have   record // on the disk
	lost   bool   // records cannot be written
}

// record is what the next process needs to resume a download.
type record struct {
	File     string `json:"file"` // absolute
	Hash     string `json:"hash"` // of the target
	Part     string `json:"part"` // next to File
	Location string `json:"place,omitempty"`
	Tag      string `json:"tag,omitempty"` // for If-Range at that location
}

const maxRecord = 64 << 10

// resumeLock returns nil if another Save of the file holds the lock, if the state is
// not in a directory or cannot be written, and for small targets.
func (c *Client) resumeLock(a tuf.Approved, file string) *resumeLock {
	if c.dir == "" || a.Length() <= minProgress {
		return nil
	}
	l := &resumeLock{c: c, name: slot(file), want: record{File: file, Hash: a.Hash()}}
	if err := l.take(); err != nil {
		c.log.Warn("an interruption of this download could not be resumed", "error", err)
		return nil
	}
	if l.unlock == nil {
		l.root.Close()
		return nil
	}
	data, err := l.read()
	if err == nil && json.Unmarshal(data, &l.have) != nil {
		l.have = record{}
	}
	return l
}

// forget removes the part and the record of an interrupted download of a file that has
// its content by now: another process saved it, or one was killed between the commit and
// the removal of its record.
func (c *Client) forget(a tuf.Approved, file string) {
	if c.dir == "" {
		return
	}
	if _, err := os.Lstat(filepath.Join(c.dir, "saves", slot(file)+".json")); err != nil {
		return
	}
	l := c.resumeLock(a, file)
	if l == nil {
		return
	}
	if l.have.File != file {
		l.root.Close()
		l.unlock()
		return
	}
	if err := durable.RemovePart(file, l.have.Part); err != nil {
		c.log.Warn("could not remove a partial file", "file", file, "error", err)
	}
	l.end(nil, false)
}

// slot is NN of the records and locks of a file.
func slot(file string) string { return hexSum([]byte(file))[:2] }

func (l *resumeLock) take() (err error) {
	dir := l.c.dir
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if l.root, err = os.OpenRoot(dir); err != nil {
		return err
	}
	lock := "saves/" + l.name + ".lock"
	if err = makeFolder(l.root, "saves"); err == nil {
		if fi, err := l.root.Lstat(lock); err == nil && !fi.Mode().IsRegular() {
			_ = l.root.RemoveAll(lock) // no process holds such a lock
		}
		l.unlock, err = durable.TryLock(filepath.Join(dir, filepath.FromSlash(lock)))
	}
	if err != nil {
		l.root.Close()
	}
	return err
}

func (l *resumeLock) file() string { return "saves/" + l.name + ".json" }

func (l *resumeLock) read() ([]byte, error) {
	return readIn(l.root, l.file(), maxRecord)
}

func (l *resumeLock) write() error {
	if l.have == l.want {
		return nil
	}
	data, err := json.Marshal(l.want)
	if err != nil {
		return err
	}
	if fi, err := l.root.Lstat(l.file()); err == nil && fi.IsDir() { // a file cannot replace a directory
		if err := l.root.RemoveAll(l.file()); err != nil {
			return err
		}
	}
	if err := durable.WriteFileIn(l.root, l.file(), data, 0o600); err != nil {
		return err
	}
	l.have = l.want
	return nil
}

// open returns the file's part, or creates one, and the number of bytes in it.
func (l *resumeLock) open(file string) (*durable.File, int64, error) {
	if l == nil {
		f, err := durable.Create(file)
		return f, 0, err
	}
	if l.have.File == l.want.File && l.have.Hash == l.want.Hash {
		f, size, err := durable.OpenPart(file, l.have.Part)
		if err == nil {
			l.want = l.have
			return f, size, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			l.c.log.Warn("download starts from the beginning", "file", file, "error", err)
		}
	} else if l.have.File != "" {
		// That download will not be resumed.
		if err := durable.RemovePart(l.have.File, l.have.Part); err != nil {
			l.c.log.Warn("could not remove a partial file", "file", l.have.File, "error", err)
		}
	}
	// Before the part exists, so that a process killed from here on leaves no part that
	// the next process does not find.
	l.want.Part = durable.PartName()
	l.note("", "")
	f, err := durable.CreatePart(file, l.want.Part)
	return f, 0, err
}

// note records which location delivers, and the tag of its file.
func (l *resumeLock) note(location, tag string) {
	if l == nil || l.lost {
		return
	}
	l.want.Location, l.want.Tag = location, tag
	if err := l.write(); err != nil {
		l.c.log.Warn("an interruption of this download could not be resumed", "error", err)
		l.lost = true
	}
}

// tag returns the tag of the file at a location, if that delivered the end of the part.
func (l *resumeLock) tag(location string) string {
	if l == nil || l.have.Location != location {
		return ""
	}
	return l.have.Tag
}

// end releases the lock. keep preserves the part for later, unless f was committed.
func (l *resumeLock) end(f *durable.File, keep bool) {
	keep = keep && l != nil && !l.lost && f.Keep() == nil
	if !keep && f != nil {
		f.Abort()
	}
	if l == nil {
		return
	}
	if !keep {
		if err := l.root.Remove(l.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.c.log.Warn("could not remove the record of a download", "error", err)
		}
	}
	l.root.Close()
	l.unlock()
}
