package git

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
)

var (
	// ErrURI: the URI of a branch is invalid. The error does not contain the URI, since it
	// may contain credentials by mistake.
	ErrURI = errors.New("invalid URI of a branch")
	// ErrForeignBranch: the branch exists and has no index of this package, so that a write
	// would replace the history of something else.
	ErrForeignBranch = errors.New("the branch is not one of this package")
	// ErrRefused: the host refused the push, for example because of missing rights, a hook
	// or a protected branch.
	ErrRefused = errors.New("the host refused the push")
)

// Options configures [Open].
type Options struct {
	// Program is the path of the git program, version 2.32 or newer. "": git in PATH.
	Program string
	// CacheDir is the directory of the local copies of branches, which only this user can
	// write. "": visum/git in os.UserCacheDir. Each branch has a directory of its own in it,
	// which may be removed while no process uses it.
	CacheDir string
	// MaxFile is the size limit of a file in bytes. 0: 100 MiB, the limit of GitHub.
	MaxFile int64
	// ReadOnly opens the branch for reading. Writes fail with [errors.ErrUnsupported].
	ReadOnly bool

	// UnsafeLoopback permits http:// remotes on this machine. For development and tests.
	UnsafeLoopback bool
	// UnsafeLocal permits file:// remotes. git then runs the hooks of that repository and
	// the programs of its configuration, as this user. For tests.
	UnsafeLocal bool
}

// Branch is a storage in a branch of a git repository. It implements [storage.Storage],
// [storage.Source], [storage.Lister], [storage.Remover], [storage.Copier] and
// [storage.Batcher], and needs no closing. The methods are safe for concurrent use, also
// by other processes.
type Branch struct {
	remote  string // as git takes it
	show    string // remote and branch in errors
	branch  string
	ref     string // refs/heads/branch
	folder  string // "" or with a slash at its end
	opt     Options
	program string
	dir     string   // the directory of the cache
	shared  string   // the git directory for what needs no references
	offline string   // the same without a remote: git fetches nothing there
	env     []string // of every git process

	busy   chan struct{} // held by the goroutine that pushes
	mu     sync.Mutex
	last   *state // the newest that is known; nil: none
	pushes int

	loose int // objects from which on unused ones are collected; git's own default
	clock func() time.Time
	wait  func(context.Context, time.Duration) error
	run   func(context.Context, *command) error // [Branch.execute]; replaced by tests
}

var _ interface {
	storage.Storage
	storage.Source
	storage.Lister
	storage.Remover
	storage.Copier
	storage.Batcher
} = (*Branch)(nil)

const defaultMaxFile = 100 << 20

// Open opens a branch by its URI, git:REMOTE#BRANCH or git:REMOTE#BRANCH:FOLDER:
//
//	git:https://codeberg.org/example/pages.git#kestrel
//	git:git@github.com:example/kestrel.git#gh-pages
//	git:ssh://git@gitlab.example:2222/example/kestrel.git#pages:updates
//
// REMOTE is an https or ssh address, without a user name or password for https and
// without a password for ssh: credentials come from git's credential helpers and from
// ssh. FOLDER is a folder of the branch that holds the repository; without it the whole
// branch does. Errors of an invalid URI wrap [ErrURI].
//
// Open reads the configuration of git for credentials and starts no connection. The
// branch need not exist: the first write makes it. opt may be nil and is copied.
func Open(ctx context.Context, uri string, opt *Options) (_ *Branch, err error) {
	defer text.OneLine(&err)
	b := &Branch{busy: make(chan struct{}, 1), loose: 6700, clock: time.Now, wait: sleep}
	b.run = b.execute
	if opt != nil {
		b.opt = *opt
	}
	if b.opt.MaxFile <= 0 {
		b.opt.MaxFile = defaultMaxFile
	}
	if err := b.parseURI(uri); err != nil {
		return nil, fmt.Errorf("git: %w: %w", ErrURI, err)
	}
	if b.program, err = findProgram(ctx, b.opt.Program); err != nil {
		return nil, fmt.Errorf("git: %w", err)
	}
	dir := b.opt.CacheDir
	if dir == "" {
		if dir, err = os.UserCacheDir(); err != nil {
			return nil, fmt.Errorf("git: no directory for the local copy: %w; Options.CacheDir names one", err)
		}
		dir = filepath.Join(dir, "visum", "git")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("git: %w", err)
	}
	b.dir = filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256([]byte(b.remote+"#"+b.branch)))[:32])
	if err := b.prepare(ctx); err != nil {
		return nil, fmt.Errorf("git: %s: the local copy in %s: %w", b.show, text.Name(b.dir), err)
	}
	return b, nil
}

