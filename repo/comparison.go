package repo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/tuf"
)

// comparison compares a draft with the content before.
type comparison struct {
	ctx           context.Context
	draft         *Draft
	tx            *Tx // the published content, without edits
	before, after *edition
	last          lastSeen
	restored      *restoring
	top           map[string]*tree
	proposed      *tuf.Proposal // the draft's root; nil: none
	out           []diff.Change
}

// tree is a role that root names with the roles below it, as far as the draft changes
// them.
type tree struct {
	top   string
	roles []*roleDiff
	paths map[string]bool // paths whose search result may change
	found []sight         // the search results that change, in order of paths
	lines []diff.Change
	holds bool // it is the tree of a hold role
}

// restoring replaces content that only compromised keys signed.
type restoring struct {
	tx          *Tx
	compromised []tuf.Key
	known       map[tuf.Key]bool // the compromised keys that a role has
	// By role: the content that replaces the published one, and newer records of the
	// ledger whose content is not available.
	signed  map[string]wire.Value
	skipped map[string][]bookContent
}

// lastSeen is the content that the signer's ledger has seen published last. A draft is
// compared with it instead of the published content. The zero value stands for the
// published content.
type lastSeen struct {
	root    *tuf.Root             // nil: the published one
	roles   map[string]wire.Value // signed parts of targets roles; for others the published content
	nothing bool                  // the ledger has seen nothing yet, so everything is new
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
	x.out = append(x.out, diff.Change{Part: diff.PartHeadline, Role: roleText(f.role), Kind: diff.KindChanged, Name: fmt.Sprintf("v%d", f.version), New: strings.Join(phrases, "; ")})
}

// file compares the signed part of a file, except its targets.
func (x *comparison) file(f *draftFile, old wire.Value) []diff.Change {
	role := roleText(f.role)
	version := diff.Change{Part: diff.PartSummary, Role: role, Kind: diff.KindAdded, Fact: "version", New: fmt.Sprint(f.version)}
	if f.base > 0 {
		version.Kind, version.Old = diff.KindChanged, fmt.Sprint(f.base)
	}
	expires := diff.Change{Part: diff.PartSummary, Role: role, Kind: diff.KindAdded, Fact: "expires", New: facts.DateText(f.signed)}
	if old != nil {
		expires.Kind, expires.Old = diff.KindChanged, facts.DateText(old)
		if expires.Old == expires.New {
			expires.Kind, expires.Old = diff.KindUnchanged, ""
		}
	}
	skip := []string{"_type", "version", "expires"}
	if metafile.Member(f.signed, "targets").Kind() == '{' && (old == nil || metafile.Member(old, "targets").Kind() == '{') {
		skip = append(skip, "targets")
	}
	shape, ok := facts.DocumentShapes[f.role]
	if !ok {
		shape = facts.DocumentShapes[""]
	}
	a, b := metafile.Without(old, skip...), metafile.Without(f.signed, skip...)
	y := &facts.Facts{Role: role, Keys: facts.NewKeyNames(x.tx.repo.cfg.Labels, a, b)}
	y.Members(facts.At{}, shape, a, b)
	return append([]diff.Change{version, expires}, y.Keys.Whole(role, y.Out)...)
}

// others counts the changes that only the rest shows, except full key ids, orders and
// the members that usually change.
func others(lines []diff.Change, usual ...string) []string {
	n := 0
	for _, c := range lines {
		if c.Part == diff.PartRest && c.What != "key" && !strings.HasSuffix(c.Fact, " order") && !slices.Contains(usual, c.Fact) {
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
	tops   []string   // the roles that root names and whose trees contain this role
	placed []placement
	lines  []diff.Change
	bins   bool // the role is a hash bin of a role whose number of bins changes
}

// sight is the search result of clients for a path, and the role that lists it.
type sight struct {
	path         string
	old, new     wire.Value
	oldBy, newBy string
}

// placement is the entry of one role's file for one path, before and after.
type placement struct {
	role, path string
	old, new   wire.Value
}
