package witness_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/witness"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

const (
	origin = "vendor.example/visum/0f6c/1"
	name   = "witness.example/w1"
	start  = 1_790_000_000 // seconds
)

// branch is a history of a log, one entry after the other.
type branch struct {
	*rawlog.Log
	trees []*tlog.Tree // by size
}

// grown returns a log of n entries. Logs with the same salt have the same entries, and all
// logs have the same entries before common.
func grown(origin, salt string, common, n int) *branch {
	b := &branch{Log: rawlog.NewLog(origin)}
	b.trees = append(b.trees, b.Tree)
	for i := range n {
		entry := fmt.Sprintf("entry %d", i)
		if i >= common {
			entry += salt
		}
		b.Append([]byte(entry))
		b.trees = append(b.trees, b.Tree)
	}
	return b
}

func (b *branch) text(size int64) string {
	return tlog.CheckpointText(b.Name, size, b.trees[size].Root)
}

func (b *branch) note(size int64) string {
	return b.text(size) + "\n" + b.Sign(b.text(size), time.Time{})
}

// request is the body of a request with a proof from the tree of size old.
func (b *branch) request(old, size int64) string {
	proof, err := b.trees[size].Consistency(old)
	if err != nil {
		panic(err)
	}
	return body(old, proof, b.note(size))
}

func body(old int64, proof []tlog.Hash, note string) string {
	s := "old " + strconv.FormatInt(old, 10) + "\n"
	for _, h := range proof {
		s += base64.StdEncoding.EncodeToString(h[:]) + "\n"
	}
	return s + "\n" + note
}

// key is the key of a witness. It records what it signs.
type key struct {
	tuf.Signer
	mu      sync.Mutex
	signed  []string // messages
	failing error
	before  func() // each signature
}

func newKey() *key { return &key{Signer: repotest.Signer(name)} }

func (k *key) Sign(ctx context.Context, payload []byte) ([]byte, error) {
	if k.before != nil {
		k.before()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failing != nil {
		return nil, k.failing
	}
	k.signed = append(k.signed, string(payload))
	return k.Signer.Sign(ctx, payload)
}

// intact checks the invariants over all that the key ever signed: all trees are of one
// branch, and a larger tree has no earlier time.
func (k *key) intact(t testing.TB, branches ...*branch) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	type signed struct {
		size, time int64
		in         map[int]bool // branches
	}
	var all []signed
	for _, m := range k.signed {
		header, rest, _ := strings.Cut(m, "\n")
		line, text, _ := strings.Cut(rest, "\n")
		at, err := strconv.ParseInt(strings.TrimPrefix(line, "time "), 10, 64)
		_, size, root, err2 := tlog.ParseCheckpointText(text)
		if header != "cosignature/v1" || errors.Join(err, err2) != nil {
			t.Fatalf("the key signed %q", m)
		}
		s := signed{size, at, map[int]bool{}}
		for i, b := range branches {
			if int(size) < len(b.trees) && b.trees[size].Root == root {
				s.in[i] = true
			}
		}
		all = append(all, s)
	}
	for i, a := range all {
		for _, b := range all[:i] {
			together := false
			for n := range a.in {
				together = together || b.in[n]
			}
			if !together {
				t.Fatalf("the key signed two trees, of %d and %d entries, that are not of one log", b.size, a.size)
			}
			if a.size < b.size && a.time > b.time || b.size < a.size && b.time > a.time {
				t.Fatalf("the key signed %d entries at %d, and %d entries at %d", b.size, b.time, a.size, a.time)
			}
		}
	}
}

// world is a witness with a log and a fork of it after 3 entries.
type world struct {
	t     testing.TB
	key   *key
	store storage.Storage
	mem   *repotest.Memory
	now   int64 // seconds
	check func(context.Context, witness.Growth) error
	*witness.Witness
}

var log, fork = grown(origin, "", 0, 9), grown(origin, " of a fork", 3, 9)

func newWorld(t testing.TB) *world {
	w := &world{t: t, key: newKey(), mem: repotest.NewMemory(), now: start}
	w.store = w.mem
	w.restart()
	return w
}

// restart starts a new process.
func (w *world) restart() { w.Witness = w.process(w.store) }

func (w *world) process(s storage.Storage) *witness.Witness {
	w.t.Helper()
	return w.clocked(s, func() int64 { return w.now })
}

// clocked starts a process with a clock in seconds.
func (w *world) clocked(s storage.Storage, now func() int64) *witness.Witness {
	w.t.Helper()
	x, err := witness.New(witness.Config{Name: name, Signer: w.key, Logs: keysOf(log), Storage: s,
		Now: func() time.Time { return time.Unix(now(), 0) },
		Check: func(ctx context.Context, g witness.Growth) error {
			if w.check != nil {
				return w.check(ctx, g)
			}
			return nil
		}})
	noErr(w.t, err)
	return x
}

