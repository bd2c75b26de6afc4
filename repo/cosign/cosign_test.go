package cosign_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo/cosign"
	"github.com/visum-dev/visum/repo/witness"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

const origin = "vendor.example/visum/1"

// signer is an Ed25519 key for package witness.
type signer struct{ private ed25519.PrivateKey }

func (s signer) Key() tuf.Key {
	return tuf.Key{Type: "ed25519", Scheme: "ed25519", Public: hex.EncodeToString(s.private.Public().(ed25519.PublicKey))}
}

func (s signer) Sign(_ context.Context, msg []byte) ([]byte, error) {
	return ed25519.Sign(s.private, msg), nil
}

// world is a log with three witnesses, two of which are a quorum.
type world struct {
	t        *testing.T
	log      *rawlog.Log
	policy   *tlog.Policy
	witness  map[string]*witness.Witness
	key      map[string]tlog.Key
	mu       sync.Mutex
	answers  map[string]func(r *http.Request, next http.Handler) *http.Response // by host
	requests []string
}

var names = []string{"a", "b", "c"}

func newWorld(t *testing.T) *world {
	w := &world{t: t, log: rawlog.NewLog(origin), witness: map[string]*witness.Witness{}, key: map[string]tlog.Key{}, answers: map[string]func(*http.Request, http.Handler) *http.Response{}}
	s := "log " + w.log.Key.String() + "\n"
	for _, name := range names {
		private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte(name), 32))
		x, err := witness.New(witness.Config{Name: name + ".example/w", Signer: signer{private}, Logs: []tlog.Key{w.log.Key}, Storage: repotest.NewMemory()})
		if err != nil {
			t.Fatal(err)
		}
		w.witness[name], w.key[name] = x, x.Key()
		s += "witness " + name + " " + x.Key().String() + " https://" + name + ".example/w/\n"
	}
	var err error
	if w.policy, err = tlog.ParsePolicy(s + "group q 2 a b c\nquorum q\n"); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	host, _, _ := strings.Cut(r.URL.Host, ".")
	w.requests = append(w.requests, r.Method+" "+host)
	answer := w.answers[host]
	w.mu.Unlock()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Path = strings.TrimPrefix(r.URL.Path, "/w")
	if answer != nil {
		if resp := answer(r, w.witness[host]); resp != nil {
			return resp, nil
		}
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		return nil, errors.New("connection refused")
	}
	return serve(r, w.witness[host]), nil
}

func serve(r *http.Request, h http.Handler) *http.Response {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Result()
}

// status answers with a status and a text.
func status(code int, text string, header ...string) func(*http.Request, http.Handler) *http.Response {
	return func(*http.Request, http.Handler) *http.Response {
		rec := httptest.NewRecorder()
		for i := 0; i < len(header); i += 2 {
			rec.Header().Set(header[i], header[i+1])
		}
		rec.WriteHeader(code)
		_, _ = io.WriteString(rec, text)
		return rec.Result()
	}
}

// silent never answers.
func silent(r *http.Request, _ http.Handler) *http.Response {
	<-r.Context().Done()
	return nil
}

func refused(*http.Request, http.Handler) *http.Response { return nil }

func (w *world) does(host string, answer func(*http.Request, http.Handler) *http.Response) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[host] = answer
}

func (w *world) grow(n int) {
	for range n {
		w.log.Append(fmt.Appendf(nil, "entry %d", w.log.Tree.Size))
	}
}

func (w *world) note() []byte { return w.log.Note(time.Now()) }

func (w *world) ask(old int64) (*cosign.Result, error) {
	return cosign.Ask(w.t.Context(), cosign.Config{Policies: []*tlog.Policy{w.policy}, HTTP: &http.Client{Transport: w}}, w.note(), w.log.Tree, old)
}

