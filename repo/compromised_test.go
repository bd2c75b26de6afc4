package repo_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// attacker returns a handle of an attacker that has the keys and write access to the
// storage. It has no ledger that would refuse to sign.
func (w *world) attacker(keys ...string) *repo.Repo {
	cfg := w.Config()
	cfg.Ledger, cfg.UnsafeTrustStorage, cfg.Pin = nil, true, nil
	for _, k := range keys {
		cfg.Signers = append(cfg.Signers, w.Signer(k))
	}
	return repo.New(w.Store, cfg)
}

var vendorOnline = []string{"vendor-release", "timestamp", "snapshot"}

// attacks publishes with compromised keys.
func (w *world) attacks(fn func(*repo.Tx) error) {
	w.T.Helper()
	noErr(w.T, w.attacker(vendorOnline...).Update(w.T.Context(), fn))
}

func evil(tx *repo.Tx) error {
	return errors.Join(add("evil")(tx), tx.Recall("vendor", "agent/1", repo.RecallRecord{Reason: "a lie"}))
}

// rotate replaces every key that the attacker has.
func (w *world) rotate(tx *repo.Tx) error {
	r := tx.Root()
	r.Timestamp.Keys, r.Snapshot.Keys = w.Public("timestamp-2"), w.Public("snapshot-2")
	for i, c := range r.Classes {
		for j, role := range c.Roles {
			if role.Party == "vendor" {
				r.Classes[i].Roles[j].Keys.Keys = w.Public("vendor-release-2")
			}
		}
	}
	return nil
}

// afterTheft is the vendor's handle with its remaining keys and new ones.
func (w *world) afterTheft() *repo.Repo {
	return w.Open("vendor-1", "vendor-2", "targets", "vendor-release-2", "timestamp-2", "snapshot-2")
}

func (w *world) compromised(tx *repo.Tx) error {
	return errors.Join(tx.Compromised(w.Public(vendorOnline...)...), w.rotate(tx))
}

// reviewSigns lets the review centre sign the new root with its own ledger.
func (w *world) reviewSigns(d *repo.Draft) {
	w.T.Helper()
	for _, k := range []string{"review-1", "review-2"} {
		noErr(w.T, w.received(d).Sign(w.T.Context(), w.Signer(k)))
		noErr(w.T, d.Sign(w.T.Context(), w.Signer(k)))
	}
}

