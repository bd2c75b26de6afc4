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

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// twoParties creates the repository of a vendor and a review centre, exports the pin,
// and installs the product at 1.0.
func (s *demo) twoParties() error {
	vk, err := newKeys(filepath.Join(s.dir, "vendor", "keys"))
	if err != nil {
		return err
	}
	rk, err := newKeys(filepath.Join(s.dir, "review", "keys"))
	if err != nil {
		return err
	}
	s.vendor = &vendor{keyRing: vk, repo: filepath.Join(s.dir, "vendor", "repository"), product: s.product}
	s.review = &reviewer{rk, s.narrator, filepath.Join(s.dir, "review", "repository")}
	draft, err := s.firstDraft()
	if err != nil {
		return err
	}
	var missing []string
	for _, m := range draft.Missing() {
		missing = append(missing, m.String())
	}
	s.say("The vendor makes the first root and signs it. Missing: %s.", strings.Join(missing, "; "))
	s.say("No earlier root can verify the first one, so two people compare its digest: %s.", draft.Digest())
	if err := s.signAndPublish(draft, draft.Digest()); err != nil {
		return err
	}
	s.say("The review centre signs it on its own machine and records it in its ledger. The vendor runs location A, which serves the\nrepository; the review centre runs location Z, which serves root metadata only.")
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
	s.say("The pin, which is embedded in the product: %d bytes, fingerprint %.16s….", len(pin), opened.Fingerprint())
	for _, machine := range machines {
		if err := s.product.install(s.ctx, s.machine(machine), pin); err != nil {
			return err
		}
	}
	s.say("Version 1.0 of the product is installed on three machines. Machine one checks for an update:")
	return s.expect("nothing is published", "one", "1.0", client.ErrUnknownProduct.Error()+": product agent; available: none")
}

func (s *demo) firstDraft() (*repo.Draft, error) {
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
			{ID: "location-a", Tier: tuf.Primary, Operator: "vendor-host", Base: s.a.url, Metadata: "metadata/", Targets: "targets/", Priority: 10},
			{ID: "location-z", Tier: tuf.Rendezvous, Operator: "review-host", Base: s.z.url, Metadata: "metadata/", Priority: 10}},
	}
	if err != nil {
		return nil, err
	}
	return s.vendor.open().Stage(s.ctx, func(tx *repo.Tx) error { tx.SetRoot(root); return nil })
}

// signAndPublish sends a draft from the vendor to the review centre and back, as
// bytes, publishes it and copies it to the locations. digest is that of the first
// root, see [keyRing.sign].
func (s *demo) signAndPublish(d *repo.Draft, digest string) error {
	if err := s.vendor.sign(s.ctx, d, ""); err != nil {
		return err
	}
	request, err := d.Bytes()
	if err != nil {
		return err
	}
	if digest == "" { // the centre compares the draft with the published repository
		if err := mirror(s.ctx, s.vendor.repo, s.review.repo, false); err != nil {
			return err
		}
	}
	signed, err := s.review.signBytes(s.ctx, request, digest)
	if err != nil {
		return err
	}
	if d, err = repo.OpenDraft(signed); err != nil {
		return err
	}
	if err := s.vendor.open().Publish(s.ctx, d); err != nil {
		return err
	}
	return s.serve()
}

// serve copies the vendor's repository to the location that serves it, and the roots
// to the location of the review centre.
func (s *demo) serve() error {
	return errors.Join(mirror(s.ctx, s.vendor.repo, s.serving.dir, false), mirror(s.ctx, s.vendor.repo, s.z.dir, true))
}

// vendorAlone publishes 1.1 without an approval.
func (s *demo) vendorAlone() error {
	file, err := s.vendor.add(s.ctx, "1.1")
	if err != nil {
		return err
	}
	fi, err := os.Stat(file)
	if err != nil {
		return err
	}
	s.say("%s, %s, is listed and served. Machine one checks for an update:", filepath.Base(file), size(fi.Size()))
	if err := errors.Join(s.serve(), mirror(s.ctx, s.vendor.repo, s.old, false)); err != nil {
		return err
	}
	return s.expect("1.1 by the vendor alone", "one", "1.0", "listed by vendor (vendor-agent v2), but not by review (review-agent v1)")
}

