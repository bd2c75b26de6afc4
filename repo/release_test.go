package repo_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// of returns a release of a product for a channel and a platform.
func of(product, version, channel, platform string) *tuf.Release {
	return &tuf.Release{Product: product, Version: version, Channel: channel, Platform: platform}
}

// puts adds a file whose bytes are derived from its path.
func puts(path string, rel *tuf.Release) func(*repo.Tx) error {
	return func(tx *repo.Tx) error { return tx.Add("vendor", path, strings.NewReader("bytes of "+path), rel) }
}

// waiting returns the pending entry of the review party for a path.
func (w *world) waiting(path string) repo.Pending {
	w.T.Helper()
	list, err := w.Open().Pending(w.T.Context(), "review")
	noErr(w.T, err)
	for _, p := range list {
		if p.Path == path {
			return p
		}
	}
	w.T.Fatalf("%s does not wait for review", path)
	return repo.Pending{}
}

// numberOf is the sequence number of a release that is pending for the review party.
func (w *world) numberOf(path string) int64 {
	w.T.Helper()
	return w.waiting(path).Release.Sequence
}

// relist publishes a role that was edited by hand and signed with its key, as another
// tool does, or an attacker that has the key.
func (w *world) relist(role string, edit func(signed map[string]any)) {
	w.T.Helper()
	party, _, _ := strings.Cut(role, "-")
	d, err := w.Open("timestamp").Stage(w.T.Context(), func(tx *repo.Tx) error { return tx.Renew(party) })
	noErr(w.T, err)
	d = edited(w.T.(*testing.T), d, role, func(_, signed object) { edit(signed) })
	noErr(w.T, d.ForceSign(w.T.Context(), w.Signer(party+"-release")))
	w.force(d, role)
}

// A sequence number counts the versions of a product, across all channels and
// platforms. A number is never assigned twice, not even after a removal or a recall,
// nor by another machine that knows only the published metadata.
func TestSequence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gets := func(path string, rel *tuf.Release, want int64) {
		t.Helper()
		w.Update(puts(path, rel))
		if got := w.numberOf(path); got != want {
			t.Errorf("%s, version %s of %s, got number %d, want %d", path, rel.Version, rel.Product, got, want)
		}
	}
	gets("agent/1-linux", of("agent", "1.2", "stable", "linux/amd64"), 1)
	gets("agent/1-mac", of("agent", "v1.2.0", "stable", "darwin/arm64"), 1)
	gets("agent/1-beta", of("agent", "1.2.0+build.7", "beta", "linux/amd64"), 1)
	gets("agent/2", of("agent", "1.3", "beta", "any"), 2)
	gets("agent/other", of("other", "1.3", "beta", "any"), 1)
	gets("agent/late", of("agent", "1.2.1", "stable", "any"), 3) // a number is not a version
	given := of("agent", "1.4", "stable", "any")
	given.Sequence = 4
	gets("agent/given", given, 4)

	// The newest versions are removed, and others are added.
	w.Update(func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/given") })
	gets("agent/5", of("agent", "1.5", "stable", "any"), 5)
	w.Update(func(tx *repo.Tx) error {
		return tx.Recall("vendor", "agent/5", repo.RecallRecord{Reason: "it eats disks"})
	})
	gets("agent/6", of("agent", "1.6", "stable", "any"), 6)
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Remove("vendor", "agent/6"), puts("agent/7", of("agent", "1.7", "stable", "any"))(tx))
	})
	if got := w.numberOf("agent/7"); got != 7 {
		t.Errorf("removed and added in one draft: number %d, want 7", got)
	}
	w.Update(func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/7") })
	w.Now = w.Now.Add(8 * 24 * time.Hour)
	w.Update(func(tx *repo.Tx) error { return tx.Renew("vendor") })
	gets("agent/8", of("agent", "1.8", "stable", "any"), 8)
	gets("agent/8-mac", of("agent", "1.8", "stable", "darwin/arm64"), 8)

	// A path that is reused for another version keeps no field of the old one.
	gets("agent/newest", of("agent", "1.9", "edge", "any"), 9)
	gets("agent/newest", of("agent", "1.10", "edge", "any"), 10)
	w.Update(func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/newest") })
	gets("agent/11", of("agent", "1.9", "edge", "any"), 11)
}

// A number that the caller sets is accepted only if it equals the computed one.
func TestSequenceGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(puts("agent/1", of("agent", "1.0", "stable", "any")))
	for _, n := range []int64{1, 3, 1 << 52} {
		rel := of("agent", "2.0", "stable", "any")
		rel.Sequence = n
		w.Refused(signing.ErrSequence, func() error { return w.Try(puts("agent/2", rel)) })
	}
	same := of("agent", "1", "beta", "any") // the same version
	same.Sequence = 2
	w.Refused(signing.ErrSequence, func() error { return w.Try(puts("agent/1-beta", same)) })
	same.Sequence = 1
	w.Update(puts("agent/1-beta", same))
}

