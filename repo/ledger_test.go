package repo_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/signing/ledgertest"
	"github.com/visum-dev/visum/tuf"
)

func TestLedgers(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) func() signing.Ledger{
		"memory": func(*testing.T) func() signing.Ledger {
			l := signing.MemLedger()
			return func() signing.Ledger { return l }
		},
		"folder": func(t *testing.T) func() signing.Ledger {
			dir := filepath.Join(t.TempDir(), "ledger")
			return func() signing.Ledger { return signing.DirLedger(dir) }
		},
		"storage": func(*testing.T) func() signing.Ledger {
			m := newMemory()
			return func() signing.Ledger { return signing.StorageLedger(m) }
		},
	} {
		t.Run(name, func(t *testing.T) { ledgertest.Run(t, open) })
	}
}

// machine is one signer's machine: it has the true pin, its own ledger, and a view of
// a storage.
type machine struct {
	w      *world
	ledger *memory
	store  repo.Storage
}

func (w *world) machine() *machine { return &machine{w, newMemory(), w.Store} }

func (m *machine) open(keys ...string) *repo.Repo {
	cfg := m.w.Config()
	cfg.Ledger, cfg.Pin = signing.StorageLedger(m.ledger), m.w.Pin()
	for _, k := range keys {
		cfg.Signers = append(cfg.Signers, m.w.Signer(k))
	}
	return repo.New(m.store, cfg)
}

// adopts records the published state in the machine's ledger.
func (m *machine) adopts() *machine {
	m.w.T.Helper()
	digest, err := m.w.Open().AdoptDigest(m.w.T.Context())
	noErr(m.w.T, err)
	noErr(m.w.T, m.open().Adopt(m.w.T.Context(), digest))
	return m
}

// refuses checks that fn fails, and that neither storage nor ledger changes.
func (m *machine) refuses(want error, fn func() error) {
	m.w.T.Helper()
	before := m.ledger.Copy()
	m.w.Refused(want, fn)
	if !maps.EqualFunc(before.Files, m.ledger.Files, bytes.Equal) {
		m.w.T.Fatal("refused, but recorded")
	}
}

// calls are all calls of a handle that use a repository. d is a draft of it.
func calls(t *testing.T, r *repo.Repo, d *repo.Draft) map[string]func() error {
	ctx := t.Context()
	add := func(tx *repo.Tx) error { return add("9")(tx) }
	return map[string]func() error{
		"Pin":           func() error { _, err := r.Pin(ctx); return err },
		"Pins":          func() error { _, err := r.Pins(ctx); return err },
		"Chain":         func() error { _, err := r.Chain(ctx); return err },
		"RootFiles":     func() error { _, err := r.RootFiles(ctx); return err },
		"Status":        func() error { _, err := r.Status(ctx, time.Time{}); return err },
		"Pending":       func() error { _, err := r.Pending(ctx, "review"); return err },
		"Statements":    func() error { _, err := r.Statements(ctx, "agent/1"); return err },
		"StatementsIn":  func() error { _, err := r.StatementsIn(ctx, d); return err },
		"Diff":          func() error { _, err := r.Diff(ctx, d); return err },
		"Export":        func() error { return r.Export(ctx, d, filepath.Join(t.TempDir(), "x")) },
		"Prune":         func() error { _, err := r.Prune(ctx, nil); return err },
		"Refresh":       func() error { return r.Renew(ctx) },
		"Update":        func() error { return r.Update(ctx, add) },
		"Stage":         func() error { _, err := r.Stage(ctx, add); return err },
		"StageOn":       func() error { _, err := r.StageOn(ctx, d, add); return err },
		"StageRecovery": func() error { _, err := r.StageRecovery(ctx, repo.RecoveryOptions{Reason: "x"}, add); return err },
		"RenewRecovery": func() error { _, err := r.RenewRecovery(ctx, repo.RecoveryOptions{Reason: "x"}); return err },
		"Publish":       func() error { return r.Publish(ctx, d) },
		"PlanRoots":     func() error { _, err := r.PlanRoots(ctx); return err },
		"AdoptDigest":   func() error { _, err := r.AdoptDigest(ctx); return err },
		"Adopt":         func() error { return r.Adopt(ctx, "x") },
		"LedgerInfo":    func() error { _, err := r.LedgerInfo(ctx); return err },
		"ExportLedger":  func() error { _, err := r.ExportLedger(ctx); return err },
		"ImportLedger":  func() error { return r.ImportLedger(ctx, []byte("x")) },
	}
}