var (
	branchName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/+@-]*$`)
	scpForm    = regexp.MustCompile(`^(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]+:[A-Za-z0-9_./~+@%-]+$`)
	pathForm   = regexp.MustCompile(`^/[A-Za-z0-9_./~+@%-]*$`)
	printable  = regexp.MustCompile(`^[!-~]+$`)
	helperForm = regexp.MustCompile(`^[A-Za-z0-9+.-]*::`) // git starts a program of that name
	portForm   = regexp.MustCompile(`^[0-9]{0,5}$`)
	hostForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)
)

// parseURI never includes the URI or one of its parts in an error.
func (b *Branch) parseURI(uri string) error {
	rest, ok := strings.CutPrefix(uri, "git:")
	if !ok {
		return errors.New("it does not have the form git:REMOTE#BRANCH")
	}
	remote, branch, ok := strings.Cut(rest, "#")
	if !ok || branch == "" {
		return errors.New("the branch is missing: git:REMOTE#BRANCH")
	}
	branch, folder, hasFolder := strings.Cut(branch, ":")
	if !goodBranch(branch) {
		return errors.New("the branch has characters other than A-Z a-z 0-9 . _ / + @ -, or is no valid name of a branch")
	}
	if hasFolder {
		if storage.CheckName(folder) != nil || len(folder) > 512 || notForGit(folder) {
			return errors.New("the folder is no valid name of at most 512 bytes")
		}
		b.folder = folder + "/"
	}
	if err := checkRemote(remote, b.opt.UnsafeLoopback, b.opt.UnsafeLocal); err != nil {
		return err
	}
	b.remote, b.branch, b.ref = remote, branch, "refs/heads/"+branch
	b.show = fmt.Sprintf("branch %s of %s", text.Name(branch), text.Line(remote))
	return nil
}

// goodBranch is stricter than git check-ref-format.
func goodBranch(s string) bool {
	if len(s) > 200 || !branchName.MatchString(s) || strings.Contains(s, "..") || strings.Contains(s, "@{") || s == "@" || s == "HEAD" {
		return false
	}
	for _, e := range strings.Split(s, "/") {
		if e == "" || e[0] == '.' || strings.HasSuffix(e, ".") || strings.HasSuffix(strings.ToLower(e), ".lock") {
			return false
		}
	}
	return true
}

// checkRemote permits https and ssh. Every other transport of git can run programs or
// read files of this machine.
func checkRemote(remote string, loopback, local bool) error {
	kinds := errors.New("the remote is neither https://HOST/PATH nor ssh://USER@HOST/PATH nor USER@HOST:PATH")
	if helperForm.MatchString(remote) || len(remote) > 1000 || !printable.MatchString(remote) || strings.HasPrefix(remote, "-") {
		return kinds
	}
	scheme, _, isURL := strings.Cut(remote, "://")
	if !isURL {
		if !scpForm.MatchString(remote) || strings.Contains(remote, ":-") {
			return kinds
		}
		return nil
	}
	u, err := url.Parse(remote)
	if err != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" {
		return kinds
	}
	if local && scheme == "file" && u.Host == "" && u.User == nil {
		return nil
	}
	_, password := u.User.Password()
	switch ip, err := netip.ParseAddr(u.Hostname()); {
	case password || scheme != "ssh" && u.User != nil:
		return errors.New("credentials do not belong into the URI: git takes them from a credential helper")
	case scheme != "https" && scheme != "ssh" && scheme != "http":
		return kinds
	case err != nil && !hostForm.MatchString(u.Hostname()), !portForm.MatchString(u.Port()), !pathForm.MatchString(u.EscapedPath()), u.Path == "/":
		return kinds
	case u.User != nil && (len(u.User.Username()) > 200 || !branchName.MatchString(u.User.Username())):
		return kinds
	case scheme == "http" && (!loopback || u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback())):
		return errors.New("a remote with http: is neither private nor protected against changes: use https or ssh")
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
