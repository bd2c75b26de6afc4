package repo_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/tuf"
)

var longHex = regexp.MustCompile(`[0-9a-f]{64}`)

// diff stages an edit and returns the lines of its diff, with hashes replaced by
// names.
func (w *world) diff(edit func(*repo.Tx) error) []string {
	w.T.Helper()
	d, err := repo.New(w.Store, w.Config()).Stage(w.T.Context(), edit) // without keys: nothing is signed
	noErr(w.T, err)
	return w.lines(d)
}

func (w *world) lines(d *repo.Draft) (out []string) {
	w.T.Helper()
	changes, err := w.Open("timestamp").Diff(w.T.Context(), travel(w.T, d))
	noErr(w.T, err)
	for _, c := range changes {
		line := longHex.ReplaceAllStringFunc(c.String(), func(id string) string {
			for name, s := range w.Keys {
				if s.Key().ID() == id {
					return "ID(" + name + ")"
				}
			}
			return "HASH(" + id[:4] + ")"
		})
		for name, s := range w.Keys {
			line = strings.ReplaceAll(line, s.Key().ID()[:16], "KEY("+name+")")
		}
		out = append(out, line)
	}
	return out
}

// Each edit is checked against the lines that a signer reads.
func TestDiff(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	agent1, agent2 := "HASH("+sum("agent 1")[:4]+")", "HASH("+sum("agent 2")[:4]+")"
	for name, x := range map[string]struct {
		edit func(tx *repo.Tx) error
		want []string
	}{
		"release": {add("2"), []string{
			"vendor-agent: release agent/2 added: channel stable, length 7, platform any, product agent, sequence 2, sha256 " + agent2 + ", version 2 (review-agent does not list it)",
			"vendor-agent: version 2 -> 3", "vendor-agent v3: lists agent/2", "vendor-agent: expires 2026-12-20T12:00:00Z",
		}},
		"another build under the old name": {func(tx *repo.Tx) error {
			return errors.Join(tx.Remove("vendor", "agent/1"), tx.Add("vendor", "agent/1", strings.NewReader("agent 2"), release("1")))
		}, []string{
			"vendor-agent: release agent/1: sequence 1 -> 2 (review-agent lists it DIFFERENTLY)",
			"vendor-agent: release agent/1: sha256 " + agent1 + " -> " + agent2,
			"vendor-agent: version 2 -> 3",
		}},
		"removal": {func(tx *repo.Tx) error { return tx.Remove("review", "agent/1") }, []string{
			"review-agent: release agent/1 removed, was: channel stable, length 7, platform any, product agent, sequence 1, sha256 " + agent1 + ", version 1",
			"review-agent: version 2 -> 3",
		}},
		"place": {announce, []string{
			"root: version 2 -> 3",
			"root v3: location b is added", "root: expires 2027-11-20T12:00:00Z",
			`root: "x-visum" "prev_root_sha256" string "HASH" -> string "HASH"`, "root: seq 1 -> 2",
			"root: location b added: base \"https://b.example.org/\", operator host-b, paths.metadata metadata/, paths.targets targets/, priority 30, tier mirror",
		}},
		"location's end": {func(tx *repo.Tx) error {
			r := tx.Root()
			r.Locations = append(r.Locations, location("c", tuf.Primary, 5))
			r.Locations[0].UseUntil = w.Now.AddDate(0, 6, 0)
			return nil
		}, []string{"root v3: location c is added; location a changes", "root: location a: use_until added: 2027-05-20T12:00:00Z"}},
		"keys": {func(tx *repo.Tx) error {
			r := tx.Root()
			r.Parties[0].Keys = w.Public("vendor-1", "vendor-3", "vendor-4")
			r.Parties[0].Min = 2
			return nil
		}, []string{
			"root v3: vendor replaces 1 of its 2 root keys by 2; vendor must sign with 2 keys, was 1",
			"root: party vendor: key ed25519 KEY(vendor-2) removed", "root: party vendor: key ed25519 KEY(vendor-3) added", "root: party vendor: key ed25519 KEY(vendor-4) added",
			"root: party vendor: min 1 -> 2",
			"root: role root: key ed25519 KEY(vendor-2) removed", "root: role root: key ed25519 KEY(vendor-3) added", "root: role root: key ed25519 KEY(vendor-4) added",
			"root: role root: threshold 3 -> 4",
		}},
		"online keys": {func(tx *repo.Tx) error {
			tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = w.Public("timestamp-2"), w.Public("snapshot-2")
			return nil
		}, []string{"root: epoch 0 -> 1", "root: floors.timestamp 0 -> 3", "root: role timestamp: key ed25519 KEY(timestamp-2) added", "root: role timestamp: key ed25519 KEY(timestamp) removed"}},
		"class": {func(tx *repo.Tx) error {
			tx.Root().Classes = append(tx.Root().Classes, w.Class("rules"))
			return nil
		}, []string{
			"root: class rules added: prefix rules/",
			"root: release role vendor-rules of class rules added: key ed25519 KEY(vendor-release), party vendor, threshold 1",
		}},
		"new keys of a release role": {func(tx *repo.Tx) error {
			tx.Root().Classes[0].Roles[0].Keys = repo.Keys{Keys: w.Public("vendor-release-2", "vendor-release-3"), Threshold: 2}
			return nil
		}, []string{
			"root: release role vendor-agent of class agent: key ed25519 KEY(vendor-release-2) added", "root: release role vendor-agent of class agent: key ed25519 KEY(vendor-release) removed",
			"root: release role vendor-agent of class agent: threshold 1 -> 2", "targets: delegated role vendor-agent: threshold 1 -> 2",
		}},
		"retired": {func(tx *repo.Tx) error {
			r := tx.Root()
			r.Locations = append(r.Locations, location("c", tuf.Primary, 5))
			return r.Retire("a")
		}, []string{"root: retired location a added: host a.example.org"}},
		"later date": {func(tx *repo.Tx) error { w.Now = w.Now.AddDate(0, 0, 1); return tx.Renew("vendor") },
			[]string{"vendor-agent: expires 2026-12-20T12:00:00Z -> 2026-12-21T12:00:00Z", "vendor-agent: version 2 -> 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			now := w.Now
			got := w.diff(x.edit)
			w.Now = now
			for _, want := range x.want {
				hash := regexp.MustCompile(`HASH\([0-9a-f]{4}\)`)
				if !slices.ContainsFunc(got, func(line string) bool {
					return line == want || hash.ReplaceAllString(line, "HASH") == want
				}) {
					t.Errorf("no line %q in\n%s", want, strings.Join(got, "\n"))
				}
			}
			if len(got) == 0 {
				t.Error("the diff is empty")
			}
			for _, line := range got {
				if strings.ContainsAny(line, "\n\x1b") {
					t.Errorf("more than a line: %q", line)
				}
			}
		})
	}
}

