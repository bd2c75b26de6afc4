// Package digest compares the bytes of a target file with the length and hashes that
// metadata lists for it.
package digest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
)

// Want is what metadata lists for a file: its length in bytes, and its hashes in
// lowercase hex. An empty hash is not listed.
type Want struct {
	Length         int64
	SHA256, SHA512 string
}

// Sum computes the listed hashes of the bytes that are written to it.
type Sum struct {
	want   Want
	n      int64
	hashes []listed
}

type listed struct {
	hash.Hash
	want string
}

// New returns the Sum of an empty file. If want lists no hash at all, no bytes match
// it.
func New(want Want) *Sum {
	s := &Sum{want: want}
	if want.SHA256 != "" || want.SHA512 == "" {
		s.hashes = append(s.hashes, listed{sha256.New(), want.SHA256})
	}
	if want.SHA512 != "" {
		s.hashes = append(s.hashes, listed{sha512.New(), want.SHA512})
	}
	return s
}

// Write never returns an error.
func (s *Sum) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	for _, h := range s.hashes {
		h.Write(p)
	}
	return len(p), nil
}

// Len is the number of bytes written.
func (s *Sum) Len() int64 { return s.n }

// Mismatch states why the bytes written so far are not the listed file; "" if they are.
func (s *Sum) Mismatch() string {
	if s.n != s.want.Length {
		return fmt.Sprintf("length is %d, %d is listed", s.n, s.want.Length)
	}
	for _, h := range s.hashes {
		if got := hex.EncodeToString(h.Sum(nil)); got != h.want {
			return fmt.Sprintf("sha%d is %s, %s is listed", 8*h.Size(), got, h.want)
		}
	}
	return ""
}
