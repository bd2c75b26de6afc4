package repo_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
)

// K4: what was recalled or refused stays so under another path, also where the
// recall was signed and never published.
func TestTakenBackStaysTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), add("2")(tx)) })
	w.update(func(tx *repo.Tx) error { return errors.Join(approve("1")(tx)) })
	m := w.machine().adopts()
	r := m.open("review-release")
	recall := func(tx *repo.Tx) error { return tx.Recall("review", "agent/1", "", "it leaks") }
	if _, err := r.Stage(t.Context(), recall); err != nil {
		t.Fatal(err)
	}
	// The draft with the recall is lost. Nothing is signed that lists the release.
	for what, fn := range map[string]func(tx *repo.Tx) error{
		"renewal": resignReview, "another release": approve("2"),
	} {
		t.Run(what, func(t *testing.T) {
			m.refuses(repo.ErrTakenBack, func() error { _, err := r.Stage(t.Context(), fn); return err })
		})
	}
	d, err := r.Stage(t.Context(), func(tx *repo.Tx) error { return errors.Join(recall(tx), approve("2")(tx)) })
	noErr(t, err)
	noErr(t, w.open("timestamp", "snapshot").Publish(t.Context(), d))
	w.sees("root 1 agent/2")

	// The vendor lists the same bytes under another path, as a release of another name.
	w.update(func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/again", strings.NewReader("agent 1"), release("1.0.1"))
	})
	again := func(how repo.Examined) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error { return tx.Approve("review", "agent/again", how) }
	}
	m.refuses(repo.ErrTakenBack, func() error { _, err := r.Stage(t.Context(), again(repo.Examined{})); return err })
	m.refuses(nil, func() error {
		_, err := r.Stage(t.Context(), again(repo.Examined{Unrecorded: true, Reinstate: "x"}))
		if err == nil {
			t.Error("a reinstatement without a record")
		}
		return nil
	})
	d, err = r.Stage(t.Context(), again(repo.Examined{Reinstate: "it was another one that leaks"}))
	noErr(t, err)
	noErr(t, w.open("timestamp", "snapshot").Publish(t.Context(), d))
	w.sees("root 1 agent/2 agent/again")
	// A reinstatement is in force for the renewals that follow.
	d, err = r.Stage(t.Context(), resignReview)
	noErr(t, err)
	noErr(t, w.open("timestamp", "snapshot").Publish(t.Context(), d))
	said, err := w.open().Statements(t.Context(), "agent/again")
	if err != nil || len(said) != 1 || said[0].Review == nil || said[0].Review.Reinstate != "it was another one that leaks" {
		t.Errorf("%+v, %v", said, err)
	}
}

// K4: a hold that was signed and not published is not dropped by the next draft
// of the role.
func TestHoldStaysInForce(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	w.update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), add("2")(tx)) })
	m := w.machine().adopts()
	r := m.open("ann")
	hold := func(path string) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error { return tx.Hold(path, "wait", w.now.Add(24*time.Hour)) }
	}
	if _, err := r.Stage(t.Context(), hold("agent/1")); err != nil {
		t.Fatal(err)
	}
	m.refuses(repo.ErrTakenBack, func() error { _, err := r.Stage(t.Context(), hold("agent/2")); return err })
	both, err := r.Stage(t.Context(), func(tx *repo.Tx) error { return errors.Join(hold("agent/1")(tx), hold("agent/2")(tx)) })
	noErr(t, err)
	noErr(t, w.open("timestamp", "snapshot").Publish(t.Context(), both))
	// Published, it may be lifted in a draft that says so, and it ends by itself.
	d, err := r.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Lift("agent/1") })
	noErr(t, err)
	noErr(t, w.open("timestamp", "snapshot").Publish(t.Context(), d))
	w.now = w.now.Add(25 * time.Hour)
	if _, err := r.Stage(t.Context(), resignReview); err != nil {
		t.Error(err)
	}
}

