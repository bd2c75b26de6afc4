package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
)

const day = 24 * time.Hour

func (w *world) expires(role string, in time.Duration) {
	d := w.repo.Root
	if role != "root" {
		d = w.repo.Roles[role]
	}
	d["expires"] = rawtuf.Stamp(rawtuf.Now.Add(in))
}

// Expired metadata is not stored, except for root, which must be stored to reach its
// successors.
func TestExpired(t *testing.T) {
	for role, want := range map[string]map[string]int{
		"root": at(2, 6, 6, 5), "timestamp": at(2, 6, 6, 5), "snapshot": at(2, 7, 6, 5), "targets": at(2, 7, 7, 5),
	} {
		t.Run(role, func(t *testing.T) {
			w := newWorld(t)
			w.refresh(0, "2.root", "timestamp", "6.snapshot", "5.targets")
			w.repo.NextRoot(func() {
				if role == "root" {
					w.expires(role, -day)
				}
			})
			if role != "root" {
				w.expires(role, -day)
			}
			w.publish("targets")
			asks := map[string][]string{"root": {"2.root", "3.root"}, "timestamp": {"2.root", "3.root", "timestamp"}, "snapshot": {"2.root", "3.root", "timestamp", "7.snapshot"},
				"targets": {"2.root", "3.root", "timestamp", "7.snapshot", "6.targets"}}
			w.refresh(1, asks[role]...)
			w.trusts(want)
		})
	}
}

// Metadata of the client may have expired: it still leads to its replacement.
func TestExpiredMeanwhile(t *testing.T) {
	for _, role := range []string{"root", "timestamp", "snapshot", "targets"} {
		t.Run(role, func(t *testing.T) {
			w := newWorld(t)
			w.expires(role, 7*day)
			w.repo.NextRoot(func() {})
			w.publish("targets")
			w.refresh(0, "2.root", "3.root", "timestamp", "7.snapshot", "6.targets")
			w.later = 18 * day
			w.exits(1, append(w.urls(), "refresh")...)
			w.expires(role, 21*day)
			w.repo.NextRoot(func() {})
			w.publish("targets")
			w.refresh(0, "3.root", "4.root", "timestamp", "8.snapshot", "7.targets")
			w.trusts(at(3, 8, 8, 7))
		})
	}
}

// The clock is the offset in seconds in FAKETIME, or the machine's clock without it.
func TestClock(t *testing.T) {
	w := newWorld(t)
	refresh := append(w.urls(), "refresh")
	for offset, want := range map[string]int{"": 0, "+0": 0, "-24000000": 0, "+1.5": 0, "+315360000": 1, "315360000.25": 1, "yesterday": 1, "NaN": 1, "1e300": 1} {
		w.exitsAt(offset, want, refresh...)
	}
}

// Versions are never rolled back, whether they are listed with hashes or without.
func TestRollback(t *testing.T) {
	for _, hashes := range []bool{false, true} {
		for role, want := range map[string]struct {
			asks    []string
			trusted map[string]int
		}{
			"timestamp": {[]string{"2.root", "timestamp"}, at(1, 7, 7, 6)},
			"snapshot":  {[]string{"2.root", "timestamp"}, at(1, 7, 7, 6)},
			"targets":   {[]string{"2.root", "timestamp", "8.snapshot"}, at(1, 8, 7, 6)},
		} {
			t.Run(fmt.Sprintf("%s, hashes %t", role, hashes), func(t *testing.T) {
				w := newWorld(t)
				w.hashes = hashes
				w.publish("targets")
				w.refresh(0, "2.root", "timestamp", "7.snapshot", "6.targets")
				w.repo.Bump()
				w.repo.Roles[role]["version"] = 3
				w.sign()
				w.refresh(1, want.asks...)
				w.trusts(want.trusted)
			})
		}
	}
	t.Run("targets, gone from the snapshot", func(t *testing.T) {
		w := newWorld(t)
		w.refresh(0, "2.root", "timestamp", "6.snapshot", "5.targets")
		delete(w.repo.Roles, "lib")
		w.publish()
		w.refresh(1, "2.root", "timestamp", "7.snapshot")
		w.trusts(at(1, 7, 6, 5))
	})
}

// Version numbers that were inflated with a compromised key have no effect after root
// names other online keys.
func TestFastForward(t *testing.T) {
	for driven, rotated := range map[string][]string{"timestamp": {"timestamp"}, "snapshot": {"snapshot", "timestamp"}, "targets": {"snapshot"}} {
		t.Run(driven, func(t *testing.T) {
			w := newWorld(t)
			honest := w.repo.Clone()
			w.repo.Roles[driven]["version"] = 99999
			w.sign()
			w.exits(0, append(w.urls(), "refresh")...)
			w.mu.Lock()
			w.repo = honest
			w.mu.Unlock()
			w.repo.NextRoot(func() {
				for _, role := range rotated {
					w.role(role, 1, []string{role + "2"}, []string{role + "2"})
				}
			})
			if driven == "targets" {
				w.repo.Bump() // only the version of targets was inflated
			}
			w.sign()
			w.exits(0, append(w.urls(), "refresh")...)
			v := func(role string) int { return w.repo.Roles[role]["version"].(int) }
			w.trusts(at(2, v("timestamp"), v("snapshot"), v("targets")))
		})
	}
}
