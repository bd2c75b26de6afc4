package keycompromise_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// desk is a repository with its honest signers, people and machines. An attacker
// controls everything that they receive: storage, exports, drafts, statements.
type desk struct {
	t       *testing.T
	now     time.Time
	store   *storage.OverlayStorage // the true one
	old     *storage.OverlayStorage // the true one before a recall
	pin     []byte
	ledgers map[string]signing.Ledger // by party
}

// The keys of each side at the desk.
var (
	deskVendor = []string{"v-root-1", "v-root-2", "timestamp", "snapshot", "targets", "v-agent"}
	deskReview = []string{"r-root-1", "r-root-2", "r-agent"}
	deskFake   = []string{"fake-1", "fake-2", "fake-3", "fake-4", "fake-5"}
)

func (d *desk) noErr(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// Config is the configuration of an honest handle.
func (d *desk) config(party string, keys ...string) *repo.Config {
	cfg := &repo.Config{Pin: d.pin, Ledger: d.ledgers[party], Now: func() time.Time { return d.now }}
	for _, k := range keys {
		cfg.Signers = append(cfg.Signers, repotest.Signer(k))
	}
	return cfg
}

// attacker returns a handle that trusts the storage without verification.
func (d *desk) attacker(s repo.Storage, keys ...string) *repo.Repo {
	cfg := d.config("", keys...)
	cfg.Pin, cfg.Ledger, cfg.UnsafeTrustStorage = nil, nil, true
	return repo.New(s, cfg)
}

func (d *desk) copyStore() *storage.OverlayStorage {
	out := storage.Overlay(nil)
	for name, data := range d.store.Written() {
		d.noErr(out.Create(context.Background(), name, strings.NewReader(string(data))))
	}
	return out
}

func deskRoot(tx *repo.Tx, review []tuf.Key, vendorAgent, reviewAgent []tuf.Key) {
	r := tx.Root()
	r.RepoID = strings.Repeat("cd", 16)
	r.Parties = []repo.Party{{Name: "vendor", Keys: repotest.Keys("v-root-1", "v-root-2"), Min: 1}, {Name: "review", Keys: review, Min: 1}}
	r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = repotest.Keys("timestamp"), repotest.Keys("snapshot"), repotest.Keys("targets")
	r.Classes = []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
		{Party: "vendor", Role: "vendor-agent", Keys: repo.Keys{Keys: vendorAgent}},
		{Party: "review", Role: "review-agent", Keys: repo.Keys{Keys: reviewAgent}}}}}
	l := func(id, tier string) tuf.Location {
		return tuf.Location{ID: id, Tier: tier, Operator: "host-" + id, Base: "https://" + id + ".example.org/", Metadata: "metadata/", Targets: "targets/"}
	}
	r.Locations = []tuf.Location{l("a", tuf.Primary), l("z", tuf.Mirror)}
}

func deskAdd(version string) func(*repo.Tx) error {
	number := version
	if version == "evil" {
		number = "6.6.6"
	}
	return func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/"+version, strings.NewReader("agent "+version), &tuf.Release{Product: "agent", Version: number, Channel: "stable", Platform: "any"})
	}
}

func deskApprove(version string) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		return tx.Approve("review", "agent/"+version, &repo.ReviewRecord{Unrecorded: true})
	}
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), store: storage.Overlay(nil), ledgers: map[string]signing.Ledger{}}
	all := slices.Concat(deskVendor, deskReview)
	update := func(fn func(*repo.Tx) error) {
		t.Helper()
		d.now = d.now.Add(time.Minute)
		d.noErr(d.attacker(d.store, all...).Update(t.Context(), fn))
	}
	update(func(tx *repo.Tx) error {
		deskRoot(tx, repotest.Keys("r-root-1", "r-root-2"), repotest.Keys("v-agent"), repotest.Keys("r-agent"))
		return nil
	})
	update(func(tx *repo.Tx) error { return errors.Join(deskAdd("0.9")(tx), deskAdd("1.0")(tx)) })
	update(func(tx *repo.Tx) error { return errors.Join(deskApprove("0.9")(tx), deskApprove("1.0")(tx)) })
	d.old = d.copyStore()
	update(func(tx *repo.Tx) error {
		return tx.Recall("review", "agent/0.9", repo.RecallRecord{Reason: "it deletes files"})
	})
	var err error
	d.pin, err = d.attacker(d.store).Pin(t.Context())
	d.noErr(err)
	for _, party := range []string{"vendor", "review"} {
		d.ledgers[party] = signing.MemLedger()
		r := repo.New(d.store, d.config(party))
		digest, err := r.AdoptDigest(t.Context())
		d.noErr(err)
		d.noErr(r.Adopt(t.Context(), digest))
	}
	return d
}