func ExampleChange() {
	fmt.Println(diff.Change{Role: "root", Kind: diff.KindChanged, What: "location", Name: "msk-1", Fact: "use_until", Old: "2019-03-01T00:00:00Z", New: "2019-06-01T00:00:00Z"})
	fmt.Println(diff.Change{Role: "root", Kind: diff.KindRemoved, What: "party", Name: "vendor", Fact: "key ed25519 4b6f"})
	// Output:
	// root: location msk-1: use_until 2019-03-01T00:00:00Z -> 2019-06-01T00:00:00Z
	// root: party vendor: key ed25519 4b6f removed
}

// Every member that a draft changes, adds or removes, at any depth, known or unknown,
// has a line in the diff.
func TestDiffLeavesNothingOut(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	w := richWorld(t)
	w.Update(func(tx *repo.Tx) error {
		tx.Root().Classes[0].Hold = &repo.Hold{Role: "hold-agent", Keys: repo.Keys{Keys: w.Public("hold")}, Max: time.Hour}
		return nil
	})
	d, err := w.Open().Stage(t.Context(), func(tx *repo.Tx) error {
		tx.RenewRoot()
		return errors.Join(add("2")(tx), approve("1")(tx), tx.RenewTargets())
	})
	noErr(t, err)
	data, err := d.Bytes()
	noErr(t, err)
	say := func(d *repo.Draft) (string, error) {
		changes, err := w.Open("timestamp").Diff(t.Context(), d)
		var lines []string
		for _, c := range changes {
			lines = append(lines, c.String())
		}
		return strings.Join(lines, "\n"), err
	}
	honest, err := say(d)
	noErr(t, err)
	var doc map[string]any
	noErr(t, json.Unmarshal(data, &doc))
	n := 0
	// mutate calls fn with each version of v that differs in one element.
	var mutate func(v any, at string, fn func(any, string))
	mutate = func(v any, at string, fn func(any, string)) {
		switch v := v.(type) {
		case map[string]any:
			for name := range v {
				was := v[name]
				delete(v, name)
				fn(v, at+" without "+name)
				v[name] = was
				mutate(was, at+"."+name, func(m any, at string) { v[name] = m; fn(v, at); v[name] = was })
			}
			v["x-new"] = "x"
			fn(v, at+" with x-new")
			delete(v, "x-new")
		case []any:
			for i, was := range v {
				mutate(was, fmt.Sprintf("%s[%d]", at, i), func(m any, at string) { v[i] = m; fn(v, at); v[i] = was })
			}
			fn(slices.Concat(v, []any{"x-new"}), at+" and more")
			if len(v) > 0 {
				fn(slices.Clone(v[1:]), at+" without its first")
			}
		case string:
			fn(v+"0", at)
		case float64:
			fn(v+1, at)
		case bool:
			fn(!v, at)
		}
	}
	for i, file := range doc["files"].([]any) {
		file := file.(map[string]any)
		content := file["content"].(map[string]any)
		signed := content["signed"]
		mutate(signed, fmt.Sprintf("files[%d]", i), func(m any, at string) {
			content["signed"] = m
			changed, err := json.Marshal(doc)
			noErr(t, err)
			content["signed"] = signed
			other, err := repo.OpenDraft(changed)
			if err != nil {
				return // a refusal also makes it visible
			}
			n++
			if got, err := say(other); err == nil && (got == honest || got == "") {
				t.Errorf("%s: not a word of it", at)
			}
		})
	}
	if n < 300 {
		t.Errorf("%d mutants only", n)
	}
}

