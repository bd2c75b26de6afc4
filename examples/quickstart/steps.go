package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// twoParties is the beginning: a repository with a vendor and a review centre,
// the pin, and the product at 1.0.
func (s *story) twoParties() error {
	title("1. A repository of two parties")
	vk, err := newKeys(filepath.Join(s.dir, "vendor", "keys"))
	if err != nil {
		return err
	}
	rk, err := newKeys(filepath.Join(s.dir, "review", "keys"))
	if err != nil {
		return err
	}
	s.vendor = &vendor{keyRing: vk, repo: filepath.Join(s.dir, "vendor", "repository"), product: s.product}
	s.review = &reviewer{rk, filepath.Join(s.dir, "review", "repository")}
	draft, err := s.firstDraft()
	if err != nil {
		return err
	}
	var lacks []string
	for _, m := range draft.Missing() {
		lacks = append(lacks, m.String())
	}
	say("The vendor makes the first root and signs it. It still lacks: %s.", strings.Join(lacks, "; "))
	say("Nothing comes before a first root, so two people read its digest to each other: %s.", draft.Digest())
	if err := s.signAndPublish(draft, draft.Digest()); err != nil {
		return err
	}
	say("The review centre signs it on its own machine, and remembers it there. Place A serves the repository, run by the vendor;\nplace Z serves its roots, run by the review centre.")
	pin, err := s.vendor.open().Pin(s.ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "pin.json"), pin, 0o644); err != nil {
		return err
	}
	opened, err := tuf.OpenPin(pin, &tuf.Options{UnsafeLoopback: true})
	if err != nil {
		return err
	}
	say("The pin that products embed: %d bytes, fingerprint %.16s….", len(pin), opened.Fingerprint())
	for _, machine := range machines {
		if err := s.product.install(s.ctx, s.machine(machine), pin); err != nil {
			return err
		}
	}
	say("The product is installed on three machines at 1.0. The first looks for an update:")
	return s.expect("nothing is published", "one", "1.0", "no such product, channel or platform: product agent; available: none")
}

func (s *story) firstDraft() (*repo.Draft, error) {
	var err error
	public := func(k *keyRing, names ...string) []tuf.Key {
		out, e := k.make(names...)
		err = errors.Join(err, e)
		return out
	}
	v, r := s.vendor.keyRing, s.review.keyRing
	root := repo.Root{
		Parties: []repo.Party{
			{Name: "vendor", Keys: public(v, "root-1", "root-2"), Min: 1},
			{Name: "review", Keys: public(r, "root-1", "root-2"), Min: 1}},
		Timestamp: repo.Keys{Keys: public(v, "timestamp")},
		Snapshot:  repo.Keys{Keys: public(v, "snapshot")},
		Targets:   repo.Keys{Keys: public(v, "targets")},
		Classes: []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
			{Party: "vendor", Role: "vendor-agent", Keys: repo.Keys{Keys: public(v, "release")}},
			{Party: "review", Role: "review-agent", Keys: repo.Keys{Keys: public(r, "release-1", "release-2"), Threshold: 2}}}}},
		Locations: []tuf.Location{
			{ID: "place-a", Tier: tuf.Primary, Operator: "vendor-host", Base: s.a.url, Metadata: "metadata/", Targets: "targets/", Priority: 10},
			{ID: "place-z", Tier: tuf.Rendezvous, Operator: "review-host", Base: s.z.url, Metadata: "metadata/", Priority: 10}},
	}
	if err != nil {
		return nil, err
	}
	return s.vendor.open().Stage(s.ctx, func(tx *repo.Tx) error { tx.SetRoot(root); return nil })
}

// signAndPublish sends a draft from the vendor to the review centre and back,
// as bytes, publishes it and brings it to the places.
// digest is that of the first root, see [keys.sign].
func (s *story) signAndPublish(d *repo.Draft, digest string) error {
	if err := s.vendor.sign(s.ctx, d, ""); err != nil {
		return err
	}
	there, err := d.Bytes()
	if err != nil {
		return err
	}
	if digest == "" { // what is published is what the centre compares the draft with
		if err := mirror(s.ctx, s.vendor.repo, s.review.repo, false); err != nil {
			return err
		}
	}
	back, err := s.review.signBytes(s.ctx, there, digest)
	if err != nil {
		return err
	}
	if d, err = repo.OpenDraft(back); err != nil {
		return err
	}
	if err := s.vendor.open().Publish(s.ctx, d); err != nil {
		return err
	}
	return s.serve()
}

// serve copies what the vendor published to the place that serves it, and the
// roots to the review centre's.
func (s *story) serve() error {
	return errors.Join(mirror(s.ctx, s.vendor.repo, s.serving.dir, false), mirror(s.ctx, s.vendor.repo, s.z.dir, true))
}

func (s *story) vendorAlone() error {
	title("2. The vendor publishes 1.1 alone")
	file, err := s.vendor.add(s.ctx, "1.1")
	if err != nil {
		return err
	}
	fi, err := os.Stat(file)
	if err != nil {
		return err
	}
	say("%s, %s, is listed and served. The product looks for an update:", filepath.Base(file), size(fi.Size()))
	if err := errors.Join(s.serve(), mirror(s.ctx, s.vendor.repo, s.past, false)); err != nil {
		return err
	}
	return s.expect("1.1 by the vendor alone", "one", "1.0", "listed by vendor (vendor-agent v2), but not by review (review-agent v1)")
}

