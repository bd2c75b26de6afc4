package tuftest_test

import (
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/tuftest"
)

func TestBadText(t *testing.T) {
	for s, bad := range map[string]bool{"": false, "a b": false, `is "` + tuftest.Words + `", want`: false, `"a\" ` + tuftest.Words + `"`: false, tuftest.Words: true, `"a" ` + tuftest.Words: true, `"a\\" ` + tuftest.Words: true,
		"a\nb": true, "ä": true, "\x7f": true, strings.Repeat("x", 4096): false, strings.Repeat("x", 4097): true} {
		if (tuftest.BadText(s) != "") != bad {
			t.Errorf("%.40q: %q", s, tuftest.BadText(s))
		}
	}
}
