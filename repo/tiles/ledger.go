package tiles

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf/tlog"
)

// record is the ledger's document for one log, decoded.
type record struct {
	raw    []byte // as loaded; nil: there is none yet
	number int64
	before []string
	body   recordBody
}

// recordJSON is the document: the body, and its sha256 to detect corruption.
type recordJSON struct {
	Ledger int `json:"visum-log-ledger"` // 1
	// Number counts the documents. Before has the sha256 of the documents before this one,
	// the newest last; see [signing.MarkedLedger].
	Number int64           `json:"number"`
	Before []string        `json:"before,omitempty"`
	SHA256 string          `json:"sha256"` // of Body's bytes
	Body   json.RawMessage `json:"body"`
}

type recordBody struct {
	Key string `json:"key"` // of the log, with its origin
	// Size and Root are those of the last tree of which the signature was permitted; 0 and
	// "" before the first.
	Size int64  `json:"size"`
	Root string `json:"root,omitempty"` // base64
	// Batch is the last batch that was permitted to be written to pending.
	Batch *recordBatch `json:"batch,omitempty"`
}

// recordBatch identifies a content of the file pending.
type recordBatch struct {
	Base   int64  `json:"base"`   // entries before the batch
	SHA256 string `json:"sha256"` // of the file, which has base size and leaves
}

// ledgerID is the id of the document of a log. A ledger has documents for repositories,
// too, whose ids are random: the hash separates both.
func ledgerID(origin string) string {
	return metafile.SHA256([]byte("visum log ledger\n" + origin))[:32]
}

// head is the last tree of which the signature was permitted.
func (r *record) head() head {
	h := head{size: r.body.Size}
	raw, _ := base64.StdEncoding.DecodeString(r.body.Root) // openRecord has checked it
	copy(h.root[:], raw)
	return h
}

// permits reports whether a content of pending was recorded.
func (r *record) permits(pending []byte) bool {
	return r.body.Batch != nil && r.body.Batch.SHA256 == metafile.SHA256(pending)
}

// withHead returns a copy with another last tree.
func (r *record) withHead(h head) *record {
	next := *r
	next.body.Size, next.body.Root = h.size, base64.StdEncoding.EncodeToString(h.root[:])
	return &next
}

// loadRecord reads the document of the log. Without one, the record is empty.
func (l *Log) loadRecord(ctx context.Context) (*record, error) {
	data, err := l.ledger.Load(ctx, l.ledgerID)
	if errors.Is(err, fs.ErrNotExist) {
		return &record{body: recordBody{Key: l.key.String()}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tiles: ledger: %w", err)
	}
	return openRecord(data, l.key)
}

// openRecord decodes a document. It refuses documents of later versions of this package,
// because writing them back would lose members that this version does not know.
func openRecord(data []byte, key tlog.Key) (*record, error) {
	fail := func(format string, args ...any) (*record, error) {
		return nil, fmt.Errorf("tiles: %w: %s; restore it from a copy", signing.ErrLedger, fmt.Sprintf(format, args...))
	}
	if _, err := wire.Canonical(data); err != nil {
		return fail("it is damaged: %v", err)
	}
	var doc recordJSON
	if err := strict(data, &doc); err != nil {
		return fail("it is damaged, or written by a later version: %v", err)
	}
	if doc.Ledger != 1 {
		return fail("format is %d, want 1", doc.Ledger)
	}
	if sum := metafile.SHA256(doc.Body); sum != doc.SHA256 {
		return fail("it is damaged: its content has sha256 %.16s, it states %.16q", sum, doc.SHA256)
	}
	r := &record{raw: data, number: doc.Number, before: doc.Before}
	if err := strict(doc.Body, &r.body); err != nil {
		return fail("it was written by a later version: %v", err)
	}
	if r.body.Key != key.String() {
		return fail("it belongs to log key %s, want %s", text.Quote(r.body.Key), text.Quote(key.String()))
	}
	root, err := base64.StdEncoding.DecodeString(r.body.Root)
	if want := min(r.body.Size, 1) * int64(len(tlog.Hash{})); err != nil || r.body.Size < 0 || int64(len(root)) != want {
		return fail("it is damaged: size %d with root %s", r.body.Size, text.Quote(r.body.Root))
	}
	return r, nil
}

func strict(data []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(to)
}

// swap writes the record as the document after the one from which it was loaded. If another
// process was faster, the error wraps errAgain. It returns the record as written.
func (l *Log) swap(ctx context.Context, r *record) (*record, error) {
	body, err := json.Marshal(r.body)
	if err != nil {
		return nil, fmt.Errorf("tiles: ledger: %w", err)
	}
	doc := recordJSON{1, r.number + 1, nil, metafile.SHA256(body), body}
	if r.raw != nil {
		doc.Before = append(slices.Clone(r.before), metafile.SHA256(r.raw))
		doc.Before = doc.Before[max(0, len(doc.Before)-signing.KeptPredecessors):]
	}
	data, err := json.Marshal(doc)
	if err == nil {
		err = l.ledger.Swap(ctx, l.ledgerID, r.raw, data)
	}
	if errors.Is(err, repo.ErrConflict) {
		return nil, errAgain
	}
	if err != nil {
		return nil, fmt.Errorf("tiles: ledger: %w", err)
	}
	next := *r
	next.raw, next.number, next.before = data, doc.Number, doc.Before
	return &next, nil
}