// Exception K3: an attacker with the vendor's keys has published a newer version of
// the role, another file of the same version, or an older version. After Compromised
// names the keys, the role continues from the version that the vendor's ledger signed.
func TestCompromised(t *testing.T) {
	t.Parallel()
	start := newWorld(t)
	start.Pin()
	start.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), approve("1")(tx)) })
	past := start.Store.Copy()
	start.Update(func(tx *repo.Tx) error { return errors.Join(add("2")(tx), approve("2")(tx)) })
	for name, x := range map[string]struct {
		attack func(w *world)
		behind bool // refused if no key is named
		first  string
	}{
		"published beyond": {func(w *world) { w.attacks(evil) }, false, "vendor-agent: compromised agent/evil removed, was: listed in v4, which only compromised keys signed"},
		"far beyond": {func(w *world) {
			for range 5 {
				w.attacks(func(tx *repo.Tx) error { return tx.Renew("vendor") })
			}
			w.attacks(evil)
		}, false, "vendor-agent: compromised agent/evil removed, was: listed in v9, which only compromised keys signed"},
		"a second content": {func(w *world) {
			w.Store.Files = past.Copy().Files
			w.attacks(evil)
		}, true, "vendor-agent: compromised agent/evil removed, was: listed in v3, which only compromised keys signed"},
		"seen, and rolled back": {func(w *world) {
			w.attacks(evil)
			if _, err := w.Open().Status(w.T.Context(), w.Now); err != nil { // which the ledger records
				w.T.Fatal(err)
			}
			w.Store.Files = past.Copy().Files
		}, true, ""},
		"a late expiry": {func(w *world) {
			cfg := w.Config()
			cfg.Ledger, cfg.UnsafeTrustStorage, cfg.Expiry.Release = nil, true, 300*24*time.Hour
			for _, k := range vendorOnline {
				cfg.Signers = append(cfg.Signers, w.Signer(k))
			}
			noErr(w.T, repo.New(w.Store, cfg).Update(w.T.Context(), evil))
		}, false, "vendor-agent: compromised agent/evil removed, was: listed in v4, which only compromised keys signed"},
		"gone back": {func(w *world) { w.Store.Files = past.Copy().Files }, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := start.Copy()
			w.T = t
			x.attack(w)
			if x.behind {
				w.Refused(signing.ErrRoleBehind, func() error { _, err := w.afterTheft().Stage(t.Context(), w.rotate); return err })
			} else if name == "a late expiry" {
			} else if d, err := w.Copy().afterTheft().Stage(t.Context(), w.rotate); err != nil || !strings.Contains(bytesOf(t, d), "agent/evil") {
				t.Fatalf("without Compromised the draft does not continue from the published version: %v", err)
			}
			d, err := w.afterTheft().Stage(t.Context(), w.compromised)
			noErr(t, err)
			if strings.Contains(bytesOf(t, d), "agent/evil") || strings.Contains(bytesOf(t, d), "a lie") {
				t.Error("the draft lists the attacker's content")
			}
			lines := w.linesOf(w.afterTheft(), d)
			if x.first != "" && lines[0] != x.first {
				t.Errorf("first line of the diff: %s", lines[0])
			}
			for _, l := range lines {
				if strings.Contains(l, "evil") && !strings.Contains(l, ": compromised agent/evil") {
					t.Errorf("compared with the attacker's content: %s", l)
				}
			}
			w.reviewSigns(d)
			noErr(t, w.afterTheft().Publish(t.Context(), d))
			if name == "seen, and rolled back" && !slices.Contains(lines, "vendor-agent v5: is signed again") {
				t.Errorf("the version is not above those seen: %q", lines)
			}
			if name == "published beyond" || name == "far beyond" { // the role of the review centre is unchanged
				w.Sees("root 2 agent/1 agent/2")
			}
			// Regular operation continues.
			noErr(t, w.afterTheft().Update(t.Context(), add("3")))
			if got := w.lists("vendor-agent"); got != "agent/1 agent/2 agent/3" {
				t.Errorf("vendor-agent lists %s", got)
			}
		})
	}
}

// linesOf is the diff of a draft as a handle shows it.
func (w *world) linesOf(r *repo.Repo, d *repo.Draft) (out []string) {
	w.T.Helper()
	changes, err := r.Diff(w.T.Context(), d)
	noErr(w.T, err)
	for _, c := range changes {
		out = append(out, c.String())
	}
	return out
}

// lengths are the lengths of the targets in a published role and its hash bins.
func (w *world) lengths(role string) map[string]int64 {
	w.T.Helper()
	p := w.Product()
	snap, err := p.Refresh()
	noErr(w.T, err)
	out := map[string]int64{}
	for _, name := range snap.Roles() {
		if name != role && !strings.HasPrefix(name, role+".b-") {
			continue
		}
		file, err := snap.RoleFile(name)
		noErr(w.T, err)
		var doc struct {
			Signed struct {
				Targets map[string]struct{ Length int64 }
			}
		}
		data, err := p.Get(file)
		noErr(w.T, err)
		noErr(w.T, json.Unmarshal(data, &doc))
		for path, e := range doc.Signed.Targets {
			out[path] = e.Length
		}
	}
	return out
}

// lists returns the names in the result of lengths.
func (w *world) lists(role string) string {
	w.T.Helper()
	return strings.Join(slices.Sorted(maps.Keys(w.lengths(role))), " ")
}

func bytesOf(t testing.TB, d *repo.Draft) string {
	t.Helper()
	data, err := d.Bytes()
	noErr(t, err)
	return string(data)
}

