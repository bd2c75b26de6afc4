package repo_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	canonical "github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

type object = map[string]any

// edited returns a draft in which an attacker edited the file of a role and removed
// its signatures.
func edited(t *testing.T, d *repo.Draft, role string, edit func(file, signed object)) *repo.Draft {
	t.Helper()
	data, err := d.Bytes()
	noErr(t, err)
	var doc object
	noErr(t, json.Unmarshal(data, &doc))
	for _, f := range doc["files"].([]any) {
		if f := f.(object); f["role"] == role {
			content := f["content"].(object)
			content["signatures"] = []any{}
			edit(f, content["signed"].(object))
		}
	}
	data, err = json.Marshal(doc)
	noErr(t, err)
	d, err = repo.OpenDraft(data)
	noErr(t, err)
	return d
}

// forceAll signs with every key, as an attacker's tool does.
func (w *world) forceAll(d *repo.Draft) *repo.Draft {
	w.T.Helper()
	for _, s := range w.Keys {
		noErr(w.T, d.ForceSign(w.T.Context(), s))
	}
	return d
}

// dotted splits an object member into members whose names have a dot.
func dotted(doc object, name string) {
	for k, v := range doc[name].(object) {
		doc[name+"."+k] = v
	}
	delete(doc, name)
}

// says checks for a line that has all the parts.
func says(t *testing.T, lines []string, parts ...string) {
	t.Helper()
	if !slices.ContainsFunc(lines, func(l string) bool {
		return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(l, p) })
	}) {
		t.Errorf("no line with %q in\n%s", parts, strings.Join(lines, "\n"))
	}
}

