package s3

import (
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
		{"S3", func(s *server) { s.missing404 = true }},
		{"NoPartsNoDelete", func(s *server) { s.ignoreParts, s.noDelete = true, true }},
		{"Encrypted", func(s *server) { s.encrypted = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			storagetest.Run(t, func(t *testing.T) storage.Storage {
				s := newServer(t)
				tt.set(s)
				return s.open(t)
			})
		})
	}
}