// Without a trust anchor nothing is read, reported, signed or written.
func TestNoPin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	d, err := w.Open(vendorKeys...).Stage(t.Context(), add("2"))
	noErr(t, err)
	cfg := &repo.Config{Now: func() time.Time { return w.Now }}
	for _, k := range w.Keys {
		cfg.Signers = append(cfg.Signers, k)
	}
	for name, call := range calls(t, repo.New(w.Store, cfg), d) {
		t.Run(name, func(t *testing.T) { w.Refused(signing.ErrNoPin, call) })
	}
	// A pin is enough to read, not to sign.
	cfg.Pin = w.Pin()
	r := repo.New(w.Store, cfg)
	if _, err := r.Pending(t.Context(), "review"); err != nil {
		t.Error(err)
	}
	w.Refused(signing.ErrNoLedger, func() error { return r.Update(t.Context(), add("2")) })
	w.Refused(signing.ErrNoLedger, func() error { return r.Renew(t.Context()) })
	// A draft that no handle opened signs nothing.
	data, err := d.Bytes()
	noErr(t, err)
	loose, err := repo.OpenDraft(data)
	noErr(t, err)
	wantErr(t, loose.Sign(t.Context(), w.Signer("vendor-release")), signing.ErrNoPin)
	if _, err := loose.Payload("vendor-agent"); !errors.Is(err, signing.ErrNoPin) {
		t.Error(err)
	}
}

// forgery is a repository that an attacker made: it claims the true identity, and its
// roles list the true public keys alongside those of the attacker.
func (w *world) forgery() *world {
	w.T.Helper()
	f := &world{&repotest.World{T: w.T, Now: w.Now, Store: newMemory(), Keys: map[string]tuf.Signer{}}}
	for _, name := range []string{"timestamp", "snapshot", "targets", "vendor-release", "vendor-1", "vendor-2"} {
		f.Keys[name] = w.Signer(name)
	}
	f.Update(func(tx *repo.Tx) error {
		r := tx.Root()
		err := f.Define(tx)
		r.RepoID = w.Root().Charter().RepoID()
		r.Classes[0].Roles[1].Keys.Keys = append(r.Classes[0].Roles[1].Keys.Keys, w.Signer("review-release").Key())
		return err
	})
	f.Update(add("1"))
	f.Update(approve("1"))
	return f
}

// A repository that an attacker put in place of the true one is refused by every call,
// whether the anchor is a pin or the ledger alone.
func TestForgedRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(approve("1"))
	f := w.forgery()
	d, err := f.Open(vendorKeys...).Stage(t.Context(), add("2"))
	noErr(t, err)
	m := w.machine().adopts()
	m.store = f.Store
	pinned := m.open("review-release", "timestamp")
	cfg := w.Config()
	cfg.Signers = append(cfg.Signers, w.Signer("review-release"), w.Signer("timestamp"))
	remembered := repo.New(f.Store, cfg)
	for anchor, r := range map[string]*repo.Repo{"pin": pinned, "ledger": remembered} {
		for name, call := range calls(t, r, d) {
			t.Run(anchor+" "+name, func(t *testing.T) { f.Refused(tuf.ErrUntrusted, call) })
		}
	}
	// Another identity selects another ledger, which is empty.
	foreign := newWorld(t)
	f.Refused(signing.ErrNoPin, func() error { _, err := repo.New(foreign.Store, cfg).Pin(t.Context()); return err })
	// The true repository can be edited as before.
	noErr(t, m.w.Open("vendor-release", "timestamp", "snapshot").Update(t.Context(), add("2")))
}

