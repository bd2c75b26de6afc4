package storage_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/storage"
)

// A copy within a directory takes no space: it is a hard link. A symbolic link is
// copied as a file, because its target would be missing from another directory.
func TestFolderCopyLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need privileges on this system")
	}
	dir := t.TempDir()
	s := storage.Dir(dir)
	c := s.(storage.Copier)
	rawtuf.NoErr(t, s.Create(t.Context(), "targets/beta/x", strings.NewReader("content")))
	rawtuf.NoErr(t, c.Copy(t.Context(), "targets/beta/x", "targets/stable/deep/x"))
	stat := func(name string) os.FileInfo {
		t.Helper()
		info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name)))
		rawtuf.NoErr(t, err)
		return info
	}
	if !os.SameFile(stat("targets/beta/x"), stat("targets/stable/deep/x")) {
		t.Error("the bytes are stored twice")
	}
	rawtuf.NoErr(t, os.Symlink("x", filepath.Join(dir, "targets", "beta", "link")))
	rawtuf.NoErr(t, c.Copy(t.Context(), "targets/beta/link", "targets/other/y"))
	if info := stat("targets/other/y"); !info.Mode().IsRegular() {
		t.Errorf("the copy of a symbolic link is %s", info.Mode())
	}
	if data, err := s.Read(t.Context(), "targets/other/y"); err != nil || string(data) != "content" {
		t.Errorf("%q, %v", data, err)
	}
}
