package tuf_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Our result for a file must be the same as that of go-tuf's FromBytes and VerifyDelegate,
// for all vectors and for seeded mutations of healthy files. Intended differences are in
// this table.

// difference is one class of intended differences. A class without any occurrence fails the
// test.
type difference struct {
	name, why string
	is        func(c *comparison) bool
}

var differences = []difference{
	// We are stricter.
	{"names in another case", "encoding/json takes Version for version; the next decoder may not, and then two clients read two things",
		form("in the wrong case")},
	{"a member twice", "which of the two counts is each decoder's own choice", form("duplicate member")},
	{"not UTF-8", "encoding/json repairs it silently, and the repaired text differs from the signed one", form("not UTF-8")},
	{"numbers that are no integers", "canonical JSON has none; go-tuf sees them only where it re-encodes", form("not an integer")},
	{"null, or absent", "encoding/json leaves the zero value where a type, a key, a threshold or a list should be",
		form("was expected", "must be an object", "must be an array", "is null", "_type is ,")},
	{"version below 1", "versions start at 1", form("version must be a positive integer")},
	{"spec_version", "a file of another specification version is refused", form("spec_version is")},
	{"no expires", "go-tuf reads the year 1 and refuses later, when it checks the expiry", form("expires is")},
	{"a root without one of the four roles", "go-tuf refuses when the role is used", form("no role ")},
	{"key ids and thresholds of unused roles", "go-tuf checks them on demand; we refuse the file",
		form("listed twice", "threshold is ")},
	{"hashes and lengths that can't be checked", "an entry must allow a check of the bytes", form("hex digits", "no hash of a known algorithm", "no sha256", "length is ")},
	{"delegations in doubt", "both paths and prefixes or none, two of one name, or a name that is a top-level file's",
		form("must have either paths or", "invalid name of a delegated role", "two delegations to role")},
	{"the charter", "go-tuf passes over a member that it does not know, as it should",
		func(c *comparison) bool {
			return c.weRefuse(tuf.ErrCharter) || c.weRefuse(tuf.ErrMalformed) && soundWithoutCharter(c.file)
		}},
	{"dates, versions and hashes", "VerifyDelegate is not asked; go-tuf's updater is",
		func(c *comparison) bool {
			return c.vector && (c.weRefuse(tuf.ErrRollback) || c.weRefuse(tuf.ErrMismatch) || c.weRefuse(tuf.ErrExpired))
		}},
	{"junk signatures", "they are counted before any is checked", func(c *comparison) bool { return c.vector && c.weRefuse(tuf.ErrTooLarge, "signatures") }},

	// We are more lenient.
	{"signatures that can't be read", "one piece of junk must not spoil a file that enough keys signed",
		func(c *comparison) bool { return c.weAccept() && c.again(legible(c.file)) == nil }},
	{"unused entries", "an entry of a list is parsed and refused on demand",
		func(c *comparison) bool {
			return (c.kind == "snapshot" || c.kind == "timestamp") && c.weAccept(".signed.meta", "hex")
		}},
	{"keys that can't be used", "one key of an unknown kind, or an id without a key, must not spoil the others", func(c *comparison) bool {
		return c.weAccept("key with ID") || c.weAccept("keys", "key type", "unsupported", "invalid byte", "ED25519 key") && (unusableKey(c.delegator) || unusableKey(c.file))
	}},
	{"hashes of unknown algorithms", "in any form: another listed hash is checked", func(c *comparison) bool {
		_, err := stockOpen(c.kind, knownHashes(c.file))
		return c.weAccept("hex") && err == nil
	}},

	// Both.
	{"keys whose type and scheme do not belong together", "a key is used only with its own type and scheme",
		func(c *comparison) bool {
			return (c.weRefuse(tuf.ErrThreshold) || c.weRefuse(tuf.ErrCharter)) && unusableKey(c.delegator)
		}},
	{"verified over other bytes", "we verify over the canonical form of what was received, go-tuf over what it makes of it: dates with fractions, empty lists, absent members, large or broken numbers",
		func(c *comparison) bool {
			return (c.weAccept("not enough signatures") || c.weRefuse(tuf.ErrThreshold)) && c.reencoded()
		}},
}

// comparison is one file verified by both.
type comparison struct {
	from   string // where it comes from, for messages
	kind   string // root, next, timestamp, snapshot, targets or delegated
	vector bool   // with priors and the current time
	file   []byte

	delegator []byte // its keys and threshold decide

	ours   error
	theirs error                   // errPanic after a panic
	mixed  string                  // if both accept: differences in the contents
	again  func(file []byte) error // go-tuf's result for another file instead
}

