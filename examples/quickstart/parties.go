package main

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// keyRing is the set of keys of one party, in files of its own folder. The files are
// not encrypted, because the demonstration deletes them at its end; keys.Generate
// writes encrypted files.
type keyRing struct {
	dir     string
	signers map[string]tuf.Signer
}

func newKeys(dir string) (*keyRing, error) {
	return &keyRing{dir, map[string]tuf.Signer{}}, os.MkdirAll(dir, 0o700)
}

// make generates keys with these names and returns the public keys.
func (k *keyRing) make(names ...string) (public []tuf.Key, err error) {
	for _, name := range names {
		s, err := keys.UnsafeGeneratePlain(filepath.Join(k.dir, name+".key"), name)
		if err != nil {
			return nil, err
		}
		k.signers[name] = s
		public = append(public, s.Key())
	}
	return public, nil
}

// ledger is the party's record of what it has seen and signed, next to its keys.
func (k *keyRing) ledger() signing.Ledger { return signing.DirLedger(filepath.Join(k.dir, "ledger")) }

func (k *keyRing) all() []tuf.Signer { return slices.Collect(maps.Values(k.signers)) }

// sign signs a draft with every key that the draft needs. digest is that of the draft
// with the first root, which two people have compared; for later drafts it is empty.
func (k *keyRing) sign(ctx context.Context, d *repo.Draft, digest string) error {
	for _, s := range k.signers {
		err := error(nil)
		if digest != "" {
			err = d.SignFirst(ctx, s, digest)
		} else {
			err = d.Sign(ctx, s)
		}
		if err != nil && !errors.Is(err, repo.ErrNoPart) {
			return err
		}
	}
	return nil
}

// vendor edits and publishes the repository, which is in its folder.
type vendor struct {
	*keyRing
	repo        string
	product     product
	compromised bool // an attacker uses the keys, without a ledger
}

func (v *vendor) open() *repo.Repo {
	cfg := &repo.Config{Signers: v.all(), Ledger: v.ledger(), UnsafeLoopback: true}
	if v.compromised {
		cfg.Ledger, cfg.UnsafeTrustStorage = nil, true
	}
	return repo.New(repo.Folder(v.repo), cfg)
}

// add lists a version in the vendor's role and publishes.
func (v *vendor) add(ctx context.Context, version string) (file string, err error) {
	file, name, err := v.product.build(ctx, version)
	if err != nil {
		return "", err
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return file, v.open().Update(ctx, func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/"+name, f, &tuf.Release{Product: "agent", Version: version, Channel: "stable",
			Platform: v.product.platform()})
	})
}

// reviewer is the review centre: it has its own machine, its own keys and its own copy
// of the repository. It receives only published files and drafts from the vendor.
type reviewer struct {
	*keyRing
	*narrator
	repo string
}

func (r *reviewer) open() *repo.Repo {
	return repo.New(repo.Folder(r.repo), &repo.Config{Signers: r.all(), Ledger: r.ledger(), UnsafeLoopback: true})
}

// examine downloads the releases that wait for a decision from a public location, and
// prints their properties. It returns the paths of those that pass.
func (r *reviewer) examine(ctx context.Context, from *location) ([]string, error) {
	pending, err := r.open().Pending(ctx, "review")
	if err != nil {
		return nil, err
	}
	var good []string
	for _, p := range pending {
		if p.Recalled != nil || p.Refused != nil {
			r.say("It recalled or refused %s before. An approval would need a decision of a reviewer, with a reason.", p.Path)
			continue
		}
		file := filepath.Join(filepath.Dir(r.repo), "examined")
		n, sum, err := download(ctx, from.url+p.Name, file)
		if err != nil {
			return nil, err
		}
		r.say("It downloads %s: %d bytes, sha256 %.16s…, as %s lists it: %v.", p.Path, n, sum, strings.Join(p.ListedBy, " and "), n == p.Length && sum == p.SHA256)
		if p.Release != nil {
			r.say("Release fields: product %s, version %s, channel %s, platform %s, sequence %d.",
				p.Release.Product, p.Release.Version, p.Release.Channel, p.Release.Platform, p.Release.Sequence)
		}
		if info, err := buildinfo.ReadFile(file); err == nil {
			r.say("The file is a program that %s built from %s, with %d modules.", info.GoVersion, info.Path, len(info.Deps))
		}
		if n == p.Length && sum == p.SHA256 {
			good = append(good, p.Path)
		}
		if err := os.Remove(file); err != nil {
			return nil, err
		}
	}
	return good, nil
}

// approve makes a draft that lists the paths in the centre's role, signs it, and
// returns its bytes.
func (r *reviewer) approve(ctx context.Context, paths []string) ([]byte, error) {
	d, err := r.open().Stage(ctx, func(tx *repo.Tx) error {
		for _, p := range paths {
			if err := tx.Approve("review", p, &repo.ReviewRecord{Reviewer: "a reviewer"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d.Bytes()
}

// signBytes adds the centre's signatures to a draft of the vendor.
func (r *reviewer) signBytes(ctx context.Context, draft []byte, digest string) ([]byte, error) {
	d, err := r.open().OpenDraft(draft)
	if err != nil {
		return nil, err
	}
	if err := r.sign(ctx, d, digest); err != nil {
		return nil, err
	}
	return d.Bytes()
}

// download saves a file and returns its size and sha256.
func download(ctx context.Context, url, file string) (int64, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, "", fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), resp.Body)
	return n, hex.EncodeToString(h.Sum(nil)), err
}
