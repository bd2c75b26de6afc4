package repo_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// heldWorld is a world whose class has a hold role and whose review role requires two
// of three reviewers.
func heldWorld(t *testing.T) *world {
	t.Helper()
	w := emptyWorld(t)
	w.Update(func(tx *repo.Tx) error {
		err := w.Define(tx)
		c := &tx.Root().Classes[0]
		c.Roles[1].Keys = repo.Keys{Keys: w.Public("ann", "ben", "cleo"), Threshold: 2}
		c.Hold = &repo.Hold{Role: "hold-agent", Keys: repo.Keys{Keys: w.Public("ann", "ben", "cleo")}, Max: 7 * 24 * time.Hour}
		return err
	})
	return w
}

// centre is the review centre on its own machine. It has its own directory and only
// its own keys.
func (w *world) centre(dir string, keys ...string) *repo.Repo {
	cfg := w.Config()
	for _, k := range keys {
		cfg.Signers = append(cfg.Signers, w.Signer(k))
	}
	return repo.New(repo.Folder(dir), cfg)
}

// bring copies the published files of the vendor to the centre's directory.
func (w *world) bring(dir string) {
	w.T.Helper()
	for name, data := range w.Store.Copy().Files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		noErr(w.T, os.MkdirAll(filepath.Dir(path), 0o755))
		noErr(w.T, os.WriteFile(path, data, 0o644))
	}
}

func examined() *repo.ReviewRecord {
	return &repo.ReviewRecord{Reviewer: "Ann", Result: attestation.Identical, Builder: "https://builder.example/1", Policy: strings.Repeat("ab", 32), Valid: 30 * 24 * time.Hour}
}

var vendorOnly = []string{"vendor-1", "vendor-release", "targets", "timestamp", "snapshot"}

