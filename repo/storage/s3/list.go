package s3

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/visum-dev/visum/repo/storage"
)

const (
	maxPages = 1_000_000 // of a listing
	// marks is the folder of the marks that Remove sets.
	marks = ".visum/removing/"
	// A mark lasts so long. The request that removes the file is sent within markUse of
	// setting the mark, and the store refuses its signature after 15 minutes.
	markAge = 30 * time.Minute
	markUse = 5 * time.Minute
)

// Open implements [storage.Source]. The file also implements Stat and [io.Seeker]. Opening
// it takes one request; a read at another position than the end of the last one takes one
// more, for the rest of the same object: if it was replaced, the error wraps
// [storage.ErrConflict]. After an error during a read the caller may open the file again.
func (b *Bucket) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := b.check(ctx, "open", name, false); err != nil {
		return nil, err
	}
	o, err := b.open(ctx, name)
	if err != nil {
		return nil, failed("open", name, err)
	}
	return &file{b: b, ctx: ctx, o: o, info: o.info, name: name}, nil
}

type file struct {
	b    *Bucket
	ctx  context.Context // of Open
	o    *object         // nil: none is open
	info info
	name string
	at   int64 // position of o
	next int64 // position of the next read
}

func (f *file) Read(p []byte) (int, error) {
	if f.next >= f.info.size && (f.o == nil || f.at != f.next) {
		return 0, io.EOF
	}
	if f.o == nil || f.at != f.next {
		f.Close()
		o, err := f.b.openRange(f.ctx, f.name, f.next, f.info)
		if err != nil {
			return 0, failed("read", f.name, err)
		}
		f.o, f.at = o, f.next
	}
	n, err := f.o.Read(p)
	f.at += int64(n)
	f.next = f.at
	if err != nil && err != io.EOF {
		err = failed("read", f.name, err)
	}
	return n, err
}

// Seek sends no request.
func (f *file) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.next
	case io.SeekEnd:
		offset += f.info.size
	case io.SeekStart:
	default:
		return 0, failed("seek", f.name, fs.ErrInvalid)
	}
	if offset < 0 {
		return 0, failed("seek", f.name, fs.ErrInvalid)
	}
	f.next = offset
	return offset, nil
}

func (f *file) Close() error {
	if f.o != nil {
		f.o.Close() // the content was read, or is not wanted
		f.o = nil
	}
	return nil
}

func (f *file) Stat() (fs.FileInfo, error) { return fileInfo{f.name, f.info}, nil }

type fileInfo struct {
	name string
	info info
}

func (i fileInfo) Name() string       { return path.Base(i.name) }
func (i fileInfo) Size() int64        { return i.info.size }
func (i fileInfo) Mode() fs.FileMode  { return 0o444 }
func (i fileInfo) ModTime() time.Time { return i.info.written }
func (i fileInfo) IsDir() bool        { return false }
func (i fileInfo) Sys() any           { return nil }

// List implements [storage.Lister]. One request yields up to 1000 files. Times have the
// store's precision, on S3 a second.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	return func(yield func(storage.FileInfo, error) bool) {
		for o, err := range b.list(ctx, prefix) {
			if err != nil {
				yield(storage.FileInfo{}, failed("list", prefix, err))
				return
			}
			if storage.CheckName(o.Name) == nil && !yield(o, nil) {
				return
			}
		}
	}
}

