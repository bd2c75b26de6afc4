package repo

import (
	"fmt"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/tuf"
)

// DiffRoots returns the changes between two verified roots, as [Repo.Diff] does for the
// root of a draft: a headline, the summary, and the rest. before is nil for the first
// root. Both need a charter; otherwise the error wraps [tuf.ErrCharter]. labels are those of
// keys, by key id.
func DiffRoots(before, after *tuf.Root, labels map[string]string) (_ []diff.Change, err error) {
	defer text.OneLine(&err)
	open := func(root *tuf.Root) (wire.Value, *Root, error) {
		if root.Charter() == nil {
			return nil, nil, fmt.Errorf("repo: root v%d: %w: it has none", root.Version(), tuf.ErrCharter)
		}
		env, err := metafile.Open(root.Bytes())
		return env.Signed, rootOf(root), err
	}
	signed, now, err := open(after)
	if err != nil {
		return nil, err
	}
	f := &draftFile{role: "root", version: after.Version(), signed: signed}
	var old wire.Value
	var was *Root
	if before != nil {
		if old, was, err = open(before); err != nil {
			return nil, err
		}
		f.base = before.Version()
	}
	x := &comparison{tx: &Tx{repo: &Repo{cfg: Config{Labels: labels}}}}
	lines := x.file(f, old)
	x.head(f, was == nil, rootPhrases(was, now, lines))
	return inParts(append(x.out, lines...)), nil
}

// rootPhrases are those of the headline of a root; lines are its other changes.
func rootPhrases(was, now *Root, lines []diff.Change, more ...string) []string {
	usual := []string{text.Quote("spec_version"), text.Quote("consistent_snapshot")}
	for _, member := range []string{"prev_root_sha256", "schema"} {
		usual = append(usual, text.Quote(layout.CharterMember)+" "+text.Quote(member))
	}
	return append(append(rootHeadline(was, now), more...), others(lines, usual...)...)
}

// inParts returns changes in the order of the parts.
func inParts(all []diff.Change) (out []diff.Change) {
	for _, part := range []diff.Part{diff.PartHeadline, diff.PartSummary, diff.PartRest} {
		for _, c := range all {
			if c.Part == part {
				out = append(out, c)
			}
		}
	}
	return out
}
