package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

const (
	// MaxSize is the size limit of a file in bytes: 5 GiB, the limit of one PutObject.
	MaxSize = 5 << 30

	maxKey    = 1024 // bytes, of S3
	partSize  = 8 << 20
	maxRounds = 8 // of a Create whose file other publishers write at the same time
	nonceName = "visum-write"
)

var errReadOnly = fmt.Errorf("the bucket is opened for reading: %w", errors.ErrUnsupported)

// The same values as those of mirror.Handler, which a test compares.
const (
	cacheShort   = "public, max-age=60, no-transform"
	cacheForEver = "public, max-age=31536000, immutable, no-transform"
)

// headers returns Cache-Control and Content-Type of a file.
func headers(name string) (cache, kind string) {
	switch role, _ := layout.SplitRoleName(name); {
	case strings.HasPrefix(name, "targets/"):
		return cacheForEver, "application/octet-stream"
	case !strings.HasPrefix(name, "metadata/"):
		return cacheShort, "application/octet-stream"
	case role == "":
		return cacheShort, "application/json"
	}
	return cacheForEver, "application/json"
}

// condition is that of a write: there must be no object, or the object with an ETag.
type condition struct{ etag string }

var ifAbsent = condition{}

func (c condition) headers() (ifNoneMatch, ifMatch *string) {
	if c == ifAbsent {
		return aws.String("*"), nil
	}
	return nil, &c.etag
}

// info describes an object.
type info struct {
	etag    string
	size    int64
	written time.Time // of the store's clock, in whole seconds on most stores
	asked   time.Time // when the answer was made, of the store's clock; zero if unknown
	nonce   string    // of its last write; "" if another program wrote it
}

// content is what a write sends.
type content struct {
	r    io.ReaderAt
	size int64
	sum  [sha256.Size]byte
	tell bool // reports how much was sent to storage.ProgressOf
}

func sumOf(data []byte) [sha256.Size]byte { return sha256.Sum256(data) }

func bytesContent(data []byte) content {
	return content{r: bytes.NewReader(data), size: int64(len(data)), sum: sumOf(data)}
}

func encodeSum(sum [sha256.Size]byte) *string {
	return aws.String(base64.StdEncoding.EncodeToString(sum[:]))
}

func newNonce() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func failed(op, name string, err error) error {
	err = fmt.Errorf("s3: %s: %s: %w", text.Name(name), op, err)
	text.OneLine(&err)
	return err
}

// check checks a call before its first request.
func (b *Bucket) check(ctx context.Context, op, name string, write bool) error {
	if err := storage.CheckName(name); err != nil {
		return err
	}
	if len(b.prefix)+len(name) > maxKey {
		return failed(op, name, fmt.Errorf("the key is longer than %d bytes: %w", maxKey, fs.ErrInvalid))
	}
	if write && b.opt.ReadOnly {
		return failed(op, name, errReadOnly)
	}
	if err := ctx.Err(); err != nil {
		return failed(op, name, err)
	}
	return nil
}

func (b *Bucket) key(name string) *string { return aws.String(b.prefix + name) }

// Read implements [storage.Storage].
func (b *Bucket) Read(ctx context.Context, name string) ([]byte, error) {
	if err := b.check(ctx, "read", name, false); err != nil {
		return nil, err
	}
	data, at, err := b.read(ctx, name, storage.MaxRead)
	if err != nil {
		return nil, failed("read", name, err)
	}
	b.remember(name, data, at.etag)
	return data, nil
}

// read reads an object of at most limit bytes.
func (b *Bucket) read(ctx context.Context, name string, limit int64) (data []byte, at info, err error) {
	_, err = b.do(ctx, 0, func(context.Context) error { // the object limits its own time
		o, err := b.get(ctx, name)
		if err != nil {
			return err
		}
		defer o.Close()
		at = o.info
		if at.size > limit {
			return nil
		}
		data, err = io.ReadAll(io.LimitReader(o, limit+1))
		return err
	})
	if err == nil && (at.size > limit || int64(len(data)) > limit) {
		err = fmt.Errorf("%w: more than %d bytes", tuf.ErrTooLarge, limit)
	}
	if err != nil {
		return nil, at, notExist(err)
	}
	return data, at, nil
}