// forged returns a repository with the attacker's own roots and the repo_id of the true
// one. Its roles list a forged release, and it has the true keys in addition to fake
// ones.
func (d *desk) forged() *storage.OverlayStorage {
	s := storage.Overlay(nil)
	r := d.attacker(s, slices.Concat(deskVendor, deskFake)...)
	d.noErr(r.Update(d.t.Context(), func(tx *repo.Tx) error {
		deskRoot(tx, repotest.Keys("fake-1", "fake-2"), repotest.Keys("v-agent", "fake-3"), repotest.Keys("r-agent", "fake-4"))
		return nil
	}))
	d.noErr(r.Update(d.t.Context(), func(tx *repo.Tx) error { return errors.Join(deskAdd("1.0")(tx), deskAdd("evil")(tx)) }))
	d.noErr(r.Update(d.t.Context(), func(tx *repo.Tx) error { return errors.Join(deskApprove("1.0")(tx), deskApprove("evil")(tx)) }))
	return s
}

// signerAt is a signer: a person reads the diff first, a machine does not.
type signerAt struct {
	name, party string
	keys        []string
	machine     *signing.Automation // nil: a person
}

var seats = []signerAt{
	{"a vendor signer", "vendor", deskVendor, nil},
	{"a reviewer", "review", deskReview, nil},
	{"the vendor's machine", "vendor", []string{"timestamp", "snapshot", "targets", "v-agent"}, &signing.Automation{Renew: true}},
	{"the centre's machine", "review", []string{"r-agent"}, &signing.Automation{Renew: true}},
}

func (d *desk) seated(s signerAt, store repo.Storage) *repo.Repo {
	cfg := d.config(s.party, s.keys...)
	cfg.Automation = s.machine
	return repo.New(store, cfg)
}

// Outcomes of an attempt, the worst last.
const (
	refused = "–"
	shown   = "shown"
	unseen  = "**UNSEEN**"
)

// job does the signer's daily work on a storage and reports whether it signed anything.
func (d *desk) job(s signerAt, store repo.Storage) string {
	r := d.seated(s, store)
	var err error
	switch {
	case s.machine != nil && s.party == "vendor":
		d.now = d.now.Add(25 * 24 * time.Hour)
		err = r.Renew(d.t.Context())
		d.now = d.now.Add(-25 * 24 * time.Hour)
	case s.machine != nil:
		_, err = repo.New(storage.ReadOnly(storage.SourceOf(store)), func() *repo.Config { c := d.config(s.party, s.keys...); c.Automation = s.machine; return c }()).
			Stage(d.t.Context(), func(tx *repo.Tx) error { return tx.Renew("review") })
	case s.party == "vendor":
		err = r.Update(d.t.Context(), deskAdd("1.1"))
	default:
		draft, stageErr := d.attacker(store, deskVendor...).Stage(d.t.Context(), deskAdd("1.1"))
		d.noErr(stageErr)
		_, err = r.StageOn(d.t.Context(), draft, deskApprove("1.1"))
	}
	if err == nil {
		return unseen // on top of the attacker's files
	}
	return refused
}

