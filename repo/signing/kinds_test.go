package signing_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/repo/signing"
)

// The kinds of a configuration file are read strictly, and written back as they were.
func TestKinds(t *testing.T) {
	t.Parallel()
	all := []string{"renew", "transport", "release:agent/", "release:a/b/", "files:rules/"}
	a, err := signing.ParseAutomation(all)
	if err != nil || !a.Renew || !a.Transport || !slices.Equal(a.Releases, []string{"agent/", "a/b/"}) || !slices.Equal(a.Plain, []string{"rules/"}) {
		t.Fatalf("%+v, %v", a, err)
	}
	if got := a.Kinds(); !slices.Equal(got, all) {
		t.Errorf("%q", got)
	}
	if a, err := signing.ParseAutomation([]string{"renew"}); err != nil || a.Transport || a.Releases != nil || a.Plain != nil {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []string{"", "Renew", "renew:", "renew:x/", "transport:", "release", "release:", "release:/", "files:", "files:rules", "files:/rules/", "files:../", "files:a//", "files:a/../b/",
		"files:*/", "root", "approve:rules/", " renew", "files: rules/ ", "files:.x/", "files:" + strings.Repeat("a", 300) + "/"} {
		if a, err := signing.ParseAutomation([]string{"renew", bad}); !errors.Is(err, fs.ErrInvalid) || a != nil {
			t.Errorf("%q: %+v, %v", bad, a, err)
		}
	}
	for _, list := range [][]string{nil, {}, {"renew", "renew"}, {"files:a/", "files:a/"}} {
		if a, err := signing.ParseAutomation(list); !errors.Is(err, fs.ErrInvalid) || a != nil {
			t.Errorf("%q: %+v, %v", list, a, err)
		}
	}
}