// Content that an honest key also signed stays, and so do the roles of other parties.
func TestCompromisedKeepsHonestWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error {
		tx.Root().Classes[0].Roles[0].Keys = repo.Keys{Keys: w.Public("vendor-release", "vendor-colleague")}
		return errors.Join(add("1")(tx), approve("1")(tx))
	})
	colleague, away := w.machine().adopts(), w.machine().adopts()
	d, err := colleague.open("vendor-colleague").Stage(t.Context(), add("2"))
	noErr(t, err)
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))
	stolen := w.Public("vendor-release")
	r := away.open("vendor-1", "vendor-2", "targets", "vendor-colleague", "timestamp", "snapshot")
	drop := func(tx *repo.Tx) error {
		err := tx.Compromised(stolen...)
		tx.Root().Classes[0].Roles[0].Keys = repo.Keys{Keys: w.Public("vendor-colleague")}
		return err
	}
	d, err = r.Stage(t.Context(), drop)
	noErr(t, err)
	if !strings.Contains(bytesOf(t, d), "agent/2") {
		t.Error("the colleague's release is missing")
	}
	// The attacker overwrites it with the compromised key alone; the colleague's ledger
	// detects it.
	w.attacks(evil)
	d, err = colleague.open("vendor-1", "vendor-2", "targets", "vendor-colleague", "timestamp", "snapshot").Stage(t.Context(), drop)
	noErr(t, err)
	w.reviewSigns(d)
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))
	if got := w.lists("vendor-agent"); got != "agent/1 agent/2" {
		t.Errorf("vendor-agent lists %s", got)
	}
}

// A second signer names the keys for a draft that was staged elsewhere.
func TestCompromisedOnAnotherMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	past := w.Store.Copy()
	w.Update(add("2"))
	m := w.machine().adopts()
	w.Store.Files = past.Files
	w.attacks(evil)
	r := w.Open("vendor-1", "targets")
	d, err := r.Stage(t.Context(), w.compromised)
	noErr(t, err)
	open := func() *repo.Draft {
		there, err := m.open().OpenDraft([]byte(bytesOf(t, d)))
		noErr(t, err)
		return there
	}
	key := w.Signer("vendor-release-2")
	m.refuses(signing.ErrRoleBehind, func() error { return open().Sign(t.Context(), key) })
	there := open()
	there.Compromised(w.Public(vendorOnline...)...)
	noErr(t, there.Sign(t.Context(), key))
	if lines := w.linesOf(m.open(), there); !strings.HasPrefix(lines[0], "vendor-agent: compromised agent/evil removed") {
		t.Errorf("the omitted content is not shown first: %s", lines[0])
	}
	// A machine without a person does not.
	cfg := w.Config()
	cfg.Automation = &signing.Automation{Renew: true, Releases: []string{"agent/"}}
	cfg.Signers, cfg.SharedLedger = []tuf.Signer{w.Signer("vendor-release-2")}, true
	robot, err := repo.New(w.Store, cfg).OpenDraft([]byte(bytesOf(t, d)))
	noErr(t, err)
	robot.Compromised(w.Public("vendor-release")...)
	w.Refused(signing.ErrNotAutomatic, func() error { return robot.Sign(t.Context(), key) })
}

