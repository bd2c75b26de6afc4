package digest_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"testing"

	"github.com/visum-dev/visum/internal/digest"
)

func TestMismatch(t *testing.T) {
	const content = "agent 1.0"
	sum256, sum512 := fmt.Sprintf("%x", sha256.Sum256([]byte(content))), fmt.Sprintf("%x", sha512.Sum512([]byte(content)))
	other256, other512 := fmt.Sprintf("%x", sha256.Sum256([]byte("x"))), fmt.Sprintf("%x", sha512.Sum512([]byte("x")))
	const n = int64(len(content))
	for _, row := range []struct {
		name  string
		want  digest.Want
		bytes string
		says  string
	}{
		{"both hashes", digest.Want{n, sum256, sum512}, content, ""},
		{"sha256 alone", digest.Want{n, sum256, ""}, content, ""},
		{"sha512 alone", digest.Want{n, "", sum512}, content, ""},
		{"no hash is listed", digest.Want{n, "", ""}, content, "sha256 is " + sum256 + ",  is listed"},
		{"no hash is listed, and no byte", digest.Want{}, "", "sha256 is " + fmt.Sprintf("%x", sha256.Sum256(nil)) + ",  is listed"},
		{"wrong sha256", digest.Want{n, other256, sum512}, content, "sha256 is " + sum256 + ", " + other256 + " is listed"},
		{"wrong sha512", digest.Want{n, sum256, other512}, content, "sha512 is " + sum512 + ", " + other512 + " is listed"},
		{"a byte short", digest.Want{n, sum256, sum512}, content[1:], "length is 8, 9 is listed"},
		{"a byte more", digest.Want{n, sum256, sum512}, content + "!", "length is 10, 9 is listed"},
	} {
		s := digest.New(row.want)
		for i := range row.bytes {
			s.Write([]byte{row.bytes[i]})
		}
		if got := s.Mismatch(); got != row.says || s.Len() != int64(len(row.bytes)) {
			t.Errorf("%s: %q after %d bytes, want %q", row.name, got, s.Len(), row.says)
		}
	}
}