// list yields all objects below the prefix of the bucket.
func (b *Bucket) list(ctx context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	return func(yield func(storage.FileInfo, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: aws.String(b.prefix + prefix), MaxKeys: &b.pages, EncodingType: types.EncodingTypeUrl}
		last := ""
		for range maxPages {
			var out *s3.ListObjectsV2Output
			_, err := b.do(ctx, 0, func(ctx context.Context) (err error) {
				out, err = b.client.ListObjectsV2(ctx, in)
				return err
			})
			if err != nil {
				yield(storage.FileInfo{}, err)
				return
			}
			for _, o := range out.Contents {
				key := aws.ToString(o.Key)
				if out.EncodingType == types.EncodingTypeUrl {
					if key, err = url.QueryUnescape(key); err != nil {
						yield(storage.FileInfo{}, errors.New("the listing has a malformed key"))
						return
					}
				}
				// Keys are sorted, so a repeated page is noticed.
				name, below := strings.CutPrefix(key, b.prefix)
				if !below || !strings.HasPrefix(name, prefix) || key <= last {
					yield(storage.FileInfo{}, errors.New("the listing has keys out of order or outside of the prefix"))
					return
				}
				last = key
				if !yield(storage.FileInfo{Name: name, Size: aws.ToInt64(o.Size), Written: aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			next := aws.ToString(out.NextContinuationToken)
			if next == "" || next == aws.ToString(in.ContinuationToken) {
				yield(storage.FileInfo{}, errors.New("the listing has a page without a next one"))
				return
			}
			in.ContinuationToken = &next
		}
		yield(storage.FileInfo{}, fmt.Errorf("the listing has more than %d pages", maxPages))
	}
}

// Remove implements [storage.Remover]. It takes four requests. Since most stores date an
// object in whole seconds, a file counts as written at the end of the second.
func (b *Bucket) Remove(ctx context.Context, name string, before time.Time) error {
	if err := b.check(ctx, "remove", name, true); err != nil {
		return err
	}
	if err := b.remove(ctx, name, before); err != nil {
		return failed("remove", name, err)
	}
	return nil
}

func markOf(name string) string { return fmt.Sprintf("%s%x", marks, sha256.Sum256([]byte(name))) }

func (b *Bucket) remove(ctx context.Context, name string, before time.Time) error {
	// Most files that Prune asks for are old, so the mark is set without looking first.
	mark := markOf(name)
	begin := time.Now().Round(0) // the wall clock, which signatures use
	if err := b.setMark(ctx, mark); err != nil {
		return err
	}
	known, err := b.removeMarked(ctx, name, before, begin)
	if known {
		// A mark that stays costs the next Create of the file an ErrConflict, until it is
		// too old. Another process takes over older marks only, so this one is ours.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		_, _ = b.do(ctx, 0, func(ctx context.Context) error {
			_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.bucket, Key: b.key(mark)})
			return err
		})
	}
	return err
}

func (b *Bucket) setMark(ctx context.Context, mark string) error {
	err := b.put(ctx, mark, bytesContent(nil), ifAbsent)
	if !errors.Is(err, errLost) {
		return err
	}
	at, err := b.stat(ctx, mark)
	if err == nil && at.asked.Sub(at.written) > markAge {
		err = b.put(ctx, mark, bytesContent([]byte(newNonce())), condition{at.etag}) // other bytes, so one process takes it over
		if err == nil {
			return nil
		}
	}
	if err == nil || errors.Is(err, errLost) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: another process removes the file", storage.ErrConflict)
	}
	return err
}

// removeMarked removes a file under a mark. known is false if a request without an answer
// may still remove the file.
func (b *Bucket) removeMarked(ctx context.Context, name string, before, begin time.Time) (known bool, err error) {
	known = true
	wait := firstWait
	for attempt := 1; ; attempt++ {
		// Looked at before each attempt: an earlier one may have removed the file, and a
		// Create may have made it again.
		at, err := b.stat(ctx, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return known, nil
		case err != nil:
			return known, err
		case at.written.Truncate(time.Second).Add(time.Second).After(before):
			return known, fmt.Errorf("%w: written at %s", storage.ErrConflict, at.written.UTC().Format(time.RFC3339))
		}
		if used := time.Now().Round(0).Sub(begin); used < 0 || used > markUse {
			return false, errors.New("the removal took too long") // the mark may be that of another process by now
		}
		err = b.delete(ctx, name, at.etag)
		var remote *remoteError
		switch {
		case err == nil || absent(err):
			return known, nil
		case lost(err, condition{at.etag}):
			return known, storage.ErrConflict
		case ctx.Err() != nil:
			return false, ctx.Err()
		case !errors.As(err, &remote):
			return known, err
		}
		known = known && !remote.unknown()
		if attempt == maxAttempts || !remote.temporary() {
			return known, err
		}
		if err := sleep(ctx, wait); err != nil {
			return known, err
		}
		wait = min(2*wait, longestWait)
	}
}