// The diff reports what a root removes, and also reports the members of it that remain
// under other names.
func TestDiffShowsWhatIsTakenAway(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	w.Update(func(tx *repo.Tx) error {
		r := tx.Root()
		r.Probe = tuf.Probe{MinOperators: 2, Every: time.Hour, MaxAge: 24 * time.Hour, Enforce: true}
		r.Recovery = &repo.RecoveryRule{Orgs: []repo.Org{{Name: "bank", Keys: w.Public("bank")}, {Name: "uni", Keys: w.Public("uni")}}}
		return nil
	})
	renewal, err := w.Open("vendor-1").Stage(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	noErr(t, err)
	for _, l := range w.lines(renewal) { // the valid counterpart
		if strings.Contains(l, "hold") || strings.Contains(l, "recovery") || strings.Contains(l, "probe") {
			t.Errorf("a renewal: %s", l)
		}
	}
	says(t, w.lines(renewal), "root v3: is signed again")
	for _, how := range []func(object, string){dotted, func(o object, name string) { delete(o, name) }} {
		evil := edited(t, renewal, "root", func(_, signed object) {
			c := signed["x-visum"].(object)
			c["seq"] = 3
			how(c, "probe")
			how(c, "recovery")
			how(c["classes"].([]any)[0].(object), "hold")
		})
		lines := w.lines(evil)
		says(t, lines, "root v3: ", "the recovery rule is REMOVED", "the hold of class agent is REMOVED", "the probe rule changes")
		says(t, lines, "root: hold of class agent removed, was: ", "role hold-agent")
		says(t, lines, "root: recovery removed, was: ")
		says(t, lines, "root: probe removed, was: ", "mode enforce")
		if _, left := at(changesOf(t, evil, "root"), "x-visum")["probe.mode"]; left {
			says(t, lines, `root: "x-visum" "probe.mode" added: string "enforce"`)
			says(t, lines, `root: "x-visum" "classes" [name "agent"] "hold.role" added: string "hold-agent"`)
			says(t, lines, "other members change, see the rest")
		}
	}
	// The first line names the key and its party.
	party, err := repo.New(w.Store, w.Config()).Stage(t.Context(), func(tx *repo.Tx) error {
		tx.Root().Parties[1].Keys = w.Public("review-1", "review-3")
		return nil
	})
	noErr(t, err)
	if lines := w.lines(party); !strings.HasPrefix(lines[0], "root: signed before v3 changed: ") || lines[1] != "root v3: review replaces 1 of its 2 root keys by 1" {
		t.Errorf("%q", lines[:2])
	}
	says(t, w.lines(party), "root: key KEY(review-3) added: id ID(review-3), ")
}

// changesOf is the signed part of a draft's file.
func changesOf(t *testing.T, d *repo.Draft, role string) object {
	t.Helper()
	var file object
	noErr(t, json.Unmarshal(d.File(role), &file))
	return file["signed"].(object)
}

// A value in a member that no client reads is distinguished from the values that
// clients read.
func TestDiffTellsHiddenMembers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rel := release("2")
	rel.Rollout = &tuf.Rollout{Percent: 5}
	d, err := w.Open("vendor-release").Stage(t.Context(), func(tx *repo.Tx) error {
		return errors.Join(tx.Add("vendor", "agent/2", strings.NewReader("agent 2"), rel), tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team-*"}}))
	})
	noErr(t, err)
	healthy := w.lines(d)
	says(t, healthy, "vendor-agent: release agent/2 added: ", "rollout.percent 5", "length 7,")
	entry := func(signed object) object { return at(signed, "targets", "agent/2") }
	visum := func(signed object) object { return at(entry(signed), "custom", "visum") }
	for name, x := range map[string]struct {
		edit func(signed object)
		want []string
	}{
		"rollout with a dot": {func(s object) { dotted(visum(s), "rollout") }, []string{`"targets" "agent/2" "custom" "visum" "rollout.percent" added: integer 5`}},
		"rollout at the top": {func(s object) { entry(s)["rollout"] = visum(s)["rollout"]; delete(visum(s), "rollout") }, []string{`"targets" "agent/2" "rollout" "percent" added: integer 5`}},
		"hash in custom":     {func(s object) { visum(s)["sha256"] = strings.Repeat("a", 64) }, []string{`"targets" "agent/2" "custom" "visum" "sha256" added: string `}},
		"length in custom":   {func(s object) { visum(s)["length"] = 1 }, []string{`"targets" "agent/2" "custom" "visum" "length" added: integer 1`}},
		"a string":           {func(s object) { visum(s)["sequence"] = "1" }, []string{`"targets" "agent/2" "custom" "visum" "sequence" added: string "1"`}},
		"no list":            {func(s object) { s["members"] = []any{} }, []string{`"members" added: empty list`}},
		"keys elsewhere":     {func(s object) { s["delegations.keys"] = object{"x": 1} }, []string{`"delegations.keys" "x" added: integer 1`}},
		"key that is not used": {func(s object) {
			at(s, "delegations", "keys")["y"] = object{"keytype": "ed25519", "scheme": "ed25519", "keyval": object{"public": "00"}}
		}, []string{`key "y" added: id y, keytype ed25519, public 00, scheme ed25519`}},
		"a path with spaces": {func(s object) {
			list := s["targets"].(object)
			list["agent/1: notes a -> b (review-agent lists the same), and also agent/3"] = list["agent/2"]
			delete(list, "agent/2")
		}, []string{`vendor-agent: release "agent/1: notes a -> b (review-agent lists the same), and also agent/3" added: `}},
		"a long note": {func(s object) { visum(s)["notes"] = strings.Repeat("n", 300) }, []string{`notes "` + strings.Repeat("n", 200) + `"... (300 bytes, sha256 `}},
	} {
		lines := w.lines(edited(t, d, "vendor-agent", func(_, signed object) { x.edit(signed) }))
		if slices.Equal(lines, healthy) {
			t.Errorf("%s: not a word of it", name)
		}
		says(t, lines, x.want...)
	}
}

// A draft's own claim of a role's delegation is ignored: a role of the centre is shown
// as the centre's.
func TestDiffIgnoresHints(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(approve("1"))
	w.Update(add("evil"))
	d, err := w.Open("review-release").Stage(t.Context(), approve("evil"))
	noErr(t, err)
	honest := w.lines(d)
	says(t, honest, "review-agent v3: lists agent/evil")
	says(t, honest, "review-agent: release agent/evil added: ", "(vendor-agent lists the same)")
	for _, under := range [][]any{{"vendor-agent"}, {"targets"}, {"x", "review-agent"}, {"review-agent"}} {
		lying := edited(t, d, "review-agent", func(file, _ object) { file["under"] = under })
		if got := w.lines(lying); !slices.Equal(got, honest) {
			t.Errorf("under %q:\n%s", under, strings.Join(got, "\n"))
		}
		both, err := w.Open("review-release").StageOn(t.Context(), w.forceAll(lying), func(*repo.Tx) error { return nil })
		noErr(t, err)
		if err := w.Copy().Open().Publish(t.Context(), both); err != nil { // the hint is ignored
			t.Error(err)
		}
	}
	// A role without a delegation has no diff, and is not published.
	undelegated := edited(t, d, "review-agent", func(file, _ object) { file["role"], file["base"], file["under"] = "unknown", 0, []any{"review-agent"} })
	_, err = w.Open().Diff(t.Context(), undelegated)
	wantErr(t, err, tuf.ErrUntrusted)
	w.Refused(tuf.ErrUntrusted, func() error { return w.Open().Publish(t.Context(), w.forceAll(undelegated)) })
}

// delegates makes the vendor's role delegate to a role of another party, with a key
// that the attacker chooses.
func (w *world) delegates(role, key string) *repo.Draft {
	w.T.Helper()
	d, err := w.Open("vendor-release").Stage(w.T.Context(), func(tx *repo.Tx) error { return tx.Renew("vendor") })
	noErr(w.T, err)
	k := w.Signer(key).Key()
	d = edited(w.T.(*testing.T), d, "vendor-agent", func(_, signed object) {
		signed["delegations"] = object{"keys": object{k.ID(): object{"keytype": k.Type, "scheme": k.Scheme, "keyval": object{"public": k.Public}}},
			"roles": []any{object{"name": role, "keyids": []any{k.ID()}, "threshold": 1, "terminating": false, "paths": []any{"agent/none/*"}}}}
	})
	noErr(w.T, d.ForceSign(w.T.Context(), w.Signer("vendor-release")))
	return d
}

// force writes a signed file into the storage, with a snapshot and a timestamp
// that list it, as an attacker with the vendor's and the online keys can.
func (w *world) force(d *repo.Draft, role string) {
	w.T.Helper()
	version := int64(changesOf(w.T.(*testing.T), d, role)["version"].(float64))
	w.Store.Files[fmt.Sprintf("metadata/%d.%s.json", version, role)] = d.File(role)
	var ts, snap object
	noErr(w.T, json.Unmarshal(w.Store.Files["metadata/timestamp.json"], &ts))
	listed := at(ts, "signed", "meta", "snapshot.json")
	name := fmt.Sprintf("metadata/%v.snapshot.json", listed["version"])
	noErr(w.T, json.Unmarshal(w.Store.Files[name], &snap))
	meta := at(snap, "signed", "meta")
	entry := object{"version": version}
	if old, ok := meta[role+".json"].(object); ok {
		maps.Copy(old, entry)
		delete(old, "length")
		delete(old, "hashes")
		entry = old
	}
	meta[role+".json"] = entry
	at(snap, "signed")["version"] = listed["version"].(float64) + 1
	listed["version"] = at(snap, "signed")["version"]
	delete(listed, "length")
	delete(listed, "hashes")
	at(ts, "signed")["version"] = at(ts, "signed")["version"].(float64) + 1
	w.Store.Files[fmt.Sprintf("metadata/%v.snapshot.json", listed["version"])] = w.resigned(snap, "snapshot")
	w.Store.Files["metadata/timestamp.json"] = w.resigned(ts, "timestamp")
}

// resigned is a metadata file with one signature, by the named key.
func (w *world) resigned(doc object, key string) []byte {
	w.T.Helper()
	data, err := json.Marshal(doc["signed"])
	noErr(w.T, err)
	signed, err := canonical.Canonical(data)
	noErr(w.T, err)
	sig, err := w.Signer(key).Sign(w.T.Context(), signed)
	noErr(w.T, err)
	data, err = json.Marshal(object{"signed": json.RawMessage(signed.JSON()), "signatures": []any{object{"keyid": w.Signer(key).Key().ID(), "sig": hex.EncodeToString(sig)}}})
	noErr(w.T, err)
	return data
}

// If the vendor's role delegates to a role of the centre, no tool of the centre
// accepts that delegation: nothing is staged, and such a role is not published.
func TestDelegationToTheCentresRole(t *testing.T) {
	t.Parallel()
	healthy := newWorld(t)
	healthy.Update(add("1"))
	healthy.Update(approve("1"))
	product := func(tx *repo.Tx) error {
		return tx.Delegate("review", "agent", repo.Product{Role: "review-team", Paths: []string{"agent/team-*"}, Keys: repo.Keys{Keys: healthy.Public("review-team")}})
	}
	healthy.Update(product)
	for _, x := range []struct{ role, key string }{
		{"review-agent", "review-release"}, {"review-agent", "vendor-release"}, {"targets", "targets"}, {"vendor-agent", "vendor-release"},
		{"review-team", "review-team"}, {"review-team", "vendor-release"}, // a product of the centre
		{"review-agent.rest", "review-release"},
	} {
		name := x.role + " by " + x.key
		w := healthy.Copy()
		w.T = t
		d := w.delegates(x.role, x.key)
		if x.role != "review-team" && x.role != "review-agent.rest" { // root names it
			if err := w.Copy().Open(vendorKeys...).Publish(t.Context(), d); !errors.Is(err, tuf.ErrUntrusted) {
				t.Errorf("%s: published: %v", name, err)
			}
			_, err := w.Open().Diff(t.Context(), d)
			wantErr(t, err, tuf.ErrUntrusted)
			_, err = w.Open().StageOn(t.Context(), d, func(*repo.Tx) error { return nil })
			wantErr(t, err, tuf.ErrUntrusted)
		}
		w.force(d, "vendor-agent")
		if x.role != "review-team" && x.role != "review-agent.rest" { // it is not published again either
			next := edited(t, d, "vendor-agent", func(file, signed object) {
				file["base"], signed["version"] = signed["version"], signed["version"].(float64)+1
			})
			if err := w.Copy().Open().Publish(t.Context(), w.forceAll(next)); !errors.Is(err, tuf.ErrUntrusted) {
				t.Errorf("%s: published again: %v", name, err)
			}
		}
		for what, call := range map[string]func(r *repo.Repo) (*repo.Draft, error){
			"approve": func(r *repo.Repo) (*repo.Draft, error) { return r.Stage(t.Context(), approve("1")) },
			"renew": func(r *repo.Repo) (*repo.Draft, error) {
				return r.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("review") })
			},
			"renew both": func(r *repo.Repo) (*repo.Draft, error) {
				return r.Stage(t.Context(), func(tx *repo.Tx) error { return errors.Join(tx.Renew("review"), tx.Renew("vendor")) })
			},
			"other keys": func(r *repo.Repo) (*repo.Draft, error) {
				return r.Stage(t.Context(), func(tx *repo.Tx) error {
					tx.Root().Classes[0].Roles[0].Keys.Keys = w.Public("vendor-release-2")
					return nil
				})
			},
			"a file of the product": func(r *repo.Repo) (*repo.Draft, error) {
				return r.Stage(t.Context(), func(tx *repo.Tx) error {
					return errors.Join(tx.Add("vendor", "agent/team-1", strings.NewReader("x"), nil), tx.Approve("review", "agent/team-1", nil))
				})
			},
			"it is taken for a product": func(r *repo.Repo) (*repo.Draft, error) {
				return r.Stage(t.Context(), func(tx *repo.Tx) error {
					if err := errors.Join(tx.Add("vendor", "agent/team-1", strings.NewReader("x"), nil), tx.Approve("review", "agent/team-1", nil)); err != nil {
						return err
					}
					return tx.Undelegate("vendor", "agent", x.role)
				})
			},
		} {
			staged, err := call(w.Open("review-release", "review-team", "vendor-release"))
			if err != nil {
				if !errors.Is(err, tuf.ErrUntrusted) {
					t.Errorf("%s: %s: %v", name, what, err)
				}
				continue
			}
			for role, path := range map[string]string{"review-agent": "agent/1", "review-team": "agent/team-1"} {
				if staged.File(role) == nil {
					if role == "review-team" && (what == "a file of the product" || what == "it is taken for a product") {
						t.Errorf("%s: %s: the centre's edit is lost", name, what)
					}
					continue
				}
				if listed := at(changesOf(t, staged, role), "targets"); listed[path] == nil && (role != "review-team" || what == "a file of the product") {
					t.Errorf("%s: %s: stages %s with %v", name, what, role, listed)
				}
			}
		}
	}
	noErr(t, healthy.Try(func(tx *repo.Tx) error { return errors.Join(tx.Renew("review"), tx.Renew("vendor")) })) // the valid counterpart
	healthy.Sees("root 1 agent/1")
}

