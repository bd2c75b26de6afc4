package keycompromise_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

var update = flag.Bool("update", false, "write the table into the document")

// kind is a set of keys with equal authority.
type kind struct {
	name string
	keys []string
}

var (
	vendorKinds = []kind{
		{"a vendor root key", vendorKeys[:3]},
		{"timestamp", []string{"timestamp"}},
		{"snapshot", []string{"snapshot"}},
		{"targets", []string{"targets"}},
		{"the vendor's agent key", []string{"vendor-agent"}},
		{"the vendor's rules key", []string{"vendor-rules"}},
	}
	reviewKinds = []kind{
		{"a review root key", reviewKeys[:3]},
		{"a reviewer", []string{"ann", "ben", "cleo"}},
		{"the centre's robot", []string{"robot"}},
	}
)

// row is a row of the table: one or more sets of compromised keys with equal authority.
type row struct {
	name string
	sets [][]string
}

// rows returns the rows of TestTheft; with -short it tries only the first set of each.
func rows() []row {
	out := []row{{"no key", [][]string{nil}}}
	for _, k := range append(slices.Clone(vendorKinds), reviewKinds...) {
		r := row{name: k.name}
		for _, key := range k.keys {
			r.sets = append(r.sets, []string{key})
		}
		out = append(out, r)
	}
	for _, v := range vendorKinds {
		for _, c := range reviewKinds {
			r := row{name: v.name + " and " + c.name}
			for _, a := range v.keys {
				for _, b := range c.keys {
					r.sets = append(r.sets, []string{a, b})
				}
			}
			out = append(out, r)
		}
	}
	all := func(keys []string, more ...string) [][]string { return [][]string{append(slices.Clone(keys), more...)} }
	return append(out,
		row{"timestamp and snapshot", [][]string{{"timestamp", "snapshot"}}},
		row{"timestamp, snapshot and a reviewer", [][]string{{"timestamp", "snapshot", "ann"}, {"timestamp", "snapshot", "cleo"}}},
		row{"**every key of the vendor**", all(vendorKeys)},
		row{"every key of the vendor and a review root key", all(vendorKeys, "review-root-2")},
		row{"every key of the vendor and a reviewer", all(vendorKeys, "ben")},
		row{"every key of the vendor and the centre's robot", all(vendorKeys, "robot")},
		row{"every key of the vendor and two reviewers", all(vendorKeys, "ann", "cleo")},
		row{"every key of the vendor and two review root keys", all(vendorKeys, "review-root-1", "review-root-3")},
		row{"**every key of the review centre**", all(reviewKeys)},
		row{"every key of the review centre, and timestamp and snapshot", all(reviewKeys, "timestamp", "snapshot")},
		row{"every key of the review centre and two vendor root keys", all(reviewKeys, "vendor-root-1", "vendor-root-2")},
		row{"a recovery key", [][]string{{"bank-1"}, {"bank-2"}, {"university"}}},
		row{"every recovery key of one organisation, and every key of the vendor", all(vendorKeys, "bank-1", "bank-2")},
		row{"every recovery key of one organisation, and every key of the review centre", all(reviewKeys, "bank-1", "bank-2")},
		row{"**recovery keys of two organisations**", [][]string{{"bank-1", "university"}, {"bank-2", "university"}, recoveryKeys}},
		row{"every key of both", all(vendorKeys, reviewKeys...)},
	)
}

const document = "../../docs/key-compromise.md"

// Each single key, each pair of keys across the parties and each whole party is
// compromised in turn. The document states exactly what an attacker with these keys can
// make a client accept; go test -update writes it.
func TestTheft(t *testing.T) {
	rawtuf.Sequential(t)
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	list, r := rows(), honest()
	lines := make([]string, len(list))
	t.Run("rows", func(t *testing.T) {
		for i, row := range list {
			t.Run(row.name, func(t *testing.T) {
				r := r.Clone() // a Repo creates keys on demand
				t.Parallel()
				for n, set := range row.sets {
					if n > 0 && testing.Short() {
						break
					}
					line := "| " + row.name + " |"
					for _, goal := range goals {
						line += " " + goal.try(t, r, set) + " |"
					}
					if n > 0 && line != lines[i] {
						t.Errorf("%q gives another line:\n%s\n%s", set, line, lines[i])
					}
					lines[i] = line
				}
			})
		}
	})
	head := "| compromised keys |"
	rule := "|---|"
	for _, goal := range goals {
		head += " " + goal.name + " |"
		rule += "---|"
	}
	table := strings.Join(append([]string{head, rule}, lines...), "\n") + "\n"
	before, rest, ok := strings.Cut(string(data), "| compromised keys |")
	i := strings.Index(rest, "\n\n")
	if !ok || i < 0 {
		t.Fatalf("%s has no table", document)
	}
	want := before + table + rest[i+1:]
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(data) {
		t.Errorf("%s differs; the result is:\n%s", document, table)
	}
	// A column without any success would prove nothing.
	for g, goal := range goals {
		if !slices.ContainsFunc(lines, func(l string) bool {
			cell := strings.TrimSpace(strings.Split(l, "|")[g+2])
			return cell != no && cell != "1 day"
		}) {
			t.Errorf("no row can %s: the attempt proves nothing", goal.name)
		}
	}
}

// The rows include all combinations that the document promises.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range rows() {
		for _, set := range row.sets {
			s := slices.Sorted(slices.Values(set))
			seen[fmt.Sprint(s)] = true
		}
	}
	for _, a := range append(slices.Clone(vendorKeys), reviewKeys...) {
		if !seen[fmt.Sprint([]string{a})] {
			t.Errorf("no row for %s", a)
		}
	}
	for _, a := range vendorKeys {
		for _, b := range reviewKeys {
			if !seen[fmt.Sprint(slices.Sorted(slices.Values([]string{a, b})))] {
				t.Errorf("no row for %s and %s", a, b)
			}
		}
	}
	for _, party := range [][]string{vendorKeys, reviewKeys} {
		if !seen[fmt.Sprint(slices.Sorted(slices.Values(party)))] {
			t.Errorf("no row for all of %s", party)
		}
	}
}