// notExist adds fs.ErrNotExist to the answer that proves the absence.
func notExist(err error) error {
	if absent(err) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// openRange opens the rest of an object, from a position on.
func (b *Bucket) openRange(ctx context.Context, name string, from int64, want info) (o *object, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	_, err = b.do(ctx, 0, func(context.Context) error {
		o, err = b.getFrom(ctx, name, aws.String(fmt.Sprintf("bytes=%d-", from)), &want.etag)
		return err
	})
	switch {
	case answered(err, http.StatusPreconditionFailed) || err == nil && (o.info.etag != want.etag || o.info.size != want.size-from):
		if err == nil {
			o.Close()
		}
		return nil, fmt.Errorf("%w: the file was replaced during the read", storage.ErrConflict)
	case err != nil:
		return nil, notExist(err)
	}
	return o, nil
}

// get sends one request for an object.
func (b *Bucket) get(ctx context.Context, name string) (*object, error) {
	return b.getFrom(ctx, name, nil, nil)
}

// getFrom is get for a part of an object with an ETag.
func (b *Bucket) getFrom(ctx context.Context, name string, part, etag *string) (*object, error) {
	o := &object{ctx: ctx}
	o.stall, o.cancel = context.WithCancelCause(ctx)
	cancel := o.cancel
	o.watch = time.AfterFunc(attemptTime, func() { cancel(errStalled) })
	out, err := b.client.GetObject(o.stall, &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(name), Range: part, IfMatch: etag})
	o.watch.Stop()
	if err != nil {
		if ctx.Err() == nil && context.Cause(o.stall) == errStalled {
			err = timedOut
		}
		o.cancel(nil)
		return nil, explain(err)
	}
	o.body = out.Body
	o.info = info{etag: aws.ToString(out.ETag), size: aws.ToInt64(out.ContentLength), written: aws.ToTime(out.LastModified), nonce: nonceOf(out.Metadata)}
	o.info.asked, _ = awsmiddleware.GetServerTime(out.ResultMetadata)
	if out.ContentLength == nil || o.info.etag == "" || out.LastModified == nil {
		o.Close()
		return nil, errors.New("the answer has no size, no ETag or no date")
	}
	return o, nil
}

func nonceOf(metadata map[string]string) string {
	for key, v := range metadata {
		if strings.EqualFold(key, nonceName) {
			return v
		}
	}
	return ""
}

// open opens an object.
func (b *Bucket) open(ctx context.Context, name string) (o *object, err error) {
	_, err = b.do(ctx, 0, func(context.Context) error { // the object outlives the attempt
		o, err = b.get(ctx, name)
		return err
	})
	if err != nil {
		return nil, notExist(err)
	}
	return o, nil
}

// stat reads what is known of an object. Only GetObject tells a missing object from a
// missing bucket.
func (b *Bucket) stat(ctx context.Context, name string) (info, error) {
	o, err := b.open(ctx, name)
	if err != nil {
		return info{}, err
	}
	o.Close()
	return o.info, nil
}

// lastRead is what the last Read of a file returned.
type lastRead struct {
	sum  [sha256.Size]byte
	etag string
}

// remember keeps the ETag of a file that Replace may replace, for at most maxRemembered
// files.
func (b *Bucket) remember(name string, data []byte, etag string) {
	if role, _ := layout.SplitRoleName(name); role != "" || strings.HasPrefix(name, "targets/") {
		return // it never changes
	}
	b.readMu.Lock()
	defer b.readMu.Unlock()
	if len(b.lastReads) >= maxRemembered || b.lastReads == nil {
		b.lastReads = map[string]lastRead{}
	}
	b.lastReads[name] = lastRead{sumOf(data), etag}
}

// remembered returns the ETag with which data was read, and forgets it; "" for none.
func (b *Bucket) remembered(name string, data []byte) string {
	b.readMu.Lock()
	defer b.readMu.Unlock()
	last, ok := b.lastReads[name]
	delete(b.lastReads, name)
	if !ok || last.sum != sumOf(data) {
		return ""
	}
	return last.etag
}

const maxRemembered = 64