// The vendor hands a draft over in a directory before publishing anything. The centre
// examines it there, two reviewers sign, and the vendor publishes. The result is one
// release with a statement that any party can verify.
func TestCentreExaminesADraft(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(add("1.0")(tx), tx.Approve("review", "agent/1.0", nil))
	})
	vendor, dir := w.Open(vendorOnly...), t.TempDir()
	rel := release("1.1")
	rel.Source, rel.Critical = tuf.SourceRef{URI: "git+https://src.example.org/agent", Revision: "abc"}, true
	draft, err := vendor.Stage(t.Context(), func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/1.1", strings.NewReader("agent eleven"), rel)
	})
	noErr(t, err)
	noErr(t, vendor.Export(t.Context(), draft, dir))
	w.Sees("root 1 agent/1.0")

	ann := w.centre(dir, "ann")
	draft, err = repo.LoadDraft(dir)
	noErr(t, err)
	if waiting, err := ann.Pending(t.Context(), "review"); err != nil || len(waiting) != 0 {
		t.Errorf("without the draft: %v, %v", waiting, err)
	}
	waiting, err := ann.PendingIn(t.Context(), "review", draft)
	noErr(t, err)
	if len(waiting) != 1 {
		t.Fatalf("%+v", waiting)
	}
	p := waiting[0]
	if p.Path != "agent/1.1" || p.Release.Version != "1.1" || p.Previous == nil || p.Previous.Path != "agent/1.0" || !slices.Equal(p.ListedBy, []string{"vendor-agent"}) || p.Refused != nil {
		t.Errorf("%+v", p)
	}
	if want := []string{"length 12, was 9", `version "1.1", was "1.0"`, `source "git+https://src.example.org/agent", was ""`, `revision "abc", was ""`, "critical true, was false"}; !slices.Equal(p.Changes, want) {
		t.Errorf("%q", p.Changes)
	}
	f, err := ann.OpenPending(t.Context(), p)
	noErr(t, err)
	if data, err := io.ReadAll(f); err != nil || string(data) != "agent eleven" {
		t.Errorf("%q, %v", data, err)
	}
	f.Close()

	signed, err := ann.StageOn(t.Context(), draft, func(tx *repo.Tx) error { return tx.Approve("review", p.Path, examined()) })
	noErr(t, err)
	if !slices.ContainsFunc(signed.Missing(), func(m repo.Missing) bool {
		return strings.Contains(m.Role, ".reviews/review-agent.1.json") && m.Have == 1
	}) {
		t.Errorf("%v", signed.Missing())
	}
	signed = travel(t, signed)
	changes, err := w.centre(dir, "ben").Diff(t.Context(), signed)
	noErr(t, err)
	if last := changes[len(changes)-1]; last.What != "review" || !strings.Contains(last.New, "predicate.source.revision abc") || !strings.Contains(last.New, "predicate.rebuild.result identical") {
		t.Errorf("Ben's signature is not shown: %s", last)
	}
	if err := vendor.Publish(t.Context(), signed); !errors.Is(err, repo.ErrUnsigned) {
		t.Fatal("published with one reviewer of two:", err)
	}
	// Ben and Cleo sign separate copies; the vendor needs one of them.
	ben, cleo := travel(t, signed), travel(t, signed)
	noErr(t, ben.Sign(t.Context(), w.Signer("ben")))
	noErr(t, cleo.Sign(t.Context(), w.Signer("cleo")))
	noErr(t, ben.Merge(cleo))
	noErr(t, vendor.Publish(t.Context(), ben))
	w.Sees("root 1 agent/1.0 agent/1.1")

	// The statement can be found from the information that a client has.
	c := w.Product()
	snap, err := c.Refresh()
	noErr(t, err)
	a, err := snap.Approve("agent/1.1", c.Get)
	noErr(t, err)
	data, err := c.Read("targets/" + attestation.Name(attestation.SubjectOf(a), "review-agent", 1))
	noErr(t, err)
	v, err := attestation.Open(data, c.Root, "review", a, w.Now)
	noErr(t, err)
	said := v.Value()
	if said.Source != rel.Source || said.Result != attestation.Identical || said.Reviewer != (attestation.Reviewer{Party: "review", Role: "review-agent", Name: "Ann"}) ||
		!said.From.Equal(w.Now) || !said.Until.Equal(w.Now.Add(30*24*time.Hour)) || len(v.KeyIDs()) != 3 {
		t.Errorf("%+v, %v", said, v.KeyIDs())
	}
	all, err := repo.New(w.Store, w.Config()).Statements(t.Context(), "agent/1.1") // without a key
	if err != nil || len(all) != 1 || *all[0].Review != said || all[0].Number != 1 || all[0].Role != "review-agent" {
		t.Errorf("%+v, %v", all, err)
	}
	// The statement expires, and a later one takes the next number.
	w.Now = w.Now.Add(29 * 24 * time.Hour)
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Renew("review"), tx.Renew("vendor"), tx.RenewTargets(), tx.Approve("review", "agent/1.1", &repo.ReviewRecord{}))
	})
	w.Now = w.Now.Add(2 * 24 * time.Hour)
	all, err = w.Open().Statements(t.Context(), "agent/1.1")
	if err != nil || len(all) != 2 || !errors.Is(all[0].Err, tuf.ErrExpired) || all[1].Err != nil || all[1].Review.Result != attestation.NotDone || all[1].Review.Source != rel.Source {
		t.Errorf("%+v, %v", all, err)
	}
}

// Bytes that differ from what the vendor lists are detected while they are read.
func TestCentreReadsOtherBytes(t *testing.T) {
	w := newWorld(t)
	w.Update(add("1"))
	dir := t.TempDir()
	w.bring(dir)
	centre := w.centre(dir)
	waiting, err := centre.Pending(t.Context(), "review")
	noErr(t, err)
	path := filepath.Join(dir, filepath.FromSlash(waiting[0].Name))
	for _, other := range []string{"agent 2", "agent", "agent 1 and more", ""} {
		noErr(t, os.WriteFile(path, []byte(other), 0o644))
		f, err := centre.OpenPending(t.Context(), waiting[0])
		noErr(t, err)
		_, err = io.ReadAll(f)
		wantErr(t, err, tuf.ErrMismatch)
		f.Close()
	}
	noErr(t, os.Remove(path))
	_, err = centre.OpenPending(t.Context(), waiting[0])
	wantErr(t, err, os.ErrNotExist)
}

