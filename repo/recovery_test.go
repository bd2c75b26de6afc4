package repo_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

const (
	statement1 = "metadata/recovery/1.statement.json"
	recovered2 = "metadata/recovery/2.root.json"
)

// recoverable returns a repository with a recovery rule and one release.
func recoverable(t *testing.T) *world {
	w := emptyWorld(t)
	w.Update(w.withHold)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), approve("1")(tx)) })
	w.Sees("root 1 agent/1")
	return w
}

// lost replaces all keys of the vendor, which has lost the old ones.
func (w *world) lost(tx *repo.Tx) error {
	r := tx.Root()
	r.Parties[0].Keys = w.Public("successor-1", "successor-2")
	r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = w.Public("successor-timestamp"), w.Public("successor-snapshot"), w.Public("successor-targets")
	r.Classes[0].Roles[0].Keys.Keys = w.Public("successor-release")
	return nil
}

var successorKeys = []string{"successor-1", "successor-release", "successor-timestamp", "successor-snapshot", "successor-targets"}

// afterLoss is a handle with the remaining keys: those of the successor and of the
// review centre.
func (w *world) afterLoss() *repo.Repo { return w.Open(slices.Concat(successorKeys, reviewKeys)...) }

// recover publishes a recovery that a bank and a university signed.
func (w *world) recover() {
	w.T.Helper()
	r := w.afterLoss()
	d, err := r.StageRecovery(w.T.Context(), repo.RecoveryOptions{Reason: "the vendor is gone"}, w.lost)
	noErr(w.T, err)
	w.signs(d, "bank-1", "university", "review-1")
	noErr(w.T, r.Publish(w.T.Context(), d))
}

func (w *world) signs(d *repo.Draft, names ...string) {
	w.T.Helper()
	for _, n := range names {
		noErr(w.T, d.Sign(w.T.Context(), w.Signer(n)))
	}
}

func missing(d *repo.Draft) (out []string) {
	for _, m := range d.Missing() {
		out = append(out, m.String())
	}
	return out
}