// Each party has its own counter: another party can't exhaust the numbers. A product
// in two classes has one counter.
func TestSequenceOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error {
		tx.Root().Classes = append(tx.Root().Classes, w.Class("rules"))
		return nil
	})
	w.Update(puts("agent/1", of("agent", "1", "stable", "any")))
	w.Update(puts("rules/2", of("agent", "2", "stable", "any")))
	if got := w.numberOf("rules/2"); got != 2 {
		t.Errorf("in the other class: number %d, want 2", got)
	}
	// The review centre's own list states that the last number is taken.
	w.relist("review-agent", func(doc map[string]any) { doc[layout.SequenceMember] = map[string]any{"agent": 1<<53 - 1} })
	w.Update(puts("agent/3", of("agent", "3", "stable", "any")))
	if got := w.numberOf("agent/3"); got != 3 {
		t.Errorf("after the centre's claim: number %d, want 3", got)
	}
	w.relist("vendor-rules", func(doc map[string]any) { doc[layout.SequenceMember] = map[string]any{"agent": 1<<53 - 1} })
	w.Refused(signing.ErrSequence, func() error { return w.Try(puts("agent/4", of("agent", "4", "stable", "any"))) })
	w.Update(puts("agent/3-mac", of("agent", "3", "stable", "darwin/arm64"))) // its number is already assigned
	w.relist("vendor-rules", func(doc map[string]any) { doc[layout.SequenceMember] = map[string]any{"agent": "many"} })
	w.Refused(tuf.ErrMalformed, func() error { return w.Try(puts("agent/4", of("agent", "4", "stable", "any"))) })
}

// Two drafts that were staged at the same time assign one number to two versions, in
// two lists. The second draft is not published; staged again, it gets the next number.
func TestSequenceGivenBeside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error {
		tx.Root().Classes = append(tx.Root().Classes, w.Class("rules"))
		return nil
	})
	w.Update(puts("agent/1", of("agent", "1", "stable", "any")))
	first, second := puts("agent/2", of("agent", "2", "stable", "any")), puts("rules/3", of("agent", "3", "stable", "any"))
	r := w.Open()
	one, err := r.Stage(t.Context(), first)
	noErr(t, err)
	two, err := r.Stage(t.Context(), second)
	noErr(t, err)
	noErr(t, r.Publish(t.Context(), one))
	err = r.Publish(t.Context(), two)
	if !errors.Is(err, signing.ErrSequence) || !errors.Is(err, repo.ErrStale) {
		t.Errorf("got %v", err)
	}
	w.Update(second)
	for path, want := range map[string]int64{"agent/1": 1, "agent/2": 2, "rules/3": 3} {
		if got := w.numberOf(path); got != want {
			t.Errorf("%s has number %d, want %d", path, got, want)
		}
	}
}

// Lists of earlier versions of visum have no highest number: there the highest listed
// number counts, even if that release is removed first.
func TestSequenceFromBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(puts("agent/1", of("agent", "1", "stable", "any")))
	w.relist("vendor-agent", func(doc map[string]any) {
		delete(doc, layout.SequenceMember)
		at(doc, "targets", "agent/1", "custom", "visum")["sequence"] = 41
	})
	removed := w.Copy()
	w.Update(puts("agent/2", of("agent", "2", "stable", "any")))
	if got := w.numberOf("agent/2"); got != 42 {
		t.Errorf("number %d, want 42", got)
	}
	removed.Update(func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/1") })
	removed.Update(puts("agent/2", of("agent", "2", "stable", "any")))
	if got := removed.numberOf("agent/2"); got != 42 {
		t.Errorf("after a removal: number %d, want 42", got)
	}
}

