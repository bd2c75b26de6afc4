package rawtuf_test

import (
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

func TestBadText(t *testing.T) {
	for s, bad := range map[string]bool{"": false, "a b": false, `is "` + rawtuf.Words + `", want`: false, `"a\" ` + rawtuf.Words + `"`: false, rawtuf.Words: true, `"a" ` + rawtuf.Words: true, `"a\\" ` + rawtuf.Words: true,
		"a\nb": true, "ä": true, "\x7f": true, strings.Repeat("x", 4096): false, strings.Repeat("x", 4097): true} {
		if (rawtuf.BadText(s) != "") != bad {
			t.Errorf("%.40q: %q", s, rawtuf.BadText(s))
		}
	}
}
