package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/visum-dev/visum/tuf"
)

const (
	// copySize is the number of bytes that one request copies inside the store.
	copySize = 256 << 20
	// S3 dates an object that was sent in parts at the begin of the upload. After a longer
	// one the object is written again, so that Remove does not take it for an old one.
	longUpload = time.Minute
)

var errTooLarge = fmt.Errorf("%w: more than %d bytes", tuf.ErrTooLarge, int64(MaxSize))

// createLarge is create for a file of more than one part.
func (b *Bucket) createLarge(ctx context.Context, name string, r io.Reader) error {
	parts := b.opt.UnsafeNoConditions
	if !parts {
		var err error
		if parts, err = b.conditionalParts(ctx); err != nil {
			return err
		}
	}
	if !parts {
		return b.createSpooled(ctx, name, r)
	}
	rewrite := func(at info) error { return b.copyParts(ctx, name, at, name, condition{at.etag}) }
	// An existing file is compared without sending the content.
	if _, err := b.stat(ctx, name); err == nil {
		sum, size, err := hash(r, io.Discard)
		if err != nil {
			return err
		}
		return b.again(ctx, name, sum, size, rewrite)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	begin := time.Now()
	var sum [sha256.Size]byte
	var size int64
	err := b.inParts(ctx, name, types.ChecksumAlgorithmSha256, ifAbsent, func(id string) (parts []types.CompletedPart, err error) {
		parts, sum, size, err = b.sendParts(ctx, name, id, r)
		return parts, err
	})
	if err == nil && time.Since(begin) < longUpload {
		return nil
	}
	if err != nil && (ctx.Err() != nil || !errors.Is(err, errLost) && !isUnknown(err)) {
		return err
	}
	return b.again(ctx, name, sum, size, rewrite)
}

// hash copies r to w and returns its sha256 and size.
func hash(r io.Reader, w io.Writer) (sum [sha256.Size]byte, size int64, err error) {
	h := sha256.New()
	size, err = io.Copy(io.MultiWriter(h, w), io.LimitReader(r, MaxSize+1))
	if err == nil && size > MaxSize {
		err = errTooLarge
	}
	h.Sum(sum[:0])
	return sum, size, err
}

// createSpooled is createLarge for stores that have conditions for PutObject only. The
// request needs the size in advance, so the content goes through a temporary file.
func (b *Bucket) createSpooled(ctx context.Context, name string, r io.Reader) error {
	f, err := os.CreateTemp(b.opt.TempDir, "visum-s3-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // Windows needs it closed
	defer f.Close()
	sum, size, err := hash(r, f)
	if err != nil {
		return err
	}
	data := content{r: f, size: size, sum: sum, tell: true}
	err = b.put(ctx, name, data, ifAbsent)
	if err == nil || ctx.Err() != nil || !errors.Is(err, errLost) && !isUnknown(err) {
		return err
	}
	return b.again(ctx, name, sum, size, func(at info) error { return b.put(ctx, name, data, condition{at.etag}) })
}

// inParts writes an object by a multipart upload, whose parts send makes. The upload is
// aborted if it fails. The errors are those of put.
func (b *Bucket) inParts(ctx context.Context, name string, algorithm types.ChecksumAlgorithm, c condition, send func(id string) ([]types.CompletedPart, error)) error {
	cache, kind := headers(name)
	nonce := newNonce()
	var id string
	_, err := b.do(ctx, 0, func(ctx context.Context) error {
		out, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.bucket, Key: b.key(name),
			ChecksumAlgorithm: algorithm, CacheControl: &cache, ContentType: &kind, Metadata: map[string]string{nonceName: nonce}})
		if err == nil {
			if id = aws.ToString(out.UploadId); id == "" {
				err = errors.New("the answer has no id of the upload")
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			b.abort(ctx, *b.key(name), id)
		}
	}()
	parts, err := send(id)
	if err != nil {
		return err
	}
	in := &s3.CompleteMultipartUploadInput{Bucket: &b.bucket, Key: b.key(name), UploadId: &id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}
	if b.opt.UnsafeNoConditions {
		if err := b.holds(ctx, name, c); err != nil {
			return err
		}
	} else {
		in.IfNoneMatch, in.IfMatch = c.headers()
	}
	unknown, err := b.do(ctx, 0, func(ctx context.Context) error {
		_, err := b.client.CompleteMultipartUpload(ctx, in)
		return err
	})
	done = err == nil
	if unknown && answered(err, http.StatusNotFound, "NoSuchUpload") {
		// An attempt without an answer has completed the upload, or Clean has aborted it.
		if now, look := b.stat(ctx, name); look == nil && now.nonce == nonce {
			return nil
		}
		return fmt.Errorf("the answer to an attempt was lost and it is unknown whether the call took effect: %w", hideConflict{err})
	}
	return b.settle(ctx, name, nonce, c, unknown, err)
}

// abort removes the parts of an upload, also after the end of ctx. If it fails, Clean or
// the lifecycle rule removes them.
func (b *Bucket) abort(ctx context.Context, key, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	_, err := b.do(ctx, 0, func(ctx context.Context) error {
		_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.bucket, Key: &key, UploadId: &id})
		return err
	})
	if answered(err, http.StatusNotFound, "NoSuchUpload") {
		return nil
	}
	return err
}