// sign gives a draft to the signer, on the true repository. The diff must contain what.
func (d *desk) sign(s signerAt, draft *repo.Draft, what string) string {
	data, err := draft.Bytes()
	d.noErr(err)
	r := d.seated(s, d.store)
	mine, err := r.OpenDraft(data)
	if err != nil {
		return refused
	}
	lines := ""
	if s.machine == nil {
		changes, err := r.Diff(d.t.Context(), mine)
		if err != nil {
			return refused
		}
		for _, c := range changes {
			lines += c.String() + "\n"
		}
	}
	signed := false
	for _, k := range s.keys {
		if err := mine.Sign(d.t.Context(), repotest.Signer(k)); err == nil {
			signed = true
		}
	}
	switch {
	case !signed:
		return refused
	case strings.Contains(lines, what):
		return shown
	}
	return unseen
}

// unsigned returns a draft of the attacker, signed only with the compromised keys.
func (d *desk) unsigned(stolen []string, fn func(*repo.Tx) error) *repo.Draft {
	draft, err := d.attacker(d.store, stolen...).Stage(d.t.Context(), fn)
	d.noErr(err)
	return draft
}

// edit changes a draft's text, as an attacker in transit can.
func (d *desk) edit(draft *repo.Draft, change func(files map[string]map[string]any)) *repo.Draft {
	data, err := draft.Bytes()
	d.noErr(err)
	var x map[string]any
	d.noErr(json.Unmarshal(data, &x))
	files := map[string]map[string]any{}
	for _, f := range x["files"].([]any) {
		files[f.(map[string]any)["role"].(string)] = f.(map[string]any)
	}
	change(files)
	data, err = json.Marshal(x)
	d.noErr(err)
	out, err := repo.OpenDraft(data)
	d.noErr(err)
	return out
}

func worst(outcomes ...string) string {
	for _, o := range []string{unseen, shown} {
		if slices.Contains(outcomes, o) {
			return o
		}
	}
	return refused
}

// attempt is something that an attacker tries to get signed.
type attempt struct {
	name string
	try  func(d *desk, s signerAt, stolen []string) string
}

func own(s signerAt) string {
	if s.party == "vendor" {
		return "vendor-agent"
	}
	return "review-agent"
}