// appendSignatures adds signatures to a file, which needs no key of the repository.
func appendSignatures(t *testing.T, file []byte, signers ...tuf.Signer) []byte {
	t.Helper()
	var doc struct {
		Signatures []map[string]string `json:"signatures"`
		Signed     json.RawMessage     `json:"signed"`
	}
	noErr(t, json.Unmarshal(file, &doc))
	for _, s := range signers {
		if slices.ContainsFunc(doc.Signatures, func(have map[string]string) bool { return have["keyid"] == s.Key().ID() }) {
			continue
		}
		sig, err := s.Sign(t.Context(), doc.Signed) // our own files are canonical
		noErr(t, err)
		doc.Signatures = append(doc.Signatures, map[string]string{"keyid": s.Key().ID(), "sig": hex.EncodeToString(sig)})
	}
	out, err := json.Marshal(doc)
	noErr(t, err)
	return out
}

// A forged root 1 is succeeded by the true root 2, because its forger adds own
// signatures to that file. Roots before the pin's root are believed only if
// prev_root_sha256 names them: no claim is derived from a forged one.
func TestOlderRootsAreBelievedBackwards(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(approve("1"))
	w.Update(announce) // so that its charter has a seq that another root can lead to
	w.Now = w.Now.Add(time.Hour)
	w.Update(renewRoot)
	cfg := w.Config()
	cfg.Ledger, cfg.Pin = nil, w.Root().Bytes() // the bytes of root 3, which are not a pin for products
	chain, err := repo.New(w.Store, cfg).Chain(t.Context())
	if err != nil || len(chain) != 3 {
		t.Fatal("a valid chain is not accepted from root 1 on:", len(chain), err)
	}

	f := w.forgery()
	attackers := []tuf.Signer{f.Signer("vendor-1"), f.Signer("vendor-2"), f.Signer("review-1"), f.Signer("review-2")}
	w.Store.Files["metadata/1.root.json"] = f.Store.Files["metadata/1.root.json"]
	w.Store.Files["metadata/2.root.json"] = appendSignatures(t, w.Store.Files["metadata/2.root.json"], attackers...)
	forged, err := tuf.OpenRoot(w.Store.Files["metadata/1.root.json"], nil)
	noErr(t, err)
	if _, err := forged.Next(w.Store.Files["metadata/2.root.json"]); err != nil {
		t.Fatal("the forgery must lead to the true root:", err)
	}
	r := repo.New(w.Store, cfg)
	chain, err = r.Chain(t.Context())
	if err != nil || len(chain) != 2 || chain[0].Version() != 2 {
		t.Fatalf("%d roots, %v", len(chain), err)
	}
	if pins, err := r.Pins(t.Context()); err != nil || len(pins) != 2 {
		t.Errorf("%d pins, %v", len(pins), err)
	}
	files, err := r.RootFiles(t.Context())
	if err != nil || len(files) != 3 || !bytes.Equal(files[0].Data, w.Store.Files["metadata/1.root.json"]) {
		t.Errorf("served: %d files, %v", len(files), err)
	}
	// A damaged or missing early root does not matter to readers with a later pin.
	for _, data := range [][]byte{[]byte("{"), nil} {
		if w.Store.Files["metadata/1.root.json"] = data; data == nil {
			delete(w.Store.Files, "metadata/1.root.json")
		}
		if chain, err := r.Chain(t.Context()); err != nil || chain[len(chain)-1].Version() != 3 {
			t.Errorf("%v", err)
		}
	}
}

// A forged root before the pin does not make a statement valid that a forged party
// signed.
func TestNothingIsVerifiedUnderAnOlderForgedRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(func(tx *repo.Tx) error { return tx.Approve("review", "agent/1", &repo.ReviewRecord{}) })
	w.Now = w.Now.Add(time.Hour)
	w.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	pin, err := w.Open().Pin(t.Context())
	noErr(t, err)
	name := "targets/agent/" + sum("agent 1") + ".1.reviews/review-agent.1.json"
	if w.Store.Files[name] == nil {
		t.Fatal("no statement at", name)
	}
	findings := func(store *memory) (out []string) {
		report, err := mirror.Verify(t.Context(), store, pin, options(w.Config()))
		noErr(t, err)
		for _, f := range report.Findings {
			if f.Name == name {
				out = append(out, string(f.Kind))
			}
		}
		return out
	}
	if got := findings(w.Store); len(got) != 0 {
		t.Fatalf("the true statement: %q", got)
	}
	f := w.forgery()
	f.Update(func(tx *repo.Tx) error { return tx.Approve("review", "agent/1", &repo.ReviewRecord{}) })
	bad := w.Store.Copy()
	bad.Files["metadata/1.root.json"] = f.Store.Files["metadata/1.root.json"]
	bad.Files["metadata/2.root.json"] = appendSignatures(t, bad.Files["metadata/2.root.json"], f.Signer("vendor-1"), f.Signer("vendor-2"), f.Signer("review-1"), f.Signer("review-2"))
	if bad.Files[name] = f.Store.Files[name]; bad.Files[name] == nil {
		t.Fatal("the forged repository has no statement")
	}
	if got := findings(bad); !slices.Contains(got, "untrusted") {
		t.Errorf("a statement of the forged centre: %q", got)
	}
}