// K5: dates that are out of line with the clock, or with what is replaced.
func TestDatesInLine(t *testing.T) {
	t.Parallel()
	start := newWorld(t)
	start.pin()
	const day = 24 * time.Hour
	for name, x := range map[string]struct {
		staged, signed time.Duration // clocks, from the healthy one on
		tolerance      time.Duration
		expiry         repo.Expiry
		edit           func(*repo.Tx) error
		key            string
		want           error
		override       bool // ShorterExpiry heals it
	}{
		"healthy root":             {edit: renewRoot, key: "review-1"},
		"signed_at ahead":          {staged: 6 * time.Minute, edit: renewRoot, key: "review-1", want: repo.ErrDate},
		"signed_at a little ahead": {staged: 5 * time.Minute, edit: renewRoot, key: "review-1"},
		"within a wider tolerance": {staged: 20 * time.Hour, tolerance: 21 * time.Hour, edit: renewRoot, key: "review-1"},
		"tolerance has an end":     {staged: 25 * time.Hour, tolerance: 48 * time.Hour, edit: renewRoot, key: "review-1", want: repo.ErrDate},
		"ten years ahead":          {staged: 3650 * day, edit: renewRoot, key: "review-1", want: repo.ErrDate},
		"a clock a year behind":    {signed: -365 * day, edit: resignReview, key: "review-release", want: repo.ErrDate},
		"a clock a year ahead":     {signed: 365 * day, edit: resignReview, key: "review-release", want: repo.ErrDate},
		"root that ends early":     {expiry: repo.Expiry{Root: 300 * day}, edit: renewRoot, key: "review-1", want: repo.ErrDate, override: true},
		"role that ends early":     {expiry: repo.Expiry{Release: 29 * day}, edit: resignReview, key: "review-release", want: repo.ErrDate, override: true},
		"an hour earlier":          {expiry: repo.Expiry{Release: 30*day - time.Hour}, edit: resignReview, key: "review-release"},
		"targets may end early":    {expiry: repo.Expiry{Targets: 100 * day}, edit: func(tx *repo.Tx) error { return tx.ResignTargets() }, key: "targets"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start.copy()
			now := w.now
			m := w.machine().adopts()
			cfg := w.config()
			cfg.Expiry = x.expiry
			w.now = now.Add(x.staged)
			d, err := repo.New(w.store, cfg).Stage(t.Context(), x.edit)
			noErr(t, err)
			data, err := d.Bytes()
			noErr(t, err)
			w.now = now.Add(x.signed)
			theirs := w.config()
			theirs.Ledger, theirs.Pin, theirs.ClockTolerance = repo.StorageLedger(m.ledger), w.pin(), x.tolerance
			d, err = repo.New(w.store, theirs).OpenDraft(data)
			noErr(t, err)
			sign := func() error { return d.Sign(t.Context(), w.signer(x.key)) }
			if x.want == nil {
				noErr(t, sign())
				return
			}
			m.refuses(x.want, sign)
			if d.ShorterExpiry(); x.override {
				noErr(t, sign())
			} else {
				m.refuses(x.want, sign)
			}
		})
	}
	// Publishing allows five minutes, whatever a signer allowed.
	w := start.copy()
	w.now = w.now.Add(time.Hour)
	d, err := w.open().Stage(t.Context(), renewRoot)
	noErr(t, err)
	w.now = w.now.Add(-time.Hour)
	w.refused(repo.ErrDate, func() error { return w.open().Publish(t.Context(), d) })
	w.now = w.now.Add(55 * time.Minute)
	noErr(t, w.open().Publish(t.Context(), d))
}