// reviewed publishes the approval of 1.1.
func (s *demo) reviewed() error {
	if err := s.reviewRound(); err != nil {
		return err
	}
	s.say("Two of its keys sign the approval; the vendor publishes it. Machines one and two check for an update:")
	for _, machine := range []string{"one", "two"} {
		err := s.expect("1.1 reviewed, machine "+machine, machine, "1.1",
			"listed by vendor (vendor-agent v2, 1 key) and review (review-agent v2, 2 keys)")
		if err != nil {
			return err
		}
	}
	s.say("Machine two is switched off now; machine three has been off since the installation.")
	return mirror(s.ctx, s.a.dir, s.frozen, false)
}

// reviewRound examines what waits, and publishes the approval.
func (s *demo) reviewRound() error {
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
	// The centre checks the published result and records it in its ledger.
	if err := mirror(s.ctx, s.serving.dir, s.review.repo, false); err != nil {
		return err
	}
	_, err = s.review.open().Status(s.ctx, time.Now())
	return err
}

// compromise gives an attacker every key of the vendor, and location A.
func (s *demo) compromise() error {
	t, err := s.stealKeys()
	if err != nil {
		return err
	}
	s.attacker = t
	if _, err := t.add(s.ctx, "6.6.6"); err != nil {
		return err
	}
	if err := mirror(s.ctx, t.repo, s.a.dir, false); err != nil {
		return err
	}
	s.say("The attacker publishes 6.6.6, with valid signatures of the vendor. Machine one checks for an update:")
	if err := s.expect("6.6.6 with compromised keys", "one", "1.1", tuf.ErrNotApproved.Error()); err != nil {
		return err
	}
	if s.forged, err = t.forgeRoot(s.ctx); err != nil {
		return err
	}
	if err := s.serveForged(); err != nil {
		return err
	}
	s.say("The attacker publishes a root with keys of the attacker for the review centre. Machine one checks for an update:")
	if err := s.expect("forged root", "one", "1.1", tuf.ErrNotApproved.Error()); err != nil {
		return err
	}
	n, reason, err := s.evidence("one")
	if err != nil {
		return err
	}
	s.say("The product keeps the refused root as evidence, with the reason:\n%s", strings.TrimSpace(reason))
	s.check("evidence of the forged root", "1 file", fmt.Sprintf("%d file", n))
	return s.oldCopy()
}

// oldCopy gives the review centre a copy of the repository from before the approval of
// 1.1. The centre's tool compares it with the ledger.
func (s *demo) oldCopy() error {
	if err := mirror(s.ctx, s.old, s.review.repo, false); err != nil {
		return err
	}
	_, err := s.review.approve(s.ctx, s.approved)
	s.say("The attacker gives the review centre a copy from before the approval, to obtain a second signature:\n| %v", err)
	outcome := "signed"
	if errors.Is(err, signing.ErrRoleBehind) {
		outcome = "refused"
	} else if err != nil {
		return err
	}
	s.check("signature on an old copy", "refused", outcome)
	return nil
}

// stealKeys copies the vendor's keys and repository for the attacker.
func (s *demo) stealKeys() (*vendor, error) {
	dir := filepath.Join(s.dir, "attacker")
	if err := mirror(s.ctx, s.vendor.repo, filepath.Join(dir, "repository"), false); err != nil {
		return nil, err
	}
	ring := &keyRing{filepath.Join(dir, "keys"), map[string]tuf.Signer{}}
	for name, signer := range s.vendor.signers {
		ring.signers[name] = signer
	}
	return &vendor{keyRing: ring, repo: filepath.Join(dir, "repository"), product: s.product, compromised: true}, os.MkdirAll(ring.dir, 0o700)
}

// forgeRoot makes a root that every key of the vendor and new keys of the attacker
// signed. The tool refuses to publish it, so it is taken from the draft.
func (v *vendor) forgeRoot(ctx context.Context) ([]byte, error) {
	own, err := v.make("attacker-1", "attacker-2", "attacker-3")
	if err != nil {
		return nil, err
	}
	d, err := v.open().Stage(ctx, func(tx *repo.Tx) error {
		r := tx.Root()
		r.Parties[1].Keys, r.Classes[0].Roles[1].Keys = own[:2], repo.Keys{Keys: own[2:]}
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
	return nil, errors.New("the attacker's draft has no root")
}

// serveForged writes the forged root to location A.
func (s *demo) serveForged() error {
	return os.WriteFile(filepath.Join(s.a.dir, "metadata", "2.root.json"), s.forged, 0o644)
}
