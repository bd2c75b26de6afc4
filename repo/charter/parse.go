package charter

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
)

// document is the member that marks a document, with its version.
const document = "visum-charter"

// maxSeconds is ten years, the longest duration of a charter.
const maxSeconds = 10 * 366 * 24 * 3600

// Defaults of a probe and of a recovery, those of package repo.
const (
	defaultOperators = 2
	defaultEvery     = 6 * time.Hour
	defaultMaxAge    = 30 * 24 * time.Hour
	defaultMinOrgs   = 2
	defaultWait      = 14 * 24 * time.Hour
	defaultTicks     = 14
)

// Parse reads a document. root has its defaults filled in. labels are the labels of its
// keys by key id, as for [repo.Config].Labels; nil if there are none. Errors are [*Error];
// after one, root and labels are empty.
func Parse(data []byte) (root repo.Root, labels map[string]string, err error) {
	n, err := scan(data)
	if err != nil {
		return repo.Root{}, nil, err
	}
	p := &parser{err: &err, byLabel: map[string]tuf.Key{}, used: map[string]bool{}}
	p.document(n, &root)
	if err == nil {
		// The tokens were read by a decoder that is less strict than the one of metadata.
		if _, e := wire.Canonical(data); e != nil {
			err = failAt("", 1, "%v", e)
		}
	}
	if err != nil {
		return repo.Root{}, nil, err
	}
	return root, p.labels(), nil
}

// parser reads a document and keeps the first error.
type parser struct {
	err     *error
	keys    []labelled
	byLabel map[string]tuf.Key
	used    map[string]bool // labels that a role names
}

// labelled is a key with its label.
type labelled struct {
	label string
	at    *node
	key   tuf.Key
}

// form reads an object that has only the named members.
func (p *parser) form(n *node, known ...string) form {
	f := newForm(n, p.err)
	f.close(known...)
	return f
}

func (p *parser) document(n *node, root *repo.Root) {
	f := p.form(n, document, "repo_id", "keys", "parties", "roles", "classes", "locations", "retired", "probe", "recovery")
	f.int(f.must(document), 1, 1, 0)
	root.RepoID = f.text(f.get("repo_id"))
	p.readKeys(f.get("keys"))
	f.each(f.get("parties"), func(n *node) {
		f := p.form(n, "name", "keys", "min")
		root.Parties = append(root.Parties, repo.Party{Name: f.text(f.must("name")), Keys: p.named(f.must("keys")), Min: p.count(f, "min")})
	})
	root.Timestamp.Threshold, root.Snapshot.Threshold, root.Targets.Threshold = 1, 1, 1
	if n := f.get("roles"); n != nil {
		f := p.form(n, "timestamp", "snapshot", "targets")
		root.Timestamp, root.Snapshot, root.Targets = p.topLevel(f, "timestamp"), p.topLevel(f, "snapshot"), p.topLevel(f, "targets")
	}
	f.each(f.get("classes"), func(n *node) { root.Classes = append(root.Classes, p.class(n)) })
	f.each(f.get("locations"), func(n *node) { root.Locations = append(root.Locations, p.location(n)) })
	f.each(f.get("retired"), func(n *node) {
		f := p.form(n, "id", "hosts")
		r := tuf.Retired{ID: f.text(f.must("id"))}
		f.each(f.must("hosts"), func(n *node) { r.Hosts = append(r.Hosts, f.text(n)) })
		root.Retired = append(root.Retired, r)
	})
	root.Probe = tuf.Probe{MinOperators: defaultOperators, Every: defaultEvery, MaxAge: defaultMaxAge}
	if n := f.get("probe"); n != nil {
		root.Probe = p.probe(n)
	}
	if n := f.get("recovery"); n != nil {
		root.Recovery = p.recovery(n)
	}
	for _, k := range p.keys {
		if !p.used[k.label] && *p.err == nil {
			*p.err = k.at.fail("no role has this key")
		}
	}
}

func (p *parser) topLevel(f form, role string) repo.Keys {
	n := f.get(role)
	if n == nil {
		return repo.Keys{Threshold: 1}
	}
	return p.roleKeys(p.form(n, "keys", "threshold"))
}

func (p *parser) class(n *node) repo.Class {
	f := p.form(n, "name", "prefix", "roles", "hold", "hash_bins")
	c := repo.Class{Name: f.text(f.must("name")), Prefix: f.text(f.must("prefix")), HashBins: f.bool(f.get("hash_bins"))}
	f.each(f.get("roles"), func(n *node) {
		f := p.form(n, "party", "role", "keys", "threshold")
		c.Roles = append(c.Roles, repo.ReleaseRole{Party: f.text(f.must("party")), Role: f.text(f.must("role")), Keys: p.roleKeys(f)})
	})
	if n := f.get("hold"); n != nil {
		f := p.form(n, "role", "keys", "threshold", "max_seconds")
		c.Hold = &repo.Hold{Role: f.text(f.must("role")), Keys: p.roleKeys(f), Max: p.seconds(f, f.must("max_seconds"), 0)}
	}
	return c
}