// Replace implements [storage.Storage]. It takes one write, and one read before it unless
// old is nil, or this handle has read old since its last Replace of the file.
func (b *Bucket) Replace(ctx context.Context, name string, old, new []byte) error {
	if err := b.check(ctx, "replace", name, true); err != nil {
		return err
	}
	if len(new) > storage.MaxRead {
		return failed("replace", name, fmt.Errorf("%w: more than %d bytes", tuf.ErrTooLarge, storage.MaxRead))
	}
	if err := b.replace(ctx, name, old, new); err != nil {
		return failed("replace", name, err)
	}
	return nil
}

func (b *Bucket) replace(ctx context.Context, name string, old, new []byte) error {
	c := ifAbsent
	if old != nil {
		if etag := b.remembered(name, old); etag != "" {
			// If the object was replaced since, it may still have the content old.
			if err := b.put(ctx, name, bytesContent(bytes.Clone(new)), condition{etag}); !errors.Is(err, errLost) {
				return err
			}
		}
		now, at, err := b.read(ctx, name, int64(len(old)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: the file does not exist any more", storage.ErrConflict)
		case errors.Is(err, tuf.ErrTooLarge):
			return storage.ErrConflict
		case err != nil:
			return err
		case !bytes.Equal(now, old):
			return storage.ErrConflict
		}
		c.etag = at.etag
	}
	return b.put(ctx, name, bytesContent(bytes.Clone(new)), c) // see put: the caller may change its slice
}

// put writes an object in one request. The error is errLost if the condition did not
// hold and the call changed nothing.
func (b *Bucket) put(ctx context.Context, name string, data content, c condition) error {
	cache, kind := headers(name)
	nonce := newNonce()
	in := &s3.PutObjectInput{Bucket: &b.bucket, Key: b.key(name), ContentLength: &data.size, ChecksumSHA256: encodeSum(data.sum),
		CacheControl: &cache, ContentType: &kind, Metadata: map[string]string{nonceName: nonce}}
	if b.opt.UnsafeNoConditions {
		if err := b.holds(ctx, name, c); err != nil {
			return err
		}
	} else {
		in.IfNoneMatch, in.IfMatch = c.headers()
	}
	unknown, err := b.do(ctx, data.size, func(ctx context.Context) error {
		// The HTTP client may still read the body of an attempt that has ended.
		body := io.NewSectionReader(data.r, 0, data.size)
		tell := storage.ProgressOf(ctx)
		if !data.tell || tell == nil {
			in.Body = body
			_, err := b.client.PutObject(ctx, in)
			return err
		}
		return telling(func(n int64) { tell(storage.Progress{Path: name, Done: n, Total: data.size}) }, func(told chan<- int64, end <-chan struct{}) error {
			in.Body = &toldReader{body, told, end}
			_, err := b.client.PutObject(ctx, in)
			return err
		})
	})
	return b.settle(ctx, name, nonce, c, unknown, err)
}

// settle returns the result of a conditional write. If an attempt had no answer, a later
// one fails because of its effect; then the nonce of the object shows who wrote it.
func (b *Bucket) settle(ctx context.Context, name, nonce string, c condition, unknown bool, err error) error {
	if err == nil || !lost(err, c) {
		return err
	}
	if !unknown {
		return errLost
	}
	now, look := b.stat(ctx, name)
	switch {
	case look == nil && now.nonce == nonce:
		return nil
	case look == nil && c != ifAbsent && now.etag == c.etag:
		return errLost // still the former object
	}
	return fmt.Errorf("the answer to an attempt was lost and the file has been written since, so it is unknown whether the call took effect: %w", hideConflict{err})
}

// hideConflict: an unknown result is not a conflict, which promises that nothing changed.
type hideConflict struct{ err error }

func (e hideConflict) Error() string { return e.err.Error() }

// holds checks a condition for a store that does not. See Options.UnsafeNoConditions.
func (b *Bucket) holds(ctx context.Context, name string, c condition) error {
	now, err := b.stat(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if c == ifAbsent {
			return nil
		}
	case err != nil:
		return err
	case c != ifAbsent && now.etag == c.etag:
		return nil
	}
	return errLost
}

// Create implements [storage.Storage]. A new file of at most 8 MiB takes one request. A
// larger one is sent in parts of 8 MiB, or through a temporary file on stores that need
// it. The error of a file of more than [MaxSize] bytes wraps [tuf.ErrTooLarge].
func (b *Bucket) Create(ctx context.Context, name string, r io.Reader) error {
	if err := b.check(ctx, "create", name, true); err != nil {
		return err
	}
	if err := b.create(ctx, name, ctxio.NewReader(ctx, r)); err != nil {
		return failed("create", name, err)
	}
	return nil
}

func (b *Bucket) create(ctx context.Context, name string, r io.Reader) error {
	first, err := fill(r, nil, b.part)
	if err != nil && err != io.EOF {
		return err
	}
	if err == nil {
		next, err := fill(io.LimitReader(r, 1), nil, b.part)
		if err != nil && err != io.EOF {
			return err
		}
		if len(next) > 0 {
			return b.createLarge(ctx, name, io.MultiReader(bytes.NewReader(first), bytes.NewReader(next), r))
		}
	}
	data := bytesContent(first)
	err = b.put(ctx, name, data, ifAbsent)
	if err == nil || ctx.Err() != nil || !errors.Is(err, errLost) && !isUnknown(err) {
		return err
	}
	return b.again(ctx, name, data.sum, data.size, func(at info) error {
		return b.put(ctx, name, data, condition{at.etag})
	})
}

func isUnknown(err error) bool {
	var h hideConflict
	return errors.As(err, &h)
}

// again completes a Create of an existing file: it compares the content, and writes the
// object again, so that Remove takes it for a new one. A write of the same content by
// another process after the first comparison will do as well: otherwise the last of many
// processes would lose one race after another.
func (b *Bucket) again(ctx context.Context, name string, sum [sha256.Size]byte, size int64, write func(info) error) error {
	var first info
	for range maxRounds {
		at, err := b.compare(ctx, name, sum, size)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: the file was removed during the comparison", storage.ErrConflict)
		}
		if err != nil {
			return err
		}
		if first.etag == "" {
			first = at
		} else if at.etag != first.etag && !first.asked.IsZero() && !at.written.Before(first.asked.Truncate(time.Second)) {
			return b.unmarked(ctx, name)
		}
		err = write(at)
		if err == nil {
			return b.unmarked(ctx, name)
		}
		// Another Create of the same content changes the ETag on stores that encrypt, or if
		// it was copied in parts.
		if !errors.Is(err, errLost) && !isUnknown(err) {
			return err
		}
	}
	return fmt.Errorf("%w: %d times during the comparison", storage.ErrConflict, maxRounds)
}