// A refusal is a signed record. The vendor reads it in the draft and decides whether
// to publish it. It does not apply to other bytes.
func TestCentreRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	dir := t.TempDir()
	w.bring(dir)
	centre := w.centre(dir, "review-release")
	draft, err := centre.Stage(t.Context(), func(tx *repo.Tx) error {
		return tx.Refuse("review", "agent/1", repo.RefusalRecord{Reason: "it phones home", Reviewer: "Ann"})
	})
	noErr(t, err)
	if draft.Empty() || len(draft.Missing()) != 0 || draft.String() != "refusal of agent/1" {
		t.Fatalf("%s, %v", draft, draft.Missing())
	}
	draft = travel(t, draft)
	vendor := w.Open("vendor-release")
	said, err := vendor.StatementsIn(t.Context(), draft)
	if err != nil || len(said) != 1 || said[0].Refusal == nil || said[0].Refusal.Reason != "it phones home" || said[0].Refusal.Path != "agent/1" || said[0].Role != "review-agent" {
		t.Fatalf("%+v, %v", said, err)
	}
	w.Store.Wrote()
	noErr(t, vendor.Publish(t.Context(), draft)) // needs no online key: no metadata changes
	noErr(t, vendor.Publish(t.Context(), draft)) // a repetition writes nothing
	if wrote := w.Store.Wrote(); len(wrote) == 0 || !strings.HasSuffix(wrote[0], ".1.reviews/review-agent.1.json") {
		t.Errorf("%q", wrote)
	}
	w.Sees("root 1")
	waiting, err := w.Open().Pending(t.Context(), "review")
	if err != nil || len(waiting) != 1 || waiting[0].Refused == nil || waiting[0].Refused.Reason != "it phones home" {
		t.Fatalf("%+v, %v", waiting, err)
	}

	// Other bytes under the same path are not marked as refused.
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Remove("vendor", "agent/1"), tx.Add("vendor", "agent/1", strings.NewReader("agent one, at home"), release("1")))
	})
	waiting, err = w.Open().Pending(t.Context(), "review")
	if err != nil || len(waiting) != 1 || waiting[0].Refused != nil {
		t.Fatalf("%+v, %v", waiting, err)
	}
	w.Update(func(tx *repo.Tx) error { return tx.Approve("review", "agent/1", examined()) })
	w.Sees("root 1 agent/1")
	w.Refused(os.ErrInvalid, func() error {
		return w.Try(func(tx *repo.Tx) error { return tx.Refuse("review", "agent/1", repo.RefusalRecord{Reason: "too late"}) })
	})

	// The reviewer later approves bytes that were refused: the latest statement counts.
	w.Update(func(tx *repo.Tx) error { return add("2")(tx) })
	w.Update(func(tx *repo.Tx) error {
		return tx.Refuse("review", "agent/2", repo.RefusalRecord{Reason: "no source"})
	})
	w.Refused(signing.ErrTakenBack, func() error {
		return w.Try(func(tx *repo.Tx) error { return tx.Approve("review", "agent/2", examined()) })
	})
	again := *examined()
	again.Reinstate = "the source has come"
	w.Update(func(tx *repo.Tx) error { return tx.Approve("review", "agent/2", &again) })
	all, err := w.Open().Statements(t.Context(), "agent/2")
	if err != nil || len(all) != 2 || all[0].Refusal == nil || all[1].Review == nil {
		t.Errorf("%+v, %v", all, err)
	}
	for _, bad := range []func(tx *repo.Tx) error{
		func(tx *repo.Tx) error { return tx.Refuse("review", "agent/none", repo.RefusalRecord{Reason: "x"}) },
		func(tx *repo.Tx) error { return tx.Refuse("review", "elsewhere/x", repo.RefusalRecord{Reason: "x"}) },
	} {
		w.Refused(tuf.ErrNoTarget, func() error { return w.Try(bad) })
	}
	w.Update(add("3"))
	w.Refused(tuf.ErrMalformed, func() error {
		return w.Try(func(tx *repo.Tx) error { return tx.Refuse("review", "agent/3", repo.RefusalRecord{}) })
	})
	for _, bad := range []repo.ReviewRecord{{Result: "perhaps"}, {Result: attestation.Identical}, {Builder: "https://x"}, {Policy: "x"}, {Valid: -time.Second}} {
		if err := w.Try(func(tx *repo.Tx) error { return tx.Approve("review", "agent/3", &bad) }); err == nil {
			t.Errorf("%+v: approved", bad)
		}
	}
	w.Sees("root 1 agent/1 agent/2")
}