// A draft that does not follow what is published has no diff.
func TestDiffConflict(t *testing.T) {
	w := newWorld(t)
	d, err := w.Open().Stage(t.Context(), add("1"))
	noErr(t, err)
	noErr(t, w.Open().Publish(t.Context(), d))
	if _, err := w.Open().Diff(t.Context(), d); !errors.Is(err, repo.ErrPublished) {
		t.Error(err)
	}
	root, err := w.Open().Stage(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	noErr(t, err)
	w.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	if _, err := w.Open().Diff(t.Context(), root); !errors.Is(err, repo.ErrPublished) {
		t.Error(err)
	}
	// The first root has no predecessor.
	empty := emptyWorld(t)
	first, err := empty.Open().Stage(t.Context(), empty.Define)
	noErr(t, err)
	if lines := empty.lines(first); !slices.Contains(lines, "root: version added: 1") || !slices.ContainsFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "root: party vendor added: key ed25519 KEY(vendor-") && strings.HasSuffix(l, ", min 1")
	}) {
		t.Errorf("%s", strings.Join(lines, "\n"))
	}
}

// A draft can neither insert lines into the diff nor move the cursor.
func TestDiffHostileWords(t *testing.T) {
	w := newWorld(t)
	d, err := w.Open().Stage(t.Context(), func(tx *repo.Tx) error {
		rel := release("2")
		rel.Notes = "NOTES"
		return tx.Add("vendor", "agent/2", strings.NewReader("agent 2"), rel)
	})
	noErr(t, err)
	data, err := d.Bytes()
	noErr(t, err)
	for _, place := range []string{`"agent/2"`, `"NOTES"`, `"stable"`, `"notes"`} {
		for _, evil := range []string{`x\nroot: nothing changed`, `x\u001b[2J`, `x\u202egro`, `\"x, sequence 1`, `аgent`} {
			d, err := repo.OpenDraft([]byte(strings.Replace(string(data), place, `"`+evil+`"`, 1)))
			noErr(t, err)
			changes, err := w.Open("timestamp").Diff(t.Context(), d)
			noErr(t, err)
			for _, c := range changes {
				line := c.String()
				if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 || strings.HasPrefix(line, "root: nothing") {
					t.Errorf("%s in place of %s: %q", evil, place, line)
				}
			}
		}
	}
}

// A growing list is split into hash bins, and its files move. The diff shows the new
// files and the bins.
func TestDiffBins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files := func(from, to int) func(*repo.Tx) error {
		return func(tx *repo.Tx) error {
			for i := from; i < to; i++ {
				if err := tx.Add("vendor", fmt.Sprintf("agent/%04d", i), strings.NewReader(fmt.Sprint(i)), nil); err != nil {
					return err
				}
			}
			return nil
		}
	}
	w.Update(files(0, 510))
	lines := w.diff(files(510, 520)) // more than a list holds
	if n := len(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.Contains(l, "release agent/") })); n != 10 {
		t.Errorf("%d releases of 10:\n%s", n, strings.Join(lines, "\n"))
	}
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "vendor-agent: hash bins added: bit_length 2, ") }) || len(lines) > 40 {
		t.Errorf("%d lines:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	w.Update(files(510, 520))
	lines = w.diff(func(tx *repo.Tx) error { return errors.Join(files(520, 521)(tx), tx.Remove("vendor", "agent/0007")) })
	if !slices.ContainsFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "vendor-agent: release agent/0007 removed, was: length 1")
	}) ||
		!slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "vendor-agent: release agent/0520 added: length 3") }) || len(lines) > 10 {
		t.Errorf("%d lines:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	// Verify and a mirror follow the bins.
	report, err := mirror.Verify(t.Context(), w.Storage(), w.Pin(), options(w.Config()))
	if err != nil || report.Err() != nil || report.Targets != 520 || report.Roles != 7 {
		t.Errorf("%v, %v", report, err)
	}
	m := newMemory()
	noErr(t, mirror.Clone(t.Context(), m, w.Store, w.Pin(), options(w.Config())))
	if got := w.Verify(mirror.Mirror{Name: "m", Source: m}); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "m ") }) {
		t.Errorf("the mirror: %q", got)
	}
}
