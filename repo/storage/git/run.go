package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
)

const (
	maxMessages = 16 << 10  // bytes that are kept of what git reports
	maxTree     = 256 << 20 // bytes of the listing of a tree, and of its index
	maxLine     = 64 << 10  // bytes of short answers
	strayAge    = 24 * time.Hour
	closeTime   = 10 * time.Second // for the end of processes that git started, after its own
)

// command is one call of git.
type command struct {
	args  []string
	dir   string // the git directory; "": the shared one
	stdin io.Reader
	limit int // bytes of standard output
	out   []byte
	env   []string
}

// runError is a call of git that failed.
type runError struct {
	what     string // the command
	messages string // of git and of the host
	out      []byte
	err      error
}

func (e *runError) Error() string {
	if e.messages == "" {
		return fmt.Sprintf("git %s: %v", e.what, e.err)
	}
	return fmt.Sprintf("git %s: %s", e.what, e.messages)
}

func (e *runError) Unwrap() error { return e.err }

// git runs git and returns its standard output.
func (b *Branch) git(ctx context.Context, c command) ([]byte, error) {
	if c.limit == 0 {
		c.limit = maxLine
	}
	err := b.run(ctx, &c)
	return c.out, err
}

// execute runs a command of git to its end. When ctx ends, git and what it started are
// killed.
func (b *Branch) execute(ctx context.Context, c *command) error {
	cmd := b.command(ctx, c)
	out, messages := &tail{limit: c.limit}, &tail{limit: maxMessages, drop: true}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, out, messages
	err := cmd.Run()
	c.out = out.data
	return c.result(ctx, err, out.over, messages)
}

// result is the error of a command that has ended.
func (c *command) result(ctx context.Context, err error, over bool, messages *tail) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case over:
		err = fmt.Errorf("the output has more than %d bytes", c.limit)
	case err == nil:
		return nil
	}
	return &runError{what: c.args[0], messages: clean(messages.data), out: c.out, err: err}
}

func (b *Branch) command(ctx context.Context, c *command) *exec.Cmd {
	dir := c.dir
	if dir == "" {
		dir = b.shared
	}
	cmd := exec.CommandContext(ctx, b.program, c.args...)
	cmd.Dir = dir
	cmd.Env = append(append(append([]string{}, b.env...), "GIT_DIR="+dir, "GIT_OBJECT_DIRECTORY="+filepath.Join(b.shared, "objects")), c.env...)
	cmd.WaitDelay = closeTime
	ownGroup(cmd)
	return cmd
}

// tail keeps a bounded part of what is written to it.
type tail struct {
	data  []byte
	limit int
	drop  bool // keeps the last bytes instead of failing
	over  bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	switch {
	case len(t.data) <= t.limit:
	case t.drop && len(t.data) > 2*t.limit:
		t.data = append([]byte(nil), t.data[len(t.data)-t.limit:]...)
	case !t.drop:
		t.data, t.over = t.data[:t.limit], true
		return 0, errors.New("too much output")
	}
	return len(p), nil
}

var (
	userInfo = regexp.MustCompile(`://[^/@\s]*@`)
	noise    = regexp.MustCompile(`(?i)^(hint: .*|warning: filtering not recognized.*|remote:\s*|Please make sure you have the correct access rights|and the repository exists\.|To .*|error: failed to push some refs to .*|Pushing to .*)$`)
)

// clean returns the messages of git as one line without credentials.
func clean(messages []byte) string {
	var out []string
	for line := range strings.Lines(string(messages)) {
		if i := strings.LastIndexByte(strings.TrimRight(line, "\r\n"), '\r'); i >= 0 {
			line = line[i+1:] // of a progress bar the last state
		}
		if line = strings.TrimSpace(line); line != "" && !noise.MatchString(line) {
			out = append(out, line)
		}
	}
	s := userInfo.ReplaceAllString(strings.Join(out, "; "), "://")
	if s = text.Line(s); len(s) > 1000 {
		s = s[:500] + " ... " + s[len(s)-490:]
	}
	return s
}

var (
	versions    sync.Map // path -> error of its version
	versionForm = regexp.MustCompile(`^git version (\d+)\.(\d+)`)
)