// delete removes an object in one attempt, if it has the ETag.
func (b *Bucket) delete(ctx context.Context, name, etag string) error {
	in := &s3.DeleteObjectInput{Bucket: &b.bucket, Key: b.key(name)}
	if !b.opt.UnsafeNoConditions {
		in.IfMatch = &etag
	}
	send := func(ctx context.Context) error {
		_, err := b.client.DeleteObject(ctx, in)
		return err
	}
	err := b.try(ctx, 0, send)
	if answered(err, http.StatusNotImplemented) {
		in.IfMatch = nil // a store without this condition: see the package comment
		err = b.try(ctx, 0, send)
	}
	return err
}

// unmarked returns ErrConflict if a process is removing the file.
func (b *Bucket) unmarked(ctx context.Context, name string) error {
	at, err := b.stat(ctx, markOf(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && at.asked.Sub(at.written) <= markAge {
		err = fmt.Errorf("%w: another process removes the file", storage.ErrConflict)
	}
	return err
}

// Clean removes what processes left that died: multipart uploads that began before the
// time before, and marks of Remove that no call respects any more. The time is that of
// the store's clock, and must be before the begin of every upload that still runs; a week
// ago is safe. Clean returns the number of removed uploads, also with an error. It needs
// no other call to be made regularly if the bucket has the lifecycle rule of the package
// comment.
func (b *Bucket) Clean(ctx context.Context, before time.Time) (uploads int, err error) {
	if b.opt.ReadOnly {
		return 0, fmt.Errorf("s3: %s: clean: %w", b.bucket, errReadOnly)
	}
	if uploads, err = b.cleanUploads(ctx, before); err == nil {
		err = b.cleanMarks(ctx, before)
	}
	if err != nil {
		err = fmt.Errorf("s3: %s: clean: %w", b.bucket, err)
	}
	return uploads, err
}

func (b *Bucket) cleanUploads(ctx context.Context, before time.Time) (n int, err error) {
	in := &s3.ListMultipartUploadsInput{Bucket: &b.bucket, Prefix: &b.prefix}
	for range maxPages {
		var out *s3.ListMultipartUploadsOutput
		_, err := b.do(ctx, 0, func(ctx context.Context) (err error) {
			out, err = b.client.ListMultipartUploads(ctx, in)
			return err
		})
		if answered(err, http.StatusNotFound, "NoSuchUpload") {
			return n, nil // some stores answer so if there are none
		}
		if err != nil {
			return n, err
		}
		for _, u := range out.Uploads {
			if key := aws.ToString(u.Key); strings.HasPrefix(key, b.prefix) && u.Initiated != nil && u.Initiated.Before(before) {
				if err := b.abort(ctx, key, aws.ToString(u.UploadId)); err != nil {
					return n, err
				}
				n++
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return n, nil
		}
		if out.NextKeyMarker == nil || aws.ToString(out.NextKeyMarker) == aws.ToString(in.KeyMarker) && aws.ToString(out.NextUploadIdMarker) == aws.ToString(in.UploadIdMarker) {
			return n, errors.New("the listing of uploads has a page without a next one")
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
	return n, fmt.Errorf("the listing of uploads has more than %d pages", maxPages)
}

func (b *Bucket) cleanMarks(ctx context.Context, before time.Time) error {
	for o, err := range b.list(ctx, marks) {
		if err != nil {
			return err
		}
		at, err := b.stat(ctx, o.Name)
		if err == nil && at.written.Before(before) && at.asked.Sub(at.written) > markAge {
			err = b.delete(ctx, o.Name, at.etag)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !lost(err, condition{at.etag}) {
			return err
		}
	}
	return nil
}