// A release that was refused, removed by the vendor and offered again is shown to the
// centre with its earlier refusal.
func TestCentreIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(func(tx *repo.Tx) error {
		return tx.Refuse("review", "agent/1", repo.RefusalRecord{Reason: "no source"})
	})
	w.Update(func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/1") })
	dir := t.TempDir()
	draft, err := w.Open(vendorOnly...).Stage(t.Context(), add("1"))
	noErr(t, err)
	noErr(t, w.Open(vendorOnly...).Export(t.Context(), draft, dir))
	draft, err = repo.LoadDraft(dir)
	noErr(t, err)
	centre := w.centre(dir, "review-release")
	waiting, err := centre.PendingIn(t.Context(), "review", draft)
	if err != nil || len(waiting) != 1 || waiting[0].Refused == nil || waiting[0].Refused.Reason != "no source" {
		t.Fatalf("%+v, %v", waiting, err)
	}
	again := *examined()
	again.Reinstate = "the source has come"
	draft, err = centre.StageOn(t.Context(), draft, func(tx *repo.Tx) error { return tx.Approve("review", "agent/1", &again) })
	noErr(t, err)
	noErr(t, w.Open(vendorOnly...).Publish(t.Context(), travel(t, draft)))
	w.Sees("root 1 agent/1")
	all, err := w.Open().Statements(t.Context(), "agent/1")
	if err != nil || len(all) != 2 || all[1].Review == nil || all[1].Number != 2 {
		t.Errorf("%+v, %v", all, err)
	}
}

