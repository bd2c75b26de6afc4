package repo

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Draft is a set of metadata files and statements that are not yet fully signed. It is
// transferred as bytes ([Draft.Bytes], [OpenDraft]); the signers need no common storage.
type Draft struct {
	files      map[string]*draftFile // by role name
	statements map[string]*statement // by name in storage
	recovery   *draftFile            // the recovery statement; nil: none
	heals      [][]byte              // the roots of a fork that the root also follows; nil: none

	repo     *Repo // the handle that opened or staged it; nil: it can only be inspected
	staged   *Repo // the handle that staged it; nil: another handle
	override override
	warnings []string
}

// override contains the exceptions that a person has permitted for one draft. It is not
// part of [Draft.Bytes].
type override struct {
	supersede     string          // sha256 of the root that was signed before
	shorterExpiry bool            // rule K5
	compromised   []tuf.Key       // rule K3
	lift          map[string]bool // paths whose hold was lifted
}

// parts returns everything that is signed: the files, the recovery statement, then the
// statements.
func (d *Draft) parts() []*draftFile {
	out := d.sorted()
	if d.recovery != nil {
		out = append(out, d.recovery)
	}
	for _, name := range slices.Sorted(maps.Keys(d.statements)) {
		out = append(out, d.statements[name].file)
	}
	return out
}

// part returns a file or statement by its role or name, nil if there is none.
func (d *Draft) part(role string) *draftFile {
	if s := d.statements[role]; s != nil {
		return s.file
	}
	if role == facts.RecoveryRole {
		return d.recovery
	}
	return d.files[role]
}

func (d *Draft) sorted() []*draftFile {
	return slices.SortedFunc(maps.Values(d.files), func(a, b *draftFile) int { return cmp.Compare(a.role, b.role) })
}

// takeOver adds copies of the files and statements that d lacks.
func (d *Draft) takeOver(from *Draft) {
	for role, f := range from.files {
		if d.files[role] == nil {
			copied := *f
			copied.sigs = maps.Clone(f.sigs)
			d.files[role] = &copied
		}
	}
	if d.heals == nil {
		d.heals = from.heals
	}
	for name, s := range from.statements {
		if d.statements[name] == nil {
			copied, file := *s, *s.file
			file.sigs = maps.Clone(file.sigs)
			copied.file = &file
			d.statements[name] = &copied
		}
	}
}

// Empty reports whether the draft changes nothing.
func (d *Draft) Empty() bool {
	return len(d.files) == 0 && len(d.statements) == 0 && d.recovery == nil
}

// HasFiles reports whether the draft has metadata files or a recovery statement, and not
// only reviewers' statements.
func (d *Draft) HasFiles() bool { return len(d.files) > 0 || d.recovery != nil }

// File returns a metadata file of the draft in its published form, nil if the draft does
// not change that role. The role "recovery statement" has the statement of a recovery. It
// is for tests of a draft before publication, for example with clients. Only
// [Repo.Publish] publishes.
func (d *Draft) File(role string) []byte {
	f := d.files[role]
	if role == facts.RecoveryRole {
		f = d.recovery
	}
	if f == nil {
		return nil
	}
	return f.bytes()
}

func newDraft() *Draft {
	return &Draft{files: map[string]*draftFile{}, statements: map[string]*statement{}}
}

// Missing lists the missing signatures. It is empty if the draft can be published.
func (d *Draft) Missing() []Missing {
	var out []Missing
	for _, f := range d.parts() {
		for _, m := range f.missing() {
			if b := rolelist.InBins.FindStringSubmatch(m.Role); b != nil {
				m.Role = b[1] + "*"
			}
			i := slices.IndexFunc(out, func(x Missing) bool {
				return x.Role == m.Role && x.Who == m.Who && x.Have == m.Have && x.Want == m.Want && slices.Equal(x.KeyIDs, m.KeyIDs)
			})
			if i < 0 {
				m.Labels = d.labels(m.KeyIDs)
				out = append(out, m)
			} else {
				out[i].Files++
			}
		}
	}
	return out
}

// labels returns the labels of those keys that have one in Config.Labels.
func (d *Draft) labels(keyIDs []string) (out []string) {
	if d.repo == nil {
		return nil
	}
	for _, id := range keyIDs {
		if label, ok := d.repo.cfg.Labels[id]; ok {
			out = append(out, fmt.Sprintf("%s %.16s", text.Quote(label), id))
		}
	}
	return out
}
