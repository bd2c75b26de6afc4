package signing

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
)

// ParseAutomation reads an [Automation] from a list of kinds, as configuration files have
// it: "renew", "transport", "release:PREFIX" and "files:PREFIX". A prefix is a path that
// ends in a slash. Errors wrap [fs.ErrInvalid].
func ParseAutomation(kinds []string) (*Automation, error) {
	a := &Automation{}
	for i, kind := range kinds {
		word, prefix, has := strings.Cut(kind, ":")
		var err error
		switch {
		case slices.Contains(kinds[:i], kind):
			err = errors.New("it occurs twice")
		case word == "renew" && !has:
			a.Renew = true
		case word == "transport" && !has:
			a.Transport = true
		case (word == "release" || word == "files") && has:
			if !strings.HasSuffix(prefix, "/") {
				err = errors.New("a prefix ends in a slash, such as rules/")
			} else if err = storage.CheckName(strings.TrimSuffix(prefix, "/")); err != nil {
				break
			} else if word == "release" {
				a.Releases = append(a.Releases, prefix)
			} else {
				a.Plain = append(a.Plain, prefix)
			}
		default:
			err = errors.New("want renew, transport, release:PREFIX/ or files:PREFIX/")
		}
		if err != nil {
			return nil, fmt.Errorf("signing: kind %s: %w: %w", text.Quote(kind), fs.ErrInvalid, err)
		}
	}
	if len(kinds) == 0 {
		return nil, fmt.Errorf("signing: %w: no kind is listed", fs.ErrInvalid)
	}
	return a, nil
}

// Kinds returns the list that [ParseAutomation] reads.
func (a *Automation) Kinds() (out []string) {
	if a.Renew {
		out = append(out, "renew")
	}
	if a.Transport {
		out = append(out, "transport")
	}
	for _, p := range a.Releases {
		out = append(out, "release:"+p)
	}
	for _, p := range a.Plain {
		out = append(out, "files:"+p)
	}
	return out
}
