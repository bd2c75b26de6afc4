package git

import (
	"io"
	"math/rand/v2"
)

// random is content that can't be compressed, the same at each call.
func random(n int) string {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return string(data)
}

func countBytes(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }
