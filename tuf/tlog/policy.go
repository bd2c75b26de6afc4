package tlog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxPolicy is the maximum number of bytes of a policy.
	MaxPolicy    = 8 << 10
	maxCosigners = 32
	maxGroups    = 32
)

// Policy names one log, its cosigners, and the quorums of them (tlog-policy).
type Policy struct {
	log       Key
	logURL    string
	cosigners []PolicyCosigner
	nodes     []node // cosigners and groups, each after its members
	quorum    int    // its index in nodes
}

// PolicyCosigner is a line "witness" of a policy.
type PolicyCosigner struct {
	Name string // in the policy
	Key  Key    // of a type other than TypeCosigner: it never counts as signed
	URL  string // for add-checkpoint; "" if the policy has none
}

// node is a cosigner or a group.
type node struct {
	name     string
	cosigner int   // index in Policy.cosigners; -1: a group
	members  []int // of a group
	k        int   // how many members a group needs
	member   bool  // of a group
}

// ParsePolicy reads a policy. Lines are separated by line feeds, fields by spaces or tabs;
// empty lines and lines that begin with # are skipped. There must be one line log, at most
// 32 lines witness and 32 lines group, and one line quorum, which may not be "none". No
// public key may occur twice, and no name may be a member of two groups. Keys of logs must
// be of type 0x01. Keys of cosigners may be of any type but 0x01; those of types other than
// 0x04 are read, but never count as signed. The error wraps [ErrMalformed].
func ParsePolicy(s string) (*Policy, error) {
	if len(s) > MaxPolicy {
		return nil, malformed("policy: %d bytes, at most %d", len(s), MaxPolicy)
	}
	for _, c := range []byte(s) {
		if c < ' ' && c != '\t' && c != '\n' || c == 0x7f {
			return nil, malformed("policy: the control character %#02x is not allowed", c)
		}
	}
	p := &Policy{quorum: -1}
	names := map[string]int{}
	n := 0
	for line := range strings.SplitSeq(s, "\n") {
		n++
		fields := strings.FieldsFunc(line, func(c rune) bool { return c == ' ' || c == '\t' })
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if err := p.line(fields, names); err != nil {
			return nil, malformed("policy, line %d: %v", n, err)
		}
	}
	if p.log.Name == "" || p.quorum < 0 {
		return nil, malformed("policy: want one line log and one line quorum")
	}
	return p, nil
}

func (p *Policy) line(f []string, names map[string]int) error {
	switch f[0] {
	case "log":
		if len(f) < 2 || len(f) > 3 || p.log.Name != "" {
			return fmt.Errorf("want one line: log KEY [URL]")
		}
		key, err := p.key(f[1], func(t byte) bool { return t == TypeLog })
		if err != nil {
			return err
		}
		p.log, p.logURL = key, third(f, 2)
	case "witness":
		if len(f) < 3 || len(f) > 4 || len(p.cosigners) == maxCosigners {
			return fmt.Errorf("want at most %d lines: witness NAME KEY [URL]", maxCosigners)
		}
		key, err := p.key(f[2], func(t byte) bool { return t != TypeLog })
		if err != nil {
			return err
		}
		if err := p.add(node{name: f[1], cosigner: len(p.cosigners)}, names); err != nil {
			return err
		}
		p.cosigners = append(p.cosigners, PolicyCosigner{f[1], key, third(f, 3)})
	case "group":
		if len(f) < 4 || len(p.nodes)-len(p.cosigners) == maxGroups {
			return fmt.Errorf("want at most %d lines: group NAME NUMBER MEMBER, with one member or more", maxGroups)
		}
		g := node{name: f[1], cosigner: -1}
		for _, name := range f[3:] {
			i, ok := names[name]
			if !ok || p.nodes[i].member {
				return fmt.Errorf("%s is not defined before, or already a member of a group", quote(name))
			}
			p.nodes[i].member = true
			g.members = append(g.members, i)
		}
		k, ok := parseNumber(f[2])
		switch f[2] {
		case "any":
			k, ok = 1, true
		case "all":
			k, ok = int64(len(g.members)), true
		}
		if !ok || k < 1 || k > int64(len(g.members)) {
			return fmt.Errorf("group %s: want a number from 1 to %d, any or all", quote(f[1]), len(g.members))
		}
		g.k = int(k)
		return p.add(g, names)
	case "quorum":
		if len(f) != 2 || p.quorum >= 0 {
			return fmt.Errorf("want one line: quorum NAME")
		}
		i, ok := names[f[1]]
		if !ok {
			return fmt.Errorf("quorum: %s is not defined before", quote(f[1]))
		}
		p.quorum = i
	default:
		return fmt.Errorf("unknown keyword %s", quote(f[0]))
	}
	return nil
}