// Hash bins and products are checked individually.
func TestCompromisedBelow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error {
		for i := range 600 {
			if err := tx.Add("vendor", fmt.Sprintf("agent/plain-%d", i), strings.NewReader(fmt.Sprint(i)), nil); err != nil {
				return err
			}
		}
		return add("1")(tx)
	})
	before := w.lists("vendor-agent")
	w.attacks(func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/plain-7", strings.NewReader("evil"), nil)
	})
	later := w.Copy()
	d, err := w.afterTheft().Stage(t.Context(), w.compromised)
	noErr(t, err)
	if lines := w.linesOf(w.afterTheft(), d); !strings.Contains(lines[0], ": compromised agent/plain-7 removed, was: listed in v") {
		t.Errorf("first line of the diff: %s", lines[0])
	}
	w.reviewSigns(d)
	noErr(t, w.afterTheft().Publish(t.Context(), d))
	if v := w.lengths("vendor-agent")["agent/plain-7"]; v != 1 {
		t.Errorf("agent/plain-7 has length %d", v)
	}
	if got := w.lists("vendor-agent"); got != before {
		t.Errorf("vendor-agent lists %s, was %s", got, before)
	}
	// If the bin that the ledger signed is missing or was replaced, the error names the
	// file.
	for what, change := range map[string]func(files map[string][]byte, name string){
		"gone":     func(files map[string][]byte, name string) { delete(files, name) },
		"replaced": func(files map[string][]byte, name string) { files[name] = files["metadata/2"+name[len("metadata/1"):]] },
	} {
		t.Run(what, func(t *testing.T) {
			w := later.Copy()
			w.T = t
			for name := range maps.Clone(w.Store.Files) {
				if strings.HasPrefix(name, "metadata/1.vendor-agent.b-") && w.Store.Files["metadata/2"+name[len("metadata/1"):]] != nil {
					change(w.Store.Files, name)
				}
			}
			err := w.Refused(signing.ErrRoleBehind, func() error { _, err := w.afterTheft().Stage(t.Context(), w.compromised); return err })
			if !strings.Contains(err.Error(), "restore metadata/1.vendor-agent.b-") {
				t.Error(err)
			}
		})
	}
}

// The attacker replaced the list that delegates to the hash bins and changed the
// number of bins. Bins that were not modified stay.
func TestCompromisedTop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plain := func(from, to int) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error {
			for i := from; i < to; i++ {
				if err := tx.Add("vendor", fmt.Sprintf("agent/plain-%d", i), strings.NewReader(fmt.Sprint(i)), nil); err != nil {
					return err
				}
			}
			return nil
		}
	}
	w.Update(func(tx *repo.Tx) error { return errors.Join(plain(0, 600)(tx), add("1")(tx), approve("1")(tx)) })
	w.Update(func(tx *repo.Tx) error {
		for i := range 600 {
			if err := tx.Approve("review", fmt.Sprintf("agent/plain-%d", i), &repo.ReviewRecord{Unrecorded: true}); err != nil {
				return err
			}
		}
		return nil
	})
	before := w.lists("vendor-agent")
	for name, attack := range map[string]func(tx *repo.Tx) error{
		"a release":  evil,
		"more files": func(tx *repo.Tx) error { return errors.Join(plain(600, 1500)(tx), evil(tx)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := w.Copy()
			w.T = t
			w.attacks(attack)
			d, err := w.afterTheft().Stage(t.Context(), w.compromised)
			noErr(t, err)
			if lines := w.linesOf(w.afterTheft(), d); !strings.HasPrefix(lines[0], "vendor-agent: compromised agent/evil removed, was: listed in v") {
				t.Errorf("%q", lines[:3])
			}
			w.reviewSigns(d)
			noErr(t, w.afterTheft().Publish(t.Context(), d))
			w.Sees("root 2 agent/1")
			if got := w.lists("vendor-agent"); name == "a release" && got != before {
				t.Errorf("vendor-agent lists %s, was %s", got, before)
			}
			p := w.Product()
			snap, err := p.Refresh()
			noErr(t, err)
			for i := range 1500 {
				_, err := snap.Approve(fmt.Sprintf("agent/plain-%d", i), p.Get)
				if i < 600 && err != nil || i >= 600 && !errors.Is(err, tuf.ErrNoTarget) {
					t.Fatalf("agent/plain-%d: %v", i, err)
				}
			}
		})
	}
}