func (p *parser) location(n *node) tuf.Location {
	f := p.form(n, "id", "tier", "operator", "jurisdiction", "base", "paths", "priority", "use_from", "use_until")
	l := tuf.Location{ID: f.text(f.must("id")), Tier: f.text(f.must("tier")), Operator: f.text(f.must("operator")), Jurisdiction: f.text(f.get("jurisdiction")),
		Base: f.text(f.must("base")), Priority: int(f.int(f.get("priority"), 0, 1<<31-1, 0)), UseFrom: p.time(f, "use_from"), UseUntil: p.time(f, "use_until")}
	if n := f.must("paths"); n != nil {
		f := p.form(n, "metadata", "targets")
		l.Metadata, l.Targets = f.text(f.must("metadata")), f.text(f.get("targets"))
	}
	return l
}

func (p *parser) probe(n *node) tuf.Probe {
	f := p.form(n, "min_operators", "every_seconds", "max_age_seconds", "mode")
	x := tuf.Probe{MinOperators: int(f.int(f.get("min_operators"), 1, 1<<31-1, defaultOperators)),
		Every: p.seconds(f, f.get("every_seconds"), defaultEvery), MaxAge: p.seconds(f, f.get("max_age_seconds"), defaultMaxAge)}
	if n := f.get("mode"); n != nil {
		mode := f.text(n)
		if *p.err == nil && mode != "warn" && mode != "enforce" {
			*p.err = n.fail("warn or enforce was expected, it is %s", text.Quote(mode))
		}
		x.Enforce = mode == "enforce"
	}
	return x
}

func (p *parser) recovery(n *node) *repo.RecoveryRule {
	f := p.form(n, "orgs", "threshold", "min_orgs", "hold_seconds", "min_ticks", "counter")
	x := &repo.RecoveryRule{MinOrgs: int(f.int(f.get("min_orgs"), 1, 1<<31-1, defaultMinOrgs)), Hold: p.seconds(f, f.get("hold_seconds"), defaultWait),
		MinTicks: int(f.int(f.get("min_ticks"), 1, 1<<31-1, defaultTicks)), Counter: f.int(f.get("counter"), 0, maxInt, 0)}
	x.Threshold = int(f.int(f.get("threshold"), 1, 1<<31-1, int64(x.MinOrgs)))
	f.each(f.must("orgs"), func(n *node) {
		f := p.form(n, "name", "keys")
		x.Orgs = append(x.Orgs, repo.Org{Name: f.text(f.must("name")), Keys: p.named(f.must("keys"))})
	})
	return x
}

// count reads min or threshold.
func (p *parser) count(f form, name string) int { return int(f.int(f.get(name), 1, 1<<31-1, 1)) }

func (p *parser) roleKeys(f form) repo.Keys {
	return repo.Keys{Keys: p.named(f.must("keys")), Threshold: p.count(f, "threshold")}
}

// seconds reads a duration; absent if n is nil.
func (p *parser) seconds(f form, n *node, absent time.Duration) time.Duration {
	return time.Duration(f.int(n, 1, maxSeconds, int64(absent/time.Second))) * time.Second
}

// time reads an optional time, in the one spelling that a charter has.
func (p *parser) time(f form, name string) (t time.Time) {
	const spelling = "2006-01-02T15:04:05Z"
	n := f.get(name)
	if n == nil {
		return t
	}
	s := f.text(n)
	t, err := time.Parse(spelling, s)
	if *p.err == nil && (err != nil || t.IsZero() || t.Format(spelling) != s) {
		*p.err = n.fail("a time of the form %s was expected, it is %s", spelling, text.Quote(s))
	}
	return t
}

// generated is the beginning of a label that [Marshal] makes from a key id.
const generated = "key-"

// usable reports whether a label can stand for the key in a document. A label that
// begins as a generated one names the key with that id and no other.
func usable(label, id string) bool {
	if digits, ok := strings.CutPrefix(label, generated); ok {
		return len(digits) >= 16 && strings.HasPrefix(id, digits)
	}
	return label != "" && len(label) <= 64 && strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+/ -") == "" &&
		strings.TrimSpace(label) == label
}

// readKeys reads the table of keys.
func (p *parser) readKeys(n *node) {
	if n == nil || *p.err != nil {
		return
	}
	if n.kind != '{' {
		*p.err = n.fail("an object was expected, it is %s", n.what())
		return
	}
	if len(n.members) > maxKeys {
		*p.err = &Error{Path: n.path, Line: n.line, Err: tuf.ErrTooLarge, Detail: fmt.Sprintf("%d keys, at most %d", len(n.members), maxKeys)}
		return
	}
	labels := map[tuf.Key]string{}
	for _, m := range n.members {
		k, err := p.key(m.node)
		if err != nil {
			*p.err = err
			return
		}
		if first, ok := labels[k]; ok {
			*p.err = failAt(m.path, m.line, "the same key as %s", text.Quote(first))
			return
		}
		labels[k] = m.name
		if !usable(m.name, k.ID()) {
			*p.err = failAt(m.path, m.line, "not a label: 1 to 64 letters, digits, spaces and ._@+/-, and with key- in front only the id of this key, %.16s", k.ID())
			return
		}
		p.keys = append(p.keys, labelled{m.name, m.node, k})
		p.byLabel[m.name] = k
	}
}

