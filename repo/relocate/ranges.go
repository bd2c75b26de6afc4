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

// ranges: an interrupted download goes on where it was, and never in the middle
// of another file.
func (v *visit) ranges(ctx context.Context) error {
	if !v.content() {
		return nil
	}
	var file target
	for _, t := range v.truth.files { // the largest that is at hand at once
		if t.length >= 2 && t.length <= min(1<<20, storage.MaxRead) {
			file = t
		}
	}
	if file.name == "" {
		return nil
	}
	want, err := v.storage.Read(ctx, file.name)
	if errors.Is(err, fs.ErrNotExist) {
		v.found.add(Error, "parity", "", "%s is listed, and is not in the storage", text.Name(file.name))
		return nil
	}
	if err != nil {
		return err
	}
	ask := func(header map[string]string) (*http.Response, []byte, bool) {
		resp, data, err := v.get(ctx, file.name, header, file.length)
		if err != nil {
			v.say(Error, "ranges", "%s: %v", text.Name(file.name), reason(err))
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
		v.say(Warning, "ranges", "ignores Range: an interrupted download begins again")
		return nil
	}
	if resp.StatusCode != http.StatusPartialContent {
		if !none(resp.StatusCode) { // a missing file was said by parity
			v.say(Error, "ranges", "answers a Range with %d", resp.StatusCode)
		}
		return nil
	}
	if got, right := resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", begin, file.length-1, file.length); got != right {
		v.say(Error, "ranges", "Content-Range is %s, must be %q", text.Quote(got), right)
		return nil
	}
	if !bytes.Equal(data, want[begin:]) {
		v.say(Error, "ranges", "the bytes of a range are not those of the file")
		return nil
	}
	tag := resp.Header.Get("ETag")
	if !strings.HasPrefix(tag, `"`) {
		v.say(Note, "ranges", "gives no strong ETag: whether a file changed in between is seen by its hash only")
	} else if resp, _, ok = ask(map[string]string{"Range": from, "If-Range": tag}); ok && resp.StatusCode != http.StatusPartialContent {
		v.say(Warning, "ranges", "answers If-Range of its own ETag with %d: an interrupted download begins again", resp.StatusCode)
	}
	if resp, _, ok = ask(map[string]string{"Range": from, "If-Range": `"of-another-file"`}); ok && resp.StatusCode != http.StatusOK {
		v.say(Error, "ranges", "answers If-Range of another file with %d: it must begin at the beginning", resp.StatusCode)
	}
	return ctx.Err()
}