// The vendor has lost every key. The successor, the review centre and two recovery
// organisations publish the next root. The repository continues under that root, and
// clients follow after the waiting period.
func TestRecovery(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	first := w.Pin()
	before := w.Store.Copy()
	r := w.afterLoss()
	d, err := r.StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "the vendor is gone"}, w.lost)
	noErr(t, err)

	// The draft is passed to each signer. An old key signs nothing; a recovery key signs
	// nothing but the recovery statement.
	carry := func() {
		t.Helper()
		data, err := d.Bytes()
		noErr(t, err)
		d, err = r.OpenDraft(data)
		noErr(t, err)
	}
	carry()
	if err := d.Sign(t.Context(), w.Signer("vendor-1")); !errors.Is(err, repo.ErrNoPart) {
		t.Error(err)
	}
	want := []string{"recovery statement: 0 of 2 signatures of the recovery keys", "recovery statement: 0 of 2 signatures of the recovery organisations"}
	for _, step := range []struct {
		by   string
		want []string
	}{
		{"", want},
		{"bank-1", []string{"recovery statement: 1 of 2 signatures of the recovery keys", "recovery statement: 1 of 2 signatures of the recovery organisations"}},
		{"bank-2", []string{"recovery statement: 1 of 2 signatures of the recovery organisations"}},
		{"university", nil},
	} {
		if step.by != "" {
			copied := d
			carry()
			w.signs(d, step.by)
			noErr(t, d.Merge(copied))
		}
		if got := missing(d); !slices.Equal(got, step.want) {
			t.Errorf("after %q missing are %q, want %q", step.by, got, step.want)
		}
		if len(step.want) > 0 {
			if err := r.Publish(t.Context(), d); !errors.Is(err, repo.ErrUnsigned) {
				t.Fatal(err)
			}
		}
	}
	if got := d.String(); !strings.Contains(got, "root v2, ") || !strings.Contains(got, "recovery statement v3") {
		t.Errorf("the draft is %q", got)
	}
	said, err := r.Diff(t.Context(), d)
	noErr(t, err)
	for _, line := range []string{"root: version 1 -> 2", "reason", "the vendor is gone", "recovery statement: tip.version added: 1"} {
		if !slices.ContainsFunc(said, func(c diff.Change) bool { return strings.Contains(c.String(), line) }) {
			t.Errorf("the diff does not mention %q: %v", line, said)
		}
	}
	noErr(t, r.Publish(t.Context(), d))
	if err := r.Publish(t.Context(), d); err != nil && !errors.Is(err, repo.ErrConflict) {
		t.Error(err)
	}

	// Regular refreshes find no root to accept; clients that complete the waiting period
	// do.
	if w.Store.Files["metadata/2.root.json"] != nil {
		t.Error("the client found a regular root v2")
	}
	w.Sees("root 1 without content")
	if got := w.Product().Waits().State(); got != "root 2 agent/1" {
		t.Errorf("a client that has waited sees %q", got)
	}
	// Regular operation continues, including the next root.
	if chain, err := r.Chain(t.Context()); err != nil || len(chain) != 2 || chain[1].Charter().Epoch() != 1 {
		t.Fatalf("%d roots, %v", len(chain), err)
	}
	noErr(t, r.Update(t.Context(), func(tx *repo.Tx) error { return errors.Join(add("2")(tx), approve("2")(tx)) }))
	if got := w.Product().Waits().State(); got != "root 2 agent/1 agent/2" {
		t.Errorf("the client sees %q", got)
	}
	w.Now = w.Now.Add(time.Hour)
	noErr(t, r.Renew(t.Context()))
	w.goesOn(first, 2)
	noErr(t, r.Update(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return nil }))
	if got := w.Product().Waits().State(); got != "root 3 agent/1 agent/2" {
		t.Errorf("the client sees %q", got)
	}
	w.goesOn(first, 3)
	files, err := r.RootFiles(t.Context())
	noErr(t, err)
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
		if !bytes.Equal(f.Data, w.Store.Files[f.Name]) {
			t.Errorf("%s differs", f.Name)
		}
	}
	if !slices.Equal(names, []string{"metadata/1.root.json", recovered2, statement1, "metadata/3.root.json"}) {
		t.Errorf("%q", names)
	}
	if pins, err := r.Pins(t.Context()); err != nil || len(pins) != 3 {
		t.Errorf("%d pins, %v", len(pins), err)
	}
	for name, data := range before.Files {
		if name != "metadata/timestamp.json" && !bytes.Equal(w.Store.Files[name], data) {
			t.Errorf("%s was changed", name)
		}
	}
}

// goesOn checks that all operations other than editing succeed after a recovery, both
// from the pin before it and from the current pin.
func (w *world) goesOn(first []byte, root int64) {
	w.T.Helper()
	t, r := w.T, w.afterLoss()
	pin, err := r.Pin(t.Context())
	noErr(t, err)
	copied := newMemory()
	for _, pin := range [][]byte{first, pin} {
		report, err := mirror.Verify(t.Context(), w.Store, pin, options(w.Config()))
		if noErr(t, err); report.Err() != nil || report.Root != root {
			t.Fatalf("root v%d: %v", report.Root, report)
		}
		noErr(t, mirror.Clone(t.Context(), copied, storage.SourceOf(w.Store), pin, options(w.Config())))
		report, err = mirror.Verify(t.Context(), w.Store, pin, options(w.Config()), mirror.Mirror{Source: storage.SourceOf(copied)})
		if noErr(t, err); report.Err() != nil || len(report.Recoveries) != 1 || !strings.HasSuffix(report.String(), "recovery from root v1, statement v3 until 2027-11-20T12:00:00Z, in use by the repository") {
			t.Fatal(report)
		}
	}
	for _, opts := range []*mirror.BundleOptions{nil, {Metadata: true}} {
		var b bytes.Buffer
		noErr(t, mirror.Bundle(t.Context(), &b, w.Store, first, opts))
		z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
		noErr(t, err)
		for _, name := range []string{statement1, recovered2} {
			if data, err := fs.ReadFile(z, name); err != nil || !bytes.Equal(data, w.Store.Files[name]) {
				t.Errorf("the bundle's %s: %v", name, err)
			}
		}
	}
	w.Store.Clock = func() time.Time { return w.Now.Add(-1000 * time.Hour) }
	_, err = r.Prune(t.Context(), nil)
	noErr(t, err)
	if w.Store.Files[statement1] == nil || w.Store.Files[recovered2] == nil {
		t.Error("pruned")
	}
	status, err := r.Status(t.Context(), w.Now)
	noErr(t, err)
	if says := status.String(); !strings.Contains(says, "the statement of the recovery from root v1 expires") || status.Unfinished {
		t.Error(says)
	}
	d, err := r.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("vendor") })
	noErr(t, err)
	dir := t.TempDir()
	noErr(t, r.Export(t.Context(), d, dir))
	if chain, err := repo.New(repo.Folder(dir), w.Config()).Chain(t.Context()); err != nil || int64(len(chain)) != root {
		t.Errorf("%d roots were exported, %v", len(chain), err)
	}
}

