package charter_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/charter"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/tuf"
)

var noErr = rawtuf.NoErr

// complete sets every member that a root can have; as many as possible have their
// default.
func complete(w *repotest.World) func(tx *repo.Tx) error {
	return func(tx *repo.Tx) error {
		if err := w.Define(tx); err != nil {
			return err
		}
		r := tx.Root()
		r.Classes[0].Hold = &repo.Hold{Role: "hold", Keys: repo.Keys{Keys: w.Public("review-release", "hold-2")}, Max: 7 * 24 * time.Hour}
		r.Classes = append(r.Classes, w.Class("rules"))
		r.Classes[1].HashBins = true
		r.Locations = append(r.Locations, repotest.NewLocation("m", tuf.Mirror, 10))
		r.Locations[2].Jurisdiction, r.Locations[2].UseFrom, r.Locations[2].UseUntil = "Zürich <CH>", w.Now.Add(time.Hour), w.Now.Add(48*time.Hour)
		r.Retired = []tuf.Retired{{ID: "old", Hosts: []string{"old.example.org", "older.example.org"}}}
		r.Recovery = &repo.RecoveryRule{Orgs: []repo.Org{{Name: "bank", Keys: w.Public("bank-1", "bank-2")}, {Name: "university", Keys: w.Public("university")}}, Counter: 3}
		return nil
	}
}

func published(t *testing.T) *repotest.World {
	t.Helper()
	w := repotest.Empty(t)
	w.Update(complete(w))
	return w
}

// current returns the editable root of the published repository.
func current(w *repotest.World) (root repo.Root) {
	w.T.Helper()
	_, err := w.Copy().Open().Stage(w.T.Context(), func(tx *repo.Tx) error { root = *tx.Root(); tx.RenewRoot(); return nil })
	noErr(w.T, err)
	return root
}

func parse(t *testing.T, data []byte) repo.Root {
	t.Helper()
	root, _, err := charter.Parse(data)
	noErr(t, err)
	return root
}

// exported returns a root without what only package repo sets.
func exported(r repo.Root) repo.Root {
	return repo.Root{RepoID: r.RepoID, Parties: r.Parties, Timestamp: r.Timestamp, Snapshot: r.Snapshot, Targets: r.Targets, Classes: r.Classes,
		Locations: r.Locations, Retired: r.Retired, Probe: r.Probe, Recovery: r.Recovery}
}

// The root of a published repository travels through a document: nothing changes, and
// one edited field is one change.
func TestPublishedRoot(t *testing.T) {
	t.Parallel()
	w := published(t)
	root := current(w)
	data, err := charter.Marshal(root, nil)
	noErr(t, err)
	if got := parse(t, data); !reflect.DeepEqual(got, exported(root)) {
		t.Fatalf("got\n%+v\nwant\n%+v", got, exported(root))
	}
	w.Store.Wrote()
	w.Update(func(tx *repo.Tx) error { tx.SetRoot(parse(t, data)); return nil })
	if wrote := w.Store.Wrote(); len(wrote) != 0 {
		t.Fatalf("an unchanged document wrote %q", wrote)
	}

	for name, x := range map[string]struct {
		old, new string
		want     []string
	}{
		"priority":  {`"priority": 20`, `"priority": 30`, []string{"root: location z: priority 20 -> 30"}},
		"probe":     {`"every_seconds": 21600`, `"every_seconds": 3600`, []string{"root: probe: every_seconds"}},
		"mode":      {`"mode": "warn"`, `"mode": "enforce"`, []string{"root: probe: mode"}},
		"retired":   {`"older.example.org"]`, `"older.example.org", "oldest.example.org"]`, []string{"root: retired"}},
		"hold":      {`"max_seconds": 604800`, `"max_seconds": 3600`, []string{"max_seconds"}},
		"hash bins": {`"hash_bins": false`, `"hash_bins": true`, []string{"hash_bins"}},
		"recovery":  {`"counter": 3`, `"counter": 4`, []string{"counter"}},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Count(string(data), x.old) != 1 {
				t.Fatalf("%s is %d times in\n%s", x.old, strings.Count(string(data), x.old), data)
			}
			edited := parse(t, bytes.Replace(data, []byte(x.old), []byte(x.new), 1))
			w := w.Copy()
			d, err := w.Open().Stage(t.Context(), func(tx *repo.Tx) error { tx.SetRoot(edited); return nil })
			noErr(t, err)
			changes, err := w.Open().Diff(t.Context(), d)
			noErr(t, err)
			var got []string
			for _, c := range changes {
				// A new root also renews these.
				renewed := slices.ContainsFunc([]string{"version", "expires", "seq", "signed_at", "prev_root_sha256"}, func(s string) bool { return strings.Contains(c.Fact, s) })
				if c.Part != diff.PartHeadline && c.Kind != diff.KindUnchanged && !renewed {
					got = append(got, c.String())
				}
			}
			if len(got) != 1 || !strings.Contains(got[0], x.want[0]) {
				t.Errorf("got %q, want %q", got, x.want)
			}
		})
	}
}

