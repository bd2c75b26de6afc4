package tiles

import (
	"crypto/ed25519"
	"fmt"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf/tlog"
)

// head is a size of a log and the root of its tree. The zero head is the empty log.
type head struct {
	size int64
	root tlog.Hash // zero if the size is
}

func (h head) String() string {
	if h.size == 0 {
		return "no entries"
	}
	return fmt.Sprintf("%d entries with root %x", h.size, h.root[:8])
}

// treeRoot is the root of the tree, also of the empty one.
func (h head) treeRoot() tlog.Hash {
	if h.size == 0 {
		return tlog.EmptyRoot
	}
	return h.root
}

// openHead verifies the signature of the log on a checkpoint, which must have exactly one by
// this key. Signatures of other keys are ignored: cosignatures may be added to the file.
func openHead(note []byte, key tlog.Key) (head, error) {
	s, lines, err := tlog.SplitNote(note)
	if err != nil {
		return head{}, err
	}
	n := 0
	for _, line := range lines {
		if !line.By(key) {
			continue
		}
		if n++; n > 1 || !ed25519.Verify(key.Public, []byte(s), line.Sig) {
			return head{}, fmt.Errorf("checkpoint: %w: of %s", tlog.ErrSignature, text.Name(key.Name))
		}
	}
	if n == 0 {
		return head{}, fmt.Errorf("checkpoint: %w: %s has not signed", tlog.ErrSignature, text.Name(key.Name))
	}
	origin, size, root, err := tlog.ParseCheckpointText(s)
	switch {
	case err != nil:
		return head{}, err
	case origin != key.Name:
		return head{}, fmt.Errorf("checkpoint: %w: of log %s, want %s", tlog.ErrMalformed, text.Quote(origin), text.Name(key.Name))
	case size == 0:
		return head{}, fmt.Errorf("checkpoint: %w: a log has no checkpoint before its first entry", tlog.ErrMalformed)
	}
	return head{size, root}, nil
}
