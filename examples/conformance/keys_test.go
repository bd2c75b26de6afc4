package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

func names(digits string) (out []string) {
	for _, d := range digits {
		out = append(out, "k"+string(d))
	}
	return out
}

// step is a version of a role: its keys, its threshold, and its signers.
type step struct {
	keys      string
	threshold int
	signers   string
}

func steps(s ...step) []step { return s }

// A new root needs the old root's threshold and its own; an additional signature does
// no harm.
func TestRootRotation(t *testing.T) {
	for name, tt := range map[string]struct {
		steps []step
		ends  int // the newest root that must be trusted
	}{
		"one key replaced by another":      {steps(step{"1", 1, "1"}, step{"2", 1, "21"}, step{"2", 1, "2"}), 3},
		"signatures of unknown keys":       {steps(step{"1", 1, "314"}, step{"2", 1, "3214"}, step{"2", 1, "324"}), 3},
		"any three of five":                {steps(step{"01234", 3, "024"}, step{"01234", 3, "041"}, step{"01234", 3, "013"}, step{"01234", 3, "234"}), 4},
		"one of five":                      {steps(step{"01234", 3, "024"}, step{"01345", 3, "041"}), 2},
		"one of five, the new one signs":   {steps(step{"01234", 3, "024"}, step{"01345", 3, "0245"}, step{"01345", 3, "045"}), 3},
		"all of five":                      {steps(step{"01234", 3, "024"}, step{"56789", 3, "024567"}, step{"56789", 3, "567"}), 3},
		"threshold up":                     {steps(step{"123", 1, "1"}, step{"123", 2, "12"}), 2},
		"threshold and keys up":            {steps(step{"1", 1, "1"}, step{"12", 2, "12"}), 2},
		"threshold down":                   {steps(step{"123", 2, "12"}, step{"123", 1, "12"}, step{"123", 1, "1"}), 3},
		"no signature by the old key":      {steps(step{"1", 1, "1"}, step{"2", 1, "234"}), 1},
		"no signature by the new key":      {steps(step{"1", 1, "1"}, step{"2", 1, "134"}), 1},
		"fewer than three new keys signed": {steps(step{"01234", 3, "024"}, step{"01345", 3, "024"}), 1},
		"fewer than three old keys signed": {steps(step{"01234", 3, "024"}, step{"01345", 3, "045"}), 1},
		"threshold up, not reached":        {steps(step{"123", 1, "1"}, step{"123", 2, "2"}), 1},
		"threshold down, old not reached":  {steps(step{"123", 2, "12"}, step{"123", 1, "1"}), 1},
		"the third fails after the second": {steps(step{"1", 1, "1"}, step{"2", 1, "12"}, step{"3", 1, "3"}), 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for i, s := range tt.steps {
				edit := func() { w.role("root", s.threshold, names(s.keys), names(s.signers)) }
				if i > 0 {
					w.repo.NextRoot(edit)
				} else {
					edit()
					w.repo.PublishRoot()
				}
			}
			w.init(w.repo.Files["1.root.json"])
			exit := 0
			if tt.ends < len(tt.steps) {
				exit = 1
			}
			w.exits(exit, append(w.urls(), "refresh")...)
			want := at(tt.ends, 6, 6, 5)
			if exit == 1 {
				want = at(tt.ends, 0, 0, 0)
			}
			w.trusts(want)
			if got := w.read(w.md + "/root.json"); string(got) != string(w.repo.Files[fmt.Sprintf("%d.root.json", tt.ends)]) {
				t.Error("root.json has other bytes")
			}
		})
	}
}

// The other roles need the threshold that the newest root specifies.
func TestRotationBelowRoot(t *testing.T) {
	for name, tt := range map[string]struct {
		step
		exit int
	}{
		"another key":                        {step{"2", 1, "2"}, 0},
		"signatures of unknown keys":         {step{"1", 1, "314"}, 0},
		"three of five":                      {step{"01234", 3, "134"}, 0},
		"no signature by the new key":        {step{"2", 1, "134"}, 1},
		"an unknown key for a third":         {step{"01345", 3, "024"}, 1},
		"too few":                            {step{"01345", 3, "04"}, 1},
		"threshold above the number of keys": {step{"0123", 5, "0123"}, 1},
	} {
		for _, role := range []string{"timestamp", "snapshot", "targets"} {
			t.Run(name+"/"+role, func(t *testing.T) {
				w := newWorld(t)
				w.repo.NextRoot(func() { w.role(role, tt.threshold, names(tt.keys), names(tt.signers)) })
				w.publish("targets")
				w.exits(tt.exit, append(w.urls(), "refresh")...)
				want := at(2, 7, 7, 6)
				if tt.exit == 1 {
					want = map[string]map[string]int{"timestamp": at(2, 0, 0, 0), "snapshot": at(2, 7, 0, 0), "targets": at(2, 7, 7, 0)}[role]
				}
				w.trusts(want)
			})
		}
	}
}