var errPanic = errors.New("panic")

// weRefuse is a refusal of ours that go-tuf does not share.
func (c *comparison) weRefuse(sentinel error, parts ...string) bool {
	return c.theirs == nil && errors.Is(c.ours, sentinel) && within(c.ours, parts)
}

// weAccept is the other way round.
func (c *comparison) weAccept(parts ...string) bool {
	return c.ours == nil && c.theirs != nil && within(c.theirs, parts)
}

func within(err error, parts []string) bool {
	return len(parts) == 0 || slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(err.Error(), p) })
}

// form is a refusal of ours for the file's form.
func form(parts ...string) func(*comparison) bool {
	return func(c *comparison) bool {
		return c.weRefuse(tuf.ErrMalformed, parts...) && !(bytes.Contains(c.file, []byte(layout.CharterMember)) && soundWithoutCharter(c.file))
	}
}

// soundWithoutCharter reports that only the charter of the root is malformed.
func soundWithoutCharter(file []byte) bool {
	var env doc
	d := json.NewDecoder(bytes.NewReader(file))
	d.UseNumber()
	if d.Decode(&env) != nil {
		return false
	}
	signed, ok := env["signed"].(doc)
	if !ok || signed[layout.CharterMember] == nil {
		return false
	}
	if _, err := wire.Canonical(file); err != nil {
		return false // malformed JSON
	}
	delete(signed, layout.CharterMember)
	_, err := tuf.OpenRoot(rawtuf.Marshal(env), nil)
	return errors.Is(err, tuf.ErrThreshold) // well-formed; the signatures were made for the whole
}

// legible removes signatures that are no pair of a key id and hex.
func legible(file []byte) []byte {
	env := parse(file)
	sigs, _ := env["signatures"].([]any)
	env["signatures"] = slices.DeleteFunc(sigs, func(s any) bool {
		m, _ := s.(doc)
		sig, _ := m["sig"].(string)
		_, isText := m["keyid"].(string)
		_, err := hex.DecodeString(sig)
		return !isText || err != nil || sig == ""
	})
	return rawtuf.Marshal(env)
}

// knownHashes removes hashes of unknown algorithms.
func knownHashes(file []byte) []byte {
	env := parse(file)
	for _, s := range spots(env) {
		if hashes, ok := s.value.(doc); ok && s.name == "hashes" {
			maps.DeleteFunc(hashes, func(name string, _ any) bool { return name != "sha256" && name != "sha512" })
		}
	}
	return rawtuf.Marshal(env)
}

// unusableKey reports that a root or a targets role holds a key that we can't use.
func unusableKey(delegator []byte) bool {
	text := func(d doc, name string) string { s, _ := d[name].(string); return s }
	for _, s := range spots(parse(delegator)) {
		if key, ok := s.value.(doc); ok && (key["keytype"] != nil || key["keyval"] != nil) {
			val, _ := key["keyval"].(doc)
			if _, err := (tuf.Key{Type: text(key, "keytype"), Scheme: text(key, "scheme"), Public: text(val, "public")}).Fingerprint(); err != nil {
				return true
			}
		}
	}
	return false
}

// reencoded reports that go-tuf would sign and verify other bytes than the received ones.
func (c *comparison) reencoded() bool {
	theirs, err := stockPayload(c.kind, c.file)
	v, err2 := wire.Canonical(c.file)
	var signed wire.Value
	if err != nil || err2 != nil || v.Fields(wire.Field{Name: "signed", To: &signed}) != nil {
		return false
	}
	return !bytes.Equal(theirs, signed)
}

// newComparison verifies a file with go-tuf, to compare it with our result.
func newComparison(from, kind, role string, delegator, file []byte, ours error) *comparison {
	again := func(other []byte) error {
		if kind == "root" {
			return stockJudge(kind, other, role, other) // by itself
		}
		return stockJudge(kind, delegator, role, other)
	}
	if kind == "root" {
		delegator = file
	}
	return &comparison{from: from, kind: kind, file: file, delegator: delegator, ours: ours, theirs: again(file), again: again}
}

// compare verifies a file with both.
func (s subject) compare(from string, file []byte) *comparison {
	read, err := s.bench.verdict(s.kind, s.role, file)
	c := newComparison(from, s.kind, s.role, s.delegator, file, err)
	if c.ours == nil && c.theirs == nil {
		if other, err := stockRead(s.kind, file); err != nil || !sameReading(s.kind, read, other) {
			c.mixed = fmt.Sprintf("we read\n%sgo-tuf reads\n%s%v", read, other, err)
		}
	}
	return c
}

