package repo_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
)

// anyNames is a source that serves files of any name.
type anyNames struct {
	storage.Source
	files map[string]string
}

func (s anyNames) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if content, ok := s.files[name]; ok {
		return io.NopCloser(strings.NewReader(content)), nil
	}
	return s.Source.Open(ctx, name)
}

// If a repository lists names that no storage can hold, the rest is copied, and each
// omitted file is reported by its name. The same holds for a bundle, and Verify of the
// mirror reports them too. Names that a storage can hold are copied, including names
// that only some clients can fetch and names that leave no room for a statement.
func TestCloneNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(approve("1"))
	long := "agent/" + strings.Repeat("x", 190)
	odd := []string{"agent/sha256:0a1b2c", "agent/notes?.txt", `agent/back\slash`, "agent/ends with a dot.", "agent/" + strings.Repeat("y", 200), "agent//x", "agent/\n"}
	good := []string{"agent/NUL", "agent/100%", "agent/c#", "agent/1.0.0+42.zip", long}
	place := anyNames{storage.SourceOf(w.Store), map[string]string{}}
	w.relist("vendor-agent", func(doc map[string]any) {
		for _, path := range append(slices.Clone(odd), good...) {
			at(doc, "targets")[path] = object{"length": len(path), "hashes": object{"sha256": sum(path), "sha512": sum512(path)}}
			place.files[layout.TargetName(path, sum(path))] = path
		}
	})
	var skipped []string
	opt := options(w.Config())
	opt.Skipped = func(f mirror.Finding) {
		if f.Kind != mirror.FileUnstorable || f.Err == nil {
			t.Errorf("%+v", f)
		}
		skipped = append(skipped, f.Name)
	}
	var want []string
	for _, path := range odd {
		want = append(want, layout.TargetName(path, sum(path)))
	}
	slices.Sort(want)
	copied := newMemory()
	for range 2 { // the second call continues from the first
		skipped = nil
		noErr(t, mirror.Clone(t.Context(), copied, place, w.Pin(), opt))
		if slices.Sort(skipped); !slices.Equal(skipped, want) {
			t.Errorf("reported %q", skipped)
		}
	}
	for _, path := range good {
		if data, err := copied.Read(t.Context(), layout.TargetName(path, sum(path))); err != nil || string(data) != path {
			t.Errorf("%s: %q, %v", path, data, err)
		}
	}
	there := w.Copy()
	there.Store = copied
	there.Sees("root 1 agent/1")

	report, err := mirror.Verify(t.Context(), copied, w.Pin(), options(w.Config()))
	noErr(t, err)
	var found []string
	for _, f := range report.Findings {
		if !f.Harmless() {
			found = append(found, f.Name)
			if f.Kind != mirror.FileUnstorable {
				t.Error(f)
			}
		}
	}
	if slices.Sort(found); !slices.Equal(found, want) || report.Err() == nil || report.Targets != 1+len(good) {
		t.Errorf("%s", report)
	}
	skipped = nil
	noErr(t, mirror.Bundle(t.Context(), io.Discard, copied, w.Pin(), &mirror.BundleOptions{Options: *opt, Metadata: true, Targets: func(string) bool { return true }}))
	if slices.Sort(skipped); !slices.Equal(skipped, want) {
		t.Errorf("Bundle reported %q", skipped)
	}
	before := maps.Clone(copied.Files)
	_, err = repo.New(copied, w.Config()).Prune(t.Context(), nil)
	noErr(t, err)
	for _, path := range good {
		if name := layout.TargetName(path, sum(path)); !bytes.Equal(copied.Files[name], before[name]) {
			t.Errorf("Prune removed %s", path)
		}
	}

	w.relist("vendor-agent", func(doc map[string]any) { // healed
		for _, path := range odd {
			delete(at(doc, "targets"), path)
		}
	})
	skipped = nil
	noErr(t, mirror.Clone(t.Context(), copied, place, w.Pin(), opt))
	if report, err = mirror.Verify(t.Context(), copied, w.Pin(), options(w.Config())); err != nil || report.Err() != nil || len(skipped) > 0 {
		t.Errorf("%s, %v, %q", report, err, skipped)
	}
}