// If the listing that is found first is removed, the listing below it becomes
// effective. The diff shows it, with the bytes that clients get from then on.
func TestDiffShowsWhatComesToLight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/*"}, Keys: repo.Keys{Keys: w.Public("vendor-release")}}), add("1")(tx))
	})
	d, err := w.Open().Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("vendor") })
	noErr(t, err)
	entry := func(sum string) object {
		return object{"length": 7, "hashes": object{"sha256": strings.Repeat(sum, 64)}, "custom": object{"visum": object{"product": "agent", "version": "0", "channel": "stable", "platform": "any", "sequence": 2}}}
	}
	both := edited(t, d, "vendor-agent", func(_, signed object) { at(signed, "targets")["agent/1"] = entry("a") })
	both = edited(t, both, "team", func(_, signed object) { at(signed, "targets")["agent/1"] = entry("b") })
	lines := w.lines(both)
	says(t, lines, "vendor-agent: release agent/1: sha256 ", " -> HASH(aaaa)")
	says(t, lines, `team: listing that clients do not find, or find in another role, agent/1: sha256 `, "-> HASH(bbbb)")
	for _, sum := range []string{"a", "b"} {
		noErr(t, w.Store.Create(t.Context(), layout.TargetName("agent/1", strings.Repeat(sum, 64)), strings.NewReader("agent 1")))
	}
	noErr(t, w.Open().Publish(t.Context(), w.forceAll(both)))
	gone, err := w.Open("vendor-release").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("vendor") })
	noErr(t, err)
	lines = w.lines(edited(t, gone, "vendor-agent", func(_, signed object) { delete(at(signed, "targets"), "agent/1") }))
	says(t, lines, "vendor-agent v4: changes agent/1")
	says(t, lines, "vendor-agent: release agent/1: sha256 HASH(aaaa) -> HASH(bbbb)")
	// The lower listing is removed too: nothing is left.
	neither := edited(t, gone, "vendor-agent", func(_, signed object) { delete(at(signed, "targets"), "agent/1") })
	neither = edited(t, neither, "team", func(_, signed object) { delete(at(signed, "targets"), "agent/1") })
	says(t, w.lines(neither), "vendor-agent: release agent/1 removed, was: ", "HASH(aaaa)")
}

// Two drafts that put a file into different hash bins, one of which no client
// searches, have different diffs.
func TestDiffTellsBins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(addFiles(0, 520))
	d, err := w.Open("vendor-release").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("vendor") })
	noErr(t, err)
	lines := w.lines(d)
	says(t, lines, "vendor-agent: lists below it: expires changed: ", "(4 files signed again)")
	if len(lines) > 6 {
		t.Errorf("%d lines:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	entry := object{"length": 1, "hashes": object{"sha256": strings.Repeat("a", 64)}}
	diffs := map[string]string{strings.Join(lines, "\n"): "renewal"}
	shown := 0
	for bin := range 4 {
		role := fmt.Sprintf("vendor-agent.b-%d", bin)
		lines := w.lines(edited(t, d, role, func(_, signed object) { at(signed, "targets")["agent/new"] = entry }))
		says(t, lines, role+" v2: 1 listing changes")
		if other, ok := diffs[strings.Join(lines, "\n")]; ok {
			t.Errorf("%s and %s have one diff", role, other)
		}
		diffs[strings.Join(lines, "\n")] = role
		if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "vendor-agent: release agent/new added") }) {
			shown++
		} else {
			says(t, lines, role+": listing that clients do not find, or find in another role, agent/new added: length 1")
		}
	}
	if shown != 1 {
		t.Errorf("clients would find the file in %d bins of 4", shown)
	}
	// Drafts that sign different bins again also have different diffs.
	for bin := range 4 {
		role := fmt.Sprintf("vendor-agent.b-%d", bin)
		got := strings.Join(w.lines(w.tampered(d, func(draft map[string]any) {
			draft["files"] = slices.DeleteFunc(draft["files"].([]any), func(f any) bool { return f.(object)["role"] == role })
		})), "\n")
		if other, ok := diffs[got]; ok {
			t.Errorf("without %s: the diff of %s", role, other)
		}
		diffs[got] = "the draft without " + role
	}
	early := edited(t, d, "vendor-agent.b-2", func(_, signed object) { signed["expires"] = "2026-11-30T12:00:00Z" })
	says(t, w.lines(early), "vendor-agent: lists below it: expires changed: 2026-11-30T12:00:00Z (1 file signed again)")
}

// Entries of targets.json itself, and a hold, are shown; an unreadable role of another
// party does not prevent that.
func TestDiffOfOtherRoles(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	w.Update(add("1"))
	d, err := repo.New(w.Store, w.Config()).Stage(t.Context(), func(tx *repo.Tx) error {
		return errors.Join(tx.Renew("review"), tx.RenewTargets(), tx.Hold("agent/1", "a doubt", w.Now.AddDate(0, 0, 1)))
	})
	noErr(t, err)
	d = edited(t, d, "targets", func(_, signed object) {
		at(signed, "targets")["agent/9"] = object{"length": 1, "hashes": object{"sha256": strings.Repeat("a", 64)}}
	})
	lines := w.lines(d)
	says(t, lines, "targets v2: lists agent/9")
	says(t, lines, "targets: release agent/9 added: length 1, sha256 HASH(aaaa)")
	says(t, lines, "hold-agent v2: holds agent/1")
	says(t, lines, "hold-agent: hold of agent/1 added: ", `reason "a doubt"`, "until 2026-11-21T12:00:00Z")

	w.Update(addFiles(0, 520))
	d, err = w.Open("ann").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("review") })
	noErr(t, err)
	d = edited(t, d, "review-agent", func(_, signed object) {
		at(signed, "targets")["agent/0/7"] = object{"length": 1, "hashes": object{"sha256": strings.Repeat("a", 64)}}
	})
	says(t, w.lines(d), "review-agent: release agent/0/7 added: ", "(vendor-agent lists it DIFFERENTLY)")
	for name := range w.Store.Files {
		if strings.Contains(name, ".vendor-agent.b-") {
			delete(w.Store.Files, name)
		}
	}
	says(t, w.lines(d), "review-agent: release agent/0/7 added: ", "(vendor-agent can't be read)")
}

// A root that no client would accept, signed or not, has no diff.
func TestDiffOfBadRoots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, err := w.Open().Stage(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	noErr(t, err)
	empty := emptyWorld(t)
	first, err := empty.Open().Stage(t.Context(), empty.Define)
	noErr(t, err)
	for name, x := range map[string]struct {
		edit func(charter object)
		want error
	}{
		"as it is":      {func(object) {}, nil}, // the valid counterpart
		"no minimum":    {func(c object) { at(c, "parties", 1)["min"] = 0 }, tuf.ErrCharter},
		"http":          {func(c object) { at(c, "locations", 0)["base"] = "http://a.example.org/" }, tuf.ErrCharter},
		"another form":  {func(c object) { c["schema"] = 2 }, tuf.ErrMalformed},
		"no repository": {func(c object) { delete(c, "repo_id") }, tuf.ErrCharter},
	} {
		edit := func(_, signed object) { x.edit(at(signed, "x-visum")) }
		if _, err := w.Open().Diff(t.Context(), edited(t, d, "root", edit)); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
		if _, err := empty.Open().Diff(t.Context(), edited(t, first, "root", edit)); !errors.Is(err, x.want) {
			t.Errorf("%s, first root: %v, want %v", name, err, x.want)
		}
	}
}