// A single reviewer can stop new installs at once, for a limited time.
func TestCentreHolds(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(add("1")(tx), add("2")(tx), tx.Approve("review", "agent/1", nil), tx.Approve("review", "agent/2", nil))
	})
	dir := t.TempDir()
	w.bring(dir)
	hold := func(target, reason string, until time.Duration) error {
		draft, err := w.centre(dir, "cleo").Stage(w.T.Context(), func(tx *repo.Tx) error { return tx.Hold(target, reason, w.Now.Add(until)) })
		if err != nil {
			return err
		}
		return w.Open("timestamp", "snapshot").Publish(w.T.Context(), travel(t, draft))
	}
	day := 24 * time.Hour
	for _, x := range []struct {
		target, reason string
		until          time.Duration
		want           error
	}{
		{"agent/1", "", day, os.ErrInvalid},
		{"agent/1", "x", 0, os.ErrInvalid},
		{"agent/1", "x", -day, os.ErrInvalid},
		{"agent/1", "x", 7*day + time.Second, os.ErrInvalid},
		{"agent/none", "x", day, tuf.ErrNoTarget},
		{"elsewhere/x", "x", day, tuf.ErrNoTarget},
	} {
		w.Refused(x.want, func() error { return hold(x.target, x.reason, x.until) })
	}
	noErr(t, hold("agent/2", "it crashes", 2*day))
	w.Sees("root 1 agent/1")
	c := w.Product()
	snap, err := c.Refresh()
	noErr(t, err)
	if _, err := snap.Approve("agent/2", c.Get); !errors.Is(err, tuf.ErrHeld) || !strings.Contains(err.Error(), "it crashes") {
		t.Error(err)
	}
	w.bring(dir)
	noErr(t, hold("agent/1", "that one too", 7*day))
	w.Sees("root 1")
	w.Now = w.Now.Add(2 * day)
	noErr(t, w.Open("timestamp", "snapshot").Renew(t.Context()))
	w.Sees("root 1 agent/2") // the hold expired
	w.bring(dir)
	noErr(t, hold("agent/2", "again", day))
	w.bring(dir)
	w.Update(func(tx *repo.Tx) error { return tx.Unhold("agent/1") })
	w.Sees("root 1 agent/1")
	w.Refused(tuf.ErrNoTarget, func() error { return w.Try(func(tx *repo.Tx) error { return tx.Unhold("agent/1") }) })
	w.Update(func(tx *repo.Tx) error { return tx.Hold("agent/1", "a", w.Now.Add(time.Hour)) })
	w.Now = w.Now.Add(2 * time.Hour)
	w.Update(func(tx *repo.Tx) error { return tx.Hold("agent/2", "b", w.Now.Add(time.Hour)) })
	w.Refused(tuf.ErrNoTarget, func() error { return w.Try(func(tx *repo.Tx) error { return tx.Unhold("agent/1") }) }) // the hold was removed earlier

	plain := newWorld(t)
	plain.Update(add("1"))
	plain.Refused(os.ErrInvalid, func() error {
		return plain.Try(func(tx *repo.Tx) error { return tx.Hold("agent/1", "x", plain.Now.Add(day)) })
	})
}

// A recall revokes the approval and informs the users of the release.
func TestCentreRecalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(add("1")(tx), add("2")(tx), tx.Approve("review", "agent/1", nil), tx.Approve("review", "agent/2", nil))
	})
	dir := t.TempDir()
	w.bring(dir)
	draft, err := w.centre(dir, "review-release").Stage(t.Context(), func(tx *repo.Tx) error {
		return tx.Recall("review", "agent/2", repo.RecallRecord{Reason: `it "leaks"`})
	})
	noErr(t, err)
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), travel(t, draft)))
	w.Sees("root 1 agent/1")
	recalls := func() []tuf.Recall {
		c := w.Product()
		snap, err := c.Refresh()
		noErr(t, err)
		list, err := snap.Recalls(c.Get)
		noErr(t, err)
		return list
	}
	list := recalls()
	if len(list) != 1 || list[0].Path != "agent/2" || list[0].Reason != `it "leaks"` || list[0].Party != "review" || !list[0].At.Equal(w.Now) || len(list[0].SHA256) != 64 {
		t.Fatalf("%+v", list)
	}
	waiting, err := w.Open().Pending(t.Context(), "review")
	if err != nil || len(waiting) != 1 {
		t.Errorf("%v, %v", waiting, err)
	}
	// Bytes that are no longer listed are recalled by their hash; repeating the recall
	// adds no entry.
	sum := strings.Repeat("ab", 32)
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Recall("review", "agent/0.9", repo.RecallRecord{SHA256: sum, Reason: "old"}), tx.Recall("review", "agent/0.9", repo.RecallRecord{SHA256: sum, Reason: "older"}))
	})
	if list = recalls(); len(list) != 2 || list[0].Path != "agent/0.9" || list[0].Reason != "older" {
		t.Errorf("%+v", list)
	}
	w.Sees("root 1 agent/1")
	// Bytes are recalled that are no longer the listed ones: the listed ones stay.
	w.Update(func(tx *repo.Tx) error {
		return tx.Recall("review", "agent/1", repo.RecallRecord{SHA256: sum, Reason: "an earlier one"})
	})
	w.Sees("root 1 agent/1")
	// After a new approval the same bytes are no longer recalled.
	w.Refused(signing.ErrTakenBack, func() error {
		return w.Try(func(tx *repo.Tx) error { return tx.Approve("review", "agent/2", nil) })
	})
	w.Update(func(tx *repo.Tx) error {
		return tx.Approve("review", "agent/2", &repo.ReviewRecord{Reinstate: "it does not leak"})
	})
	w.Sees("root 1 agent/1 agent/2")
	if list = recalls(); len(list) != 2 || list[1].Path != "agent/1" {
		t.Errorf("%+v", list)
	}
	for _, x := range []struct {
		target, sum, reason string
		want                error
	}{
		{"agent/none", "", "x", tuf.ErrNoTarget},
		{"elsewhere/x", sum, "x", tuf.ErrNoTarget},
		{"agent/1", "", "", os.ErrInvalid},
		{"agent/1", "xyz", "x", os.ErrInvalid},
	} {
		w.Refused(x.want, func() error {
			return w.Try(func(tx *repo.Tx) error {
				return tx.Recall("review", x.target, repo.RecallRecord{SHA256: x.sum, Reason: x.reason})
			})
		})
	}
}