// findProgram returns the path of git, and an error if it is too old: GIT_CONFIG_GLOBAL
// is of 2.32.
func findProgram(ctx context.Context, path string) (string, error) {
	if path == "" {
		found, err := exec.LookPath("git")
		if err != nil {
			return "", fmt.Errorf("the program git is required and not installed: %w", err)
		}
		path = found
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if known, ok := versions.Load(path); ok && known == nil {
		return path, nil
	}
	out, err := exec.CommandContext(ctx, path, "version").Output()
	if err != nil {
		return "", fmt.Errorf("%s version: %w", text.Name(path), err)
	}
	m := versionForm.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s is no git: its version is %s", text.Name(path), text.Bytes(out))
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	if major < 2 || major == 2 && minor < 32 {
		return "", fmt.Errorf("%s is version %d.%d: version 2.32 or newer is required", text.Name(path), major, minor)
	}
	versions.Store(path, nil)
	return path, nil
}

// passed are the variables of git that the user may set. All others are removed: they
// could start programs, or permit transports.
var passed = map[string]bool{"GIT_SSH_COMMAND": true, "GIT_SSH": true, "GIT_SSH_VARIANT": true, "GIT_ASKPASS": true, "GIT_SSL_CAINFO": true, "GIT_SSL_CAPATH": true,
	"GIT_AUTHOR_NAME": true, "GIT_AUTHOR_EMAIL": true, "GIT_COMMITTER_NAME": true, "GIT_COMMITTER_EMAIL": true}

// environment is that of git, without its configuration files. Only settings of
// credentials and of HTTP connections are taken from them.
func environment(environ []string, settings [][2]string) []string {
	have := map[string]bool{}
	var out []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		upper := strings.ToUpper(name)
		if strings.HasPrefix(upper, "GIT_") && !passed[upper] || upper == "LC_ALL" || upper == "LANGUAGE" || strings.HasPrefix(upper, "SSH_ASKPASS") {
			continue
		}
		have[upper] = true
		out = append(out, kv)
	}
	set := func(name, value string) {
		if !have[name] {
			out = append(out, name+"="+value)
		}
	}
	if !have["GIT_SSH"] {
		set("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=60 -o ServerAliveInterval=30 -o ServerAliveCountMax=10")
	}
	for _, who := range []string{"AUTHOR", "COMMITTER"} {
		set("GIT_"+who+"_NAME", "visum")
		set("GIT_"+who+"_EMAIL", "visum@localhost")
	}
	out = append(out, "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+devNull, "GIT_TERMINAL_PROMPT=0", "GCM_INTERACTIVE=never",
		"GIT_NO_REPLACE_OBJECTS=1", "GIT_OPTIONAL_LOCKS=0", "GIT_ATTR_NOSYSTEM=1", "GIT_CONFIG_COUNT="+strconv.Itoa(len(settings)))
	for i, s := range settings {
		out = append(out, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, s[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, s[1]))
	}
	return out
}

// userSettings reads what the user has configured for credentials and HTTP connections,
// for all repositories. git starts no program for it. Settings that turn off the
// verification of certificates are left out.
func (b *Branch) userSettings(ctx context.Context) ([][2]string, error) {
	cmd := exec.CommandContext(ctx, b.program, "config", "-z", "--show-scope", "--get-regexp", `^(credential|http)\.`)
	cmd.Dir = b.shared
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(strings.ToUpper(kv), "=")
		if !strings.HasPrefix(name, "GIT_") || name == "GIT_CONFIG_GLOBAL" || name == "GIT_CONFIG_SYSTEM" || name == "GIT_CONFIG_NOSYSTEM" {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "GIT_DIR="+b.shared)
	out, messages := &tail{limit: 1 << 20}, &tail{limit: maxMessages, drop: true}
	cmd.Stdout, cmd.Stderr = out, messages
	if err := cmd.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
			return nil, nil // nothing is configured
		}
		return nil, fmt.Errorf("git config: %s: %w", clean(messages.data), err)
	}
	fields := strings.Split(string(out.data), "\x00")
	var settings [][2]string
	for i := 0; i+1 < len(fields); i += 2 {
		key, value, hasValue := strings.Cut(fields[i+1], "\n")
		if !hasValue {
			value = "true"
		}
		lower := strings.ToLower(key)
		if scope := fields[i]; scope == "local" || scope == "worktree" || strings.HasPrefix(lower, "http.") && strings.HasSuffix(lower, ".sslverify") {
			continue
		}
		settings = append(settings, [2]string{key, value})
	}
	return settings, nil
}