// A draft with a lower highest number than before is reported, and signers refuse it.
func TestSequenceNeverBack(t *testing.T) {
	t.Parallel()
	for name, lower := range map[string]any{"lower": map[string]any{"agent": 1}, "gone": map[string]any{}, "no member": nil} {
		w := newWorld(t)
		w.Update(puts("agent/1", of("agent", "1", "stable", "any")))
		w.Update(puts("agent/2", of("agent", "2", "stable", "any")))
		d, err := w.Open("vendor-1").Stage(t.Context(), puts("agent/3", of("agent", "3", "stable", "any")))
		noErr(t, err)
		back := w.received(edited(t, d, "vendor-agent", func(_, doc object) {
			if delete(doc, layout.SequenceMember); lower != nil {
				doc[layout.SequenceMember] = lower
			}
		}))
		wantErr(t, back.Sign(t.Context(), w.Signer("vendor-release")), signing.ErrSequence)
		if lines := w.lines(back); !strings.Contains(strings.Join(lines, "\n"), "REUSES sequence numbers") {
			t.Errorf("%s: the diff does not report it:\n%s", name, strings.Join(lines, "\n"))
		}
		noErr(t, d.Sign(t.Context(), w.Signer("vendor-release")))
		says(t, w.lines(d), "vendor-agent: highest sequence number of product agent 2 -> 3")
	}
}

// The number is stored in the list that has the release, so that a team that signs its
// own product needs no other signer. The number is kept when the product's delegation
// is removed.
func TestSequenceOfProduct(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(puts("agent/tool-1", of("tool", "1", "stable", "any")))
	w.Update(puts("agent/tool-2", of("tool", "2", "stable", "any")))
	w.Update(func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/tool-2") })
	w.Update(func(tx *repo.Tx) error {
		return tx.Delegate("vendor", "agent", repo.Product{Role: "tool", Paths: []string{"agent/tool-*"}, Keys: repo.Keys{Keys: w.Public("tool")}})
	})
	team, err := w.Open("tool").Stage(t.Context(), puts("agent/tool-3", of("tool", "3", "stable", "any")))
	noErr(t, err)
	if missing := team.Missing(); len(missing) > 0 {
		t.Fatal("the team signs its product alone:", missing)
	}
	noErr(t, w.Open().Publish(t.Context(), team))
	if got := w.numberOf("agent/tool-3"); got != 3 {
		t.Errorf("number %d, want 3", got)
	}
	w.Update(func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/tool-3") })
	w.Update(func(tx *repo.Tx) error { return tx.Undelegate("vendor", "agent", "tool") })
	w.Update(puts("agent/tool-4", of("tool", "4", "stable", "any")))
	if got := w.numberOf("agent/tool-4"); got != 4 {
		t.Errorf("after the product's end: number %d, want 4", got)
	}
}

// The vendor's automation assigns numbers only to releases that it may add.
func TestSequenceAutomation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(puts("agent/1", of("agent", "1", "stable", "any")))
	cfg := w.Config()
	cfg.Automation, cfg.SharedLedger = &signing.Automation{Renew: true, Releases: []string{"agent/"}}, true
	for _, name := range vendorKeys[2:] {
		cfg.Signers = append(cfg.Signers, w.Signer(name))
	}
	ci := repo.New(w.Store, cfg)
	noErr(t, ci.Update(t.Context(), puts("agent/2", of("agent", "2", "stable", "any"))))
	if got := w.numberOf("agent/2"); got != 2 {
		t.Errorf("number %d, want 2", got)
	}
	d, err := w.Open("vendor-1").Stage(t.Context(), puts("agent/3", of("agent", "3", "stable", "any")))
	noErr(t, err)
	for name, claim := range map[string]map[string]any{"too many": {"agent": 9}, "another product": {"agent": 3, "other": 1}} {
		data, err := edited(t, d, "vendor-agent", func(_, doc object) { doc[layout.SequenceMember] = claim }).Bytes()
		noErr(t, err)
		draft, err := ci.OpenDraft(data)
		noErr(t, err)
		if err := draft.Sign(t.Context(), w.Signer("vendor-release")); !errors.Is(err, signing.ErrNotAutomatic) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Clients that have a version installed never get other bytes of the same version:
// such bytes are refused, under the same path or another, unless the first ones are
// removed.
func TestOtherBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error {
		tx.Root().Classes = append(tx.Root().Classes, w.Class("rules"))
		return nil
	})
	w.Update(puts("agent/1", of("agent", "1.2", "stable", "linux/amd64")))
	other := func(path string, rel *tuf.Release) func(*repo.Tx) error {
		return func(tx *repo.Tx) error { return tx.Add("vendor", path, strings.NewReader("other bytes"), rel) }
	}
	for _, version := range []string{"1.2", "v1.2", "1.2.0", "1.2+build.2"} {
		for _, path := range []string{"agent/1", "agent/2", "rules/1"} {
			err := w.Refused(repo.ErrReleased, func() error { return w.Try(other(path, of("agent", version, "stable", "linux/amd64"))) })
			if !strings.Contains(err.Error(), "agent/1 with sha256") {
				t.Errorf("the error does not name the release: %v", err)
			}
		}
	}
	// Adding the same bytes again is not a change; other fields of them may change.
	w.Store.Wrote()
	w.Update(puts("agent/1", of("agent", "1.2", "stable", "linux/amd64")))
	if wrote := w.Store.Wrote(); len(wrote) > 0 && strings.HasPrefix(wrote[len(wrote)-1], "metadata/") {
		t.Errorf("the same again wrote %q", wrote)
	}
	noted := of("agent", "1.2", "stable", "linux/amd64")
	noted.Notes = "with notes"
	w.Update(puts("agent/1", noted))
	// Another channel, platform or product makes it another release.
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(other("agent/3", of("agent", "1.2", "beta", "linux/amd64"))(tx), other("agent/4", of("agent", "1.2", "stable", "any"))(tx),
			other("agent/5", of("tool", "1.2", "stable", "linux/amd64"))(tx))
	})
	// Within one draft the entries of the draft count.
	w.Refused(repo.ErrReleased, func() error {
		return w.Try(func(tx *repo.Tx) error {
			return errors.Join(puts("agent/6", of("agent", "6", "stable", "any"))(tx), other("agent/7", of("agent", "6", "stable", "any"))(tx))
		})
	})
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(puts("agent/6", of("agent", "6", "stable", "any"))(tx), tx.Remove("vendor", "agent/6"), other("agent/7", of("agent", "6", "stable", "any"))(tx))
	})
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Remove("vendor", "agent/1"), other("agent/2", of("agent", "1.2", "stable", "linux/amd64"))(tx))
	})
	w.Update(func(tx *repo.Tx) error {
		return tx.Recall("vendor", "agent/2", repo.RecallRecord{Reason: "wrong build"})
	})
	w.Update(puts("agent/8", of("agent", "1.2", "stable", "linux/amd64")))
}