// resign lets edit change the signatures of a file.
func (w *world) resign(file string, edit func(sigs []any) []any) {
	var md doc
	if err := json.Unmarshal(w.repo.Files[file], &md); err != nil {
		w.t.Fatal(err)
	}
	md["signatures"] = edit(md["signatures"].([]any))
	w.serveFile(file, rawtuf.Marshal(md))
}

// One key counts as one signature, however often it is listed and signs.
func TestKeysCountOnce(t *testing.T) {
	for name, threshold := range map[string]int{"many times in the role, one is enough": 1, "many times, and three needed": 3} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.repo.NextRoot(func() {
				w.role("snapshot", threshold, []string{"snapshot", "snapshot", "snapshot", "snapshot"}, []string{"snapshot"})
			})
			w.resign("6.snapshot.json", func(sigs []any) []any { return append(sigs, sigs[0], sigs[0], sigs[0]) })
			w.exits(1, append(w.urls(), "refresh")...)
			if got := w.askedRoles(); len(got) > 0 {
				t.Errorf("requested %q", got)
			}
		})
	}
	t.Run("the same signature twice", func(t *testing.T) { // specification, 4.2.1: unique
		w := newWorld(t)
		w.resign("6.snapshot.json", func(sigs []any) []any { return append(sigs, sigs[0]) })
		w.refresh(1, "2.root", "timestamp", "6.snapshot")
		w.trusts(at(1, 6, 0, 0))
	})
}

// A wrong signature alongside enough right ones is ignored.
func TestWrongSignatureBesideARightOne(t *testing.T) {
	w := newWorld(t)
	w.repo.NextRoot(func() { w.role("timestamp", 1, []string{"timestamp", "k1"}, []string{"timestamp", "k1"}) })
	old := hex.EncodeToString(w.repo.Signature(doc{"another": "document"}, "timestamp"))
	for _, sig := range []string{old, "", "not hex", "00"} {
		w.publish()
		w.resign("timestamp.json", func(sigs []any) []any { sigs[0].(doc)["sig"] = sig; return sigs })
		w.exits(0, append(w.urls(), "refresh")...)
		v := w.repo.Roles["timestamp"]["version"].(int)
		w.trusts(at(2, v, v, 5))
	}
}

// These are the key types that the specification names.
func TestKinds(t *testing.T) {
	for name, keytype := range map[string]string{"rsa": "rsassa-pss-sha256", "ecdsa": "ecdsa-sha2-nistp256", "ed25519": "ed25519"} {
		t.Run(keytype, func(t *testing.T) {
			w := newWorld(t)
			switch name {
			case "rsa":
				k, err := rsa.GenerateKey(rand.Reader, 3072)
				if err != nil {
					t.Fatal(err)
				}
				w.repo.Keys["new"] = k
			case "ecdsa":
				k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				w.repo.Keys["new"] = k
			}
			if _, k := w.repo.KeyDoc("new"); k["scheme"] != keytype {
				t.Fatalf("the key is %v", k)
			}
			both := []string{"root", "new"}
			w.repo.NextRoot(func() { w.role("root", 2, both, both) })
			w.refresh(0, "2.root", "3.root", "timestamp", "6.snapshot", "5.targets")
			w.repo.NextRoot(func() {})
			w.resign("3.root.json", func(sigs []any) []any {
				other := w.repo.Signature(doc{"another": "document"}, "new")
				sigs[1].(doc)["sig"] = hex.EncodeToString(other)
				return sigs
			})
			w.refresh(1, "3.root")
			w.trusts(at(2, 6, 6, 5))
			// The key id differs only in the form that its writer chose.
			w.repo.NextRoot(func() {})
			for _, role := range []string{"3.root.json", "4.root.json"} {
				w.serveFile(role, nil)
			}
			w.refresh(0, "3.root", "timestamp")
		})
	}
}

// A key of an unknown type in root is ignored, and does not cause an error.
func TestUnknownKind(t *testing.T) {
	w := newWorld(t)
	w.repo.NextRoot(func() {
		id := strings.Repeat("ab", 32)
		rawtuf.At(w.repo.Root, "keys")[id] = doc{"keytype": "sphincs", "scheme": "sphincs-128s", "keyval": doc{"public": "00"}}
		roles := rawtuf.At(w.repo.Root, "roles", "timestamp")
		roles["keyids"] = append(roles["keyids"].([]any), id)
	})
	w.refresh(0, "2.root", "3.root", "timestamp", "6.snapshot", "5.targets")
}