// sendParts sends the content of r in parts, some at the same time.
func (b *Bucket) sendParts(ctx context.Context, name, id string, r io.Reader) (parts []types.CompletedPart, sum [sha256.Size]byte, size int64, err error) {
	h := sha256.New()
	free := make(chan []byte, b.opt.Parallel+1) // buffers to be used again
	for range cap(free) {
		free <- nil
	}
	g := newGroup(ctx, b.opt.Parallel)
	for n := int32(1); ; n++ {
		var buf []byte
		select {
		case buf = <-free:
		case <-g.ctx.Done():
			return nil, sum, size, g.wait()
		}
		if buf == nil {
			buf = make([]byte, 0, b.part)
		}
		data, rerr := fill(r, buf, b.part)
		if rerr != nil && rerr != io.EOF {
			g.fail(rerr)
			return nil, sum, size, g.wait()
		}
		if size += int64(len(data)); size > MaxSize {
			g.fail(errTooLarge)
			return nil, sum, size, g.wait()
		}
		if len(data) > 0 {
			h.Write(data)
			part := types.CompletedPart{PartNumber: aws.Int32(n), ChecksumSHA256: encodeSum(sumOf(data))}
			g.run(func(ctx context.Context) error {
				etag, once, err := b.sendPart(ctx, name, id, part, data)
				part.ETag = &etag
				if !once {
					data = nil // the HTTP client may still read the body of a failed attempt
				}
				g.add(part)
				free <- data
				return err
			})
		}
		if rerr == io.EOF {
			break
		}
	}
	err = g.wait()
	h.Sum(sum[:0])
	return g.sorted(), sum, size, err
}

func (b *Bucket) sendPart(ctx context.Context, name, id string, part types.CompletedPart, data []byte) (etag string, once bool, err error) {
	attempts := 0
	_, err = b.do(ctx, int64(len(data)), func(ctx context.Context) error {
		attempts++
		out, err := b.client.UploadPart(ctx, &s3.UploadPartInput{Bucket: &b.bucket, Key: b.key(name), UploadId: &id, PartNumber: part.PartNumber,
			Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))), ChecksumSHA256: part.ChecksumSHA256})
		if err == nil {
			etag = aws.ToString(out.ETag)
		}
		return err
	})
	return etag, attempts == 1, err
}

// copyParts copies an object inside the store. If it has changed, the error is errLost.
func (b *Bucket) copyParts(ctx context.Context, from string, at info, to string, c condition) error {
	source := copySource(b.bucket, b.prefix+from)
	// Without an algorithm the store chooses: not all return the sha256 of a copied part.
	return b.inParts(ctx, to, "", c, func(id string) ([]types.CompletedPart, error) {
		g := newGroup(ctx, b.opt.Parallel)
		for n, start := int32(1), int64(0); start < at.size; n, start = n+1, start+b.span {
			in := &s3.UploadPartCopyInput{Bucket: &b.bucket, Key: b.key(to), UploadId: &id, PartNumber: aws.Int32(n),
				CopySource: &source, CopySourceIfMatch: &at.etag}
			if at.size > b.span {
				in.CopySourceRange = aws.String(fmt.Sprintf("bytes=%d-%d", start, min(start+b.span, at.size)-1))
			}
			g.run(func(ctx context.Context) error {
				_, err := b.do(ctx, b.span/8, func(ctx context.Context) error {
					out, err := b.client.UploadPartCopy(ctx, in)
					if err == nil && out.CopyPartResult == nil {
						err = errors.New("the answer has no ETag")
					}
					if err == nil {
						g.add(types.CompletedPart{PartNumber: in.PartNumber, ETag: out.CopyPartResult.ETag})
					}
					return err
				})
				if answered(err, http.StatusPreconditionFailed) || absent(err) {
					err = errLost
				}
				return err
			})
		}
		err := g.wait()
		return g.sorted(), err
	})
}

