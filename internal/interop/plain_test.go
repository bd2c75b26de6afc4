//go:build unix

package interop_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// writer is another implementation's authoring side. It writes the n-th version
// of one and the same repository below dir, as files of a web server:
//
//	1  targets lists top.txt ("top") and delegates to three roles: lib for
//	   lib/*, which lists lib/a.txt ("a") and delegates lib/deep/* to deep, which
//	   lists lib/deep/b.txt ("b"); and bins, by the hash of the path, 4 of them,
//	   which list bin/0 to bin/9 ("0" to "9")
//	2  other root and online keys; top.txt is "top 2"; lib/a.txt is gone
type writer func(t *testing.T, dir string, n int)

// A repository that another implementation wrote is read in plain mode.
func readPlain(t *testing.T, write writer) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	write(t, dir, 1)
	root, err := os.ReadFile(filepath.Join(dir, "metadata", "1.root.json"))
	noErr(t, err)
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	open := func() *client.Client {
		c, err := client.New(root, &client.Config{Dir: state, UnsafeNoReview: true, Retries: -1,
			Sources: []client.Source{client.HTTPSource(server.URL+"/metadata/", server.URL+"/targets/")}})
		noErr(t, err)
		return c
	}
	sees := func(version int64, want map[string]string) {
		t.Helper()
		c := open()
		view, err := c.Refresh(t.Context())
		noErr(t, err)
		if view.Root().Version() != version || len(view.Evidence()) > 0 {
			t.Errorf("root v%d, evidence %q", view.Root().Version(), view.Evidence())
		}
		for path, content := range want {
			a, err := view.Find(t.Context(), path)
			if content == "" {
				if !errors.Is(err, tuf.ErrNoTarget) {
					t.Errorf("%s: %v", path, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			file := filepath.Join(state, "file")
			noErr(t, c.Save(t.Context(), a, file))
			if got, err := os.ReadFile(file); err != nil || string(got) != content {
				t.Errorf("%s: %q, %v", path, got, err)
			}
		}
	}
	want := map[string]string{"top.txt": "top", "lib/a.txt": "a", "lib/deep/b.txt": "b", "lib/none": "", "none": "", "bin/10": ""}
	for i := range 10 {
		want[fmt.Sprintf("bin/%d", i)] = fmt.Sprint(i)
	}
	sees(1, want)
	write(t, dir, 2)
	want["top.txt"], want["lib/a.txt"] = "top 2", ""
	sees(2, want)
	// A rollback to the first state is not accepted.
	noErr(t, os.RemoveAll(dir))
	write(t, dir, 1)
	_, err = open().Refresh(t.Context())
	if failed, ok := errors.AsType[*client.RefreshError](err); !errors.Is(err, client.ErrNoContent) || !ok || failed.Root.Version() != 2 {
		t.Errorf("%v", err)
	}
}

func TestReadGoTUF(t *testing.T) {
	w := &gotufWriter{keys: map[string]signature.Signer{}}
	readPlain(t, w.write)
}

// gotufWriter writes only with go-tuf's metadata package.
type gotufWriter struct{ keys map[string]signature.Signer }

// key is ECDSA if the name says so, else ed25519.
func (w *gotufWriter) key(t *testing.T, name string) (s signature.Signer, k *metadata.Key, id string) {
	if w.keys[name] == nil {
		_, private, err := ed25519.GenerateKey(nil)
		noErr(t, err)
		var key crypto.Signer = private
		if strings.HasPrefix(name, "ecdsa") {
			key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			noErr(t, err)
		}
		w.keys[name], err = signature.LoadSigner(key, crypto.SHA256)
		noErr(t, err)
	}
	public, err := w.keys[name].PublicKey()
	noErr(t, err)
	k, err = metadata.KeyFromPublicKey(public)
	noErr(t, err)
	id, err = k.ID()
	noErr(t, err)
	return w.keys[name], k, id
}

func (w *gotufWriter) write(t *testing.T, dir string, n int) {
	until := time.Now().UTC().Truncate(time.Second).AddDate(0, 1, 0)
	for _, d := range []string{"metadata", "targets/lib/deep", "targets/bin"} {
		noErr(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	snapshot := metadata.Snapshot(until)
	snapshot.Signed.Version = int64(n)

	root := metadata.Root(until)
	signers := map[string][]string{"root": {"ecdsa root", "root"}, "targets": {"targets"}, "snapshot": {"ecdsa snapshot"}, "timestamp": {"timestamp"}}
	oldRoot := signers["root"]
	if n == 2 {
		signers["root"], signers["snapshot"], signers["timestamp"] = []string{"root 2", "ecdsa root 2"}, []string{"snapshot 2"}, []string{"ecdsa timestamp 2"}
	}
	root.Signed.Version = int64(n)
	for role, names := range signers {
		for _, name := range names {
			_, k, _ := w.key(t, name)
			noErr(t, root.Signed.AddKey(k, role))
		}
		root.Signed.Roles[role].Threshold = len(names)
	}
	rootSigners := signers["root"]
	if n == 2 {
		rootSigners = append(rootSigners, oldRoot...)
	}
	for _, name := range rootSigners {
		s, _, _ := w.key(t, name)
		_, err := root.Sign(s)
		noErr(t, err)
	}
	noErr(t, root.ToFile(filepath.Join(dir, "metadata", fmt.Sprintf("%d.root.json", n)), true))

	list := func(md *metadata.Metadata[metadata.TargetsType], path, content string, hashes ...string) {
		f, err := metadata.TargetFile().FromBytes(path, []byte(content), hashes...)
		noErr(t, err)
		md.Signed.Targets[path] = f
		for _, sum := range f.Hashes {
			d, base := filepath.Split(path)
			writeFile(t, content, dir, "targets", d, sum.String()+"."+base)
		}
	}
	delegate := func(by *metadata.Metadata[metadata.TargetsType], key string, role metadata.DelegatedRole) {
		_, k, id := w.key(t, key)
		role.KeyIDs, role.Threshold = []string{id}, 1
		if by.Signed.Delegations == nil {
			by.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
		}
		by.Signed.Delegations.Keys[id] = k
		by.Signed.Delegations.Roles = append(by.Signed.Delegations.Roles, role)
	}
	finish := func(role string, md *metadata.Metadata[metadata.TargetsType], key string) {
		s, _, _ := w.key(t, key)
		_, err := md.Sign(s)
		noErr(t, err)
		noErr(t, md.ToFile(filepath.Join(dir, "metadata", fmt.Sprintf("%d.%s.json", n, role)), n == 1))
		snapshot.Signed.Meta[role+".json"] = metadata.MetaFile(int64(n))
	}
	fresh := func() *metadata.Metadata[metadata.TargetsType] {
		md := metadata.Targets(until)
		md.Signed.Version = int64(n)
		return md
	}

	targets, lib, deep, bins := fresh(), fresh(), fresh(), fresh()
	list(targets, "top.txt", map[int]string{1: "top", 2: "top 2"}[n], "sha512", "sha256")
	delegate(targets, "lib", metadata.DelegatedRole{Name: "lib", Paths: []string{"lib/*", "lib/deep/*"}})
	delegate(targets, "ecdsa bins", metadata.DelegatedRole{Name: "bins", Paths: []string{"bin/*"}, Terminating: true})
	if n == 1 {
		list(lib, "lib/a.txt", "a", "sha512")
	}
	delegate(lib, "deep", metadata.DelegatedRole{Name: "deep", Paths: []string{"lib/deep/*"}})
	list(deep, "lib/deep/b.txt", "b", "sha256")

	_, binKey, binID := w.key(t, "bin")
	succinct := &metadata.SuccinctRoles{KeyIDs: []string{binID}, Threshold: 1, BitLength: 2, NamePrefix: "bin"}
	bins.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{binID: binKey}, SuccinctRoles: succinct}
	inBin := map[string]*metadata.Metadata[metadata.TargetsType]{}
	for _, role := range succinct.GetRoles() {
		inBin[role] = fresh()
	}
	for i := range 10 {
		path := fmt.Sprintf("bin/%d", i)
		list(inBin[succinct.GetRolesForTarget(path)[0].Name], path, fmt.Sprint(i), "sha256")
	}
	for role, md := range inBin {
		finish(role, md, "bin")
	}
	finish("targets", targets, "targets")
	finish("lib", lib, "lib")
	finish("deep", deep, "deep")
	finish("bins", bins, "ecdsa bins")

	s, _, _ := w.key(t, signers["snapshot"][0])
	_, err := snapshot.Sign(s)
	noErr(t, err)
	data, err := snapshot.ToBytes(true)
	noErr(t, err)
	writeFile(t, string(data), dir, "metadata", fmt.Sprintf("%d.snapshot.json", n))
	timestamp := metadata.Timestamp(until)
	timestamp.Signed.Version = int64(n)
	sum := sha256.Sum256(data)
	listed := metadata.MetaFile(int64(n))
	listed.Length, listed.Hashes = int64(len(data)), metadata.Hashes{"sha256": sum[:]}
	timestamp.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": listed}
	s, _, _ = w.key(t, signers["timestamp"][0])
	_, err = timestamp.Sign(s)
	noErr(t, err)
	noErr(t, timestamp.ToFile(filepath.Join(dir, "metadata", "timestamp.json"), true))
}

// tufJS is the directory in which package repo has the npm packages of tuf-js.
const tufJS = "../../repo/testdata/tufjs"

// The models of tuf-js write JSON, names and hash bins in their own way.
func TestReadTUFJS(t *testing.T) {
	rawtuf.TUFJS(t, tufJS)
	keys := filepath.Join(t.TempDir(), "keys.json")
	readPlain(t, func(t *testing.T, dir string, n int) {
		cmd := exec.Command("node", filepath.Join(tufJS, "write.js"), dir, keys, fmt.Sprint(n))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
	var names map[string]json.RawMessage
	data, err := os.ReadFile(keys)
	noErr(t, err)
	noErr(t, json.NewDecoder(bytes.NewReader(data)).Decode(&names))
	if len(names) == 0 {
		t.Error("no keys")
	}
}
