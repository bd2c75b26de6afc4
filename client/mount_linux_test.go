package client_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// bindReadOnly mounts a directory over itself, read-only, which also binds root.
func bindReadOnly(t *testing.T, dir string) {
	t.Helper()
	mount(t, dir, dir, "", syscall.MS_BIND, "")
	if err := syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
}

func mount(t *testing.T, what, dir, kind string, flags uintptr, data string) {
	t.Helper()
	if err := syscall.Mount(what, dir, kind, flags, data); err != nil {
		t.Skipf("mounting needs more privileges: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
}

// A full disk: there is an error, nothing is left, and with room again it works.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root; TestFilesThatCantGrow does the like without root")
	}
	d := newDepot(t, 1, mib)
	dir := t.TempDir()
	mount(t, "none", dir, "tmpfs", 0, "size=1200k")
	ballast := filepath.Join(dir, "ballast")
	mustWrite(t, ballast, make([]byte, 400<<10))
	file := filepath.Join(dir, "agent")
	mustWrite(t, file, []byte("old"))
	if err := d.save(t.Context(), file); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if got := files(t, dir); len(got) != 2 {
		t.Errorf("left %q", got)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "old" {
		t.Errorf("%q, %v", got, err)
	}
	must(t, os.Remove(ballast))
	d.saves(file)
}

// Likewise for the disk of the state: at whatever point it is full, there is an error,
// and with room again the client continues.
func TestFullDiskOfTheState(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root; TestFullStore does the like without root")
	}
	failed := 0
	for room := 0; room <= 48<<10; room += 8 << 10 {
		w := newWeb(t)
		mount(t, "none", w.dir, "tmpfs", 0, "size=128k")
		w.good(w.client(), 1)
		w.repo.NextRoot(nothing)
		renew(w.repo)
		var disk syscall.Statfs_t
		must(t, syscall.Statfs(w.dir, &disk))
		mustWrite(t, filepath.Join(w.dir, "ballast"), make([]byte, int(disk.Bfree)*int(disk.Bsize)-room))
		_, err := w.client().Refresh(t.Context())
		if err != nil {
			failed++
			if isRefreshError(err) || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("room for %d bytes: %v", room, err)
			}
		}
		must(t, os.Remove(filepath.Join(w.dir, "ballast")))
		w.good(w.client(), 2)
	}
	if failed == 0 {
		t.Error("the disk was never full")
	}
}
