package metafile

import (
	"iter"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Recalls returns the recalls of a list in a role's signed part, with the sha256 in lower
// case. A member that is missing, or of another type, is zero: package tuf refuses such a
// list.
func Recalls(list wire.Value) iter.Seq[tuf.Recall] {
	return func(yield func(tuf.Recall) bool) {
		for v := range list.Elements() {
			var r tuf.Recall
			r.Path, _ = Member(v, "path").Text()
			r.Reason, _ = Member(v, "reason").Text()
			sum, _ := Member(v, "sha256").Text()
			r.SHA256 = strings.ToLower(sum)
			at, _ := Member(v, "at").Text()
			r.At, _ = time.Parse(time.RFC3339, at)
			if !yield(r) {
				return
			}
		}
	}
}
