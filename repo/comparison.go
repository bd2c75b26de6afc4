package repo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// comparison is one draft against what was before.
type comparison struct {
	ctx           context.Context
	draft         *Draft
	tx            *Tx // of what is published, without an edit
	before, after *edition
	last          lastWord
	restored      *restoring
	top           map[string]*tree
	proposed      *tuf.Proposal // the draft's root; nil: it has none
	out           []Change
}

// tree is what a role that root names lists, itself and below it, as far as the
// draft touches it.
type tree struct {
	top   string
	roles []*roleDiff
	paths map[string]bool // that may be found otherwise than before
	found []sight         // what clients find otherwise, in order of paths
	lines []Change
	holds bool // it is the tree of a hold role
}

// restoring replaces what compromised keys alone published.
type restoring struct {
	tx          *Tx
	compromised []tuf.Key
	known       map[tuf.Key]bool // those that a role has
	// By role: what stands in place of what is published, and newer records of the
	// ledger whose content is in no file.
	signed  map[string]wire.Value
	skipped map[string][]bookContent
}

// lastWord is what a draft is compared with in place of what is published: what
// the signer's ledger has seen published last. The zero value is nothing: what is
// published.
type lastWord struct {
	root    *tuf.Root             // nil: the published one
	roles   map[string]wire.Value // signed parts of targets roles; of others what is published
	nothing bool                  // the signer has seen nothing yet, so all is new
}

// head adds the headline of a file.
func (x *comparison) head(f *draftFile, fresh bool, phrases []string) {
	switch {
	case len(phrases) > 0:
	case fresh:
		phrases = []string{"is new"}
	default:
		phrases = []string{"is signed again"}
	}
	x.out = append(x.out, Change{Part: PartHeadline, Role: roleText(f.role), Kind: KindChanged, Name: fmt.Sprintf("v%d", f.version), New: strings.Join(phrases, "; ")})
}

// file compares what a file signs, but for what it lists under paths.
func (x *comparison) file(f *draftFile, old wire.Value) []Change {
	role := roleText(f.role)
	version := Change{Part: PartSummary, Role: role, Kind: KindAdded, Fact: "version", New: fmt.Sprint(f.version)}
	if f.base > 0 {
		version.Kind, version.Old = KindChanged, fmt.Sprint(f.base)
	}
	expires := Change{Part: PartSummary, Role: role, Kind: KindAdded, Fact: "expires", New: dateText(f.signed)}
	if old != nil {
		expires.Kind, expires.Old = KindChanged, dateText(old)
		if expires.Old == expires.New {
			expires.Kind, expires.Old = KindUnchanged, ""
		}
	}
	skip := []string{"_type", "version", "expires"}
	if member(f.signed, "targets").Kind() == '{' && (old == nil || member(old, "targets").Kind() == '{') {
		skip = append(skip, "targets")
	}
	shape, ok := documentShapes[f.role]
	if !ok {
		shape = documentShapes[""]
	}
	a, b := without(old, skip...), without(f.signed, skip...)
	y := &facts{role: role, keys: newKeyNames(x.tx.repo.cfg.Labels, a, b)}
	y.members(at{}, shape, a, b)
	return append([]Change{version, expires}, y.keys.whole(role, y.out)...)
}

// others counts the changes that only the rest shows, but for whole keys, orders
// and the paths that usually change.
func others(lines []Change, usual ...string) []string {
	n := 0
	for _, c := range lines {
		if c.Part == PartRest && c.What != "key" && !strings.HasSuffix(c.Fact, " order") && !slices.Contains(usual, c.Fact) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return []string{plural(n, "other member changes", "other members change") + ", see the rest"}
}

// roleDiff is one targets role of a draft.
type roleDiff struct {
	file   *draftFile
	old    wire.Value // the signed part before; nil for none
	tops   []string   // the roles that root names and whose trees it is in
	placed []placement
	lines  []Change
	bins   bool // it is a hash bin of a role whose number of bins changes
}

// sight is what clients find under a path, and in which role.
type sight struct {
	path         string
	old, new     wire.Value
	oldBy, newBy string
}

// placement is what one role's file lists under one path, before and after.
type placement struct {
	role, path string
	old, new   wire.Value
}
