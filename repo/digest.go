package repo

import (
	"cmp"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/fingerprint"
)

// Digest returns a fingerprint of the draft's signed content: 160 bits in lower-case
// base32, eight groups of four characters, such as
// abcd-efgh-ijkl-mnop-qrst-uvwx-yz23-4567. Two people compare it to verify that they
// sign the same content.
//
// It covers the name and the signed part of each role, including root, the payloads of
// statements, and the recovery statement. It does not cover signatures, the order of
// files, and unsigned members of the draft such as the required signers, so a copy has
// the same digest before and after it is signed.
func (d *Draft) Digest() string {
	// The kind distinguishes a role, a statement and a recovery statement with the same
	// bytes. The name of a statement in storage is not signed.
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