func copySource(bucket, key string) string {
	elements := strings.Split(key, "/")
	for i, e := range elements {
		// Stores decode a + as a space.
		elements[i] = strings.ReplaceAll(url.QueryEscape(e), "+", "%20")
	}
	return bucket + "/" + strings.Join(elements, "/")
}

// conditionalParts reports whether the store honours conditions of multipart uploads. It
// finds out once, by an upload to the probe object, which exists.
func (b *Bucket) conditionalParts(ctx context.Context) (bool, error) {
	select {
	case b.probing <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-b.probing }()
	if b.multiKnown {
		return b.multipart, nil
	}
	err := b.inParts(ctx, probeKey, types.ChecksumAlgorithmSha256, ifAbsent, func(id string) ([]types.CompletedPart, error) {
		data := []byte("-")
		part := types.CompletedPart{PartNumber: aws.Int32(1), ChecksumSHA256: encodeSum(sumOf(data))}
		etag, _, err := b.sendPart(ctx, probeKey, id, part, data)
		part.ETag = &etag
		return []types.CompletedPart{part}, err
	})
	switch {
	case refused(err):
		b.multiKnown, b.multipart = true, true
	case err == nil, answered(err, http.StatusNotImplemented):
		b.multiKnown = true // the store has overwritten the probe object, or refuses
	default:
		return false, fmt.Errorf("probe of multipart uploads: %w", err)
	}
	return b.multipart, nil
}

// Copy implements [storage.Copier]. A file of more than 8 MiB is copied inside the store
// if the store honours conditions of multipart uploads. Otherwise the bytes go through
// this process.
func (b *Bucket) Copy(ctx context.Context, from, to string) error {
	if err := b.check(ctx, "copy", from, true); err != nil {
		return err
	}
	if err := b.check(ctx, "copy to", to, true); err != nil {
		return err
	}
	if err := b.copy(ctx, from, to); err != nil {
		return failed("copy to", to, err)
	}
	return nil
}

func (b *Bucket) copy(ctx context.Context, from, to string) error {
	data, at, err := b.read(ctx, from, int64(b.part))
	if err == nil {
		return b.create(ctx, to, bytes.NewReader(data))
	}
	if !errors.Is(err, tuf.ErrTooLarge) {
		return err
	}
	if from != to && !b.opt.UnsafeNoConditions {
		inside, err := b.conditionalParts(ctx)
		if err != nil {
			return err
		}
		if inside {
			err := b.copyParts(ctx, from, at, to, ifAbsent)
			if !errors.Is(err, errLost) && !isUnknown(err) {
				return err
			}
			// The file exists, or the original has changed: compare the contents.
		}
	}
	o, err := b.open(ctx, from)
	if err != nil {
		return err
	}
	defer o.Close()
	return b.create(ctx, to, o)
}

// group runs the requests of one upload, a limited number at the same time. The first
// error ends the others.
type group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	outer  context.Context
	slots  chan struct{}
	all    sync.WaitGroup
	mu     sync.Mutex
	parts  []types.CompletedPart
}

func newGroup(ctx context.Context, n int) *group {
	g := &group{outer: ctx, slots: make(chan struct{}, n)}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	return g
}

func (g *group) run(fn func(context.Context) error) {
	select {
	case g.slots <- struct{}{}:
	case <-g.ctx.Done():
		return
	}
	g.all.Go(func() {
		defer func() { <-g.slots }()
		if err := fn(g.ctx); err != nil {
			g.fail(err)
		}
	})
}

func (g *group) fail(err error) { g.cancel(err) }

func (g *group) add(part types.CompletedPart) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parts = append(g.parts, part)
}

func (g *group) wait() error {
	g.all.Wait()
	defer g.cancel(nil)
	if g.ctx.Err() == nil {
		return nil
	}
	return context.Cause(g.ctx)
}

// sorted returns the parts by number, as the store needs them.
func (g *group) sorted() []types.CompletedPart {
	out := make([]types.CompletedPart, len(g.parts))
	for _, p := range g.parts {
		if i := int(*p.PartNumber) - 1; i < len(out) {
			out[i] = p
		}
	}
	return out
}