// An invalid recovery is refused before signing, or at the latest by Publish, and
// nothing is written.
func TestRecoveryRefused(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	r := w.afterLoss()
	stage := func(cfg func(*repo.Config), how repo.RecoveryOptions, fn func(*repo.Tx) error) error {
		c := w.Config()
		if cfg != nil {
			cfg(c)
		}
		_, err := repo.New(w.Store, c).StageRecovery(t.Context(), how, fn)
		return err
	}
	why := repo.RecoveryOptions{Reason: "the vendor is gone"}
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"nothing new":      {stage(nil, why, func(*repo.Tx) error { return nil }), "needs a changed root"},
		"no reason":        {stage(nil, repo.RecoveryOptions{}, w.lost), "needs a reason"},
		"no such root":     {stage(nil, repo.RecoveryOptions{Reason: "x", After: 2}, w.lost), "there is no root v2"},
		"below zero":       {stage(nil, repo.RecoveryOptions{Reason: "x", After: -1}, w.lost), "there is no root v-1"},
		"expires too soon": {stage(func(c *repo.Config) { c.Expiry.Recovery = 14 * 24 * time.Hour }, why, w.lost), "expires before the waiting period of 14 days ends"},
		"the caller's":     {stage(nil, why, func(*repo.Tx) error { return errKilled }), errKilled.Error()},
		"against the rule": {stage(nil, why, func(tx *repo.Tx) error { tx.Root().Classes[0].Prefix = "a b/"; return nil }), "H"},
	} {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: %v", name, tt.err)
		}
	}
	if _, err := r.RenewRecovery(t.Context(), why); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}

	// The draft was changed in transit.
	draft := func() *repo.Draft {
		t.Helper()
		d, err := r.StageRecovery(t.Context(), why, w.lost)
		noErr(t, err)
		w.signs(d, "bank-1", "university")
		return d
	}
	other := func(a, b string) *repo.Draft {
		t.Helper()
		data, err := draft().Bytes()
		noErr(t, err)
		if !bytes.Contains(data, []byte(a)) {
			t.Fatalf("the draft has no %s", a)
		}
		d, err := repo.OpenDraft(bytes.ReplaceAll(data, []byte(a), []byte(b)))
		noErr(t, err)
		return d
	}
	root1 := w.Root()
	for name, tt := range map[string]struct {
		d             *repo.Draft
		diff, publish error
	}{
		"another tip":         {other(root1.SHA256(), strings.Repeat("0", 64)), tuf.ErrMismatch, tuf.ErrThreshold},
		"another root's keys": {other(`"version": 2`, `"version": 3`), repo.ErrStale, tuf.ErrThreshold},
		"another reason":      {other("vendor is gone", "vendor is back"), nil, tuf.ErrThreshold},
	} {
		if _, err := r.Diff(t.Context(), tt.d); !errors.Is(err, tt.diff) {
			t.Errorf("%s: diff: %v", name, err)
		}
		w.Refused(tt.publish, func() error { return r.Publish(t.Context(), tt.d) })
	}
	late := draft()
	w.Now = w.Now.AddDate(1, 0, 1)
	w.Refused(tuf.ErrExpired, func() error { return r.Publish(t.Context(), late) })
	w.Now = w.Now.AddDate(-1, 0, -1)

	// A regular root was published first.
	d := draft()
	w.Update(announce)
	w.Refused(repo.ErrStale, func() error { return r.Publish(t.Context(), d) })
	if _, err := r.StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "x", After: 1}, w.lost); !errors.Is(err, repo.ErrStale) {
		t.Error(err)
	}

	// A repository without a recovery rule can't be recovered.
	plain := newWorld(t)
	_, err := plain.Open().StageRecovery(t.Context(), why, plain.lost)
	if !errors.Is(err, tuf.ErrCharter) {
		t.Error(err)
	}
	_, err = emptyWorld(t).Open().StageRecovery(t.Context(), why, plain.lost)
	if err == nil {
		t.Error("recovered an empty repository")
	}
}

