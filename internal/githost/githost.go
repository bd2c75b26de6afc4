// Package githost is a git host for tests: bare repositories behind git http-backend, and
// the pages of a branch.
package githost

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/visum-dev/visum/repo/storage"
)

// Host serves the bare repositories of a directory: /NAME.git is for git, and
// /pages/NAME/BRANCH/ has the files of a branch.
type Host struct {
	git, root string
	backend   *cgi.Handler
	// User and Password are those that git must send; "": none.
	User, Password string
	// ReadOnly refuses pushes with 403.
	ReadOnly bool
}

// New returns the host of a directory. git is the path of the program.
func New(git, root string) (*Host, error) {
	out, err := exec.Command(git, "--exec-path").Output()
	if err != nil {
		return nil, err
	}
	return &Host{git: git, root: root, backend: &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Root: "/",
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=publisher"}}}, nil
}

// Init makes an empty repository.
func (h *Host) Init(name string) error {
	dir := filepath.Join(h.root, name+".git")
	for _, args := range [][]string{{"init", "-q", "--bare", dir}, {"--git-dir=" + dir, "config", "uploadpack.allowFilter", "true"}} {
		if out, err := exec.Command(h.git, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
	}
	return nil
}

func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/pages/"); ok {
		h.page(w, r, rest)
		return
	}
	if user, password, _ := r.BasicAuth(); h.User != "" && (user != h.User || password != h.Password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(w, "who is it?", http.StatusUnauthorized)
		return
	}
	if h.ReadOnly && (r.URL.Query().Get("service") == "git-receive-pack" || strings.HasSuffix(r.URL.Path, "/git-receive-pack")) {
		http.Error(w, "no rights to write", http.StatusForbidden)
		return
	}
	body, err := io.ReadAll(r.Body) // CGI needs its length
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	h.backend.ServeHTTP(w, r)
}

// page serves a file of a branch as a host of pages does.
func (h *Host) page(w http.ResponseWriter, r *http.Request, path string) {
	parts := strings.SplitN(path, "/", 3)
	if len(parts) != 3 || storage.CheckName(parts[0]) != nil || storage.CheckName(parts[1]) != nil || storage.CheckName(parts[2]) != nil {
		http.NotFound(w, r)
		return
	}
	out, err := exec.Command(h.git, "--git-dir="+filepath.Join(h.root, parts[0]+".git"), "cat-file", "blob", "refs/heads/"+parts[1]+":"+parts[2]).Output()
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(out)
}