// A product with its own keys is compromised; the role that delegates to it is not.
func TestCompromisedProduct(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error {
		return tx.Delegate("vendor", "agent", repo.Product{Role: "tool", Paths: []string{"agent/tool-*"}, Keys: repo.Keys{Keys: w.Public("tool")}})
	})
	tool := func(version string) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error {
			return tx.Add("vendor", "agent/tool-"+version, strings.NewReader("tool "+version), release(version))
		}
	}
	w.Update(tool("1"))
	noErr(t, w.attacker("tool", "timestamp", "snapshot").Update(t.Context(), tool("evil")))
	d, err := w.Open("vendor-release", "tool").Stage(t.Context(), func(tx *repo.Tx) error {
		return errors.Join(tx.Compromised(w.Public("tool")...), tool("2")(tx))
	})
	noErr(t, err)
	if text := bytesOf(t, d); strings.Contains(text, "tool-evil") || !strings.Contains(text, "tool-1") || !strings.Contains(text, "tool-2") {
		t.Errorf("%q", w.lines(d))
	}
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))

	// The delegating role is compromised, the product is not, and the product is edited in
	// the same draft.
	w.attacks(add("evil"))
	d, err = w.Open(append(vendorKeys, "tool", "vendor-release-2", "timestamp-2", "snapshot-2")...).Stage(t.Context(), func(tx *repo.Tx) error {
		return errors.Join(w.compromised(tx), tool("3")(tx))
	})
	noErr(t, err)
	if text := bytesOf(t, d); strings.Contains(text, "evil") || !strings.Contains(text, "tool-3") {
		t.Errorf("%q", w.lines(d))
	}
	w.reviewSigns(d)
	noErr(t, w.afterTheft().Publish(t.Context(), d))
}

// If content that this ledger signed is missing in the storage, the diff reports it.
func TestCompromisedAndRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	m := w.machine().adopts()
	d, err := m.open("vendor-release").Stage(t.Context(), add("2"))
	noErr(t, err)
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))
	w.attacks(evil)
	delete(w.Store.Files, "metadata/3.vendor-agent.json")
	d, err = m.open("vendor-1", "vendor-2", "targets", "vendor-release-2").Stage(t.Context(), w.compromised)
	noErr(t, err)
	lines := w.linesOf(m.open(), d)
	if !slices.ContainsFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "vendor-agent: signed before v3 removed, was: signed here with sha256 ")
	}) || !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "vendor-agent: compromised agent/2 removed") }) {
		t.Errorf("%q", lines)
	}
}

// Compromised refuses these calls.
func TestCompromisedRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	r := w.Open("vendor-release")
	for name, x := range map[string]struct {
		want error
		edit func(tx *repo.Tx) error
	}{
		"an unknown key": {repo.ErrNoPart, func(tx *repo.Tx) error { return tx.Compromised(w.Public("unknown")...) }},
		"a root key":     {repo.ErrNoPart, func(tx *repo.Tx) error { return tx.Compromised(w.Public("vendor-1")...) }},
		"after an edit": {fs.ErrInvalid, func(tx *repo.Tx) error {
			return errors.Join(add("2")(tx), tx.Compromised(w.Public("vendor-release")...))
		}},
		"no own signature": {signing.ErrRoleBehind, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if x.edit == nil {
				// A ledger without signatures has no state to return to.
				w.attacks(func(tx *repo.Tx) error {
					return tx.Add("vendor", "agent/evil", strings.NewReader("evil"), nil)
				})
				m := w.machine()
				cfg := w.Config()
				cfg.Ledger, cfg.Pin, cfg.UnsafeTrustStorage = signing.StorageLedger(m.ledger), w.Pin(), true
				cfg.Signers = []tuf.Signer{w.Signer("vendor-release")}
				r = repo.New(w.Store, cfg)
				x.edit = func(tx *repo.Tx) error { return tx.Compromised(w.Public("vendor-release")...) }
			}
			w.Refused(x.want, func() error { _, err := r.Stage(t.Context(), x.edit); return err })
		})
	}
	// Nothing was published with the key: nothing changes.
	w = newWorld(t)
	w.Update(add("1"))
	d, err := w.Open("vendor-release").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Compromised(w.Public("vendor-release")...) })
	if err != nil || len(d.Missing()) != 0 || len(w.lines(d)) != 0 {
		t.Errorf("%v, %v", err, d)
	}
}