// key reads a key: an object as in metadata, or a text that keys.ParsePublic reads.
func (p *parser) key(n *node) (tuf.Key, error) {
	if n.kind == '"' {
		k, _, err := keys.ParsePublic([]byte(n.str))
		if err != nil {
			return tuf.Key{}, n.fail("%v", err)
		}
		return k, nil
	}
	f := p.form(n, "keytype", "scheme", "keyval")
	k := tuf.Key{Type: f.text(f.must("keytype")), Scheme: f.text(f.must("scheme"))}
	if n := f.must("keyval"); n != nil {
		f := p.form(n, "public")
		k.Public = f.text(f.must("public"))
	}
	if *p.err != nil {
		return tuf.Key{}, *p.err
	}
	if _, err := k.Fingerprint(); err != nil {
		return tuf.Key{}, n.fail("%v", err)
	}
	return k, nil
}

// named returns the keys that a role names by their labels.
func (p *parser) named(n *node) (out []tuf.Key) {
	f := form{of: n, err: p.err}
	seen := map[string]bool{}
	f.each(n, func(e *node) {
		label := f.text(e)
		if *p.err != nil {
			return
		}
		if seen[label] {
			*p.err = e.fail("%s is named twice", text.Quote(label))
			return
		}
		seen[label], p.used[label] = true, true
		k, ok := p.byLabel[label]
		if !ok {
			*p.err = e.fail("no key has the label %s", text.Quote(label))
			return
		}
		out = append(out, k)
	})
	return out
}

// labels returns the labels by key id, without those that [Marshal] makes itself.
func (p *parser) labels() map[string]string {
	var out map[string]string
	for _, k := range p.keys {
		if strings.HasPrefix(k.label, generated) {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k.key.ID()] = k.label
	}
	return out
}

// filled returns root with the defaults of package repo in place of zero values, and nil
// in place of empty lists.
func filled(root repo.Root) repo.Root {
	keys := func(k repo.Keys) repo.Keys {
		return repo.Keys{Keys: compact(k.Keys), Threshold: cmp.Or(k.Threshold, 1)}
	}
	out := repo.Root{RepoID: root.RepoID, Timestamp: keys(root.Timestamp), Snapshot: keys(root.Snapshot), Targets: keys(root.Targets),
		Locations: compact(root.Locations), Probe: root.Probe}
	for _, p := range root.Parties {
		out.Parties = append(out.Parties, repo.Party{Name: p.Name, Keys: compact(p.Keys), Min: cmp.Or(p.Min, 1)})
	}
	for _, c := range root.Classes {
		k := repo.Class{Name: c.Name, Prefix: c.Prefix, HashBins: c.HashBins}
		for _, r := range c.Roles {
			k.Roles = append(k.Roles, repo.ReleaseRole{Party: r.Party, Role: r.Role, Keys: keys(r.Keys)})
		}
		if h := c.Hold; h != nil {
			k.Hold = &repo.Hold{Role: h.Role, Keys: keys(h.Keys), Max: h.Max}
		}
		out.Classes = append(out.Classes, k)
	}
	for i, l := range out.Locations {
		out.Locations[i].UseFrom, out.Locations[i].UseUntil = l.UseFrom.UTC().Round(0), l.UseUntil.UTC().Round(0)
	}
	for _, r := range root.Retired {
		out.Retired = append(out.Retired, tuf.Retired{ID: r.ID, Hosts: compact(r.Hosts)})
	}
	if out.Probe == (tuf.Probe{}) {
		out.Probe = tuf.Probe{MinOperators: defaultOperators, Every: defaultEvery, MaxAge: defaultMaxAge}
	}
	if x := root.Recovery; x != nil {
		r := &repo.RecoveryRule{MinOrgs: cmp.Or(x.MinOrgs, defaultMinOrgs), Hold: cmp.Or(x.Hold, defaultWait), MinTicks: cmp.Or(x.MinTicks, defaultTicks), Counter: x.Counter}
		r.Threshold = cmp.Or(x.Threshold, r.MinOrgs)
		for _, o := range x.Orgs {
			r.Orgs = append(r.Orgs, repo.Org{Name: o.Name, Keys: compact(o.Keys)})
		}
		out.Recovery = r
	}
	return out
}

// compact returns a copy of a list, nil for an empty one.
func compact[T any](list []T) []T { return append([]T(nil), list...) }