func (p *Policy) key(s string, allowed func(byte) bool) (Key, error) {
	key, err := ParseKey(s)
	if err != nil {
		return key, errors.New(strings.TrimPrefix(err.Error(), "tlog: "+ErrMalformed.Error()+": ")) // malformed adds it once
	}
	if !allowed(key.Type) {
		return key, fmt.Errorf("key %s has type %#04x", quote(s), key.Type)
	}
	for _, other := range p.keys() {
		if bytes.Equal(other.Public, key.Public) || other.Name == key.Name && other.ID() == key.ID() {
			return key, fmt.Errorf("key %s occurs twice", quote(s))
		}
	}
	return key, nil
}

func (p *Policy) keys() []Key {
	var out []Key
	if p.log.Name != "" {
		out = append(out, p.log)
	}
	for _, c := range p.cosigners {
		out = append(out, c.Key)
	}
	return out
}

func (p *Policy) add(n node, names map[string]int) error {
	if _, ok := names[n.name]; ok || !isName(n.name) || n.name == "none" {
		return fmt.Errorf("name %s is defined twice or not allowed", quote(n.name))
	}
	names[n.name] = len(p.nodes)
	p.nodes = append(p.nodes, n)
	return nil
}

func third(f []string, i int) string {
	if len(f) > i {
		return f[i]
	}
	return ""
}

// String is the policy in one form: a line for each item in the order of their definition,
// fields separated by one space, without comments and URLs. [ParsePolicy] reads it as a
// policy with the same keys and quorums.
func (p *Policy) String() string {
	if len(p.nodes) == 0 {
		return "" // the zero value
	}
	var b strings.Builder
	fmt.Fprintf(&b, "log %s\n", p.log)
	for _, n := range p.nodes {
		if n.cosigner >= 0 {
			fmt.Fprintf(&b, "witness %s %s\n", n.name, p.cosigners[n.cosigner].Key)
			continue
		}
		fmt.Fprintf(&b, "group %s %s", n.name, strconv.Itoa(n.k))
		for _, m := range n.members {
			b.WriteString(" " + p.nodes[m].name)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "quorum %s\n", p.nodes[p.quorum].name)
	return b.String()
}

// Log returns the key of the log. Its name is the origin of the log.
func (p *Policy) Log() Key { return p.log.Clone() }

// LogURL returns the URL of the log, or "".
func (p *Policy) LogURL() string { return p.logURL }

// Cosigners returns the cosigners in the order of the policy, also those that are in no
// quorum.
func (p *Policy) Cosigners() []PolicyCosigner {
	out := slices.Clone(p.cosigners)
	for i := range out {
		out[i].Key = out[i].Key.Clone()
	}
	return out
}

// met reports whether the cosigners for which has is true are a quorum.
func (p *Policy) met(has func(cosigner int) bool) bool {
	if len(p.nodes) == 0 {
		return false // the zero value
	}
	value := make([]bool, len(p.nodes))
	for i, n := range p.nodes { // members come first
		if n.cosigner >= 0 {
			value[i] = has(n.cosigner)
			continue
		}
		have := 0
		for _, m := range n.members {
			if value[m] {
				have++
			}
		}
		value[i] = have >= n.k
	}
	return value[p.quorum]
}

// quorumTime returns the latest time for which the cosigners with this time or a later one
// are a quorum. The zero time means that a cosigner has not signed.
func (p *Policy) quorumTime(times []time.Time) (time.Time, bool) {
	order := slices.Clone(times)
	slices.SortFunc(order, func(a, b time.Time) int { return b.Compare(a) })
	for _, t := range order {
		if t.IsZero() {
			break
		}
		if p.met(func(i int) bool { return !times[i].Before(t) && !times[i].IsZero() }) {
			return t, true
		}
	}
	return time.Time{}, false
}

// fold computes a number for the quorum from a number for each cosigner: for a group, the
// sum of the smallest numbers of its members, as many as take says.
func (p *Policy) fold(leaf func(Key) int, take func(k, n int) int) int {
	if len(p.nodes) == 0 {
		return 0 // the zero value
	}
	value := make([]int, len(p.nodes))
	for i, n := range p.nodes {
		if n.cosigner >= 0 {
			value[i] = leaf(p.cosigners[n.cosigner].Key)
			continue
		}
		var of []int
		for _, m := range n.members {
			of = append(of, value[m])
		}
		slices.Sort(of)
		for _, v := range of[:max(0, take(n.k, len(of)))] {
			value[i] += v
		}
	}
	return value[p.quorum]
}

// Overlap returns the least number of cosigners that any two quorums have in common. A log
// that shows two trees, with a quorum for each, needs as many dishonest cosigners.
func (p *Policy) Overlap() int {
	return p.fold(func(Key) int { return 1 }, func(k, n int) int { return 2*k - n })
}

// Spare returns how many cosigners may be out of service, whichever they are, so that the
// others are a quorum. It is negative if there is no quorum of keys that are verified.
func (p *Policy) Spare() int {
	return p.fold(func(k Key) int {
		if k.Type != TypeCosigner {
			return 0
		}
		return 1
	}, func(k, n int) int { return n - k + 1 }) - 1
}
