package relocate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
)

// ranges checks that an interrupted download can resume, and that it never continues
// with the bytes of another file.
func (v *probe) ranges(ctx context.Context) error {
	if !v.content() {
		return nil
	}
	var file target
	for _, t := range v.want.files { // the largest that fits in memory
		if t.length >= 2 && t.length <= min(1<<20, storage.MaxRead) {
			file = t
		}
	}
	if file.name == "" {
		return nil
	}
	want, err := v.storage.Read(ctx, file.name)
	if errors.Is(err, fs.ErrNotExist) {
		v.found.add(LevelError, "parity", "", "%s is listed but missing in the storage", text.Name(file.name))
		return nil
	}
	if err != nil {
		return err
	}
	ask := func(header map[string]string) (*http.Response, []byte, bool) {
		resp, data, err := v.get(ctx, file.name, header, file.length)
		if err != nil {
			v.add(LevelError, "ranges", "%s: %v", text.Name(file.name), reason(err))
		}
		return resp, data, err == nil
	}
	begin := file.length / 2
	from := fmt.Sprintf("bytes=%d-", begin)
	resp, data, ok := ask(map[string]string{"Range": from})
	if !ok {
		return ctx.Err()
	}
	if resp.StatusCode == http.StatusOK {
		v.add(LevelWarning, "ranges", "the server ignores Range: an interrupted download starts again")
		return nil
	}
	if resp.StatusCode != http.StatusPartialContent {
		if !none(resp.StatusCode) { // parity has reported a missing file
			v.add(LevelError, "ranges", "the server answers a Range with status %d", resp.StatusCode)
		}
		return nil
	}
	if got, right := resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", begin, file.length-1, file.length); got != right {
		v.add(LevelError, "ranges", "Content-Range is %s, must be %q", text.Quote(got), right)
		return nil
	}
	if !bytes.Equal(data, want[begin:]) {
		v.add(LevelError, "ranges", "the bytes of a range differ from the file")
		return nil
	}
	tag := resp.Header.Get("ETag")
	if !strings.HasPrefix(tag, `"`) {
		v.add(LevelNote, "ranges", "the server sends no strong ETag: clients detect a changed file only by its hash")
	} else if resp, _, ok = ask(map[string]string{"Range": from, "If-Range": tag}); ok && resp.StatusCode != http.StatusPartialContent {
		v.add(LevelWarning, "ranges", "the server answers If-Range with its own ETag with status %d: an interrupted download starts again", resp.StatusCode)
	}
	if resp, _, ok = ask(map[string]string{"Range": from, "If-Range": `"of-another-file"`}); ok && resp.StatusCode != http.StatusOK {
		v.add(LevelError, "ranges", "the server answers If-Range with another ETag with status %d: it must send the whole file", resp.StatusCode)
	}
	return ctx.Err()
}