// The centre's roles expire in 30 days. The centre signs them again without the
// vendor, and the vendor, which has the online keys, publishes them.
func TestCentreRenews(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), tx.Approve("review", "agent/1", nil)) })
	w.Now = w.Now.Add(20 * 24 * time.Hour)
	dir := t.TempDir()
	w.bring(dir)
	draft, err := w.centre(dir, "ann", "ben").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("review") })
	noErr(t, err)
	if len(draft.Missing()) != 0 || draft.String() != "hold-agent v2, review-agent v3" {
		t.Fatalf("%s, %v", draft, draft.Missing())
	}
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), travel(t, draft)))
	w.Now = w.Now.Add(9 * 24 * time.Hour)
	w.Update(func(tx *repo.Tx) error { return tx.Renew("vendor") }) // only the vendor's keys are needed
	w.Now = w.Now.Add(7 * 24 * time.Hour)
	noErr(t, w.Open("timestamp", "snapshot").Renew(t.Context()))
	w.Sees("root 1 agent/1")
}

// A reviewer decides on metadata that was signed with the vendor's keys and that
// follows what is published.
func TestDraftsThatCannotBeExamined(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stage := func(keys []string, fn func(*repo.Tx) error) *repo.Draft {
		d, err := w.Open(keys...).Stage(t.Context(), fn)
		noErr(t, err)
		return d
	}
	fine := stage(vendorOnly, add("1"))
	evil := w.Signer("attacker")
	for name, x := range map[string]struct {
		draft *repo.Draft
		want  error
	}{
		"unsigned":     {stage([]string{"vendor-1"}, add("1")), repo.ErrUnsigned},
		"a new root":   {stage(vendorOnly, func(tx *repo.Tx) error { tx.RenewRoot(); return nil }), errors.ErrUnsupported},
		"forged":       {swapKey(t, stage(vendorOnly, add("1")), w.Signer("vendor-release").Key(), evil), repo.ErrUnsigned},
		"unknown role": {rename(t, fine, "vendor-agent", "vendor-other"), tuf.ErrUntrusted},
	} {
		if _, err := w.Open("review-release").PendingIn(t.Context(), "review", x.draft); !errors.Is(err, x.want) {
			t.Errorf("%s: Pending: %v", name, err)
		}
		if _, err := w.Open("review-release").StageOn(t.Context(), x.draft, func(tx *repo.Tx) error { return tx.Approve("review", "agent/1", nil) }); !errors.Is(err, x.want) {
			t.Errorf("%s: StageOn: %v", name, err)
		}
	}
	// A draft's own claim of a role's delegation is ignored.
	fine = rename(t, fine, `"needs"`, `"under":["x","vendor-agent"],"needs"`)
	both, err := w.Open("review-release").StageOn(t.Context(), fine, func(tx *repo.Tx) error { return tx.Approve("review", "agent/1", nil) })
	noErr(t, err)
	if len(fine.Missing()) != 0 || fine.String() != "vendor-agent v2" {
		t.Errorf("the draft was changed: %s", fine)
	}
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), both))
	w.Sees("root 1 agent/1")
	_, err = w.Open().PendingIn(t.Context(), "review", fine)
	wantErr(t, err, repo.ErrPublished)
	_, err = repo.New(newMemory(), nil).Pending(t.Context(), "review")
	if err == nil {
		t.Error("an empty repository has pending releases")
	}
}

