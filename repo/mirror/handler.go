package mirror

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

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Cache headers of a [Handler]. Clients see a new root or timestamp within a minute.
// All other files never change.
const (
	cacheShort   = "public, max-age=60, no-transform"
	cacheForEver = "public, max-age=31536000, immutable, no-transform"
)

// Handler serves a repository as a location: "metadata/..." and "targets/..." below the
// path at which it is mounted; use http.StripPrefix if that is not "/". It supports GET
// and HEAD, ranges, and entity tags that are equal on all mirrors. Immutable files may
// be cached without limit; timestamp.json and the absence of a root for a minute. A
// file that does not exist is 404. So is a folder, and a name with an element that
// begins with a dot. An error of the storage is 503, which clients do not take for
// absence.
//
// Metadata is compressed for clients that accept gzip, since snapshots that list many
// hash bins shrink to a tenth. Targets are not compressed.
//
// If the storage is a [storage.Source] whose files can seek, as [storage.Dir] has, files of any size
// are streamed. Otherwise files of more than [storage.MaxRead] bytes are 503.
func Handler(s storage.Storage) http.Handler { return handler{storage.SourceOf(s)} }

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
	// A folder, or anything else that is not a regular file, is treated as absent.
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

// serve answers with a file. If it returns an error, no response has been written yet.
func serve(w http.ResponseWriter, r *http.Request, name string, f io.ReadCloser) error {
	content, ok := f.(io.ReadSeeker)
	size := int64(0)
	var err error
	if ok {
		if size, err = content.Seek(0, io.SeekEnd); err == nil {
			_, err = content.Seek(0, io.SeekStart)
		}
		if err == nil && size <= maxHashed && !hashedName(name) {
			// It is read to be hashed, and then to be sent: from a bucket that takes two requests.
			var data []byte
			if data, err = io.ReadAll(io.LimitReader(f, size+1)); err == nil && int64(len(data)) != size {
				err = io.ErrUnexpectedEOF
			}
			content = bytes.NewReader(data)
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
		if role, _ := layout.SplitRoleName(name); role == "" {
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

// acceptsGzip reports whether the request accepts gzip.
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, q, weighed := strings.Cut(strings.TrimSpace(coding), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return !weighed || strings.Trim(strings.ReplaceAll(q, " ", ""), "qQ=0.") != ""
		}
	}
	return false
}

// maxHashed is the size of files without a hash in the name that are hashed for their
// entity tag.
const maxHashed = 4 << 20

// hashedName reports whether a name has the hash of the file.
func hashedName(name string) bool {
	return strings.HasPrefix(name, "targets/") && layout.IsTargetName(name)
}

// entityTag identifies the content independently of the mirror, so that a download can
// resume on another one. Small files without a hash in the name are hashed.
func entityTag(name string, content io.ReadSeeker, size int64) (string, error) {
	if hashedName(name) {
		return fmt.Sprintf(`"%s-%x"`, path.Base(name)[:32], size), nil
	}
	if size > maxHashed {
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