// comparisons returns those of a vector; it verifies file after file as far as possible.
func (v *vector) comparisons() (out []*comparison) {
	add := func(kind string, delegator []byte, role string, file []byte, ours error) {
		c := newComparison(v.name+" "+role, kind, role, delegator, file, ours)
		c.vector = true
		out = append(out, c)
	}
	rootFile := v.files["1.root.json"]
	if pin, ok := v.files["pin.json"]; ok {
		rootFile = rawtuf.Marshal(parse(pin)["root"])
	}
	root, err := tuf.OpenRoot(rootFile, nil)
	add("root", rootFile, "root", rootFile, err)
	for err == nil {
		file, ok := v.files[fmt.Sprintf("%d.root.json", root.Version()+1)]
		if !ok {
			break
		}
		var next *tuf.Root
		next, err = root.Next(file)
		add("next", rootFile, "root", file, err)
		if err == nil {
			root, rootFile = next, file
		}
	}
	if err != nil {
		return out
	}
	file := v.files["timestamp.json"]
	ts, err := root.Timestamp(file, v.files["prior/timestamp.json"], v.now)
	add("timestamp", rootFile, "timestamp", file, err)
	if err != nil {
		return out
	}
	file, _ = v.fetch(ts.SnapshotFile())
	snap, err := ts.Snapshot(file, v.files["prior/snapshot.json"])
	add("snapshot", rootFile, "snapshot", file, err)
	if err != nil {
		return out
	}
	f, err := snap.RoleFile("targets")
	if err != nil {
		return out
	}
	targets, _ := v.fetch(f)
	_, err = snap.Targets(targets)
	add("targets", rootFile, "targets", targets, err)
	if err != nil || root.Charter() != nil {
		return out
	}
	var files [][2]string // role and delegator, as they were asked for
	by := map[string][]byte{"targets": targets}
	_, err = snap.UnsafeTarget(v.find, func(f tuf.RoleFile) ([]byte, error) {
		data, err := v.fetch(f)
		by[f.Role] = data
		for d, file := range by {
			if s, e := stockOpen("targets", file); e == nil && delegates(s.meta.(*metadata.Metadata[metadata.TargetsType]), f.Role) {
				files = append(files, [2]string{f.Role, d})
			}
		}
		return data, err
	})
	for i, f := range files {
		ours := error(nil)
		if i == len(files)-1 && !errors.Is(err, tuf.ErrNoTarget) {
			ours = err
		}
		add("delegated", by[f[1]], f[0], by[f[0]], ours)
	}
	return out
}

func delegates(m *metadata.Metadata[metadata.TargetsType], role string) bool {
	d := m.Signed.Delegations
	return d != nil && (d.SuccinctRoles != nil && d.SuccinctRoles.IsDelegatedRole(role) ||
		slices.ContainsFunc(d.Roles, func(r metadata.DelegatedRole) bool { return r.Name == role }))
}

func TestGoTUFAgrees(t *testing.T) {
	var all []*comparison
	for _, v := range vectors(t) {
		all = append(all, v.comparisons()...)
	}
	told := len(all)
	rounds := 80
	if testing.Short() {
		rounds = 15
	}
	list := subjects(t)
	mutants := make([][]*comparison, len(list))
	var wg sync.WaitGroup
	for i, s := range list {
		wg.Go(func() { mutants[i] = s.mutants(rounds) })
	}
	wg.Wait()
	all = append(all, slices.Concat(mutants...)...)
	accepted, panics, met := 0, 0, map[string]int{}
	for _, c := range all {
		if errors.Is(c.theirs, errPanic) {
			panics++
		}
		if (c.ours == nil) == (c.theirs == nil) {
			if c.ours == nil {
				accepted++
			}
			if c.mixed != "" {
				t.Errorf("%s %s: %s\n%.3000s", c.kind, c.from, c.mixed, c.file)
			}
			continue
		}
		i := slices.IndexFunc(differences, func(d difference) bool { return d.is(c) })
		if i < 0 {
			t.Errorf("%s %s: our result: %v, go-tuf: %v\n%.3000s", c.kind, c.from, c.ours, c.theirs, c.file)
			continue
		}
		met[differences[i].name]++
	}
	for _, d := range differences {
		if met[d.name] == 0 && !testing.Short() {
			t.Errorf("nothing differs any more in: %s", d.name)
		}
		t.Logf("%4d  %s", met[d.name], d.name)
	}
	t.Logf("%d files of vectors and %d mutants; both accept %d; go-tuf panics over %d", told, len(all)-told, accepted, panics)
	if accepted < len(all)/10 {
		t.Errorf("both accept %d of %d only: the mutations prove little", accepted, len(all))
	}
}
