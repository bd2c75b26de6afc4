package repo_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
)

// An automation machine signs what its configuration lists, compared with what its
// ledger has seen, regardless of the contents of the storage.
func TestAutomation(t *testing.T) {
	t.Parallel()
	start := heldWorld(t)
	start.Update(func(tx *repo.Tx) error {
		tx.Root().Classes = append(tx.Root().Classes, start.Class("rules"))
		return nil
	})
	plain := func(path, content string) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error { return tx.Add("vendor", path, strings.NewReader(content), nil) }
	}
	start.Update(add("1"))
	start.Update(plain("rules/a", "1"))
	team := func(key string) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error {
			return tx.Delegate("vendor", "agent", repo.Product{Role: "team-a", Paths: []string{"agent/a/*"}, Keys: repo.Keys{Keys: start.Public(key)}})
		}
	}
	start.Update(team("team-a"))
	start.Signer("team-b")
	start.Pin()
	renew := func(tx *repo.Tx) error { return tx.Renew("vendor") }
	many := func(tx *repo.Tx) error {
		for i := range 600 { // so that there are hash bins
			if err := plain(fmt.Sprintf("rules/%d", i), fmt.Sprint(i))(tx); err != nil {
				return err
			}
		}
		return nil
	}
	for name, x := range map[string]struct {
		may  signing.Automation
		edit func(*repo.Tx) error
		keys []string
		want error
	}{
		"renew":                         {signing.Automation{Renew: true}, renew, vendorKeys, nil},
		"renew is not listed":           {signing.Automation{Plain: []string{"rules/"}, Releases: []string{"agent/"}}, renew, vendorKeys, signing.ErrNotAutomatic},
		"rules":                         {signing.Automation{Plain: []string{"rules/"}}, plain("rules/b", "2"), vendorKeys, nil},
		"a rule that changes":           {signing.Automation{Plain: []string{"rules/"}}, plain("rules/a", "2"), vendorKeys, nil},
		"a rule that is removed":        {signing.Automation{Plain: []string{"rules/"}}, func(tx *repo.Tx) error { return tx.Remove("vendor", "rules/a") }, vendorKeys, nil},
		"rules in bins":                 {signing.Automation{Plain: []string{"rules/"}}, many, vendorKeys, nil},
		"rules elsewhere":               {signing.Automation{Plain: []string{"rules/x/"}}, plain("rules/b", "2"), vendorKeys, signing.ErrNotAutomatic},
		"a release among the rules":     {signing.Automation{Plain: []string{"rules/", "agent/"}}, add("2"), vendorKeys, signing.ErrNotAutomatic},
		"releases":                      {signing.Automation{Releases: []string{"agent/"}}, add("2"), vendorKeys, nil},
		"a release that is removed":     {signing.Automation{Releases: []string{"agent/"}}, func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/1") }, vendorKeys, signing.ErrNotAutomatic},
		"a file without release fields": {signing.Automation{Releases: []string{"agent/"}}, plain("agent/x", "2"), vendorKeys, signing.ErrNotAutomatic},
		"an empty prefix":               {signing.Automation{Releases: []string{""}, Plain: []string{""}}, add("2"), vendorKeys, signing.ErrNotAutomatic},
		"a product": {signing.Automation{Renew: true, Plain: []string{"agent/"}, Releases: []string{"agent/"}}, func(tx *repo.Tx) error {
			return tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team/*"}})
		}, vendorKeys, signing.ErrNotAutomatic},
		"a root": {signing.Automation{Renew: true}, renewRoot, vendorKeys, signing.ErrNotAutomatic},
		"a recall": {signing.Automation{Renew: true, Releases: []string{"agent/"}}, func(tx *repo.Tx) error {
			return tx.Recall("vendor", "agent/1", repo.RecallRecord{Reason: "x"})
		}, vendorKeys, signing.ErrNotAutomatic},
		"a recall of other bytes": {signing.Automation{Renew: true, Releases: []string{"agent/"}}, func(tx *repo.Tx) error {
			return tx.Recall("vendor", "agent/0.9", repo.RecallRecord{SHA256: strings.Repeat("ab", 32), Reason: "x"})
		}, vendorKeys, signing.ErrNotAutomatic},
		"keys of a product": {signing.Automation{Renew: true, Plain: []string{"agent/"}, Releases: []string{"agent/"}}, team("team-b"), vendorKeys, signing.ErrNotAutomatic},
		"a hold":            {signing.Automation{Renew: true, Releases: []string{"agent/"}, Plain: []string{"agent/"}}, func(tx *repo.Tx) error { return tx.Hold("agent/1", "x", start.Now.Add(time.Hour)) }, []string{"ann", "ben", "cleo"}, signing.ErrNotAutomatic},
		"one of three":      {signing.Automation{Renew: true}, resignReview, []string{"ann"}, signing.ErrLedgerNotShared},
		"all of three":      {signing.Automation{Renew: true}, resignReview, []string{"ann", "ben", "cleo", "review-release"}, nil},
		"an approval":       {signing.Automation{Releases: []string{"agent/"}}, func(tx *repo.Tx) error { return tx.Approve("review", "agent/1", nil) }, []string{"ann", "ben", "cleo"}, nil},
		"a refusal":         {signing.Automation{Releases: []string{"agent/"}}, func(tx *repo.Tx) error { return tx.Refuse("review", "agent/1", repo.RefusalRecord{Reason: "x"}) }, []string{"ann", "ben", "cleo"}, signing.ErrNotAutomatic},
	} {
		t.Run(name, func(t *testing.T) {
			w := start.Copy()
			w.T = t
			m := w.machine().adopts()
			cfg := w.Config()
			cfg.Ledger, cfg.Pin, cfg.Automation = signing.StorageLedger(m.ledger), w.Pin(), &x.may
			for _, k := range x.keys {
				cfg.Signers = append(cfg.Signers, w.Signer(k))
			}
			stage := func() error { _, err := repo.New(w.Store, cfg).Stage(t.Context(), x.edit); return err }
			if x.want == nil {
				noErr(t, stage())
			} else {
				m.refuses(x.want, stage)
			}
			if x.want == signing.ErrLedgerNotShared {
				cfg.SharedLedger = true
				noErr(t, stage())
			}
			cfg.Automation = nil // a person signs everything
			noErr(t, stage())
		})
	}

	// The storage lists content that the ledger has not seen, signed with the vendor's
	// key. A renewal by the machine would carry it on.
	w := start.Copy()
	m := w.machine().adopts()
	w.Update(func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/evil", strings.NewReader("evil"), release("6.6.6"))
	})
	cfg := w.Config()
	cfg.Ledger, cfg.Pin, cfg.Automation = signing.StorageLedger(m.ledger), w.Pin(), &signing.Automation{Renew: true}
	for _, k := range vendorKeys {
		cfg.Signers = append(cfg.Signers, w.Signer(k))
	}
	if _, err := repo.New(w.Store, cfg).Pending(t.Context(), "review"); err != nil { // reading does not record it as seen
		t.Fatal(err)
	}
	m.refuses(signing.ErrNotAutomatic, func() error { _, err := repo.New(w.Store, cfg).Stage(t.Context(), renew); return err })
}
