package repo_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/signing"
)

// A root was signed and published on a machine whose clock is ten years ahead. Each
// reader with the right clock is warned, publishers refuse to build on it, and a
// following root with an explicit, correct date heals the repository.
func TestRootAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), approve("1")(tx)) })
	pin, now := w.Pin(), w.Now
	ctx := t.Context()
	healthy := func() {
		t.Helper()
		report, err := mirror.Verify(ctx, w.Storage(), pin, options(w.Config()))
		if err != nil || report.Err() != nil {
			t.Fatalf("%v, %v", report, err)
		}
		status, err := w.Open().Status(ctx, w.Now)
		if err != nil || status.Ahead != 0 || status.Urgency() != repo.UrgencyFine {
			t.Fatalf("%v, %v", status, err)
		}
	}
	healthy()

	// Before publication the diff reports it, and Publish refuses.
	w.Now = now.AddDate(10, 0, 0)
	d, err := w.Open().Stage(ctx, renewRoot)
	noErr(t, err)
	w.Now = now
	if lines := w.lines(d); !strings.Contains(lines[0], "root: date of v2") || !strings.Contains(lines[0], "signed_at of the new root is 2036-11-20T12:00:00Z, 3653 days ahead of this machine's clock") {
		t.Errorf("%q", lines[0])
	}
	w.Refused(signing.ErrDate, func() error { return w.Open().Publish(ctx, d) })

	w.Now = now.AddDate(10, 0, 0)
	noErr(t, w.Open().Publish(ctx, d))
	w.Now = now
	report, err := mirror.Verify(ctx, w.Storage(), pin, options(w.Config()))
	noErr(t, err)
	if report.Err() == nil || !slices.ContainsFunc(report.Findings, func(f mirror.Finding) bool {
		return f.Kind == mirror.FileAhead && f.Name == "metadata/2.root.json" && strings.Contains(f.Text, "3653 days")
	}) {
		t.Errorf("%v", report)
	}
	status, err := w.Open().Status(ctx, now)
	if err != nil || status.Ahead != 3653*24*time.Hour || status.Urgency() != repo.UrgencyUrgent || !strings.Contains(status.String(), "3653 days ahead of this machine's clock") {
		t.Errorf("%v, %v", status, err)
	}
	tip := w.Root().SHA256()
	stage := func(fn func(*repo.Tx) error) func() error {
		return func() error { _, err := w.Open().Stage(ctx, fn); return err }
	}
	follow := func(name string) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error {
			tx.RenewRoot()
			tx.ShorterExpiry()
			tx.Supersede(name)
			return nil
		}
	}
	for what, fn := range map[string]func() error{
		"a release":            stage(add("2")),
		"a root":               stage(renewRoot),
		"naming another root":  stage(follow(strings.Repeat("ab", 32))),
		"a release, naming it": stage(func(tx *repo.Tx) error { tx.Supersede(tip); return add("2")(tx) }),
		"the cron job":         func() error { return w.Open("timestamp", "snapshot").Renew(ctx) },
	} {
		w.Refused(signing.ErrDate, func() error {
			err := fn()
			if !errors.Is(err, signing.ErrDate) {
				t.Error(what)
			}
			return err
		})
	}
	if err := stage(renewRoot)(); !strings.Contains(err.Error(), tip) || !strings.Contains(err.Error(), "Supersede") {
		t.Errorf("the error does not name the remedy: %v", err)
	}
	w.Update(follow(tip))
	if w.Root().Version() != 3 {
		t.Error(w.Root().Version())
	}
	noErr(t, w.Open().Renew(ctx))
	healthy()
	w.Sees("root 3 agent/1")
}

// The diff reports each date that a signer's rule refuses.
func TestDiffShowsDates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), approve("1")(tx)) })
	const day = 24 * time.Hour
	for what, x := range map[string]struct {
		later  time.Duration // the reader's clock
		expiry repo.Expiry
		edit   func(*repo.Tx) error
		want   []string // beginnings of the lines about dates
	}{
		"healthy":               {edit: func(tx *repo.Tx) error { return errors.Join(renewRoot(tx), resignReview(tx)) }},
		"expired":               {later: 30 * day, edit: resignReview, want: []string{"review-agent: date of v3 it expired on 2026-12-20"}},
		"a role expires early":  {expiry: repo.Expiry{Release: 29 * day}, edit: resignReview, want: []string{"review-agent: date of v3 it expires on 2026-12-19"}},
		"an hour is tolerated":  {expiry: repo.Expiry{Release: 30*day - time.Hour}, edit: resignReview},
		"a root expires early":  {expiry: repo.Expiry{Root: 300 * day}, edit: renewRoot, want: []string{"root: date of v2 it expires on 2027-09-16"}},
		"targets expires early": {expiry: repo.Expiry{Targets: 300 * day}, edit: func(tx *repo.Tx) error { return tx.RenewTargets() }},
	} {
		w := w.Copy()
		cfg := w.Config()
		cfg.Expiry = x.expiry
		d, err := repo.New(w.Store, cfg).Stage(t.Context(), x.edit)
		noErr(t, err)
		w.Now = w.Now.Add(x.later)
		var got []string
		for _, line := range w.lines(d) {
			if strings.Contains(line, ": date of ") {
				got = append(got, line)
			}
		}
		if !slices.EqualFunc(got, x.want, strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", what, got, x.want)
		}
	}
}
