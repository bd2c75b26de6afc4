package repo_test

import (
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
)

// A machine signs no expiry that its configuration would not give: an attacker who can hand it
// a renewal must not get metadata that is valid for years.
func TestAutomationExpiry(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	m := w.machine().adopts()
	renewal := func(expiry time.Duration) *repo.Draft {
		cfg := w.Config()
		cfg.Pin, cfg.Expiry.Release = w.Pin(), expiry // has no keys
		d, err := repo.New(w.Store, cfg).Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("vendor") })
		noErr(t, err)
		return d
	}
	cfg := w.Config()
	cfg.Ledger, cfg.Pin, cfg.Automation = signing.StorageLedger(m.ledger), w.Pin(), &signing.Automation{Renew: true}
	cfg.Signers = append(cfg.Signers, w.Signer("vendor-release"))
	sign := func(d *repo.Draft) error {
		data, err := d.Bytes()
		noErr(t, err)
		d, err = repo.New(w.Store, cfg).OpenDraft(data)
		noErr(t, err)
		return d.Sign(t.Context(), w.Signer("vendor-release"))
	}
	m.refuses(signing.ErrNotAutomatic, func() error { return sign(renewal(31 * 24 * time.Hour)) })
	noErr(t, sign(renewal(30*24*time.Hour)))
	cfg.Automation, cfg.Ledger = nil, signing.StorageLedger(w.machine().adopts().ledger) // a person decides
	noErr(t, sign(renewal(31*24*time.Hour)))
}

// A signer that has signed the published content, and has seen nothing published yet,
// takes that content as the base. Content that it has not signed is none.
func TestAutomationAfterTheFirstRoot(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	vendor := w.Open("vendor-1", "vendor-2", "vendor-release", "targets", "timestamp", "snapshot")
	d, err := vendor.Stage(t.Context(), w.Define)
	noErr(t, err)
	m := w.machine()
	cfg := w.Config()
	cfg.Ledger = signing.StorageLedger(m.ledger)
	data, err := d.Bytes()
	noErr(t, err)
	theirs, err := repo.New(w.Store, cfg).OpenDraft(data)
	noErr(t, err)
	for _, k := range []string{"review-1", "review-2", "review-release"} {
		noErr(t, theirs.SignFirst(t.Context(), w.Signer(k), d.Digest()))
	}
	noErr(t, d.Merge(theirs))
	noErr(t, vendor.Publish(t.Context(), d))
	d, err = vendor.Stage(t.Context(), add("1"))
	noErr(t, err)
	noErr(t, vendor.Publish(t.Context(), d))

	cfg.Automation, cfg.Signers = &signing.Automation{Releases: []string{"agent/"}}, nil
	cfg.Signers = append(cfg.Signers, w.Signer("review-release"))
	approve := func(version string) error {
		_, err := repo.New(w.Store, cfg).Stage(t.Context(), func(tx *repo.Tx) error { return tx.Approve("review", "agent/"+version, nil) })
		return err
	}
	before := m.ledger.Copy()
	noErr(t, approve("1"))
	m.ledger.Files = before.Files
	w.Update(func(tx *repo.Tx) error { return tx.Approve("review", "agent/1", nil) }) // on another machine
	w.Update(add("2"))
	wantErr(t, approve("2"), signing.ErrNotAutomatic)
}

// NewTargets are what a draft adds; a signature that does not verify is dropped.
func TestDraftsFromElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	r := w.Open()
	d, err := r.Stage(t.Context(), add("2"))
	noErr(t, err)
	targets, err := r.NewTargets(t.Context(), d)
	noErr(t, err)
	if len(targets) != 1 || targets[0].Path != "agent/2" || targets[0].Length != int64(len("agent 2")) || targets[0].Release == nil || !d.HasFiles() {
		t.Errorf("%+v", targets)
	}
	if n := d.DropInvalid(); n != 0 || len(d.Missing()) > 0 {
		t.Errorf("%d signatures dropped", n)
	}
	noErr(t, r.Publish(t.Context(), d))
	if _, err := r.NewTargets(t.Context(), d); err == nil {
		t.Error("a published draft has new targets")
	} else {
		wantErr(t, err, repo.ErrPublished)
	}
	d, err = r.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Refuse("review", "agent/1", repo.RefusalRecord{Reason: "x"}) })
	noErr(t, err)
	if targets, err := r.NewTargets(t.Context(), d); err != nil || len(targets) > 0 || d.HasFiles() {
		t.Errorf("%v, %v", targets, err)
	}
	d, err = r.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/1") })
	noErr(t, err)
	if targets, err := r.NewTargets(t.Context(), d); err != nil || len(targets) > 0 {
		t.Errorf("%v, %v", targets, err)
	}
}
