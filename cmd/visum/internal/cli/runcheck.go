package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

const (
	maxChecked  = 1000    // targets of one round
	maxExamined = 8 << 30 // bytes of one target
	recheck     = time.Hour
)

// examine runs the check on the targets below the prefixes, and returns those that it
// accepts. Targets that this party recalled or refused are left to a person.
func (r *runner) examine(pending []repo.Pending) (good []repo.Pending, err error) {
	checked := 0
	for _, p := range pending {
		if !slices.ContainsFunc(r.o.approve, func(prefix string) bool { return strings.HasPrefix(p.Path, prefix) }) {
			continue
		}
		if r.outer.Err() != nil || checked == maxChecked {
			break
		}
		if p.Recalled != nil || p.Refused != nil {
			r.found = true
			r.emitOnce(event{Event: "waits", Path: p.Path, SHA256: p.SHA256, Reason: "this party recalled or refused these bytes before: a person decides", Next: "visum review list"})
			continue
		}
		key := p.Name
		if r.Now().Before(r.later[key]) {
			r.found = true
			continue
		}
		checked++
		switch err := r.checkOne(p); {
		case err == nil:
			delete(r.later, key)
			good = append(good, p)
		case r.ctx.Err() != nil:
			return nil, r.ctx.Err()
		case errors.Is(err, errAbsent):
			r.found = true
			r.emitOnce(event{Event: "waits", Path: p.Path, SHA256: p.SHA256, Reason: "its file is not in the repository's storage", Next: "visum clone, or visum run --with-files"})
		default:
			r.found = true
			if len(r.later) > 100_000 {
				clear(r.later)
			}
			r.later[key] = r.Now().Add(recheck)
			r.emit(event{Event: "check_failed", Path: p.Path, SHA256: p.SHA256, Reason: text.Line(err.Error()), Next: "visum review list"})
		}
	}
	return good, nil
}

var errAbsent = errors.New("the file of the target is not in the storage")

// checkOne writes the bytes of a target to a file and runs the check on it.
func (r *runner) checkOne(p repo.Pending) (err error) {
	if p.Length > maxExamined {
		return fmt.Errorf("%w: %d bytes, at most %d", tuf.ErrTooLarge, p.Length, int64(maxExamined))
	}
	src, err := r.site.OpenPending(r.ctx, p)
	if errors.Is(err, fs.ErrNotExist) {
		return errAbsent
	}
	if err != nil {
		return err
	}
	defer src.Close()
	dir, err := os.MkdirTemp("", "visum-check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "target")
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, src)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return r.program(file, p)
}

// findCheck returns the absolute path of the check.
func findCheck(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", usage("--check %s: %w", text.Quote(name), err)
	}
	return path, nil
}

// program runs the check. It has no shell, a limited time and a limited environment,
// since what it examines comes from another party.
func (r *runner) program(file string, p repo.Pending) error {
	limited, cancel := context.WithTimeout(r.ctx, r.o.timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, r.check, file, p.Path)
	cmd.Env = []string{"VISUM_PATH=" + p.Path, "VISUM_SHA256=" + p.SHA256, fmt.Sprintf("VISUM_LENGTH=%d", p.Length), "VISUM_REPO_ID=" + r.site.repoID, "VISUM_PARTY=" + r.site.party}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "SYSTEMROOT"} {
		if v := r.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	if rel := p.Release; rel != nil {
		cmd.Env = append(cmd.Env, "VISUM_PRODUCT="+rel.Product, "VISUM_VERSION="+rel.Version, "VISUM_CHANNEL="+rel.Channel, "VISUM_PLATFORM="+rel.Platform)
	}
	said := &tail{}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = said, said, 2*time.Second
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	case limited.Err() != nil:
		err = fmt.Errorf("it took longer than %s", r.o.timeout)
	}
	return fmt.Errorf("%s: %w: %s", text.Name(r.o.check), err, text.Quote(strings.TrimSpace(string(bytes.ToValidUTF8(said.data, nil)))))
}

// tail keeps the last 1 kB that is written.
type tail struct{ data []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if over := len(t.data) - 1024; over > 0 {
		t.data = slices.Clone(t.data[over:])
	}
	return len(p), nil
}
