package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// partsLast is how long an interrupted download can be gone on with.
const partsLast = 30 * 24 * time.Hour

// Save downloads an approved target to a file. It streams: memory stays small
// whatever the size. The bytes get the name only after length and hashes are
// right and they are on the disk; until then, and after any error, what was
// there before stays. Where the file is right already nothing is requested. A
// zero Approved, or one of another repository, is refused.
//
// Places are asked in turn; the host never matters. Where one breaks off it is
// asked for the rest, or the next one is, so that nothing is fetched twice; see
// Config.Retries for when nobody answers. What was got lies beside the file,
// under a name that begins with ".visum-", for the next Save of the same target
// to the same file to go on with, in this process or a later one, up to 30 days.
// That takes a Config.Dir; of several Saves to one file at the same time only
// one goes on with it, the others begin anew.
//
// Redirects are followed, at most five, over https, without cookies or client
// certificates, and only as long as the hosts that they name are not retired or past
// their use_until. To an address that is private, link-local or loopback, or a name
// that leads to one, they are followed from locations in such a network only. Behind a
// proxy, which looks names up itself, and with a Transport in Config.HTTP that is no
// *http.Transport, what a name leads to is not known here, only what the URL says.
// Such a Transport sees requests to other hosts with the Response field set, and must
// not sign in there.
//
// The folder must exist. A symbolic link is replaced, not followed; a folder or
// a device is not replaced. An error of the disk ends Save, and leaves nothing. Only
// where all was downloaded and the file could not be replaced in the end, because
// another process held it, the next Save finds the bytes and requests nothing.
//
// A file that is right already is replaced all the same where another user could
// change it later: where another user owns it, everybody may write to it, or it
// has a second hard link. The new file has the permissions of the file that it
// replaces, or else those that the umask leaves of 0666, and is never writable by
// everybody, nor by the group because a file of another user was; on Windows it
// inherits those of the folder. Where the system refuses to set permissions it has
// 0600, or what the file system gives to every file.
func (c *Client) Save(ctx context.Context, a tuf.Approved, file string) (err error) {
	if err := c.check(a); err != nil {
		return err
	}
	if err := replaceable(file); err != nil {
		return failure(err)
	}
	if matches(ctx, a, file) {
		if c.cfg.Progress != nil {
			c.cfg.Progress(Progress{Path: a.Path(), Done: a.Length(), Total: a.Length()})
		}
		return nil
	}
	if file, err = filepath.Abs(file); err != nil {
		return failure(err)
	}
	c.clean(filepath.Dir(file))
	defer c.closeIdle()
	d := c.download(a)
	location, err := d.save(ctx, file)
	switch {
	case ctx.Err() != nil && err != nil:
		return failure(fmt.Errorf("%s: %w", text.Name(a.Path()), ctx.Err()))
	case err != nil:
		return failure(err)
	}
	d.tell(location, true)
	c.log.Info("saved", "path", a.Path(), "bytes", a.Length(), "place", location)
	return nil
}

// save returns the place that gave the last bytes.
func (d *download) save(ctx context.Context, file string) (location string, err error) {
	claim := d.c.resumeLock(d.a, file)
	f, size, err := claim.open(file)
	if err != nil {
		claim.end(nil, false)
		return "", diskError{err}
	}
	d.part = newPart(d.a, f)
	// What there is stays for the next time, but not on a disk that is full. When all of
	// it was right, and only the name could not be taken, it may be held for a moment.
	held := false
	defer func() {
		_, disk := errors.AsType[diskError](err)
		claim.end(f, err != nil && (held || !disk && max(size, d.part.size()) > 0))
	}()
	d.note = func(s *mirror) {
		location = s.name
		claim.note(s.key, s.tag)
	}
	d.fresh = func() (partFile, func(), error) {
		f, err := durable.Create(file)
		return f, f.Abort, err
	}
	if err := d.part.reopen(ctx, size); err != nil {
		return "", err
	}
	size = 0
	for _, s := range d.mirrors {
		s.tag = claim.tag(s.key)
	}
	d.tell("", true)
	if err := d.run(ctx); err != nil {
		return "", err
	}
	winner := d.part.partFile.(*durable.File)
	winner.KeepPerm()
	if err := winner.Commit(); err != nil {
		held = winner == f
		return "", diskError{err}
	}
	if err := winner.Skipped(); err != nil {
		d.c.log.Warn("saved, but not all was granted", "file", file, "error", err)
	}
	return location, nil
}

// Bytes downloads an approved target into memory, for files that are read at
// once: notes, settings. Where it has more than limit bytes the error wraps
// tuf.ErrTooLarge, and nothing is requested. Otherwise it is like [Client.Save].
func (c *Client) Bytes(ctx context.Context, a tuf.Approved, limit int64) ([]byte, error) {
	if err := c.check(a); err != nil {
		return nil, err
	}
	if a.Length() > limit {
		return nil, failure(&tuf.Error{Role: a.Path(), Err: tuf.ErrTooLarge, Detail: fmt.Sprintf("%d bytes, the limit is %d", a.Length(), limit)})
	}
	defer c.closeIdle()
	d := c.download(a)
	d.fresh = func() (partFile, func(), error) { return &inMemory{}, func() {}, nil }
	d.part = newPart(a, &inMemory{})
	if err := d.run(ctx); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%s: %w", text.Name(a.Path()), ctx.Err())
		}
		return nil, failure(err)
	}
	return d.part.partFile.(*inMemory).data, nil
}

// check refuses what this client's repository has not approved.
func (c *Client) check(a tuf.Approved) error {
	if a.IsZero() {
		return failure(&tuf.Error{Role: "target", Err: tuf.ErrNotApproved, Detail: "zero Approved"})
	}
	want := c.repoID()
	if want == "" {
		// A plain repository has no identity until its root adopts a charter, which no
		// later root can drop: from then on it is that of the root that is followed.
		if charter := c.newestRoot().Charter(); charter != nil {
			want = charter.RepoID()
		}
	}
	if a.RepoID() != want {
		return failure(&tuf.Error{Role: a.Path(), Err: tuf.ErrMismatch, Detail: fmt.Sprintf("approved by repository %s, this client follows %s", a.RepoID(), want)})
	}
	return nil
}

// clean removes what killed processes left in a folder long ago, which takes
// room. What is still written to is younger.
func (c *Client) clean(dir string) {
	err := durable.RemoveTemp(dir, time.Now().Add(-24*time.Hour))
	if err == nil {
		err = durable.RemoveParts(dir, time.Now().Add(-partsLast))
	}
	if err != nil {
		c.log.Warn("leftovers stay", "error", err)
	}
}

// replaceable says before a download what can't be replaced after it.
func replaceable(file string) error {
	fi, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && file != "" && !os.IsPathSeparator(file[len(file)-1]):
		return nil
	case err != nil:
		return err
	case fi.Mode().IsRegular() || fi.Mode()&fs.ModeSymlink != 0:
		return nil
	}
	return &fs.PathError{Op: "save", Path: file, Err: fmt.Errorf("%w: not a regular file", fs.ErrInvalid)}
}