// compare checks that the content of a file has a hash and a size.
func (b *Bucket) compare(ctx context.Context, name string, sum [sha256.Size]byte, size int64) (at info, err error) {
	var now []byte
	_, err = b.do(ctx, 0, func(context.Context) error { // the object limits its own time
		o, err := b.get(ctx, name)
		if err != nil {
			return err
		}
		defer o.Close()
		at = o.info
		if at.size != size {
			return nil
		}
		h := sha256.New()
		_, err = io.Copy(h, io.LimitReader(o, size+1))
		now = h.Sum(nil)
		return err
	})
	if err != nil {
		return at, notExist(err)
	}
	if !bytes.Equal(now, sum[:]) {
		return at, fmt.Errorf("%w: the file exists with other content", storage.ErrConflict)
	}
	return at, nil
}

// fill reads the next size bytes of r into buf, which it replaces if it is too small. The
// error is io.EOF at the end of r, also together with the last bytes.
func fill(r io.Reader, buf []byte, size int) ([]byte, error) {
	if cap(buf) == 0 {
		buf = make([]byte, 0, 16<<10)
	}
	buf = buf[:0]
	empty := 0
	for len(buf) < size {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(4*cap(buf), size))
			copy(grown, buf)
			buf = grown
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), size)])
		buf = buf[:len(buf)+n]
		if err != nil {
			return buf, err
		}
		if empty++; n > 0 {
			empty = 0
		} else if empty == 100 {
			return buf, io.ErrNoProgress
		}
	}
	return buf, nil
}
