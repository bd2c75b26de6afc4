package repo_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
)

const day = 24 * time.Hour

// status is the short form of the report that a handle with the keys gives.
func (w *world) status(at time.Time, keys ...string) (out []string) {
	w.T.Helper()
	s, err := w.Open(keys...).Status(w.T.Context(), at)
	noErr(w.T, err)
	for _, d := range s.Due {
		hand := ""
		if d.CanSign {
			hand = " available"
		}
		out = append(out, fmt.Sprintf("%s %s%s", d.Urgency, d.Role, hand))
	}
	slices.Sort(out)
	return out
}

// As time passes, the roles become due for renewal one after another.
func TestStatus(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	for _, x := range []struct {
		after time.Duration
		want  string
	}{
		{0, "fine review-agent, fine root, fine snapshot available, fine targets, fine timestamp available, fine vendor-agent"},
		{13 * time.Hour, "fine review-agent, fine root, fine snapshot available, fine targets, fine vendor-agent, soon timestamp available"},
		{19 * time.Hour, "fine review-agent, fine root, fine snapshot available, fine targets, fine vendor-agent, urgent timestamp available"},
		{4 * day, "expired timestamp available, fine review-agent, fine root, fine targets, fine vendor-agent, soon snapshot available"},
		{16 * day, "expired snapshot available, expired timestamp available, fine root, fine targets, soon review-agent, soon vendor-agent"},
		{280 * day, "expired review-agent, expired snapshot available, expired timestamp available, expired vendor-agent, soon root, soon targets"},
		{330 * day, "expired review-agent, expired snapshot available, expired timestamp available, expired vendor-agent, urgent root, urgent targets"},
	} {
		if got := strings.Join(w.status(w.Now.Add(x.after), "timestamp", "snapshot"), ", "); got != x.want {
			t.Errorf("after %s: %s\nwant %s", x.after, got, x.want)
		}
	}
	s, err := w.Open().Status(t.Context(), w.Now.Add(16*day))
	noErr(t, err)
	if s.Urgency() != repo.UrgencyExpired || s.Due[0].Role != "timestamp" {
		t.Errorf("%s", s)
	}
	for _, d := range s.Due {
		if !d.CanSign {
			t.Errorf("all keys are available: %s", d)
		}
		if want := map[string]string{"vendor-agent": "vendor", "review-agent": "review"}[d.Role]; d.Party != want {
			t.Errorf("%s is %q's", d.Role, d.Party)
		}
		if d.Role == "root" && (len(d.Needs) != 3 || d.Needs[2].Want != 3 || len(d.Needs[2].KeyIDs) != 4) {
			t.Errorf("root: %v", d.Needs)
		}
	}
	if _, err := emptyWorld(t).Open("timestamp").Status(t.Context(), w.Now); err == nil {
		t.Error("status of an empty repository")
	}
}

// Locations and holds change on a fixed date; a publication was interrupted.
func TestStatusDates(t *testing.T) {
	w := richWorld(t)
	w.Update(func(tx *repo.Tx) error {
		r := tx.Root()
		b := location("b", "mirror", 30)
		b.UseFrom, b.UseUntil = w.Now.Add(day), w.Now.Add(40*day)
		r.Locations = append(r.Locations, b)
		return nil
	})
	dates := func(at time.Time) (out []string) {
		s, err := w.Open().Status(t.Context(), at)
		noErr(t, err)
		for _, d := range s.Dates {
			out = append(out, d.What)
		}
		return out
	}
	if got := dates(w.Now); len(got) != 2 || got[0] != "location b (b.example.org) is preferred from this time on" || got[1] != "location b (b.example.org) is no longer used" {
		t.Errorf("%q", got)
	}
	if got := dates(w.Now.Add(2 * day)); len(got) != 1 {
		t.Errorf("%q", got)
	}
	if got := dates(w.Now.Add(50 * day)); len(got) != 0 {
		t.Errorf("%q", got)
	}
	w.Store.Before = func(name string) error {
		if name == "metadata/timestamp.json" {
			return errKilled
		}
		return nil
	}
	err := w.Try(func(tx *repo.Tx) error {
		tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = w.Public("timestamp-2"), w.Public("snapshot-2")
		return nil
	})
	if w.Store.Before = nil; !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	s, err := w.Open().Status(t.Context(), w.Now)
	if err != nil || !s.Unfinished || !strings.HasPrefix(s.String(), "urgent: ") {
		t.Errorf("%v, %v", s, err)
	}
}