// All sign; then one after the other is slow, down, lying or behind, and the others are a
// quorum. It heals with the next call.
func TestQuorum(t *testing.T) {
	for name, bad := range map[string]func(*http.Request, http.Handler) *http.Response{
		"silent":          silent,
		"down":            refused,
		"unknown log":     status(404, "no such log"),
		"forbidden":       status(403, ""),
		"bad request":     status(400, "what?"),
		"failing":         status(500, "oops"),
		"busy":            status(503, "later", "Retry-After", "7"),
		"always conflict": status(409, "0\n"),
		"no size":         status(409, "many\n"),
		"an odd size":     status(409, "01\n"),
		"ahead, a lie":    status(409, "1000\n"),
		"a fork, a lie":   status(422, "a fork"),
		"redirect":        status(307, "", "Location", "https://b.example/w/add-checkpoint"),
		"nothing":         status(200, ""),
		"junk":            status(200, "junk\n"),
		"endless":         status(200, strings.Repeat("x", 1<<20)),
		"another text": func(r *http.Request, _ http.Handler) *http.Response {
			name, _, _ := strings.Cut(r.URL.Host, ".")
			private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte(name), 32))
			key := tlog.Key{Name: name + ".example/w", Type: tlog.TypeCosigner, Public: private.Public().(ed25519.PublicKey)}
			at := time.Unix(1_900_000_000, 0)
			return status(200, key.CosignatureLine(at, ed25519.Sign(private, tlog.CosignatureMessage(at, "another text\n"))))(nil, nil)
		},
		"signed by another": func(r *http.Request, _ http.Handler) *http.Response {
			return status(200, rawlog.NewSigner("a.example/w", tlog.TypeCosigner).Sign("another text\n", time.Now()))(nil, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.grow(3)
				got, err := w.ask(0)
				if err != nil || len(got.Checkpoints) != 1 || len(got.Checkpoints[0].Cosigners) != 3 || len(got.Failures) != 0 {
					t.Fatalf("%+v, %v", got, err)
				}
				w.does("a", bad)
				w.grow(300)
				begin := time.Now()
				got, err = w.ask(3)
				if err != nil || len(got.Checkpoints[0].Cosigners) != 2 || len(got.Failures) != 1 || got.Failures[0].Name != "a" {
					t.Fatalf("%+v, %v", got, err)
				}
				if d := time.Since(begin); d > time.Second {
					t.Errorf("it took %s", d)
				}
				if c, err := w.policy.Checkpoint(got.Note); err != nil || c.Time.IsZero() {
					t.Errorf("%+v, %v", c, err)
				}
				w.does("b", bad)
				w.grow(1)
				begin = time.Now()
				got, err = w.ask(303)
				if !errors.Is(err, cosign.ErrUnwitnessed) || errors.Is(err, cosign.ErrFork) || len(got.Checkpoints[0].Cosigners) != 1 || len(got.Failures) != 2 {
					t.Fatalf("%+v, %v", got, err)
				}
				if d := time.Since(begin); d > 2*time.Minute {
					t.Errorf("it took %s", d)
				}
				if !strings.Contains(err.Error(), "a: ") || strings.Contains(err.Error(), "\n") {
					t.Errorf("%v", err)
				}
				// What was signed counts; only the others are asked.
				w.does("a", nil)
				w.does("b", nil)
				w.requests = nil
				again, err := cosign.Ask(t.Context(), cosign.Config{Policies: []*tlog.Policy{w.policy}, HTTP: &http.Client{Transport: w}}, got.Note, w.log.Tree, 303)
				if err != nil || len(again.Checkpoints[0].Cosigners) != 3 {
					t.Fatalf("%+v, %v", again, err)
				}
				for _, r := range w.requests {
					if strings.HasSuffix(r, " c") {
						t.Errorf("asked again: %q", w.requests)
					}
				}
			})
		})
	}
}

// A cosigner that is busy for a while is asked again when it said so.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.grow(1)
		begin := time.Now()
		for _, host := range []string{"a", "b"} {
			w.does(host, func(r *http.Request, next http.Handler) *http.Response {
				if time.Since(begin) < 30*time.Second {
					return status(503, "later", "Retry-After", "30")(nil, nil)
				}
				return serve(r, next)
			})
		}
		got, err := w.ask(0)
		if err != nil || len(got.Checkpoints[0].Cosigners) != 3 {
			t.Fatalf("%+v, %v", got, err)
		}
		if d := time.Since(begin); d != 30*time.Second {
			t.Errorf("it took %s", d)
		}
		n := 0
		for _, r := range w.requests {
			if r == "POST a" {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%q", w.requests)
		}
	})
}