// A release that clients would refuse is refused when it is added, before anything is
// stored; one that an earlier tool has listed is not approved.
func TestBadReleases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := func() *tuf.Release { return of("agent", "2.0", "stable", "linux/amd64") }
	for name, spoil := range map[string]func(r *tuf.Release){
		"rollout 150":        func(r *tuf.Release) { r.Rollout = &tuf.Rollout{Percent: 150} },
		"rollout below 0":    func(r *tuf.Release) { r.Rollout = &tuf.Rollout{Percent: -1} },
		"platform linux/":    func(r *tuf.Release) { r.Platform = "linux/" },
		"platform /amd64":    func(r *tuf.Release) { r.Platform = "/amd64" },
		"platform linux":     func(r *tuf.Release) { r.Platform = "linux" },
		"platform in three":  func(r *tuf.Release) { r.Platform = "linux/arm/7" },
		"channel with space": func(r *tuf.Release) { r.Channel = "stable " },
		"product with space": func(r *tuf.Release) { r.Product = " agent" },
		"no product":         func(r *tuf.Release) { r.Product = "" },
		"no channel":         func(r *tuf.Release) { r.Channel = "" },
		"no version":         func(r *tuf.Release) { r.Version = "" },
		"version of words":   func(r *tuf.Release) { r.Version = "newest" },
		"min_version":        func(r *tuf.Release) { r.MinVersion = ">=1.0" },
		"min_version banana": func(r *tuf.Release) { r.MinVersion = "banana" },
		"min_version 1.x":    func(r *tuf.Release) { r.MinVersion = "1.x" },
		"min_version above":  func(r *tuf.Release) { r.MinVersion = "2.1" },
	} {
		rel := good()
		spoil(rel)
		w.Store.Wrote()
		err := w.Refused(tuf.ErrRelease, func() error { return w.Try(puts("agent/2", rel)) })
		if wrote := w.Store.Wrote(); len(wrote) > 0 {
			t.Errorf("%s: refused (%v), and %q written", name, err, wrote)
		}
	}
	four := of("agent", "10.0.22000.5", "stable", "any")
	four.MinVersion = "10.0.19041.1"
	w.Update(puts("agent/four", four))

	w.Update(puts("agent/2", good()))
	w.relist("vendor-agent", func(doc map[string]any) {
		at(doc, "targets", "agent/2", "custom", "visum")["rollout"] = map[string]any{"percent": 150}
	})
	w.Refused(tuf.ErrRelease, func() error {
		return w.Try(func(tx *repo.Tx) error { return tx.Approve("review", "agent/2", nil) })
	})
	if p := w.waiting("agent/2"); !strings.Contains(strings.Join(p.Changes, "\n"), "rollout of 150 percent") {
		t.Errorf("Pending reports %q", p.Changes)
	}
	report, err := mirror.Verify(t.Context(), w.Storage(), w.Pin(), options(w.Config()))
	noErr(t, err)
	if report.Err() == nil || !strings.Contains(report.String(), "rollout of 150 percent") {
		t.Errorf("Verify: %s", report)
	}
	w.Update(puts("agent/2", good())) // corrected
	w.Update(func(tx *repo.Tx) error { return tx.Approve("review", "agent/2", nil) })
	if report, err = mirror.Verify(t.Context(), w.Storage(), w.Pin(), options(w.Config())); err != nil || report.Err() != nil {
		t.Errorf("Verify: %s, %v", report, err)
	}
}

