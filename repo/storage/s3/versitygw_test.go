package s3

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/storage/storagetest"
)

// gateway starts a versitygw on a directory and returns its address.
func gateway(t *testing.T, root string) string {
	t.Helper()
	bin := os.Getenv("VERSITYGW")
	if bin == "" {
		var err error
		if bin, err = exec.LookPath("versitygw"); err != nil {
			t.Skip("no versitygw in VERSITYGW or PATH; .ci/full installs it")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cmd := exec.Command(bin, "--port", addr, "-q", "posix", root)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=test", "ROOT_SECRET_KEY="+secret)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("versitygw: %.4000s", log.String())
		}
	})
	for range 600 { // until it accepts connections
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("versitygw does not accept connections")
	return ""
}

func gatewayBucket(t *testing.T, addr, bucket string, create bool) *Bucket {
	t.Helper()
	creds := credentials.NewStaticCredentialsProvider("test", secret, "")
	if create {
		c := s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://" + addr), UsePathStyle: true, Credentials: creds})
		if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := Open(t.Context(), "s3://"+bucket+"/r?region=us-east-1&endpoint=http://"+addr, &Options{Credentials: creds})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The contract of storages, on a store of others.
func TestVersitygw(t *testing.T) {
	addr := gateway(t, t.TempDir())
	n := 0
	storagetest.Run(t, func(t *testing.T) storage.Storage {
		n++
		b := gatewayBucket(t, addr, fmt.Sprintf("bucket-%d", n), true)
		b.part = 5 << 20 // the smallest of S3: some of the files are sent in parts
		return b
	})
}

// Two gateway processes on one directory: publishers on both lose nothing.
func TestVersitygwTogether(t *testing.T) {
	root := t.TempDir()
	a := gatewayBucket(t, gateway(t, root), "shared", true)
	b := gatewayBucket(t, gateway(t, root), "shared", false)
	ctx := t.Context()
	count(t, a, b)
	for round := range 10 {
		name := fmt.Sprintf("metadata/%d.root.json", round+1)
		large := fmt.Sprintf("targets/%d", round+1)
		var won [2]bool
		var all sync.WaitGroup
		for i, s := range []*Bucket{a, b} {
			all.Go(func() {
				err := s.Create(ctx, name, strings.NewReader(strings.Repeat(fmt.Sprint(i), 1000)))
				if won[i] = err == nil; err != nil && !errors.Is(err, storage.ErrConflict) {
					t.Error(err)
				}
				if err := s.Create(ctx, large, strings.NewReader("the same")); err != nil {
					t.Error(err)
				}
			})
		}
		if all.Wait(); won[0] == won[1] {
			t.Fatalf("round %d: both or none created the file", round)
		}
	}
}

// What a web server in front of the bucket sends, on a large file too, and that the store
// has checked its hash.
func TestVersitygwHeaders(t *testing.T) {
	addr := gateway(t, t.TempDir())
	b := gatewayBucket(t, addr, "headers", true)
	ctx := t.Context()
	if conditional, err := b.conditionalParts(ctx); err != nil || !conditional {
		t.Fatalf("conditions of multipart uploads: %v, %v", conditional, err)
	}
	for name, size := range map[string]int{"metadata/timestamp.json": 10, "targets/large": 2*partSize + 5} {
		if err := b.Create(ctx, name, bytes.NewReader(make([]byte, size))); err != nil {
			t.Fatal(err)
		}
		out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.bucket, Key: b.key(name)})
		if err != nil {
			t.Fatal(err)
		}
		cache, kind := headers(name)
		if aws.ToString(out.CacheControl) != cache || aws.ToString(out.ContentType) != kind {
			t.Errorf("%s: %q, %q", name, aws.ToString(out.CacheControl), aws.ToString(out.ContentType))
		}
	}
	if err := b.Copy(ctx, "targets/large", "targets/copy"); err != nil {
		t.Fatal(err)
	}
	if at, err := b.stat(ctx, "targets/copy"); err != nil || at.size != 2*partSize+5 {
		t.Fatal(at, err)
	}
	// An upload of a process that died.
	out, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.bucket, Key: b.key("targets/dead")})
	if err != nil || out.UploadId == nil {
		t.Fatal(err)
	}
	if n, err := b.Clean(ctx, time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := b.Clean(ctx, time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
}

// The store refuses a key that it does not know, and the error has no secret.
func TestVersitygwRefuses(t *testing.T) {
	addr := gateway(t, t.TempDir())
	_, err := Open(t.Context(), "s3://none-such/r?endpoint=http://"+addr, &Options{Credentials: credentials.NewStaticCredentialsProvider("other", secret, "")})
	if err == nil || strings.Contains(err.Error(), secret) || errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), "s3://none-such/r?endpoint=http://"+addr, &Options{ReadOnly: true, Credentials: credentials.NewStaticCredentialsProvider("test", secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(t.Context(), "metadata/timestamp.json"); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a missing bucket: %v", err)
	}
}
