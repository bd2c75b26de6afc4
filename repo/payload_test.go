package repo_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
)

// A repository is created with keys that only openssl opens: payloads are exported,
// and signatures imported.
func TestSignedElsewhere(t *testing.T) {
	t.Parallel()
	openssl := rawtuf.Program(t, "openssl", "openssl")
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	w := emptyWorld(t)
	kinds := map[string]struct{ make, sign []string }{
		"ed25519": {[]string{"-algorithm", "ed25519"}, []string{"pkeyutl", "-sign", "-rawin", "-in", file("payload"), "-inkey"}},
		"P-256": {[]string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
			[]string{"pkeyutl", "-sign", "-rawin", "-digest", "sha256", "-in", file("payload"), "-inkey"}},
		"P-384": {[]string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"}, []string{"dgst", "-sha384", "-sign"}},
		"RSA": {[]string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
			[]string{"dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest", "-sign"}},
	}
	made := map[string]tuf.Key{}
	for name, kind := range kinds {
		rawtuf.Run(t, "", openssl, append(append([]string{"genpkey"}, kind.make...), "-out", file(name))...)
		rawtuf.Run(t, "", openssl, "pkey", "-in", file(name), "-pubout", "-out", file(name+".pub"))
		var err error
		made[name], _, err = keys.ReadPublic(file(name + ".pub"))
		noErr(t, err)
	}
	draft, err := w.Open().Stage(t.Context(), func(tx *repo.Tx) error {
		err := w.Define(tx)
		tx.Root().Parties[0].Keys = []tuf.Key{made["ed25519"], made["P-256"]}
		tx.Root().Parties[1].Keys = []tuf.Key{made["P-384"], made["RSA"]}
		return err
	})
	noErr(t, err)
	for _, s := range w.Keys { // the release roles' and the online ones
		_ = draft.Sign(t.Context(), s)
	}
	travels, err := draft.Bytes()
	noErr(t, err)
	draft, err = w.Open("timestamp").OpenDraft(travels)
	noErr(t, err)

	payload, err := draft.PayloadFirst("root", draft.Digest())
	noErr(t, err)
	payload[0] ^= 1 // the caller's own
	if payload, err = draft.Payload("root"); err != nil || payload[0] != '{' {
		t.Fatal(err)
	}
	noErr(t, os.WriteFile(file("payload"), payload, 0o600))
	sigs := map[string][]byte{}
	for name, kind := range kinds {
		args := append(append([]string{}, kind.sign...), file(name), "-out", file("sig"))
		if kind.sign[0] == "dgst" {
			args = append(args, file("payload"))
		}
		rawtuf.Run(t, "", openssl, args...)
		sigs[name], err = os.ReadFile(file("sig"))
		noErr(t, err)
	}

	before, err := draft.Bytes()
	noErr(t, err)
	wantErr(t, draft.AddSignature("root", made["P-256"].ID(), sigs["ed25519"]), repo.ErrSignature)
	wantErr(t, draft.AddSignature("root", made["P-256"].ID(), nil), repo.ErrSignature)
	wantErr(t, draft.AddSignature("targets", w.Signer("targets").Key().ID(), sigs["ed25519"]), repo.ErrSignature)
	wantErr(t, draft.AddSignature("root", w.Signer("targets").Key().ID(), sigs["ed25519"]), repo.ErrNoPart)
	wantErr(t, draft.AddSignature("unknown", made["P-256"].ID(), sigs["P-256"]), repo.ErrNoPart)
	_, err = draft.Payload("unknown")
	wantErr(t, err, repo.ErrNoPart)
	if after, err := draft.Bytes(); err != nil || string(after) != string(before) {
		t.Fatal("a refused signature changed the draft")
	}

	for name, sig := range sigs {
		noErr(t, draft.AddSignature("root", made[name].ID(), sig))
		noErr(t, draft.AddSignature("root", made[name].ID(), sig)) // replaces
		sig[0] ^= 1                                                // the caller's own
	}
	if missing := draft.Missing(); len(missing) != 0 {
		t.Fatal(missing)
	}
	noErr(t, w.Open().Publish(t.Context(), draft))
	w.Sees("root 1")
}

// A draft may lie about the key of an id; then no signature is accepted for it.
func TestSignatureForAnotherKeysID(t *testing.T) {
	w := newWorld(t)
	draft, err := w.Open("vendor-1").Stage(t.Context(), add("1"))
	noErr(t, err)
	data, err := draft.Bytes()
	noErr(t, err)
	honest, attacker := w.Signer("vendor-release").Key(), w.Signer("attacker")
	draft, err = w.Open("vendor-1").OpenDraft([]byte(strings.ReplaceAll(string(data), honest.Public, attacker.Key().Public)))
	noErr(t, err)
	payload, err := draft.Payload("vendor-agent")
	noErr(t, err)
	sig, err := attacker.Sign(t.Context(), payload)
	noErr(t, err)
	wantErr(t, draft.AddSignature("vendor-agent", honest.ID(), sig), repo.ErrSignature)
}

// A root key in another role is a mistake, which every call refuses.
func TestRootKeysSignRootsOnly(t *testing.T) {
	w := newWorld(t)
	for name, give := range map[string]func(r *repo.Root, k []tuf.Key){
		"timestamp": func(r *repo.Root, k []tuf.Key) { r.Timestamp.Keys = k },
		"snapshot":  func(r *repo.Root, k []tuf.Key) { r.Snapshot.Keys = k },
		"targets":   func(r *repo.Root, k []tuf.Key) { r.Targets.Keys = append(r.Targets.Keys, k...) },
		"release":   func(r *repo.Root, k []tuf.Key) { r.Classes[0].Roles[1].Keys.Keys = k },
	} {
		for _, key := range []string{"vendor-1", "review-2"} {
			t.Run(name+" "+key, func(t *testing.T) {
				w.Refused(repo.ErrKeyReuse, func() error {
					return w.Try(func(tx *repo.Tx) error { give(tx.Root(), w.Public(key)); return nil })
				})
			})
		}
	}
}

// One key can't sign for both parties by way of a product either.
func TestProductKeysAreTheirParties(t *testing.T) {
	w := newWorld(t)
	for _, key := range []string{"vendor-1", "review-2", "review-release"} {
		w.Refused(repo.ErrKeyReuse, func() error {
			return w.Try(func(tx *repo.Tx) error {
				return tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team-*"}, Keys: repo.Keys{Keys: w.Public("team", key)}})
			})
		})
	}
	w.Update(func(tx *repo.Tx) error {
		return tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team-*"}, Keys: repo.Keys{Keys: w.Public("team", "vendor-release")}})
	})
}