// rename edits a draft's text.
func rename(t *testing.T, d *repo.Draft, old, new string) *repo.Draft {
	t.Helper()
	data, err := d.Bytes()
	noErr(t, err)
	if !strings.Contains(string(data), old) {
		t.Fatalf("no %s", old)
	}
	out, err := d.Handle().OpenDraft([]byte(strings.ReplaceAll(string(data), old, new)))
	noErr(t, err)
	return out
}

// swapKey replaces an honest key in a draft with an attacker's key, and signs with
// that key.
func swapKey(t *testing.T, d *repo.Draft, honest tuf.Key, evil tuf.Signer) *repo.Draft {
	t.Helper()
	out := rename(t, rename(t, d, honest.Public, evil.Key().Public), honest.ID(), evil.Key().ID())
	noErr(t, out.ForceSign(t.Context(), evil))
	return out
}

// A statement is published only if it matches its draft: it has the right signatures,
// concerns the listed bytes, and has its own name.
func TestStatementsAreVerifiedAtPublishing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	stage := func() *repo.Draft {
		d, err := w.Open("review-release").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Approve("review", "agent/1", examined()) })
		noErr(t, err)
		return d
	}
	publish := func(d *repo.Draft) error { return w.Open("timestamp", "snapshot").Publish(t.Context(), d) }
	good := stage()
	data, err := good.Bytes()
	noErr(t, err)
	sum := func() string {
		list, err := w.Open().Pending(t.Context(), "review")
		noErr(t, err)
		return list[0].SHA256
	}()
	for name, x := range map[string]struct {
		old, new string
		want     error
	}{
		"a gap":  {`review-agent.1.json"`, `review-agent.2.json"`, os.ErrNotExist},
		"no hex": {`"signatures": {`, `"signatures": {"x": "xyz",`, nil},
	} {
		if !strings.Contains(string(data), x.old) {
			t.Fatalf("%s: no %s", name, x.old)
		}
		d, err := repo.OpenDraft([]byte(strings.ReplaceAll(string(data), x.old, x.new)))
		noErr(t, err)
		before := w.Store.Copy()
		err = publish(d)
		if x.want != nil {
			wantErr(t, err, x.want)
		}
		if err == nil || len(w.Store.Files) != len(before.Files) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, x := range map[string][2]string{
		"another name":   {`"name": "targets/agent/` + sum, `"name": "targets/other/` + sum},
		"metadata":       {`"name": "targets/agent/` + sum, `"name": "metadata/agent/` + sum},
		"unknown kind":   {"review/v1", "review/v2"},
		"unknown member": {`"kind":`, `"x": 1, "kind":`},
	} {
		if !strings.Contains(string(data), x[0]) {
			t.Fatalf("%s: no %s", name, x[0])
		}
		if _, err := repo.OpenDraft([]byte(strings.ReplaceAll(string(data), x[0], x[1]))); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	forged := swapKey(t, good, w.Signer("review-release").Key(), w.Signer("attacker"))
	wantErr(t, publish(forged), tuf.ErrThreshold)

	// The statement was signed too late.
	w.Now = w.Now.Add(31 * 24 * time.Hour)
	wantErr(t, publish(good), tuf.ErrExpired)
	w.Now = w.Now.Add(-31 * 24 * time.Hour)

	// Two reviewers publish at the same time: one gets a conflict and publishes again.
	other, err := w.Open("review-release").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Refuse("review", "agent/1", repo.RefusalRecord{Reason: "no"}) })
	noErr(t, err)
	noErr(t, publish(good))
	wantErr(t, publish(other), repo.ErrStale)
	w.Sees("root 1 agent/1")
}
