package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/visum-dev/visum/client"
)

// product is the software that is distributed, and its installation.
type product interface {
	// build returns the file of a version and its base name in the repository.
	build(ctx context.Context, version string) (file, name string, err error)
	// install puts version 1.0 and the pin on a machine, without an update.
	install(ctx context.Context, machine string, pin []byte) error
	// run starts the installed version, which checks for an update. It returns the
	// version that runs in the end, and the lines of output.
	run(ctx context.Context, machine string) (version string, output []string, err error)
	// platform is the platform of its releases.
	platform() string
}

// agentProduct is examples/agent, built with the Go tool.
type agentProduct struct {
	dir string // for builds
	pin []byte
}

func exeName(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

func (a *agentProduct) platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

func (a *agentProduct) build(ctx context.Context, version string) (file, name string, err error) {
	src, err := goTool(ctx, a.dir, "list", "-f", "{{.Dir}}", "github.com/visum-dev/visum/examples/agent")
	if err != nil {
		return "", "", err
	}
	// The pin is embedded. An overlay replaces the file in the source tree by the pin of
	// this repository.
	pin, overlay := filepath.Join(a.dir, "pin.json"), filepath.Join(a.dir, "overlay.json")
	if err := os.WriteFile(pin, a.pin, 0o644); err != nil {
		return "", "", err
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(src, "pin.json"): pin}})
	if err != nil {
		return "", "", err
	}
	if err := os.WriteFile(overlay, replace, 0o644); err != nil {
		return "", "", err
	}
	name = exeName("agent-" + version)
	file = filepath.Join(a.dir, name)
	_, err = goTool(ctx, a.dir, "build", "-buildvcs=false", "-tags", "demo", "-overlay", overlay, "-o", file,
		"-ldflags", fmt.Sprintf("-s -w -X main.version=%s", version), "github.com/visum-dev/visum/examples/agent")
	return file, name, err
}

// goTool runs the go command, with the flags of go run, so that both share compiled
// packages. Temporary files of an interrupted build are in dir.
func goTool(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "GOTMPDIR="+dir, "GOOS=", "GOARCH=")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("go %s: %s", strings.Join(args, " "), exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

func (a *agentProduct) install(ctx context.Context, machine string, pin []byte) error {
	a.pin = pin
	file, _, err := a.build(ctx, "1.0")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(machine, 0o755); err != nil {
		return err
	}
	return copyFile(filepath.Join(machine, exeName("agent")), file)
}

func (a *agentProduct) run(ctx context.Context, machine string) (version string, output []string, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(machine, exeName("agent")), "-state", filepath.Join(machine, "state"))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return "", nil, errors.Join(ctx.Err(), err)
	}
	for line := range strings.Lines(string(out)) {
		output = append(output, strings.TrimRight(line, "\r\n"))
		if v, ok := strings.CutSuffix(strings.TrimSpace(line), ": running"); ok {
			version = strings.TrimPrefix(v, "agent ") // the last such line names the version that runs
		}
	}
	return version, output, nil
}

// fileProduct distributes a file of the user. This process installs it, with the same
// client.
type fileProduct struct {
	file string
	dir  string
	pin  []byte
}

func (f *fileProduct) platform() string { return "any" }

func (f *fileProduct) build(_ context.Context, version string) (file, name string, err error) {
	file = f.file
	if version == "6.6.6" { // the attacker's file
		file = filepath.Join(f.dir, "evil")
		err = os.WriteFile(file, []byte("evil\n"), 0o644)
	}
	return file, version + "-" + f.name(), err
}

// name is the name of the file, shortened and with characters that every storage accepts.
func (f *fileProduct) name() string {
	clean := func(r rune) rune {
		if r < ' ' || strings.ContainsRune(`\/:*?"<>|`, r) || r == utf8.RuneError {
			return '_'
		}
		return r
	}
	name := []rune(strings.Map(clean, filepath.Base(f.file)))
	return strings.TrimRight(string(name[:min(len(name), 40)]), ". ")
}

func (f *fileProduct) install(_ context.Context, machine string, pin []byte) error {
	f.pin = pin
	if err := os.MkdirAll(machine, 0o755); err != nil {
		return err
	}
	return f.setVersion(machine, "1.0")
}

func (f *fileProduct) setVersion(machine, version string) error {
	return os.WriteFile(filepath.Join(machine, "version"), []byte(version), 0o644)
}

func (f *fileProduct) run(ctx context.Context, machine string) (version string, output []string, err error) {
	data, err := os.ReadFile(filepath.Join(machine, "version"))
	if err != nil {
		return "", nil, err
	}
	version = string(data)
	report := func(format string, args ...any) {
		output = append(output, fmt.Sprintf("product %s: ", version)+fmt.Sprintf(format, args...))
	}
	report("running")
	rel, err := f.update(ctx, machine, version)
	switch {
	case ctx.Err() != nil:
		return "", nil, ctx.Err()
	case errors.Is(err, client.ErrUpToDate):
		report("no update: %v", err)
		return version, output, nil
	case err != nil:
		report("%v", err)
		return version, output, nil
	}
	report("installed %s: %s", rel.Version, rel.Approved)
	version = rel.Version
	report("running")
	return version, output, f.setVersion(machine, version)
}

func (f *fileProduct) update(ctx context.Context, machine, version string) (client.Release, error) {
	c, err := client.New(f.pin, &client.Config{Dir: filepath.Join(machine, "state"), UnsafeLoopback: true})
	if err != nil {
		return client.Release{}, err
	}
	view, err := c.Refresh(ctx)
	if err != nil {
		return client.Release{}, err
	}
	rel, err := view.Latest(ctx, client.Query{Product: "agent", Channel: "stable", Platform: "any", Installed: version})
	if err != nil {
		return client.Release{}, err
	}
	return rel, c.Save(ctx, rel.Approved, filepath.Join(machine, rel.Version+"-"+f.name()))
}

func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
