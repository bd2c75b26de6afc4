package repo

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// draftJSON is a draft on its way. Members stand in canonical order, here and
// below: what reads it need not sort, which would take copies.
type draftJSON struct {
	Files      []draftFileJSON   `json:"files"`
	Heals      []json.RawMessage `json:"heals,omitempty"`
	Recovery   *draftFileJSON    `json:"recovery,omitempty"`
	Statements []statementJSON   `json:"statements,omitempty"`
	Draft      int               `json:"visum-draft"` // 1
}

// Bytes returns the draft in a form that can travel.
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

// OpenDraft reads a draft that travelled. What it states beside the signed parts,
// such as who must sign or which role leads to which, is a help for people and
// decides nothing: at publishing the repository's root decides. What it states of
// a statement must be what the statement's payload states; otherwise the error
// wraps [tuf.ErrMismatch].
func OpenDraft(data []byte) (d *Draft, err error) {
	defer oneLine(&err)
	if d, err = parseDraft(data); err != nil {
		return nil, fmt.Errorf("repo: draft: %w", err)
	}
	return d, nil
}

// OpenDraft is [OpenDraft] for a draft that is to be signed: by this handle's
// trust anchor and ledger.
func (r *Repo) OpenDraft(data []byte) (*Draft, error) {
	d, err := OpenDraft(data)
	if err == nil {
		d.repo = r
	}
	return d, err
}
