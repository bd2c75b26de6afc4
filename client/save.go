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

// partLifetime is how long an interrupted download can be resumed.
const partLifetime = 30 * 24 * time.Hour

// Save downloads an approved target to a file. It streams, so it needs little memory
// for any size. The file appears under its name only after length and hashes have been
// checked and the bytes are on the disk; until then, and after any error, the old file
// stays. Nothing is requested if the file is already correct. A zero Approved, or one
// of another repository, is refused.
//
// Locations are asked in turn; trust does not depend on the host. An interrupted
// transfer resumes on the same or the next mirror; see Config.Retries for retries. The
// partial file is kept next to the destination, with a name that begins with ".visum-".
// The next Save of the same target to the same file resumes it, also in a later
// process, for up to 30 days. That requires Config.Dir. Of several simultaneous Saves
// to one file only one resumes; the others start from the beginning.
//
// At most five redirects are followed, only to https, without cookies or client
// certificates, and only to hosts that are not retired or past their use_until. Only
// locations in a private, link-local or loopback network may redirect into one, by
// address or by name. Behind a proxy, which looks names up itself, and with a Transport
// in Config.HTTP that is not an *http.Transport, only an address in the URL can be
// checked. Such a Transport sees requests to other hosts with the Response field set,
// and must not authenticate them.
//
// The directory of the file must exist. A symbolic link is replaced, not followed; a
// directory or a device is not replaced. After a disk error nothing is kept, with one
// exception: if all bytes are correct and the file cannot be replaced because another
// process holds it open, the next Save finds the bytes and requests nothing.
//
// A correct file is replaced nevertheless if another user could change it later: if
// another user owns it, every user may write to it, or it has a second hard link. The
// new file has the permissions of the old one, or 0666 less the umask. It is never
// world-writable, and not group-writable if the old file belonged to another user. On
// Windows it inherits the permissions of the directory. If the system refuses to set
// permissions, they are 0600, or those that the file system gives to every file.
func (c *Client) Save(ctx context.Context, a tuf.Approved, file string) (err error) {
	if err := c.check(a); err != nil {
		return err
	}
	if err := replaceable(file); err != nil {
		return failure(err)
	}
	if file, err = filepath.Abs(file); err != nil {
		return failure(err)
	}
	if matches(ctx, a, file) {
		c.forget(a, file)
		if c.cfg.Progress != nil {
			c.cfg.Progress(Progress{Path: a.Path(), Done: a.Length(), Total: a.Length()})
		}
		return nil
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
	c.log.Info("saved", "path", a.Path(), "bytes", a.Length(), "location", location)
	return nil
}

// save returns the location that delivered the last bytes.
func (d *download) save(ctx context.Context, file string) (location string, err error) {
	claim := d.c.resumeLock(d.a, file)
	f, size, err := claim.open(file)
	if err != nil {
		claim.end(nil, false)
		return "", diskError{err}
	}
	d.part = newPart(d.a, f)
	// The part is kept for the next time, but not if the disk fails: it may be full. If
	// only the final rename failed, another process may hold the file for a moment.
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
		d.c.log.Warn("saved, but not all permissions could be set", "file", file, "error", err)
	}
	return location, nil
}

// ReadTarget downloads an approved target into memory, for small files such as notes and
// settings. If it has more than limit bytes, the error wraps tuf.ErrTooLarge, and
// nothing is requested. Otherwise it works like [Client.Save].
func (c *Client) ReadTarget(ctx context.Context, a tuf.Approved, limit int64) ([]byte, error) {
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

// check refuses targets that this client's repository has not approved.
func (c *Client) check(a tuf.Approved) error {
	if a.IsZero() {
		return failure(&tuf.Error{Role: "target", Err: tuf.ErrNotApproved, Detail: "zero Approved"})
	}
	want := c.repoID()
	if want == "" {
		// A repository without a charter has no identity. It gets one when its root
		// adopts a charter, which no later root can drop.
		if charter := c.newestRoot().Charter(); charter != nil {
			want = charter.RepoID()
		}
	}
	if a.RepoID() != want {
		return failure(&tuf.Error{Role: a.Path(), Err: tuf.ErrMismatch, Detail: fmt.Sprintf("approved by repository %s, this client follows %s", a.RepoID(), want)})
	}
	return nil
}

// clean removes files that killed processes left in a directory long ago. Files still
// in use are younger.
func (c *Client) clean(dir string) {
	err := durable.RemoveTemp(dir, time.Now().Add(-24*time.Hour))
	if err == nil {
		err = durable.RemoveParts(dir, time.Now().Add(-partLifetime))
	}
	if err != nil {
		c.log.Warn("could not remove temporary files", "error", err)
	}
}

// replaceable returns an error, before a download, if file cannot be replaced.
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
