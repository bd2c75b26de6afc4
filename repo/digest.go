package repo

import (
	"fmt"
	"maps"
	"slices"

	"github.com/visum-dev/visum/internal/fingerprint"
)

// Digest is a fingerprint of what the draft's signatures will be of.
func (d *Draft) Digest() string {
	parts := []string{"visum draft"}
	for _, f := range d.parts() {
		parts = append(parts, f.role, string(f.signed))
	}
	return fingerprint.New(parts...)
}

var _ = fmt.Sprint
var _ = maps.Keys[map[string]int]
var _ = slices.Sort[[]int]