// The log has shown a cosigner another tree: both notes are in the error, also where the
// others are a quorum. One that is ahead is told apart.
func TestFork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.grow(2)
		other := rawlog.NewLog(origin)
		other.Append([]byte("another entry"), []byte("one more"))
		honest := w.log
		w.log = other
		w.does("b", refused)
		w.does("c", refused)
		if _, err := w.ask(0); !errors.Is(err, cosign.ErrUnwitnessed) {
			t.Fatal(err)
		}
		w.log = honest
		w.does("b", nil)
		w.does("c", nil)
		for _, size := range []int{2, 5} { // the same size, and a larger tree
			got, err := w.ask(0)
			fork, ok := errors.AsType[*cosign.ForkError](err)
			if !ok || !errors.Is(err, cosign.ErrFork) || errors.Is(err, cosign.ErrUnwitnessed) || len(got.Checkpoints[0].Cosigners) != 2 {
				t.Fatalf("%d entries: %+v, %v", size, got, err)
			}
			theirs, err := w.policy.Checkpoint(fork.Theirs)
			if err != nil || theirs.Root != other.Tree.Root || fork.Cosigner != "a" || !bytes.Equal(fork.Ours, w.note()) {
				t.Errorf("%d entries: %+v, %v", size, fork, err)
			}
			w.grow(3)
		}
		// The storage of the log is set back.
		w = newWorld(t)
		w.grow(2)
		before := *w.log
		w.grow(2)
		if _, err := w.ask(0); err != nil {
			t.Fatal(err)
		}
		w.log = &before
		got, err := w.ask(0)
		if !errors.Is(err, cosign.ErrAhead) || !errors.Is(err, cosign.ErrUnwitnessed) || errors.Is(err, cosign.ErrFork) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// Two policies, in the time in which a change of the rule is pending: both need a quorum.
func TestTwoPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.grow(1)
		pending, err := tlog.ParsePolicy("log " + w.log.Key.String() + "\nwitness third " + w.key["c"].String() + "\nquorum third\n")
		if err != nil {
			t.Fatal(err)
		}
		cfg := cosign.Config{Policies: []*tlog.Policy{w.policy, pending}, HTTP: &http.Client{Transport: w}, Wait: time.Minute}
		w.does("c", refused)
		got, err := cosign.Ask(t.Context(), cfg, w.note(), w.log.Tree, 0)
		if !errors.Is(err, cosign.ErrUnwitnessed) || got.Checkpoints[0].Time.IsZero() || !got.Checkpoints[1].Time.IsZero() {
			t.Fatalf("%+v, %v", got, err)
		}
		w.does("c", nil)
		got, err = cosign.Ask(t.Context(), cfg, got.Note, w.log.Tree, 0)
		if err != nil || got.Checkpoints[1].Time.IsZero() || len(got.Checkpoints[0].Cosigners) != 3 {
			t.Fatalf("%+v, %v", got, err)
		}
		if n := bytes.Count(got.Note, []byte("— c.example/w ")); n != 1 {
			t.Errorf("%d signatures of one cosigner", n)
		}
	})
}

// Arguments that do not fit, and tiles that cannot be read, are errors of the caller.
func TestBadArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.grow(300)
		cfg := cosign.Config{Policies: []*tlog.Policy{w.policy}, HTTP: &http.Client{Transport: w}, Wait: time.Minute}
		old := *w.log.Tree
		w.grow(1)
		for name, ask := range map[string]func() error{
			"no policy":    func() error { _, err := cosign.Ask(t.Context(), cosign.Config{}, w.note(), w.log.Tree, 0); return err },
			"no tree":      func() error { _, err := cosign.Ask(t.Context(), cfg, w.note(), nil, 0); return err },
			"another tree": func() error { _, err := cosign.Ask(t.Context(), cfg, w.note(), &old, 0); return err },
			"no note":      func() error { _, err := cosign.Ask(t.Context(), cfg, nil, w.log.Tree, 0); return err },
			"not signed": func() error {
				_, err := cosign.Ask(t.Context(), cfg, []byte(w.log.Text()+"\n"), w.log.Tree, 0)
				return err
			},
			"another origin": func() error {
				_, err := cosign.Ask(t.Context(), cfg, rawlog.NewLog("x").Note(time.Now()), w.log.Tree, 0)
				return err
			},
		} {
			w.requests = nil
			if err := ask(); err == nil || len(w.requests) > 0 {
				t.Errorf("%s: %v, %q", name, err, w.requests)
			}
		}
		if _, err := w.ask(0); err != nil {
			t.Fatal(err)
		}
		w.grow(1)
		broken := *w.log.Tree
		broken.Read = func(string) ([]byte, error) { return nil, errors.New("the disk is gone") }
		got, err := cosign.Ask(t.Context(), cfg, w.note(), &broken, 301)
		if !errors.Is(err, cosign.ErrUnwitnessed) || !strings.Contains(err.Error(), "the disk is gone") || len(got.Failures) != 3 {
			t.Errorf("%+v, %v", got, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := cosign.Ask(ctx, cfg, w.note(), w.log.Tree, 301); !errors.Is(err, cosign.ErrUnwitnessed) {
			t.Error(err)
		}
	})
}
