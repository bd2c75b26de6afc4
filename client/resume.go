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

// claim is the right to go on with the part of a file, and to leave one. Claims
// lie in the state folder, in saves/NN.lock and saves/NN.json, NN being of a
// hash of the file's path: at most 256 of each, and where two files meet in one
// only the chance to go on is lost. The part's name is in there alone and is
// random: two clients that don't share a state folder, and so don't see each
// other's locks, never write to one part.
//
// The nil claim is that of who got none: what he gets is lost when he fails.
type claim struct {
	c      *Client
	root   *os.Root
	name   string // below saves
	unlock func()
	want   record
	have   record // what is on the disk
	lost   bool   // nothing can be written there
}

// record is what the next process has to know.
type record struct {
	File  string `json:"file"` // absolute
	Hash  string `json:"hash"` // of the target
	Part  string `json:"part"` // beside File
	Place string `json:"place,omitempty"`
	Tag   string `json:"tag,omitempty"` // for If-Range at that place
}

const maxRecord = 64 << 10

// claim returns nil where another Save of the file goes on, where the state is
// not in a folder, or nothing can be written there; and for what is small.
func (c *Client) claim(a tuf.Approved, file string) *claim {
	if c.dir == "" || a.Length() <= worthwhile {
		return nil
	}
	cl := &claim{c: c, name: hexSum([]byte(file))[:2], want: record{File: file, Hash: a.Hash()}}
	if err := cl.take(); err != nil {
		c.log.Warn("a download can't be resumed later", "error", err)
		return nil
	}
	if cl.unlock == nil {
		cl.root.Close()
		return nil
	}
	data, err := cl.read()
	if err == nil && json.Unmarshal(data, &cl.have) != nil {
		cl.have = record{}
	}
	return cl
}

func (cl *claim) take() (err error) {
	dir := cl.c.dir
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if cl.root, err = os.OpenRoot(dir); err != nil {
		return err
	}
	lock := "saves/" + cl.name + ".lock"
	if err = makeFolder(cl.root, "saves"); err == nil {
		if fi, err := cl.root.Lstat(lock); err == nil && !fi.Mode().IsRegular() {
			_ = cl.root.RemoveAll(lock) // nobody holds such a lock
		}
		cl.unlock, err = durable.TryLock(filepath.Join(dir, filepath.FromSlash(lock)))
	}
	if err != nil {
		cl.root.Close()
	}
	return err
}

func (cl *claim) file() string { return "saves/" + cl.name + ".json" }

func (cl *claim) read() ([]byte, error) {
	return readIn(cl.root, cl.file(), maxRecord)
}

func (cl *claim) write() error {
	if cl.have == cl.want {
		return nil
	}
	data, err := json.Marshal(cl.want)
	if err != nil {
		return err
	}
	if fi, err := cl.root.Lstat(cl.file()); err == nil && fi.IsDir() { // which no file replaces
		if err := cl.root.RemoveAll(cl.file()); err != nil {
			return err
		}
	}
	if err := durable.WriteFileIn(cl.root, cl.file(), data, 0o600); err != nil {
		return err
	}
	cl.have = cl.want
	return nil
}

// open returns the file's part, or begins one, and says how many bytes are in it.
func (cl *claim) open(file string) (*durable.File, int64, error) {
	if cl == nil {
		f, err := durable.Create(file)
		return f, 0, err
	}
	if cl.have.File == cl.want.File && cl.have.Hash == cl.want.Hash {
		f, size, err := durable.OpenPart(file, cl.have.Part)
		if err == nil {
			cl.want = cl.have
			return f, size, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			cl.c.log.Warn("a download begins anew", "file", file, "error", err)
		}
	} else if cl.have.File != "" {
		// Nobody will go on with that one.
		if err := durable.RemovePart(cl.have.File, cl.have.Part); err != nil {
			cl.c.log.Warn("a part of a download stays", "file", cl.have.File, "error", err)
		}
	}
	// Before there is such a file: who is killed from here on leaves nothing that
	// the next process does not find.
	cl.want.Part = durable.PartName()
	cl.note("", "")
	f, err := durable.CreatePart(file, cl.want.Part)
	return f, 0, err
}

// note remembers who gives, and from which version of his file.
func (cl *claim) note(place, tag string) {
	if cl == nil || cl.lost {
		return
	}
	cl.want.Place, cl.want.Tag = place, tag
	if err := cl.write(); err != nil {
		cl.c.log.Warn("a download can't be resumed later", "error", err)
		cl.lost = true
	}
}

// tag is that of the file at a place, where it gave the last bytes of the part.
func (cl *claim) tag(place string) string {
	if cl == nil || cl.have.Place != place {
		return ""
	}
	return cl.have.Tag
}

// end gives the claim back. Of f, unless it was committed, keep leaves what was
// got.
func (cl *claim) end(f *durable.File, keep bool) {
	keep = keep && cl != nil && !cl.lost && f.Keep() == nil
	if !keep && f != nil {
		f.Abort()
	}
	if cl == nil {
		return
	}
	if !keep {
		if err := cl.root.Remove(cl.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			cl.c.log.Warn("a record of a download stays", "error", err)
		}
	}
	cl.root.Close()
	cl.unlock()
}