// The process is killed before or after each write. Clients of the old root see its
// content or find the recovery, and publishing the same draft again completes it.
func TestRecoveryKilled(t *testing.T) {
	t.Parallel()
	start := recoverable(t)
	r := start.afterLoss()
	d, err := r.StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "the vendor is gone"}, start.lost)
	noErr(t, err)
	start.signs(d, "bank-2", "university")
	for n, more := 1, true; more; n++ {
		for _, after := range []bool{false, true} {
			w := start.Copy()
			killed := w.Store.Kill(n, after)
			err := w.afterLoss().Publish(t.Context(), d)
			if !killed() {
				noErr(t, err)
				more = false
				break
			}
			if !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			w.Store.Before, w.Store.After = nil, nil
			chain, err := w.afterLoss().Chain(t.Context())
			noErr(t, err)
			if done := w.Product().State() != "root 1 agent/1"; done != (len(chain) == 2) {
				t.Fatalf("killed at %d: %d roots, a client sees %q", n, len(chain), w.Product().State())
			}
			if err := w.afterLoss().Publish(t.Context(), d); err != nil && len(chain) == 1 {
				t.Fatalf("killed at %d: %v", n, err)
			}
			if got := w.Product().Waits().State(); got != "root 2 agent/1" {
				t.Fatalf("killed at %d: a client that has waited sees %q", n, got)
			}
			w.Intact()
		}
	}
}

// An attacker with the recovery keys overwrites the repository with a recovery and
// with content of their own. The owners restore it from a mirror and publish a regular
// root, which cancels the recovery.
func TestRecoveryVetoed(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	copied := w.Store.Copy()
	w.recover()
	w.Refused(repo.ErrUnsigned, func() error {
		return w.Open(append(vendorKeys, reviewKeys...)...).Update(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	})
	pin, err := repo.New(copied, &repo.Config{UnsafeTrustStorage: true}).Pin(t.Context())
	noErr(t, err)
	noErr(t, mirror.Clone(t.Context(), w.Storage(), storage.SourceOf(copied), pin, options(w.Config())))
	w.Sees("root 1 agent/1")
	// The owners' own machine and a watcher elsewhere report it.
	for own, says := range map[*memory]string{w.Store: "\nrecovery from", copied: "\ncopy 1: recovery from"} {
		report, err := mirror.Verify(t.Context(), own, pin, options(w.Config()), mirror.Mirror{Source: storage.SourceOf(w.Store)})
		if noErr(t, err); !strings.Contains(report.String(), says+" root v1, statement v3 until 2027-11-20T12:00:00Z, not in use yet") {
			t.Error(report)
		}
	}
	w.Refused(signing.ErrRootBehind, func() error { return w.Try(announce) })
	lost := w.LastRecovered()
	w.Update(func(tx *repo.Tx) error { tx.Supersede(lost); return announce(tx) })
	w.Sees("root 2 agent/1")
	if chain, err := w.Open().Chain(t.Context()); err != nil || len(chain) != 2 || chain[1].Charter().Epoch() != 0 {
		t.Fatalf("%d roots, %v", len(chain), err)
	}
	// The files that the attacker left are not part of the repository.
	for _, found := range w.Verify() {
		if !strings.HasPrefix(found, "orphan ") && !strings.HasPrefix(found, "unknown ") {
			t.Error(found)
		}
	}
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("2")(tx), approve("2")(tx)) })
	w.Sees("root 2 agent/1 agent/2")
}