// An empty ledger does not permit signing: its owner first compares a digest with
// another machine.
func TestAdopt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(approve("1"))
	m := w.machine()
	r := m.open("review-release")
	m.refuses(signing.ErrNoLedger, func() error {
		_, err := r.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("review") })
		return err
	})
	digest, err := w.Open().AdoptDigest(t.Context())
	noErr(t, err)
	_, err = r.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("review") })
	if !strings.Contains(err.Error(), digest) {
		t.Errorf("%v does not show %s", err, digest)
	}
	m.refuses(repo.ErrOtherDraft, func() error { return r.Adopt(t.Context(), strings.Replace(digest, digest[:4], "aaaa", 1)) })
	m.refuses(repo.ErrOtherDraft, func() error { return r.Adopt(t.Context(), "") })
	noErr(t, r.Adopt(t.Context(), digest))
	m.refuses(signing.ErrLedger, func() error { return r.Adopt(t.Context(), digest) })
	if _, err := r.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("review") }); err != nil {
		t.Error(err)
	}
	// The digest covers the own roles and the newest root.
	w.Update(add("2"))
	if again, err := w.Open().AdoptDigest(t.Context()); err != nil || again == digest {
		t.Error("another vendor-agent, the same digest:", err)
	}
	cfg := w.Config()
	cfg.Party = "review"
	mine := func() string {
		d, err := repo.New(w.Store, cfg).AdoptDigest(t.Context())
		noErr(t, err)
		return d
	}
	before := mine()
	w.Update(add("3"))
	if mine() != before {
		t.Error("the vendor's role is not the review party's own")
	}
	w.Update(approve("3"))
	if mine() == before {
		t.Error("another review-agent, the same digest")
	}
	before = mine()
	w.Now = w.Now.Add(time.Hour)
	w.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	if mine() == before {
		t.Error("another root, the same digest")
	}
}

// A ledger that is damaged, belongs to another repository, or has a later format signs
// nothing; after a restore, signing continues.
func TestDamagedLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.machine().adopts()
	r := m.open("review-release")
	resign := func() error {
		_, err := r.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("review") })
		return err
	}
	noErr(t, resign())
	good := m.ledger.Copy()
	name := slices.Collect(maps.Keys(good.Files))[0]
	doc := good.Files[name]
	foreign := newWorld(t)
	for what, bad := range map[string][]byte{
		"empty":          {},
		"cut":            doc[:len(doc)/2],
		"one digit":      bytes.Replace(doc, []byte(`"version":1`), []byte(`"version":2`), 1),
		"zeros":          make([]byte, len(doc)),
		"of another":     foreign.Ledger.Copy().Files[slices.Collect(maps.Keys(foreign.Ledger.Files))[0]],
		"later format":   bytes.Replace(doc, []byte(`"visum-ledger":1`), []byte(`"visum-ledger":2`), 1),
		"unknown member": bytes.Replace(doc, []byte(`"visum-ledger":1`), []byte(`"later":1,"visum-ledger":1`), 1),
		"twice":          bytes.Replace(doc, []byte(`"visum-ledger":1`), []byte(`"visum-ledger":1,"visum-ledger":1`), 1),
		"list":           []byte("[]"),
	} {
		t.Run(what, func(t *testing.T) {
			if bytes.Equal(bad, doc) {
				t.Fatal("nothing was damaged")
			}
			m.ledger.Files[name] = bad
			m.refuses(signing.ErrLedger, resign)
			m.ledger.Files[name] = doc
			noErr(t, resign())
		})
	}
}