func (s *story) reviewed() error {
	title("3. The review centre examines and approves")
	if err := s.reviewRound(); err != nil {
		return err
	}
	say("Two of its keys sign that it is listed; the vendor publishes. The product looks for an update:")
	for _, machine := range []string{"one", "two"} {
		err := s.expect("1.1 reviewed, machine "+machine, machine, "1.1",
			"listed by vendor (vendor-agent v2, 1 key) and review (review-agent v2, 2 keys)")
		if err != nil {
			return err
		}
	}
	say("Machine two goes to sleep here; machine three has slept since it was set up.")
	return mirror(s.ctx, s.a.dir, s.frozen, false)
}

// reviewRound is one examination and its publication.
func (s *story) reviewRound() error {
	if err := mirror(s.ctx, s.serving.dir, s.review.repo, false); err != nil {
		return err
	}
	good, err := s.review.examine(s.ctx, s.serving)
	if err != nil {
		return err
	}
	s.approved = good
	draft, err := s.review.approve(s.ctx, good)
	if err != nil {
		return err
	}
	d, err := repo.OpenDraft(draft)
	if err != nil {
		return err
	}
	if err := s.vendor.open().Publish(s.ctx, d); err != nil {
		return err
	}
	if err := s.serve(); err != nil {
		return err
	}
	// The centre looks at what came of it, and its ledger notes that.
	if err := mirror(s.ctx, s.serving.dir, s.review.repo, false); err != nil {
		return err
	}
	_, err = s.review.open().Status(s.ctx, time.Now())
	return err
}

func (s *story) thief() error {
	title("4. A thief has every key of the vendor, and place A")
	t, err := s.steal()
	if err != nil {
		return err
	}
	s.stolen = t
	if _, err := t.add(s.ctx, "6.6.6"); err != nil {
		return err
	}
	if err := mirror(s.ctx, t.repo, s.a.dir, false); err != nil {
		return err
	}
	say("He publishes 6.6.6, with good signatures of the vendor. The product looks for an update:")
	if err := s.expect("6.6.6 by the thief", "one", "1.1", "not approved"); err != nil {
		return err
	}
	if s.forged, err = t.forgeRoot(s.ctx); err != nil {
		return err
	}
	if err := s.serveForged(); err != nil {
		return err
	}
	say("He replaces the root by one in which the review centre is himself. The product looks for an update:")
	if err := s.expect("a root by the thief", "one", "1.1", "not approved"); err != nil {
		return err
	}
	n, reason, err := s.evidence("one")
	if err != nil {
		return err
	}
	say("The product keeps what it was shown, and why it refused:\n%s", strings.TrimSpace(reason))
	s.check("evidence of the forged root", "1 file", fmt.Sprintf("%d file", n))
	return s.oldCopy()
}

// oldCopy: the attacker hands the review centre the repository as it was before
// the centre approved 1.1. The centre's tool compares it with its ledger.
func (s *story) oldCopy() error {
	if err := mirror(s.ctx, s.past, s.review.repo, false); err != nil {
		return err
	}
	_, err := s.review.approve(s.ctx, s.approved)
	say("The attacker hands the review centre a copy from before its approval, to have it sign once more:\n| %v", err)
	outcome := "signed"
	if errors.Is(err, repo.ErrRoleBehind) {
		outcome = "refused"
	} else if err != nil {
		return err
	}
	s.check("the centre signs on an old copy", "refused", outcome)
	return nil
}

// steal makes the thief: the vendor's keys and a copy of its repository.
func (s *story) steal() (*vendor, error) {
	dir := filepath.Join(s.dir, "thief")
	if err := mirror(s.ctx, s.vendor.repo, filepath.Join(dir, "repository"), false); err != nil {
		return nil, err
	}
	stolen := &keyRing{filepath.Join(dir, "keys"), map[string]tuf.Signer{}}
	for name, signer := range s.vendor.signers {
		stolen.signers[name] = signer
	}
	return &vendor{keyRing: stolen, repo: filepath.Join(dir, "repository"), product: s.product, stolen: true}, os.MkdirAll(stolen.dir, 0o700)
}

// forgeRoot makes a root that every vendor key and keys of the thief's own
// signed. The tool would refuse to publish it; he takes it from the draft.
func (v *vendor) forgeRoot(ctx context.Context) ([]byte, error) {
	mine, err := v.make("thief-1", "thief-2", "thief-3")
	if err != nil {
		return nil, err
	}
	d, err := v.open().Stage(ctx, func(tx *repo.Tx) error {
		r := tx.Root()
		r.Parties[1].Keys, r.Classes[0].Roles[1].Keys = mine[:2], repo.Keys{Keys: mine[2:]}
		return nil
	})
	if err != nil {
		return nil, err
	}
	data, err := d.Bytes()
	if err != nil {
		return nil, err
	}
	var draft struct {
		Files []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"files"`
	}
	if err := json.Unmarshal(data, &draft); err != nil {
		return nil, err
	}
	for _, f := range draft.Files {
		if f.Role == "root" {
			return f.Content, nil
		}
	}
	return nil, errors.New("the thief's draft has no root")
}

// serveForged puts the forged root at place A.
func (s *story) serveForged() error {
	return os.WriteFile(filepath.Join(s.a.dir, "metadata", "2.root.json"), s.forged, 0o644)
}