// post sends a request and returns status and body.
func (w *world) post(body string) (int, string) { return post(w.Witness, body) }

func post(x *witness.Witness, body string) (int, string) {
	rec := httptest.NewRecorder()
	x.ServeHTTP(rec, httptest.NewRequest("POST", "/add-checkpoint", strings.NewReader(body)))
	return rec.Code, rec.Body.String()
}

// signs sends a request that must be signed, and verifies the line.
func (w *world) signs(b *branch, old, size int64) (at int64) {
	w.t.Helper()
	status, line := w.post(b.request(old, size))
	if status != 200 {
		w.t.Fatalf("%d to %d: %d %s", old, size, status, line)
	}
	return w.verifies(b, size, line)
}

// verifies verifies a line of cosignature with a policy, and returns its time.
func (w *world) verifies(b *branch, size int64, line string) (at int64) {
	w.t.Helper()
	c, err := policy(w.t, b.Key, w.Key()).Checkpoint([]byte(b.note(size) + line))
	noErr(w.t, err)
	if c.Size != size || c.Root != b.trees[size].Root || len(c.Cosigners) != 1 || strings.Count(line, "\n") != 1 {
		w.t.Fatalf("%q cosigns %+v", line, c)
	}
	return c.Time.Unix()
}

// refuses sends a request that must be answered so, and that may not change the state.
func (w *world) refuses(body string, status int, answer string) {
	w.t.Helper()
	before, _ := w.mem.Read(context.Background(), stateFile)
	got, text := w.post(body)
	if got != status || text != answer {
		w.t.Fatalf("%d %q, want %d %q", got, text, status, answer)
	}
	if after, _ := w.mem.Read(context.Background(), stateFile); string(after) != string(before) {
		w.t.Fatalf("a refused request changed the state:\n%s\n%s", before, after)
	}
}

func policy(t testing.TB, log, cosigner tlog.Key) *tlog.Policy {
	t.Helper()
	p, err := tlog.ParsePolicy("log " + log.String() + "\nwitness w " + cosigner.String() + "\nquorum w\n")
	noErr(t, err)
	return p
}

func hashOf(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:])
}

var (
	folder    = "witness/" + hashOf(origin) + "/"
	stateFile = folder + "state.json"
)

var errFault = errors.New("the disk is on fire")

// faulty is a storage whose n-th call fails, before its effect or after it; all later
// calls fail too if the process is killed.
type faulty struct {
	storage.Storage
	n, count    int
	after, kill bool
	call        func(n int) // before each call
}

func (f *faulty) do(effect func() error) error {
	f.count++
	if f.call != nil {
		f.call(f.count)
	}
	switch {
	case f.kill && f.count > f.n, f.count == f.n && !f.after:
		return errFault
	case f.count == f.n:
		effect()
		return errFault
	}
	return effect()
}

func (f *faulty) Read(ctx context.Context, name string) (data []byte, err error) {
	err = f.do(func() (err error) {
		data, err = f.Storage.Read(ctx, name)
		return err
	})
	return data, err
}

func (f *faulty) Create(ctx context.Context, name string, r io.Reader) error {
	return f.do(func() error { return f.Storage.Create(ctx, name, r) })
}

func (f *faulty) Replace(ctx context.Context, name string, old, new []byte) error {
	return f.do(func() error { return f.Storage.Replace(ctx, name, old, new) })
}

func noErr(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t testing.TB, err, want error, text string) {
	t.Helper()
	if !errors.Is(err, want) || text != "" && err.Error() != text {
		t.Fatalf("%v, want %q (%v)", err, text, want)
	}
}

// otherScheme is a key of another type.
type otherScheme struct{ tuf.Signer }

func (otherScheme) Key() tuf.Key { return tuf.Key{Type: "ecdsa", Scheme: "ecdsa-sha2-nistp256"} }

// wrongSigner says that it is one key and signs with another.
type wrongSigner struct{ tuf.Signer }

func (wrongSigner) Sign(ctx context.Context, payload []byte) ([]byte, error) {
	return repotest.Signer("another").Sign(ctx, payload)
}

func keysOf(logs ...*branch) (out []tlog.Key) {
	for _, l := range logs {
		out = append(out, l.Key)
	}
	return out
}

// quoted is a note as in a JSON file.
func quoted(note string) string { return `"` + strings.ReplaceAll(note, "\n", `\n`) + `"` }