// The storage of the ledger fails: no signature is made.
func TestLedgerFails(t *testing.T) {
	t.Parallel()
	start := newWorld(t)
	start.Update(add("1"))
	start.Pin()
	for _, after := range []bool{false, true} {
		w := start.Copy()
		m := w.machine().adopts()
		unsigned, err := m.open().Stage(t.Context(), approve("1"))
		noErr(t, err)
		d := travel(t, unsigned)
		killed := m.ledger.Kill(1, after)
		if err := d.Sign(t.Context(), w.Signer("review-release")); !errors.Is(err, errKilled) || !killed() {
			t.Fatalf("after its effect %t: %v", after, err)
		}
		if got := d.Missing(); len(got) == 0 {
			t.Fatal("signed without a record")
		}
		m.ledger.Before, m.ledger.After = nil, nil
		noErr(t, d.Sign(t.Context(), w.Signer("review-release")))
		noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))
		w.Sees("root 1 agent/1")
	}
}

// Records of another signer of the party are merged; no local record is lost.
func TestImportLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(approve("1"))
	ann, ben := w.machine().adopts(), w.machine().adopts()
	recall, err := ann.open("review-release").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Recall("review", "agent/1", repo.RecallRecord{Reason: "it leaks"}) })
	noErr(t, err)
	_ = recall // it is signed and not published
	resign := func(tx *repo.Tx) error { return tx.Renew("review") }
	if _, err := ben.open("review-release").Stage(t.Context(), resign); err != nil {
		t.Fatal("Ben's ledger lacks the recall:", err)
	}
	data, err := ann.open().ExportLedger(t.Context())
	noErr(t, err)
	noErr(t, ben.open().ImportLedger(t.Context(), data))
	ben.refuses(signing.ErrTakenBack, func() error { _, err := ben.open("review-release").Stage(t.Context(), resign); return err })
	// A new machine starts with a copy.
	cleo := w.machine()
	noErr(t, cleo.open().ImportLedger(t.Context(), data))
	cleo.refuses(signing.ErrTakenBack, func() error { _, err := cleo.open("review-release").Stage(t.Context(), resign); return err })
	// Old records neither add nor remove anything.
	old, err := w.machine().adopts().open().ExportLedger(t.Context())
	noErr(t, err)
	noErr(t, cleo.open().ImportLedger(t.Context(), old))
	cleo.refuses(signing.ErrTakenBack, func() error { _, err := cleo.open("review-release").Stage(t.Context(), resign); return err })

	foreign := newWorld(t)
	theirs, err := foreign.Open().ExportLedger(t.Context())
	noErr(t, err)
	for what, bad := range map[string][]byte{"foreign": theirs, "cut": data[:100], "nothing": nil} {
		t.Run(what, func(t *testing.T) {
			ben.refuses(signing.ErrLedger, func() error { return ben.open().ImportLedger(t.Context(), bad) })
		})
	}
	// The other ledger has seen a root that is not published here.
	ahead := w.Copy()
	ahead.Now = ahead.Now.Add(time.Hour)
	ahead.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	further, err := ahead.Open().ExportLedger(t.Context())
	noErr(t, err)
	ben.refuses(signing.ErrRootBehind, func() error { return ben.open().ImportLedger(t.Context(), further) })
}

// A ledger in a directory has one file for each repository.
func TestDirLedgerFile(t *testing.T) {
	w, dir := newWorld(t), filepath.Join(t.TempDir(), "ledger")
	cfg := w.Config()
	cfg.Ledger, cfg.Pin = signing.DirLedger(dir), w.Pin()
	r := repo.New(w.Store, cfg)
	digest, err := r.AdoptDigest(t.Context())
	noErr(t, err)
	noErr(t, r.Adopt(context.Background(), digest))
	if _, err := os.Stat(filepath.Join(dir, w.Root().Charter().RepoID()+".ledger.json")); err != nil {
		t.Error(err)
	}
}
