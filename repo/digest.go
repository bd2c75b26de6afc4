package repo

import (
	"cmp"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/fingerprint"
)

// Digest returns a fingerprint of what the draft's signatures are for: 160 bits
// in lower-case base32, eight groups of four characters, such as
// abcd-efgh-ijkl-mnop-qrst-uvwx-yz23-4567. Two people who read the same digest
// to each other are about to sign the same.
//
// It covers the name and the signed part of each role, root included, the
// payloads of statements, and the recovery statement. Signatures, and what the
// draft states beside the signed parts, such as who must sign, are not covered: a
// copy has the same digest before and after it is signed, in whatever order its
// files stand.
func (d *Draft) Digest() string {
	// The kind keeps a role, a statement and a recovery statement apart whose bytes
	// are the same. The name in storage of a statement is not signed.
	type part struct{ kind, name, content string }
	var parts []part
	for role, f := range d.files {
		parts = append(parts, part{"role", role, string(f.signed)})
	}
	for _, s := range d.statements {
		parts = append(parts, part{"statement", "", string(s.payload)})
	}
	if d.recovery != nil {
		parts = append(parts, part{"recovery", "", string(d.recovery.signed)})
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(strings.Compare(a.kind, b.kind), strings.Compare(a.name, b.name), strings.Compare(a.content, b.content))
	})
	list := []string{"visum draft"}
	for _, p := range parts {
		list = append(list, p.kind, p.name, p.content)
	}
	return fingerprint.New(list...)
}