var attempts = []attempt{
	{"a malicious release", func(d *desk, s signerAt, stolen []string) string {
		evil := d.unsigned(stolen, func(tx *repo.Tx) error { return errors.Join(deskAdd("evil")(tx), deskApprove("evil")(tx)) })
		hidden := d.edit(evil, func(files map[string]map[string]any) {
			for _, f := range files { // one side's role as a child of the other's, to hide it in the diff
				f["under"], f["needs"] = []any{"vendor-agent"}, files[own(s)]["needs"]
			}
		})
		return worst(d.job(s, d.forged()), d.sign(s, evil, "agent/evil"), d.sign(s, hidden, "agent/evil"))
	}},
	{"a recalled release", func(d *desk, s signerAt, stolen []string) string {
		again := d.unsigned(nil, func(tx *repo.Tx) error { // Approve would refuse it
			rel := &tuf.Release{Product: "agent", Version: "0.9", Channel: "stable", Platform: "any"}
			return errors.Join(deskAdd("0.9")(tx), tx.Add("review", "agent/0.9", strings.NewReader("agent 0.9"), rel))
		})
		again = d.edit(again, func(files map[string]map[string]any) { // without the recall
			signed := files["review-agent"]["content"].(map[string]any)["signed"].(map[string]any)
			if signed[layout.RecallMember] == nil {
				d.t.Fatal("the draft has no recall to remove")
			}
			delete(signed, layout.RecallMember)
		})
		outcome := d.sign(s, again, "agent/0.9")
		if s.party == "vendor" {
			outcome = refused // the vendor has not recalled it: listing alone approves nothing
		}
		return worst(d.job(s, d.old), outcome)
	}},
	{"a root without the own party", func(d *desk, s signerAt, stolen []string) string {
		i := map[string]int{"vendor": 0, "review": 1}[s.party]
		out := d.unsigned(stolen, func(tx *repo.Tx) error {
			tx.Root().Parties[i].Keys = repotest.Keys("fake-1", "fake-2")
			return nil
		})
		forged, err := d.attacker(d.forged()).Stage(d.t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
		d.noErr(err)
		return worst(d.sign(s, out, s.party+" replaces "), d.sign(s, forged, "never"))
	}},
	{"two contents of one version", func(d *desk, s signerAt, stolen []string) string {
		resign := func(tx *repo.Tx) error { return errors.Join(tx.Renew("vendor"), tx.Renew("review")) }
		one := d.unsigned(nil, resign)
		d.now = d.now.Add(time.Minute)
		two := d.unsigned(nil, resign)
		first := d.sign(s, one, own(s)+": expires")
		if first == refused || first == unseen && s.machine == nil {
			d.t.Errorf("%s does not sign an honest renewal", s.name)
		}
		return d.sign(s, two, "never")
	}},
	{"content of another role", func(d *desk, s signerAt, stolen []string) string {
		draft := d.unsigned(stolen, func(tx *repo.Tx) error { return errors.Join(deskAdd("evil")(tx), deskApprove("evil")(tx)) })
		other := map[string]string{"vendor-agent": "review-agent", "review-agent": "vendor-agent"}[own(s)]
		// The draft has only the other party's file, and states that this key signs it.
		lie := d.edit(draft, func(files map[string]map[string]any) {
			needs := files[own(s)]["needs"]
			for role, f := range files {
				f["needs"] = needs
				if role != other {
					f["role"], f["base"] = "role-of-no-one", 0
				}
			}
		})
		return d.sign(s, lie, "agent/evil")
	}},
	{"an older timestamp", func(d *desk, s signerAt, stolen []string) string {
		if s.party != "vendor" {
			return refused // it has no online keys
		}
		if err := d.seated(s, d.old).Renew(d.t.Context()); err == nil {
			return unseen
		}
		return refused
	}},
	{"a root with another date", func(d *desk, s signerAt, stolen []string) string {
		now := d.now
		d.now = d.now.AddDate(10, 0, 0)
		late := d.unsigned(nil, func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
		d.now = now
		return d.sign(s, late, "never")
	}},
}

// deskRows returns the sets of compromised keys, each with an honest signer.
func deskRows() (out []struct {
	stolen   string
	keys     []string
	signerAt signerAt
}) {
	add := func(stolen string, keys []string, honest ...int) {
		for _, i := range honest {
			out = append(out, struct {
				stolen   string
				keys     []string
				signerAt signerAt
			}{stolen, keys, seats[i]})
		}
	}
	add("no key", nil, 0, 1, 2, 3)
	add("timestamp and snapshot", []string{"timestamp", "snapshot"}, 1, 3)
	add("**every key of the vendor**", deskVendor, 1, 3)
	add("**every key of the review centre**", deskReview, 0, 2)
	return out
}

// Honest signers sign nothing that the diff did not show, and never two contents of one
// version, whatever keys are compromised and although the attacker controls all their
// input. go test -update writes the table.
func TestSigningDesk(t *testing.T) {
	rawtuf.Sequential(t)
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, rule := "| compromised keys | signer |", "|---|---|"
	for _, a := range attempts {
		head, rule = head+" "+a.name+" |", rule+"---|"
	}
	lines := []string{head, rule}
	for _, row := range deskRows() {
		line := fmt.Sprintf("| %s | %s |", row.stolen, row.signerAt.name)
		for _, a := range attempts {
			outcome := a.try(newDesk(t), row.signerAt, row.keys)
			if outcome == unseen {
				t.Errorf("%s, %s: signs %s without showing it", row.stolen, row.signerAt.name, a.name)
			}
			line += " " + outcome + " |"
		}
		lines = append(lines, line)
	}
	table := strings.Join(lines, "\n") + "\n"
	before, rest, ok := strings.Cut(string(data), "| compromised keys | signer |")
	i := strings.Index(rest, "\n\n")
	if !ok || i < 0 {
		t.Fatalf("%s has no table of the signing desk", document)
	}
	want := before + table + rest[i+1:]
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(data) {
		t.Errorf("%s differs; the result is:\n%s", document, table)
	}
}
