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
	// A running program can be moved aside on every system, but not overwritten on all.
	if err := os.Rename(exe, exe+".old"); err != nil {
		return client.Release{}, err
	}
	if err := os.Rename(exe+".new", exe); err != nil {
		return client.Release{}, errors.Join(err, os.Rename(exe+".old", exe))
	}
	return rel, nil
}