// prepare makes the directories of the local copy.
func (b *Branch) prepare(ctx context.Context) error {
	b.shared = filepath.Join(b.dir, "repository")
	b.offline = filepath.Join(b.dir, "offline")
	for _, dir := range []string{b.dir, b.shared, b.offline, filepath.Join(b.offline, "refs"), filepath.Join(b.shared, "objects"), filepath.Join(b.shared, "refs"), filepath.Join(b.dir, "run")} {
		if err := durable.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := writeGitDir(b.shared, b.configFile()); err != nil {
		return err
	}
	if err := writeGitDir(b.offline, settings); err != nil {
		return err
	}
	user, err := b.userSettings(ctx)
	if err != nil {
		return err
	}
	b.env = environment(os.Environ(), user)
	b.sweep()
	return nil
}

// sweep removes what processes left that were killed.
func (b *Branch) sweep() {
	run := filepath.Join(b.dir, "run")
	entries, _ := os.ReadDir(run)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > strayAge {
			os.RemoveAll(filepath.Join(run, e.Name()))
		}
	}
}

func writeGitDir(dir, config string) error {
	for name, content := range map[string]string{"HEAD": "ref: refs/heads/none\n", "config": config} {
		path := filepath.Join(dir, name)
		if have, err := os.ReadFile(path); err == nil && string(have) == content {
			continue
		}
		if err := durable.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// devNull is the name that git has for it on every system.
const devNull = "/dev/null"

// configFile is the only configuration file that git reads. No setting starts a program.
func (b *Branch) configFile() string {
	quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(b.remote) + `"`
	scheme, _, isURL := strings.Cut(b.remote, "://")
	if !isURL {
		scheme = "ssh"
	}
	return settings + fmt.Sprintf("[gc]\n\tauto = %d\n", b.loose) + `[extensions]
	partialClone = origin
[remote "origin"]
	url = ` + quoted + `
	promisor = true
	partialclonefilter = ` + filter + `
[protocol "` + scheme + `"]
	allow = always
`
}

// filter leaves large files at the host until they are read.
const filter = "blob:limit=1m"

const settings = `[core]
	repositoryformatversion = 1
	bare = true
	hooksPath = ` + devNull + `
	fsmonitor = false
	attributesFile = ` + devNull + `
	bigFileThreshold = 4m
	logAllRefUpdates = false
[protocol]
	allow = never
	version = 2
[submodule]
	recurse = false
[fetch]
	recurseSubmodules = false
[push]
	recurseSubmodules = no
	followTags = false
	gpgSign = false
[commit]
	gpgSign = false
[maintenance]
	auto = false
[gc]
	autoDetach = false
	pruneExpire = 2.days.ago
[http]
	lowSpeedLimit = 1
	lowSpeedTime = 300
`

// scratch is a git directory for one call: references and the like of other processes
// can neither be in its way nor be left behind by a killed one. Objects are shared.
func (b *Branch) scratch(tip string) (dir string, done func(), err error) {
	if dir, err = os.MkdirTemp(filepath.Join(b.dir, "run"), "git-"); err != nil {
		return "", nil, err
	}
	done = func() { os.RemoveAll(dir) }
	write := func(name, content string) {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600)
		}
	}
	err = os.MkdirAll(filepath.Join(dir, "refs", "visum"), 0o700)
	write("HEAD", "ref: refs/heads/none\n")
	write("config", b.configFile())
	if tip != "" {
		write(filepath.Join("refs", "visum", "tip"), tip+"\n")
		// In a shallow repository git looks for unchanged files in the tip, although the new
		// commit does not have it as parent, and sends only the others.
		write("shallow", tip+"\n")
	}
	if err != nil {
		done()
		return "", nil, err
	}
	return dir, done, nil
}

func isRunError(err error) (*runError, bool) {
	var e *runError
	ok := errors.As(err, &e)
	return e, ok
}

func lines(data []byte) []string { return strings.Split(string(bytes.TrimRight(data, "\n")), "\n") }