// A month of daily jobs runs, each with its own keys: no role ever comes near its
// expiry, and no role is signed more often than necessary.
func TestRefreshKeepsAlive(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	jobs := map[string]int{}
	for range 60 {
		w.Now = w.Now.Add(day - time.Hour)
		w.Store.Wrote()
		noErr(t, w.Open("timestamp", "snapshot", "vendor-release").Renew(t.Context()))
		for _, name := range w.Store.Wrote() {
			_, role, _ := strings.Cut(name, ".")
			jobs[role]++
		}
		// The centre has no online keys: it stages a draft when its roles are due.
		s, err := w.Open(reviewKeys...).Status(t.Context(), w.Now)
		noErr(t, err)
		for _, d := range s.Due {
			if d.Party == "review" && d.Urgency > repo.UrgencyFine {
				d, err := w.Open(reviewKeys...).Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("review") })
				noErr(t, err)
				noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))
				jobs["centre"]++
			}
		}
		if s, err = w.Open().Status(t.Context(), w.Now); err != nil || s.Urgency() > repo.UrgencyFine {
			t.Fatalf("%v\n%s", err, s)
		}
		w.Sees("root 2 agent/1")
	}
	if jobs["vendor-agent.json"] != 3 || jobs["centre"] != 3 || jobs["targets.json"] != 0 || jobs["review-agent.json"] != 0 {
		t.Errorf("%v", jobs)
	}
	// targets.json is renewed too if its key is available, and a role together with its
	// bins.
	w.Now = w.Now.Add(250 * day)
	w.Update(func(tx *repo.Tx) error {
		for i := range 520 {
			if err := tx.Add("vendor", fmt.Sprintf("agent/f%d", i), strings.NewReader(fmt.Sprint(i)), nil); err != nil {
				return err
			}
		}
		return nil
	})
	w.Store.Wrote()
	noErr(t, w.Open("timestamp", "snapshot", "targets").Renew(t.Context()))
	if got := strings.Join(w.Store.Wrote(), " "); got != "metadata/2.targets.json metadata/"+snapshotName(w)+" metadata/timestamp.json" {
		t.Errorf("wrote %s", got)
	}
	w.Now = w.Now.Add(20 * day)
	w.Store.Wrote()
	noErr(t, w.Open("timestamp", "snapshot", "vendor-release").Renew(t.Context()))
	if n := len(slices.DeleteFunc(w.Store.Wrote(), func(name string) bool { return !strings.Contains(name, ".vendor-agent") })); n != 5 {
		t.Errorf("%d lists signed again, want 5", n)
	}
}

// snapshotName is the newest snapshot's file.
func snapshotName(w *world) string {
	s, err := w.Open().Status(w.T.Context(), w.Now)
	noErr(w.T, err)
	for _, d := range s.Due {
		if d.Role == "snapshot" {
			return fmt.Sprintf("%d.snapshot.json", d.Version)
		}
	}
	return ""
}

// A team's product is renewed by the team alone.
func TestRefreshProducts(t *testing.T) {
	w := richWorld(t)
	w.Update(func(tx *repo.Tx) error {
		return tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team-*"}, Keys: repo.Keys{Keys: w.Public("team")}})
	})
	w.Now = w.Now.Add(16 * day)
	if got := w.status(w.Now, "team"); !slices.Contains(got, "soon team available") || !slices.Contains(got, "soon vendor-agent") {
		t.Errorf("%q", got)
	}
	for _, x := range []struct {
		key  string
		want []string
	}{{"team", []string{"team"}}, {"vendor-release", []string{"vendor-agent", "vendor-agent.rest"}}} {
		w.Store.Wrote()
		noErr(t, w.Open("timestamp", "snapshot", x.key).Renew(t.Context()))
		var roles []string
		for _, name := range w.Store.Wrote() {
			_, role, _ := strings.Cut(strings.TrimSuffix(name, ".json"), ".")
			if !strings.HasPrefix(name, "metadata/timestamp") && role != "snapshot" {
				roles = append(roles, role)
			}
		}
		if slices.Sort(roles); !slices.Equal(roles, x.want) {
			t.Errorf("%s renewed %q, want %q", x.key, roles, x.want)
		}
	}
}

// An attacker with the vendor's release and online keys publishes. The shared ledger of
// the vendor does not know that version, and status says so; the vendor's next version
// ends the alarm, as does a ledger that is not declared as shared.
func TestStatusAlarm(t *testing.T) {
	t.Parallel()
	w := founded(t)
	w.Update(repotest.Add("2"))
	alarms := func(party string, shared bool) (out []string) {
		t.Helper()
		cfg := w.Config()
		cfg.Party, cfg.SharedLedger = party, shared
		s, err := repo.New(w.Store, cfg).Status(t.Context(), w.Now)
		noErr(t, err)
		for _, a := range s.Alarms {
			out = append(out, a.String())
		}
		if (len(out) > 0) != (s.Urgency() == repo.UrgencyUrgent) || (len(out) > 0) != strings.Contains(s.String(), "ALARM ") {
			t.Errorf("%d alarms, %s: %s", len(out), s.Urgency(), s)
		}
		return out
	}
	if got := alarms("vendor", true); got != nil {
		t.Fatal(got)
	}
	attacker := w.Copy()
	attacker.Store = w.Store
	noErr(t, attacker.Open("vendor-release", "timestamp", "snapshot", "targets").Update(t.Context(), repotest.Add("6.6.6")))
	got := alarms("vendor", true)
	if len(got) != 1 || !strings.Contains(got[0], "vendor-agent v4 is signed by keys of this party and is not in its ledger, which signed up to v3") {
		t.Fatalf("%q", got)
	}
	for _, other := range []func() []string{func() []string { return alarms("review", true) }, func() []string { return alarms("vendor", false) }, func() []string { return alarms("", true) }} {
		if got := other(); got != nil {
			t.Error(got)
		}
	}
	w.Update(func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/6.6.6") })
	if got := alarms("vendor", true); got != nil {
		t.Error(got)
	}
}
