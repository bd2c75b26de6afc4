package repo

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Cache headers of a [Handler]. A new root, and a new timestamp, are seen within
// a minute; all else never changes under its name.
const (
	cacheShort   = "public, max-age=60, no-transform"
	cacheForEver = "public, max-age=31536000, immutable, no-transform"
)

// Handler serves a repository as a location: "metadata/..." and "targets/..."
// below the path that it is mounted at, with http.StripPrefix where that is not
// "/". GET and HEAD, ranges, entity tags that are the same on all mirrors. Files
// that never change may be cached for ever; timestamp.json, and that there is no
// such root yet, for a minute. What is not there is 404, always; folders, and
// names of which any element begins with a dot, are not there. Where the storage fails it is 503,
// which clients don't take for absence.
//
// Metadata is compressed for clients that take it so: snapshots that list many
// hash bins shrink to a tenth. Targets never are.
//
// Where the storage is a [SourceRef] whose files can seek, as [DirStore] is, files of
// any size are streamed; otherwise those of more than [MaxRead] bytes are 503.
func Handler(s Storage) http.Handler { return handler{storage.SourceOf(s)} }

type handler struct{ src storage.Source }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		answer(w, http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	target := strings.HasPrefix(name, "targets/")
	if storage.CheckName(name) != nil || strings.Contains(name, "/.") || !target && !strings.HasPrefix(name, "metadata/") {
		w.Header().Set("Cache-Control", cacheShort)
		answer(w, http.StatusNotFound)
		return
	}
	f, err := h.src.Open(r.Context(), name)
	// A folder, or what else can't be read for what it is, is no file.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		w.Header().Set("Cache-Control", cacheShort)
		answer(w, http.StatusNotFound)
		return
	}
	if err == nil {
		defer f.Close()
		err = serve(w, r, name, f)
	}
	if err != nil {
		w.Header().Set("Cache-Control", "no-store")
		answer(w, http.StatusServiceUnavailable)
	}
}

func answer(w http.ResponseWriter, code int) { http.Error(w, http.StatusText(code), code) }

// serve answers with a file. An error means that nothing has been answered yet.
func serve(w http.ResponseWriter, r *http.Request, name string, f io.ReadCloser) error {
	content, ok := f.(io.ReadSeeker)
	size := int64(0)
	var err error
	if ok {
		if size, err = content.Seek(0, io.SeekEnd); err == nil {
			_, err = content.Seek(0, io.SeekStart)
		}
	} else {
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(f, storage.MaxRead+1)); len(data) > storage.MaxRead {
			err = tuf.ErrTooLarge
		}
		content, size = bytes.NewReader(data), int64(len(data))
	}
	if err != nil {
		return err
	}
	tag, err := entityTag(name, content, size)
	if err != nil {
		return err
	}
	head := w.Header()
	head.Set("ETag", tag)
	head.Set("Cache-Control", cacheForEver)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Type", "application/octet-stream")
	if strings.HasPrefix(name, "metadata/") {
		if role, _ := splitRoleName(name); role == "" {
			head.Set("Cache-Control", cacheShort)
		}
		head.Set("Content-Type", "application/json")
		head.Set("Vary", "Accept-Encoding")
		if size >= 1<<10 && r.Header.Get("Range") == "" && acceptsGzip(r) {
			var z bytes.Buffer
			zw := gzip.NewWriter(&z)
			if _, err := io.Copy(zw, content); err != nil {
				return err
			}
			if err := zw.Close(); err != nil {
				return err
			}
			head.Set("ETag", strings.TrimSuffix(tag, `"`)+`-gzip"`)
			head.Set("Content-Encoding", "gzip")
			content = bytes.NewReader(z.Bytes())
		}
	}
	http.ServeContent(w, r, "", time.Time{}, content)
	return nil
}

// acceptsGzip reports whether a client named gzip among the codings it takes.
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, q, weighed := strings.Cut(strings.TrimSpace(coding), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return !weighed || strings.Trim(strings.ReplaceAll(q, " ", ""), "qQ=0.") != ""
		}
	}
	return false
}

// entityTag names these bytes, wherever they are served: a download goes on at
// another mirror. What is not named by its hash is hashed where it is small.
func entityTag(name string, content io.ReadSeeker, size int64) (string, error) {
	if strings.HasPrefix(name, "targets/") && isTargetName(name) {
		return fmt.Sprintf(`"%s-%x"`, path.Base(name)[:32], size), nil
	}
	if size > 4<<20 {
		sum := sha256.Sum256([]byte(name))
		return fmt.Sprintf(`"%x-%x"`, sum[:16], size), nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, content); err != nil {
		return "", err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	return `"` + hex.EncodeToString(h.Sum(nil)[:16]) + `"`, nil
}
