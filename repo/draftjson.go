package repo

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/visum-dev/visum/internal/text"
)

// draftJSON is the transfer form of a draft. Its members, and those of its elements, are
// in canonical order, so that readers need no sorting, which would copy the data.
type draftJSON struct {
	Files      []draftFileJSON   `json:"files"`
	Heals      []json.RawMessage `json:"heals,omitempty"`
	Recovery   *draftFileJSON    `json:"recovery,omitempty"`
	Statements []statementJSON   `json:"statements,omitempty"`
	Draft      int               `json:"visum-draft"` // 1
}

// Bytes returns the draft in the form that [OpenDraft] reads. The caller owns the slice.
func (d *Draft) Bytes() ([]byte, error) {
	out := draftJSON{Draft: 1}
	for _, f := range d.sorted() {
		out.Files = append(out.Files, f.json())
	}
	for _, root := range d.heals {
		out.Heals = append(out.Heals, root)
	}
	if d.recovery != nil {
		out.Recovery = new(d.recovery.json())
	}
	for _, name := range slices.Sorted(maps.Keys(d.statements)) {
		out.Statements = append(out.Statements, d.statements[name].json())
	}
	return json.MarshalIndent(out, "", " ")
}

// OpenDraft reads the output of [Draft.Bytes]. The result can be inspected; to sign it,
// use [Repo.OpenDraft]. Unsigned members of a draft, such as the required signers and the
// delegations, are informative only, and the repository's root decides at publishing. If
// the description of a statement differs from its payload, the error wraps
// [tuf.ErrMismatch].
func OpenDraft(data []byte) (d *Draft, err error) {
	defer text.OneLine(&err)
	if d, err = parseDraft(data); err != nil {
		return nil, fmt.Errorf("repo: draft: %w", err)
	}
	return d, nil
}

// OpenDraft is [OpenDraft] for signing. The trust anchor and the ledger of the handle
// decide what may be signed.
func (r *Repo) OpenDraft(data []byte) (*Draft, error) {
	d, err := OpenDraft(data)
	if err == nil {
		d.repo = r
	}
	return d, err
}