// A machine without a person signs what its configuration lists, compared with
// what its ledger has seen, whatever lies in the storage.
func TestAutomation(t *testing.T) {
	t.Parallel()
	start := heldWorld(t)
	start.update(func(tx *repo.Tx) error {
		tx.Root().Classes = append(tx.Root().Classes, start.class("rules"))
		return nil
	})
	plain := func(path, content string) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error { return tx.Add("vendor", path, strings.NewReader(content), nil) }
	}
	start.update(add("1"))
	start.update(plain("rules/a", "1"))
	start.pin()
	renew := func(tx *repo.Tx) error { return tx.Resign("vendor") }
	many := func(tx *repo.Tx) error {
		for i := range 600 { // which takes hash bins
			if err := plain(fmt.Sprintf("rules/%d", i), fmt.Sprint(i))(tx); err != nil {
				return err
			}
		}
		return nil
	}
	patch := func(tx *repo.Tx) error { return nil }
	_ = patch
	for name, x := range map[string]struct {
		may  repo.Automation
		edit func(*repo.Tx) error
		keys []string
		want error
	}{
		"renew":                       {repo.Automation{Renew: true}, renew, vendorKeys, nil},
		"renew is not listed":         {repo.Automation{Plain: []string{"rules/"}, Releases: []string{"agent/"}}, renew, vendorKeys, repo.ErrNotAutomatic},
		"rules":                       {repo.Automation{Plain: []string{"rules/"}}, plain("rules/b", "2"), vendorKeys, nil},
		"a rule that changes":         {repo.Automation{Plain: []string{"rules/"}}, plain("rules/a", "2"), vendorKeys, nil},
		"a rule that goes":            {repo.Automation{Plain: []string{"rules/"}}, func(tx *repo.Tx) error { return tx.Remove("vendor", "rules/a") }, vendorKeys, nil},
		"rules in bins":               {repo.Automation{Plain: []string{"rules/"}}, many, vendorKeys, nil},
		"rules elsewhere":             {repo.Automation{Plain: []string{"rules/x/"}}, plain("rules/b", "2"), vendorKeys, repo.ErrNotAutomatic},
		"a release among the rules":   {repo.Automation{Plain: []string{"rules/", "agent/"}}, add("2"), vendorKeys, repo.ErrNotAutomatic},
		"releases":                    {repo.Automation{Releases: []string{"agent/"}}, add("2"), vendorKeys, nil},
		"a release that goes":         {repo.Automation{Releases: []string{"agent/"}}, func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/1") }, vendorKeys, repo.ErrNotAutomatic},
		"a plain file among releases": {repo.Automation{Releases: []string{"agent/"}}, plain("agent/x", "2"), vendorKeys, repo.ErrNotAutomatic},
		"an empty prefix":             {repo.Automation{Releases: []string{""}, Plain: []string{""}}, add("2"), vendorKeys, repo.ErrNotAutomatic},
		"a product": {repo.Automation{Renew: true, Plain: []string{"agent/"}, Releases: []string{"agent/"}}, func(tx *repo.Tx) error {
			return tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team/*"}})
		}, vendorKeys, repo.ErrNotAutomatic},
		"a root": {repo.Automation{Renew: true}, renewRoot, vendorKeys, repo.ErrNotAutomatic},
		"a recall": {repo.Automation{Renew: true, Releases: []string{"agent/"}}, func(tx *repo.Tx) error {
			return tx.Recall("vendor", "agent/1", "", "x")
		}, vendorKeys, repo.ErrNotAutomatic},
		"a hold":       {repo.Automation{Renew: true, Releases: []string{"agent/"}, Plain: []string{"agent/"}}, func(tx *repo.Tx) error { return tx.Hold("agent/1", "x", start.now.Add(time.Hour)) }, []string{"ann", "ben", "cleo"}, repo.ErrNotAutomatic},
		"one of three": {repo.Automation{Renew: true}, resignReview, []string{"ann"}, repo.ErrLedgerNotShared},
		"all of three": {repo.Automation{Renew: true}, resignReview, []string{"ann", "ben", "cleo", "review-release"}, nil},
		"an approval":  {repo.Automation{Releases: []string{"agent/"}}, func(tx *repo.Tx) error { return tx.Approve("review", "agent/1") }, []string{"ann", "ben", "cleo"}, nil},
		"a refusal":    {repo.Automation{Releases: []string{"agent/"}}, func(tx *repo.Tx) error { return tx.Refuse("review", "agent/1", "x", "") }, []string{"ann", "ben", "cleo"}, repo.ErrNotAutomatic},
	} {
		t.Run(name, func(t *testing.T) {
			w := start.copy()
			w.t = t
			m := w.machine().adopts()
			cfg := w.config()
			cfg.Ledger, cfg.Pin, cfg.Automation = repo.StorageLedger(m.ledger), w.pin(), &x.may
			for _, k := range x.keys {
				cfg.Signers = append(cfg.Signers, w.signer(k))
			}
			stage := func() error { _, err := repo.New(w.store, cfg).Stage(t.Context(), x.edit); return err }
			if x.want == nil {
				noErr(t, stage())
			} else {
				m.refuses(x.want, stage)
			}
			if x.want == repo.ErrLedgerNotShared {
				cfg.SharedLedger = true
				noErr(t, stage())
			}
			cfg.Automation = nil // a person signs all of it
			noErr(t, stage())
		})
	}

	// The storage lists what the ledger has not seen, signed with the vendor's key:
	// a renewal by the machine would carry it on.
	w := start.copy()
	m := w.machine().adopts()
	w.update(func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/evil", strings.NewReader("evil"), release("6.6.6"))
	})
	cfg := w.config()
	cfg.Ledger, cfg.Pin, cfg.Automation = repo.StorageLedger(m.ledger), w.pin(), &repo.Automation{Renew: true}
	for _, k := range vendorKeys {
		cfg.Signers = append(cfg.Signers, w.signer(k))
	}
	m.refuses(repo.ErrNotAutomatic, func() error { _, err := repo.New(w.store, cfg).Stage(t.Context(), renew); return err })
}
