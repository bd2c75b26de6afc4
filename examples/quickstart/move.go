package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// move moves the repository from location A, which the attacker controls, to location
// B. Machines two and three are off meanwhile.
func (s *demo) move() error {
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
	s.say("The vendor publishes %s at B with the new keys; the review centre examines it.", filepath.Base(file))
	if err := s.reviewRound(); err != nil {
		return err
	}
	if err := s.afterFreeze(); err != nil {
		return err
	}
	return s.afterForgery()
}

// threeRoots announces B, cuts over to it, and retires A. Each root is signed by
// both parties.
func (s *demo) threeRoots() error {
	b := tuf.Location{ID: "location-b", Tier: tuf.Primary, Operator: "new-host", Base: s.b.url, Metadata: "metadata/", Targets: "targets/", Priority: 5}
	for _, step := range []struct {
		what string
		edit func(*repo.Root) error
	}{
		{"announces location B", func(r *repo.Root) error {
			r.Locations = append(r.Locations, b)
			return nil
		}},
		{"cuts over: new root, release and online keys of the vendor; location A ends in a week", s.cutOver},
		{"retires location A: clients never contact it again", func(r *repo.Root) error { return r.Retire("location-a") }},
	} {
		d, err := s.vendor.open().Stage(s.ctx, func(tx *repo.Tx) error { return step.edit(tx.Root()) })
		if err != nil {
			return err
		}
		s.say("The vendor %s (%s); the review centre signs too.", step.what, d)
		if err := s.signAndPublish(d, ""); err != nil {
			return err
		}
	}
	// The old keys sign nothing any more: the vendor deletes them.
	for _, old := range []string{"root-1", "root-2", "timestamp", "snapshot", "targets", "release"} {
		delete(s.vendor.signers, old)
	}
	return nil
}

func (s *demo) cutOver(r *repo.Root) error {
	k, err := s.vendor.make("new-root-1", "new-root-2", "new-timestamp", "new-snapshot", "new-targets", "new-release")
	if err != nil {
		return err
	}
	r.Parties[0].Keys = k[:2]
	r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = k[2:3], k[3:4], k[4:5]
	r.Classes[0].Roles[0].Keys.Keys = k[5:]
	for i := range r.Locations {
		if r.Locations[i].ID == "location-a" {
			r.Locations[i].Tier, r.Locations[i].UseUntil = tuf.Legacy, time.Now().UTC().Truncate(time.Second).Add(7*24*time.Hour)
		}
	}
	return nil
}

// afterFreeze starts machine two while A serves old metadata (freeze attack): first
// with Z unreachable, then with Z reachable.
func (s *demo) afterFreeze() error {
	if err := mirror(s.ctx, s.frozen, s.a.dir, false); err != nil {
		return err
	}
	s.z.setUnreachable(true)
	s.say("The attacker serves the old metadata at A, a freeze attack, and blocks location Z. Machine two is switched on; it knows\nonly A and Z:")
	if err := s.expect("freeze attack, Z unreachable", "two", "1.1", client.ErrUpToDate.Error()); err != nil {
		return err
	}
	s.z.setUnreachable(false)
	s.say("It is unharmed, but does not know of the move. Z is reachable again; machine two checks again:")
	return s.expect("freeze attack, Z reachable", "two", "1.2", "agent/")
}

// afterForgery starts machines one and three while A serves new versions of all
// metadata, signed with every old key of the vendor.
func (s *demo) afterForgery() error {
	for range 5 {
		if err := s.attacker.open().Renew(s.ctx); err != nil {
			return err
		}
	}
	if err := mirror(s.ctx, s.attacker.repo, s.a.dir, false); err != nil {
		return err
	}
	if err := s.serveForged(); err != nil {
		return err
	}
	s.say("The attacker serves 6.6.6 and the forged root at A. Machine three is switched on, at 1.0, and checks for the first time:")
	if err := s.expect("malicious content, machine three", "three", "1.2", "agent/"); err != nil {
		return err
	}
	s.say("Machine one, which received the attacker's files in act 4, checks for an update:")
	if err := s.expect("malicious content, machine one", "one", "1.2", "agent/"); err != nil {
		return err
	}
	for _, machine := range machines {
		s.say("Machine %s, after the move, checks again:", machine)
		if err := s.expect("after the move, machine "+machine, machine, "1.2", client.ErrUpToDate.Error()); err != nil {
			return err
		}
		s.check("requests at A by machine "+machine, "0", fmt.Sprint(s.fromA))
	}
	return nil
}