// A draft from another machine with release fields that clients refuse is not signed.
func TestBadReleaseIsNotSigned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(puts("agent/1", of("agent", "1", "stable", "any")))
	w.relist("vendor-agent", func(doc map[string]any) { // listed earlier, by another tool
		at(doc, "targets", "agent/1", "custom", "visum")["platform"] = "linux/"
	})
	d, err := w.Open("vendor-1").Stage(t.Context(), puts("agent/2", of("agent", "2", "stable", "any")))
	noErr(t, err)
	for field, value := range map[string]any{"platform": "linux/", "version": "newest", "rollout": object{"percent": 150}, "min_version": "3"} {
		bad := w.received(edited(t, d, "vendor-agent", func(_, doc object) { at(doc, "targets", "agent/2", "custom", "visum")[field] = value }))
		if err := bad.Sign(t.Context(), w.Signer("vendor-release")); !errors.Is(err, tuf.ErrRelease) || !strings.Contains(err.Error(), "agent/2") {
			t.Errorf("%s: %v", field, err)
		}
	}
	noErr(t, d.Sign(t.Context(), w.Signer("vendor-release")))

	// An invalid version can still be recalled by its name.
	w.relist("vendor-agent", func(doc map[string]any) { at(doc, "targets", "agent/1", "custom", "visum")["version"] = "newest" })
	if p := w.waiting("agent/1"); p.Release.Version != "newest" || p.Previous != nil {
		t.Errorf("%+v", p.Release)
	}
	w.Update(func(tx *repo.Tx) error {
		return tx.RecallRelease("vendor", repo.ReleaseID{Product: "agent", Version: "newest"}, "no version")
	})
}

// Names that only some clients can fetch, and names that leave no room for a
// statement, are refused with the reason; all others are accepted.
func TestNamesOfTargets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := strings.Repeat("x", 182)
	for path, why := range map[string]string{
		"agent/100%": "'%'", "agent/a%20b": "'%'", "agent/c#": "'#'", "agent/x?y": "'?'", `agent/x\y`: `'\\'`, "agent/fold%er/x": "'%'",
		"agent/" + long + "x":                           "statement",
		"agent/" + strings.Repeat("f/", 8) + "deep":     "8 folders",
		"agent/" + strings.Repeat("long/", 190) + "x/y": "longer than 1024",
	} {
		for _, rel := range []*tuf.Release{nil, of("agent", "2", "stable", "any")} {
			err := w.Refused(fs.ErrInvalid, func() error { return w.Try(puts(path, rel)) })
			if !strings.Contains(err.Error(), why) {
				t.Errorf("%.40s: %v does not say %s", path, err, why)
			}
		}
	}
	product := func(folders int) func(*repo.Tx) error {
		return func(tx *repo.Tx) error {
			return tx.Delegate("vendor", "agent", repo.Product{Role: "deep", Paths: []string{"agent/" + strings.Repeat("d/", folders) + "*"}})
		}
	}
	w.Refused(fs.ErrInvalid, func() error { return w.Try(product(8)) })
	w.Update(product(7))
	for i, path := range []string{"agent/1.0.0+42.zip", "agent/a b", "agent/a&b=c,d;e'f(g)[h]{i}~!@$^`", "agent/ä", "agent/" + long, "agent/" + strings.Repeat("f/", 7) + "deep"} {
		rel := of("agent", fmt.Sprint(i), "stable", "any")
		w.Update(puts(path, rel))
		w.Update(func(tx *repo.Tx) error { return tx.Approve("review", path, nil) })
	}
	if report, err := mirror.Verify(t.Context(), w.Storage(), w.Pin(), options(w.Config())); err != nil || report.Err() != nil {
		t.Errorf("%s, %v", report, err)
	}
}