// A mistaken recovery is replaced by one with a higher counter, as long as no root has
// followed it.
func TestRecoveryReplaced(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	w.recover()
	r := w.afterLoss()
	right := func(tx *repo.Tx) error {
		tx.Root().Parties[0].Keys = w.Public("successor-1", "successor-3")
		r := tx.Root()
		r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = w.Public("successor-timestamp"), w.Public("successor-snapshot"), w.Public("successor-targets")
		r.Classes[0].Roles[0].Keys.Keys = w.Public("successor-release")
		return nil
	}
	d, err := r.StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "a key was the wrong one", After: 1}, right)
	noErr(t, err)
	w.signs(d, "bank-1", "university")
	if _, err := r.Diff(t.Context(), d); err != nil {
		t.Error(err)
	}
	noErr(t, r.Publish(t.Context(), d))
	chain, err := r.Chain(t.Context())
	noErr(t, err)
	if len(chain) != 2 || chain[1].Keys([]string{w.Signer("successor-3").Key().ID()}) == nil {
		t.Fatalf("%d roots", len(chain))
	}
	if got := w.Product().Waits().State(); got != "root 2 agent/1" {
		t.Errorf("a client that has waited sees %q", got)
	}
	if !bytes.Contains(w.Store.Files[statement1], []byte(`"version":4`)) {
		t.Errorf("%s", w.Store.Files[statement1])
	}
	// Two replacements are published at the same time: the second one gets a conflict.
	late, err := r.StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "again", After: 1}, w.lost)
	noErr(t, err)
	w.signs(late, "bank-1", "university")
	again, err := r.StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "and again", After: 1}, w.lost)
	noErr(t, err)
	w.signs(again, "bank-1", "university")
	noErr(t, r.Publish(t.Context(), again))
	w.Refused(repo.ErrStale, func() error { return r.Publish(t.Context(), late) })
	// Once a regular root has followed, replacement is no longer possible.
	noErr(t, r.Update(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return nil }))
	if _, err := r.StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "x", After: 1}, w.lost); !errors.Is(err, repo.ErrStale) {
		t.Error(err)
	}
	w.Intact()
}

// A statement expires. Another statement for the same root leads clients on that were
// offline.
func TestRecoveryRenewed(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	w.recover()
	r := w.afterLoss()
	noErr(t, r.Update(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return nil }))
	root := bytes.Clone(w.Store.Files[recovered2])
	w.Now = w.Now.AddDate(0, 11, 0)
	noErr(t, r.Update(t.Context(), func(tx *repo.Tx) error {
		tx.RenewRoot()
		return errors.Join(tx.Renew("vendor"), tx.Renew("review"))
	}))
	for range 2 {
		w.Store.Wrote()
		d, err := r.RenewRecovery(t.Context(), repo.RecoveryOptions{Reason: "for those who sleep"})
		noErr(t, err)
		w.signs(d, "bank-1", "university")
		if said, err := r.Diff(t.Context(), d); err != nil || !strings.Contains(fmt.Sprint(said), "for those who sleep") {
			t.Error(said, err)
		}
		noErr(t, r.Publish(t.Context(), d))
		if wrote := w.Store.Wrote(); !slices.Equal(wrote, []string{statement1}) {
			t.Errorf("wrote %q", wrote)
		}
		w.Now = w.Now.AddDate(0, 11, 0)
	}
	if !bytes.Equal(root, w.Store.Files[recovered2]) {
		t.Error("the root has changed")
	}
	noErr(t, r.Update(t.Context(), func(tx *repo.Tx) error {
		tx.RenewRoot()
		return errors.Join(tx.Renew("vendor"), tx.Renew("review"))
	}))
	if got := w.Product().Waits().State(); got != "root 5 agent/1" {
		t.Errorf("the client sees %q", got)
	}
}
