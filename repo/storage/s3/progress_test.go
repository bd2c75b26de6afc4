package s3

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/visum-dev/visum/repo/storage"
)

// A store without conditions for parts gets a file from a temporary copy. The bytes of
// that request are reported, by one goroutine, also those of a repetition; for small files
// and without a function nothing is.
func TestProgressOfSending(t *testing.T) {
	s := newServer(t)
	attempts := 0
	b := s.open(t, func(next http.RoundTripper) http.RoundTripper {
		return tripper(func(r *http.Request) (*http.Response, error) {
			if r.Method != http.MethodPut || r.ContentLength < 1<<20 {
				return next.RoundTrip(r)
			}
			if attempts++; attempts == 1 {
				if _, err := io.CopyN(io.Discard, r.Body, 1<<20); err != nil {
					return nil, err
				}
				return nil, io.ErrUnexpectedEOF
			}
			return next.RoundTrip(r)
		})
	})
	b.multiKnown, b.multipart = true, false
	data := bytes.Repeat([]byte("0123456789abcdef"), (b.part+b.part/2)/16)
	var told []storage.Progress
	ctx := storage.WithProgress(t.Context(), func(p storage.Progress) { told = append(told, p) })
	if err := b.Create(ctx, "targets/large", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	total := int64(len(data))
	if attempts != 2 || len(told) < 4 || told[len(told)-1] != (storage.Progress{Path: "targets/large", Done: total, Total: total}) {
		t.Fatalf("%d attempts, %d reports: %v", attempts, len(told), told)
	}
	back := 0
	for i := range told[1:] {
		if told[i+1].Done < told[i].Done {
			back++
		}
	}
	if back == 0 || told[0].Done >= total {
		t.Errorf("no repetition: %v", told)
	}
	told = nil
	if err := b.Create(ctx, "targets/small", bytes.NewReader(data[:100])); err != nil || told != nil {
		t.Errorf("%v, %v", err, told)
	}
	if err := b.Create(t.Context(), "targets/other", bytes.NewReader(data)); err != nil {
		t.Error(err)
	}
}
