package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// move brings the repository from place A, which is in the thief's hands, to
// place B. Machines two and three sleep meanwhile.
func (s *story) move() error {
	title("5. The repository moves from place A to place B, with new keys")
	s.serving = s.b
	if err := s.threeRoots(); err != nil {
		return err
	}
	file, err := s.vendor.add(s.ctx, "1.2")
	if err != nil {
		return err
	}
	if err := s.serve(); err != nil {
		return err
	}
	say("At B the vendor publishes %s with its new keys; the review centre examines it.", filepath.Base(file))
	if err := s.reviewRound(); err != nil {
		return err
	}
	if err := s.wakeToThePast(); err != nil {
		return err
	}
	return s.wakeToEvil()
}

// threeRoots announces B, cuts over to it, and retires A. Each root is signed by
// both parties.
func (s *story) threeRoots() error {
	b := tuf.Location{ID: "place-b", Tier: tuf.Primary, Operator: "new-host", Base: s.b.url, Metadata: "metadata/", Targets: "targets/", Priority: 5}
	for _, step := range []struct {
		what string
		edit func(*repo.Root) error
	}{
		{"announces place B", func(r *repo.Root) error {
			r.Locations = append(r.Locations, b)
			return nil
		}},
		{"cuts over: new root, release and online keys of the vendor; place A is to end in a week", s.cutOver},
		{"retires place A: nobody is to contact it again", func(r *repo.Root) error { return r.Retire("place-a") }},
	} {
		d, err := s.vendor.open().Stage(s.ctx, func(tx *repo.Tx) error { return step.edit(tx.Root()) })
		if err != nil {
			return err
		}
		say("The vendor %s (%s); the review centre signs too.", step.what, d)
		if err := s.signAndPublish(d, ""); err != nil {
			return err
		}
	}
	// What the thief has is worth nothing now, to the vendor either.
	for _, old := range []string{"root-1", "root-2", "timestamp", "snapshot", "targets", "release"} {
		delete(s.vendor.signers, old)
	}
	return nil
}

func (s *story) cutOver(r *repo.Root) error {
	k, err := s.vendor.make("new-root-1", "new-root-2", "new-timestamp", "new-snapshot", "new-targets", "new-release")
	if err != nil {
		return err
	}
	r.Parties[0].Keys = k[:2]
	r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = k[2:3], k[3:4], k[4:5]
	r.Classes[0].Roles[0].Keys.Keys = k[5:]
	for i := range r.Locations {
		if r.Locations[i].ID == "place-a" {
			r.Locations[i].Tier, r.Locations[i].UseUntil = tuf.Legacy, time.Now().UTC().Truncate(time.Second).Add(7*24*time.Hour)
		}
	}
	return nil
}

// wakeToThePast: A shows what it showed before the move; first no other place
// can be reached.
func (s *story) wakeToThePast() error {
	if err := mirror(s.ctx, s.frozen, s.a.dir, false); err != nil {
		return err
	}
	s.z.setDark(true)
	say("The thief serves the past at A, frozen, and keeps place Z from being reached. Machine two wakes;\nall it knows is A and Z:")
	if err := s.expect("frozen past, Z unreachable", "two", "1.1", "no newer approved release"); err != nil {
		return err
	}
	s.z.setDark(false)
	say("Unharmed, but none the wiser. Z can be reached again; machine two looks once more:")
	return s.expect("frozen past, Z tells of B", "two", "1.2", "agent/")
}

// wakeToEvil: A shows new versions of everything, signed with all the keys that
// the vendor had.
func (s *story) wakeToEvil() error {
	for range 5 {
		if err := s.stolen.open().Renew(s.ctx); err != nil {
			return err
		}
	}
	if err := mirror(s.ctx, s.stolen.repo, s.a.dir, false); err != nil {
		return err
	}
	if err := s.serveForged(); err != nil {
		return err
	}
	say("The thief serves 6.6.6 and his root at A. Machine three wakes, at 1.0; it has never asked before:")
	if err := s.expect("evil content, machine three", "three", "1.2", "agent/"); err != nil {
		return err
	}
	say("Machine one, which saw the thief's work in step 4, looks for an update:")
	if err := s.expect("evil content, machine one", "one", "1.2", "agent/"); err != nil {
		return err
	}
	for _, machine := range machines {
		say("Machine %s, moved, looks again:", machine)
		if err := s.expect("after the move, machine "+machine, machine, "1.2", "no newer approved release"); err != nil {
			return err
		}
		s.check("requests at A by machine "+machine, "0", fmt.Sprint(s.fromA))
	}
	return nil
}
