package main

import (
	"context"
	"errors"
	"os"
	"runtime"

	"github.com/visum-dev/visum/client"
)

// update replaces the file exe by the newest approved release.
func update(ctx context.Context, state, exe, installed string) (client.Release, error) {
	c, err := client.New(pin, &client.Config{Dir: state, UnsafeLoopback: demo})
	if err != nil {
		return client.Release{}, err
	}
	view, err := c.Refresh(ctx)
	if err != nil {
		return client.Release{}, err
	}
	rel, err := view.Latest(ctx, client.Query{Product: "agent", Channel: "stable",
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Installed: installed})
	if err != nil {
		return client.Release{}, err
	}
	if err := c.Save(ctx, rel.Approved, exe+".new"); err != nil {
		return client.Release{}, err
	}
	if err := os.Chmod(exe+".new", 0o755); err != nil {
		return client.Release{}, err
	}
	if err := replace(exe+".new", exe); err != nil {
		return client.Release{}, err
	}
	return rel, nil
}

// replace replaces the running program by the new one, in one step. Windows does not
// overwrite a running program, but allows to rename it; if the second step fails there,
// the old name is restored.
func replace(next, exe string) error {
	if runtime.GOOS != "windows" {
		return os.Rename(next, exe)
	}
	if err := os.Rename(exe, exe+".old"); err != nil {
		return err
	}
	if err := os.Rename(next, exe); err != nil {
		return errors.Join(err, os.Rename(exe+".old", exe))
	}
	return nil
}