// The defaults in a document are those that package repo signs.
func TestDefaults(t *testing.T) {
	t.Parallel()
	w := repotest.Empty(t)
	var before repo.Root
	w.Update(func(tx *repo.Tx) error {
		if err := complete(w)(tx); err != nil {
			return err
		}
		before = *tx.Root()
		return nil
	})
	data, err := charter.Marshal(before, nil)
	noErr(t, err)
	got, signed := parse(t, data), exported(current(w))
	got.RepoID = signed.RepoID // random
	slices.SortStableFunc(got.Locations, func(a, b tuf.Location) int { return a.Priority - b.Priority })
	if !reflect.DeepEqual(got, signed) {
		t.Fatalf("got\n%+v\nsigned is\n%+v", got, signed)
	}

	// The same document with every default left out is the same root.
	short := string(data)
	for _, x := range []string{`,
      "min": 1`, `,
      "threshold": 1`, `,
          "threshold": 1`, `,
        "threshold": 1`, `,
      "hash_bins": false`, `,
    "threshold": 2`, `,
    "min_orgs": 2`, `,
    "hold_seconds": 1209600`, `,
    "min_ticks": 14`, `
    "min_operators": 2,
    "every_seconds": 21600,
    "max_age_seconds": 2592000,
    "mode": "warn"`} {
		if !strings.Contains(short, x) {
			t.Errorf("%q is not in\n%s", x, short)
		}
		short = strings.ReplaceAll(short, x, "")
	}
	again, err := charter.Marshal(parse(t, []byte(short)), nil)
	noErr(t, err)
	if string(again) != string(data) {
		t.Errorf("got\n%s\nwant\n%s", again, data)
	}
}

// A script may begin with nothing but the mark.
func TestShortest(t *testing.T) {
	root := parse(t, []byte(`{"visum-charter": 1}`))
	if root.Probe.MinOperators != 2 || root.Timestamp.Threshold != 1 || root.Recovery != nil {
		t.Errorf("%+v", root)
	}
	data, err := charter.Marshal(repo.Root{}, nil)
	noErr(t, err)
	if again := parse(t, data); !reflect.DeepEqual(again, root) {
		t.Errorf("%+v", again)
	}
}

// Labels travel with their keys; those that can't stand for a key are replaced.
func TestLabels(t *testing.T) {
	t.Parallel()
	w := published(t)
	root := current(w)
	all := map[string]string{}
	for name, s := range w.Keys {
		all[s.Key().ID()] = name
	}
	data, err := charter.Marshal(root, all)
	noErr(t, err)
	again, labels, err := charter.Parse(data)
	noErr(t, err)
	if !reflect.DeepEqual(again, exported(root)) || !maps.Equal(labels, all) {
		t.Errorf("got %q, want %q", labels, all)
	}
	if !strings.Contains(string(data), `"keys": ["vendor-1", "vendor-2"]`) {
		t.Errorf("no labels in\n%s", data)
	}
	first, second := w.Signer("vendor-1").Key().ID(), w.Signer("vendor-2").Key().ID()
	for _, bad := range []string{"", " a", "a\n", "ä", strings.Repeat("a", 65), "key-" + second[:16], "review-1"} {
		changed := maps.Clone(all)
		changed[first] = bad
		data, err := charter.Marshal(root, changed)
		noErr(t, err)
		_, labels, err := charter.Parse(data)
		noErr(t, err)
		if labels[first] != "" || !strings.Contains(string(data), `"keys": ["key-`+first[:16]+`", "vendor-2"]`) {
			t.Errorf("%q: %q", bad, labels[first])
		}
	}
	// Under the generated label of one key there is no other key.
	data, err = charter.Marshal(root, nil)
	noErr(t, err)
	one, two := keyText(w.Signer("vendor-1").Key()), keyText(w.Signer("unknown").Key())
	_, _, err = charter.Parse(bytes.Replace(data, []byte(one), []byte(two), 1))
	wantErr(t, err, tuf.ErrMalformed, "keys.key-"+first[:16], "not a label")
}

func keyText(k tuf.Key) string {
	return fmt.Sprintf(`{"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": %q}}`, k.Public)
}

func wantErr(t *testing.T, err, want error, path, says string) *charter.Error {
	t.Helper()
	var e *charter.Error
	if !errors.As(err, &e) || !errors.Is(err, want) || e.Path != path || !strings.Contains(e.Detail, says) {
		t.Fatalf("got %v, want %v at %s: %s", err, want, path, says)
	}
	return e
}
