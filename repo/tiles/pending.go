package tiles

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
)

// batch is the content of the file pending.
type batch struct {
	Format int   `json:"visum-log-pending"` // 1
	Base   int64 `json:"base"`              // entries of the log before the batch
	// Nonce is random, so that no content occurs twice: a compare-and-swap that began with
	// an earlier content can't succeed any more.
	Nonce  string   `json:"nonce"`
	Leaves [][]byte `json:"leaves,omitempty"` // none: a barrier, see Log.propose
}

// newBatch returns a batch and its encoding.
func newBatch(base int64, leaves [][]byte) (*batch, []byte, error) {
	b := &batch{1, base, rand.Text(), leaves}
	data, err := json.Marshal(b)
	return b, data, err
}

// parseBatch reads the content of pending. Its size is limited by the storage.
func parseBatch(data []byte) (*batch, error) {
	var b batch
	if err := strict(data, &b); err != nil {
		return nil, err
	}
	if again, err := json.Marshal(b); err != nil || !bytes.Equal(again, data) || b.Format != 1 || b.Base < 0 {
		return nil, errors.New("not in the form that this version writes")
	}
	if len(b.Leaves) > 0 {
		return &b, checkLeaves(b.Leaves)
	}
	return &b, nil
}
