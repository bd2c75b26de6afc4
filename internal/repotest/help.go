package repotest

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/mirror"
)

// Verify returns the findings, each as its kind and name.
func (w *World) Verify(copies ...mirror.Mirror) []string {
	w.T.Helper()
	report, err := mirror.Verify(w.T.Context(), w.Storage(), w.Pin(), Options(w.Config()), copies...)
	rawtuf.NoErr(w.T, err)
	return Findings(report)
}

// Findings returns the findings of a report, sorted, each as its copy, kind and name.
func Findings(report *mirror.Report) []string {
	var out []string
	for _, f := range report.Findings {
		out = append(out, strings.TrimLeft(f.Copy+" ", " ")+string(f.Kind)+" "+Shorten(f.Name))
	}
	slices.Sort(out)
	return out
}

// Shorten removes the hash from a target's name.
func Shorten(name string) string {
	if dir, base := path.Split(name); strings.HasPrefix(name, "targets/") && len(base) > 65 {
		return dir + base[65:]
	}
	return name
}

// Intact checks that Verify finds nothing but orphans.
func (w *World) Intact() {
	w.T.Helper()
	pin, err := w.Open().Pin(w.T.Context())
	rawtuf.NoErr(w.T, err)
	report, err := mirror.Verify(w.T.Context(), w.Storage(), pin, Options(w.Config()))
	rawtuf.NoErr(w.T, err)
	if report.Err() != nil {
		w.T.Fatal(report)
	}
}

// Dated is a world whose storage uses the world's clock.
func Dated(t testing.TB) *World {
	w := Empty(t)
	w.Store.Clock = func() time.Time { return w.Now }
	w.Update(w.Define)
	return w
}

// PlainStore serves a repository of rawtuf, with the contents of its targets.
func PlainStore(t testing.TB, r *rawtuf.Repo, targets map[string]string) *Memory {
	t.Helper()
	m := NewMemory()
	for name, data := range r.Files {
		rawtuf.NoErr(t, m.Create(t.Context(), "metadata/"+name, bytes.NewReader(data)))
	}
	for path, content := range targets {
		rawtuf.NoErr(t, m.Create(t.Context(), layout.TargetName(path, Sum(content)), strings.NewReader(content)))
	}
	return m
}

// Sum returns the sha256 of a content in hex.
func Sum(content string) string {
	s := sha256.Sum256([]byte(content))
	return hex.EncodeToString(s[:])
}

// Sum512 returns the sha512 of a content in hex.
func Sum512(content string) string {
	s := sha512.Sum512([]byte(content))
	return hex.EncodeToString(s[:])
}

// Endless is a large file that is generated and not stored.
type Endless struct {
	Size int64
	at   int64
}

func (e *Endless) Read(p []byte) (int, error) {
	if e.at >= e.Size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), e.Size-e.at)
	clear(p[:n])
	e.at += n
	return int(n), nil
}

func (e *Endless) Seek(offset int64, whence int) (int64, error) {
	if e.at = offset; whence == io.SeekEnd {
		e.at += e.Size
	}
	return e.at, nil
}
