package s3

import (
	"errors"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/storage/storagetest"
)

// The contract of storages, on stores of different abilities.
func TestStorage(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*server)
	}{
		{"HTTP", nil},
		{"S3", func(s *server) { s.missing404 = true }},
		{"NoPartsNoDelete", func(s *server) { s.ignoreParts, s.noDelete = true, true }},
		{"Encrypted", func(s *server) { s.encrypted = true }},
	} {
		if testing.Short() && tt.name != "HTTP" && tt.name != "NoPartsNoDelete" {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			storagetest.Run(t, func(t *testing.T) storage.Storage {
				s := newServer(t)
				if tt.set == nil { // over a network, with the HTTP client of the package
					web := httptest.NewServer(s)
					t.Cleanup(web.Close)
					opt := s.options()
					opt.HTTPClient = nil
					b, err := Open(t.Context(), "s3://bucket?endpoint="+web.URL, opt)
					if err != nil {
						t.Fatal(err)
					}
					b.part = 1 << 20
					return b
				}
				tt.set(s)
				b := s.open(t)
				b.part = 1 << 20 // some of the files are sent in parts
				return b
			})
		})
	}
}

// count lets two handles increment a number at the same time.
func count(t *testing.T, handles ...*Bucket) {
	t.Helper()
	const each = 25
	ctx, name := t.Context(), "metadata/counter"
	if err := handles[0].Replace(ctx, name, nil, []byte("0")); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, b := range handles {
		all.Go(func() {
			for done := 0; done < each; {
				old, err := b.Read(ctx, name)
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(old))
				switch err := b.Replace(ctx, name, old, []byte(strconv.Itoa(n+1))); {
				case err == nil:
					done++
				case !errors.Is(err, storage.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if got, err := handles[0].Read(ctx, name); string(got) != strconv.Itoa(each*len(handles)) {
		t.Fatalf("counted to %s, %v", got, err)
	}
}
