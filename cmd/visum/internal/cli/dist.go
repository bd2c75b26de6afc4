package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// artifact is an entry of artifacts.json of goreleaser.
type artifact struct {
	Name    string `json:"name"`
	Path    string `json:"path"` // relative to the folder that has dist
	Type    string `json:"type"` // Binary, Archive, Checksum and others
	GOOS    string `json:"goos"`
	GOARCH  string `json:"goarch"` // all: a universal binary
	GOARM   string `json:"goarm"`
	GOAMD64 string `json:"goamd64"`
	Extra   struct {
		ID string // of the build, or of the archive
	} `json:"extra"`
}

// distMetadata is metadata.json of goreleaser.
type distMetadata struct {
	Project string `json:"project_name"`
	Version string `json:"version"`
	Commit  string `json:"commit"`
}

// maxDist bounds the two files of goreleaser, in bytes.
const maxDist = 16 << 20

// isDist reports whether a path is the output folder of goreleaser.
func isDist(path string) bool {
	info, err := os.Stat(filepath.Join(path, "artifacts.json"))
	return err == nil && info.Mode().IsRegular()
}

func readDist(path string, v any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxDist {
		return usage("%s: larger than %d bytes", text.Name(path), maxDist)
	}
	data, err := os.ReadFile(path)
	if err == nil {
		if err = json.Unmarshal(data, v); err != nil {
			err = usage("%s: not a file of goreleaser: %v", text.Name(path), err)
		}
	}
	return err
}

// distFiles are the files of a release in the output folder of goreleaser, and what was
// left out. take is the type of artifacts, and id that of their build or archive; "" for
// any. Fields of rel that are empty are taken from its metadata.
func distFiles(dist, take, id string, rel tuf.Release) (files []releaseFile, left []string, err error) {
	var all []artifact
	var meta distMetadata
	if err := readDist(filepath.Join(dist, "artifacts.json"), &all); err != nil {
		return nil, nil, err
	}
	if err := readDist(filepath.Join(dist, "metadata.json"), &meta); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	rel.Product, rel.Version = cmp.Or(rel.Product, meta.Project), cmp.Or(rel.Version, meta.Version)
	if rel.Source.URI != "" {
		rel.Source.Revision = cmp.Or(rel.Source.Revision, meta.Commit)
	}
	if strings.Contains(rel.Version, "SNAPSHOT") && rel.Channel != "dev" {
		return nil, nil, usage("%s is a snapshot: only --channel dev takes one", text.Name(rel.Version))
	}
	want := map[string]string{"binary": "Binary", "archive": "Archive"}[take]
	if want == "" {
		return nil, nil, usage("--take %s: want binary or archive", text.Quote(take))
	}
	chosen := map[string]artifact{} // by platform
	for _, x := range all {
		if x.Type != want || x.GOOS == "" || id != "" && x.Extra.ID != id {
			left = append(left, x.Name)
			continue
		}
		archs := []string{x.GOARCH}
		if x.GOARCH == "all" {
			archs = []string{"amd64", "arm64"}
		}
		for _, arch := range archs {
			platform := x.GOOS + "/" + arch
			have, there := chosen[platform]
			switch {
			case !there || x.below(have):
				chosen[platform] = x
			case !have.below(x):
				return nil, nil, usage("%s: two artifacts for %s: %s and %s; choose one with --id %s or --id %s", text.Name(dist), platform, text.Name(have.Name), text.Name(x.Name), text.Name(have.Extra.ID), text.Name(x.Extra.ID))
			}
		}
	}
	if len(chosen) == 0 {
		of := ""
		if id != "" {
			of = " with id " + text.Name(id)
		}
		return nil, nil, usage("%s has no artifact of type %s%s", text.Name(dist), want, of)
	}
	for platform, x := range chosen {
		f := releaseFile{rel: rel}
		f.rel.Platform = platform
		if f.name, err = x.file(dist); err != nil {
			return nil, nil, err
		}
		f.path = strings.Join([]string{rel.Product, rel.Channel, rel.Version, strings.ReplaceAll(platform, "/", "-"), filepath.Base(f.name)}, "/")
		if err := f.rel.Check(); err != nil {
			return nil, nil, &usageError{err}
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b releaseFile) int { return strings.Compare(a.path, b.path) })
	return files, left, nil
}

// below reports whether more machines of one platform can run x than o: it needs a lower
// level of the processor, or is for one processor instead of all.
func (x artifact) below(o artifact) bool {
	return cmp.Or(cmp.Compare(x.GOAMD64, o.GOAMD64), cmp.Compare(x.GOARM, o.GOARM)) < 0
}

// file returns the path of an artifact. It must lie in dist.
func (x artifact) file(dist string) (string, error) {
	inside, err := filepath.Rel(filepath.Base(dist), filepath.FromSlash(x.Path))
	if err != nil || !filepath.IsLocal(inside) {
		return "", usage("%s: the path %s of an artifact is not in it", text.Name(dist), text.Quote(x.Path))
	}
	return filepath.Join(dist, inside), nil
}

// takenLine says what was taken and left out.
func takenLine(files []releaseFile, left []string) string {
	var platforms []string
	for _, f := range files {
		platforms = append(platforms, text.Name(f.rel.Platform))
	}
	line := fmt.Sprintf("%s@%s %s: %s", text.Name(files[0].rel.Product), text.Name(files[0].rel.Version), text.Name(files[0].rel.Channel), strings.Join(platforms, " "))
	if len(left) > 0 {
		for i := range left {
			left[i] = text.Name(left[i])
		}
		line += "; left out: " + strings.Join(left[:min(len(left), 8)], ", ")
		if len(left) > 8 {
			line += fmt.Sprintf(" and %d more", len(left)-8)
		}
	}
	return line
}
