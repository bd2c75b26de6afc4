package repo_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// K4: recalled or refused content stays so under another path, also if the recall was
// signed and never published.
func TestTakenBackStaysTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), add("2")(tx)) })
	w.Update(func(tx *repo.Tx) error { return errors.Join(approve("1")(tx)) })
	m := w.machine().adopts()
	r := m.open("review-release")
	recall := func(tx *repo.Tx) error { return tx.Recall("review", "agent/1", repo.RecallRecord{Reason: "it leaks"}) }
	if _, err := r.Stage(t.Context(), recall); err != nil {
		t.Fatal(err)
	}
	// The draft with the recall is lost. Nothing is signed that lists the release.
	for what, fn := range map[string]func(tx *repo.Tx) error{
		"renewal": resignReview, "another release": approve("2"),
	} {
		t.Run(what, func(t *testing.T) {
			m.refuses(signing.ErrTakenBack, func() error { _, err := r.Stage(t.Context(), fn); return err })
		})
	}
	d, err := r.Stage(t.Context(), func(tx *repo.Tx) error { return errors.Join(recall(tx), approve("2")(tx)) })
	noErr(t, err)
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))
	w.Sees("root 1 agent/2")

	// The vendor lists the same bytes under another path, as a release of another name.
	w.Update(func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/again", strings.NewReader("agent 1"), release("1.0.1"))
	})
	if _, err := m.open().Pending(t.Context(), "review"); err != nil { // the ledger records what is published
		t.Fatal(err)
	}
	again := func(how repo.ReviewRecord) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error { return tx.Approve("review", "agent/again", &how) }
	}
	m.refuses(signing.ErrTakenBack, func() error { _, err := r.Stage(t.Context(), again(repo.ReviewRecord{})); return err })
	m.refuses(nil, func() error {
		_, err := r.Stage(t.Context(), again(repo.ReviewRecord{Unrecorded: true, Reinstate: "x"}))
		if err == nil {
			t.Error("a reinstatement without a record")
		}
		return nil
	})
	d, err = r.Stage(t.Context(), again(repo.ReviewRecord{Reinstate: "it was another one that leaks"}))
	noErr(t, err)
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))
	w.Sees("root 1 agent/2 agent/again")
	// A reinstatement remains in effect for later renewals.
	d, err = r.Stage(t.Context(), resignReview)
	noErr(t, err)
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))
	d, err = r.Stage(t.Context(), func(tx *repo.Tx) error {
		return tx.Approve("review", "agent/1", &repo.ReviewRecord{Reinstate: "under its own name too"})
	})
	noErr(t, err)
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))
	d, err = r.Stage(t.Context(), resignReview)
	noErr(t, err)
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))
	said, err := w.Open().Statements(t.Context(), "agent/again")
	if err != nil || len(said) != 1 || said[0].Review == nil || said[0].Review.Reinstate != "it was another one that leaks" {
		t.Errorf("%+v, %v", said, err)
	}
}

// K4: a hold that was signed and not published is not dropped by the next draft of the
// role.
func TestHoldStaysInForce(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), add("2")(tx)) })
	m := w.machine().adopts()
	r := m.open("ann")
	hold := func(path string) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error { return tx.Hold(path, "wait", w.Now.Add(24*time.Hour)) }
	}
	if _, err := r.Stage(t.Context(), hold("agent/1")); err != nil {
		t.Fatal(err)
	}
	m.refuses(signing.ErrTakenBack, func() error { _, err := r.Stage(t.Context(), hold("agent/2")); return err })
	both, err := r.Stage(t.Context(), func(tx *repo.Tx) error { return errors.Join(hold("agent/1")(tx), hold("agent/2")(tx)) })
	noErr(t, err)
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), both))
	// A published hold may be lifted by an explicit draft, and it expires without one.
	d, err := r.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Unhold("agent/1") })
	noErr(t, err)
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))
	w.Now = w.Now.Add(25 * time.Hour)
	if _, err := r.Stage(t.Context(), resignReview); err != nil {
		t.Error(err)
	}
}

// K5: dates are refused that contradict the clock, or the metadata that is replaced.
func TestDatesInLine(t *testing.T) {
	t.Parallel()
	start := newWorld(t)
	start.Pin()
	const day = 24 * time.Hour
	for name, x := range map[string]struct {
		staged, signed time.Duration // offsets from the right clock
		tolerance      time.Duration
		expiry         repo.Expiry
		edit           func(*repo.Tx) error
		key            string
		want           error
		override       bool // ShorterExpiry heals it
	}{
		"healthy root":             {edit: renewRoot, key: "review-1"},
		"signed_at ahead":          {staged: 6 * time.Minute, edit: renewRoot, key: "review-1", want: signing.ErrDate},
		"signed_at a little ahead": {staged: 5 * time.Minute, edit: renewRoot, key: "review-1"},
		"within a wider tolerance": {staged: 20 * time.Hour, tolerance: 21 * time.Hour, edit: renewRoot, key: "review-1"},
		"tolerance is bounded":     {staged: 25 * time.Hour, tolerance: 48 * time.Hour, edit: renewRoot, key: "review-1", want: signing.ErrDate},
		"ten years ahead":          {staged: 3650 * day, edit: renewRoot, key: "review-1", want: signing.ErrDate},
		"a clock a year behind":    {signed: -365 * day, edit: resignReview, key: "review-release", want: signing.ErrDate},
		"a clock a year ahead":     {signed: 365 * day, edit: resignReview, key: "review-release", want: tuf.ErrExpired},
		"root that expires early":  {expiry: repo.Expiry{Root: 300 * day}, edit: renewRoot, key: "review-1", want: signing.ErrDate, override: true},
		"role that expires early":  {expiry: repo.Expiry{Release: 29 * day}, edit: resignReview, key: "review-release", want: signing.ErrDate, override: true},
		"an hour earlier":          {expiry: repo.Expiry{Release: 30*day - time.Hour}, edit: resignReview, key: "review-release"},
		"targets may expire early": {expiry: repo.Expiry{Targets: 100 * day}, edit: func(tx *repo.Tx) error { return tx.RenewTargets() }, key: "targets"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start.Copy()
			now := w.Now
			m := w.machine().adopts()
			cfg := w.Config()
			cfg.Expiry = x.expiry
			w.Now = now.Add(x.staged)
			d, err := repo.New(w.Store, cfg).Stage(t.Context(), x.edit)
			noErr(t, err)
			data, err := d.Bytes()
			noErr(t, err)
			w.Now = now.Add(x.signed)
			theirs := w.Config()
			theirs.Ledger, theirs.Pin, theirs.ClockTolerance = signing.StorageLedger(m.ledger), w.Pin(), x.tolerance
			d, err = repo.New(w.Store, theirs).OpenDraft(data)
			noErr(t, err)
			sign := func() error { return d.Sign(t.Context(), w.Signer(x.key)) }
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
	// Publishing allows a tolerance of five minutes, whatever a signer allowed.
	w := start.Copy()
	w.Now = w.Now.Add(time.Hour)
	d, err := w.Open().Stage(t.Context(), renewRoot)
	noErr(t, err)
	w.Now = w.Now.Add(-time.Hour)
	w.Refused(signing.ErrDate, func() error { return w.Open().Publish(t.Context(), d) })
	w.Now = w.Now.Add(55 * time.Minute)
	noErr(t, w.Open().Publish(t.Context(), d))
}
