package witness

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// Config configures [New].
type Config struct {
	// Name is the name of the witness in its cosignatures, such as "witness.example/w1". By
	// convention it is a URL without a scheme. It has 1 to 255 bytes of printable ASCII
	// without spaces and "+".
	Name string
	// Signer is the Ed25519 key of the witness. It must sign nothing else.
	Signer tuf.Signer
	// Logs are the keys of the logs that the witness signs for, of type tlog.TypeLog, each
	// with the origin of the log as its name. An origin has one key.
	Logs []tlog.Key
	// Storage holds the states and the evidence, under "witness/".
	Storage storage.Storage
	// Check is called before each signature, also of a tree that was signed before, and
	// may refuse it: the answer is then 503 with the text of the error, and the state does
	// not change. It sees a growth whose signature and proof were verified. It should return
	// quickly, and do long work elsewhere, because other requests for the log wait.
	// It may be called again for the same growth. nil: no check.
	Check func(ctx context.Context, g Growth) error
	// Now returns the time. nil: time.Now.
	Now func() time.Time
	// RetryAfter is the time that a log is told to wait after a 503, in whole seconds,
	// rounded up. 0: 5 s.
	RetryAfter time.Duration
	// Log gets a record for each failure of the storage, the key or the clock, and for new
	// evidence. nil: none.
	Log *slog.Logger
}

// Growth is a growth of a log that is about to be signed.
type Growth struct {
	// Old is the newest signed tree. Before the first one it is the empty tree. It has
	// neither a time nor cosigners.
	Old tlog.Checkpoint
	// New is the tree to be signed, of the same size or larger. It has neither a time nor
	// cosigners.
	New tlog.Checkpoint
	// Note is the new checkpoint with the signature of the log alone.
	Note []byte
}

// Witness signs the checkpoints of logs. Its methods are safe for concurrent use.
type Witness struct {
	key     tlog.Key
	signer  tuf.Signer
	storage storage.Storage
	check   func(context.Context, Growth) error
	now     func() time.Time
	retry   time.Duration
	log     *slog.Logger
	logs    map[string]*witnessed // by origin
	hashes  map[string]*witnessed // by the sha256 of the origin, in hex
}

// witnessed is a log that the witness signs for.
type witnessed struct {
	origin string
	key    tlog.Key
	policy *tlog.Policy // the log, and this witness as the only cosigner
	dir    string       // of its files in the storage, with a slash at its end
	turn   chan struct{}

	mu   sync.Mutex
	last position // the newest that this process has read or written
}

// New returns a witness. It reads nothing from the storage. The error wraps [ErrConfig].
func New(cfg Config) (*Witness, error) {
	fail := func(format string, args ...any) (*Witness, error) {
		return nil, fmt.Errorf("witness: %w: %w", ErrConfig, fmt.Errorf(format, args...))
	}
	if cfg.Signer == nil || cfg.Storage == nil || len(cfg.Logs) == 0 {
		return fail("want a signer, a storage and a log")
	}
	if cfg.RetryAfter < 0 {
		return fail("RetryAfter is negative")
	}
	w := &Witness{signer: cfg.Signer, storage: cfg.Storage, check: cfg.Check, now: cfg.Now, retry: cfg.RetryAfter, log: cfg.Log,
		logs: map[string]*witnessed{}, hashes: map[string]*witnessed{}}
	if w.check == nil {
		w.check = func(context.Context, Growth) error { return nil }
	}
	if w.now == nil {
		w.now = time.Now
	}
	if w.retry == 0 {
		w.retry = 5 * time.Second
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if w.key, err = Key(cfg.Name, cfg.Signer.Key()); err != nil {
		return nil, err
	}
	for _, key := range cfg.Logs {
		if w.logs[key.Name] != nil {
			return fail("log %s has two keys", text.Quote(key.Name))
		}
		// A policy is the one implementation of opening a note.
		policy, err := tlog.ParsePolicy("log " + key.String() + "\nwitness self " + w.key.String() + "\nquorum self\n")
		if err != nil {
			return fail("log %s: %w", text.Quote(key.Name), err)
		}
		sum := sha256.Sum256([]byte(key.Name))
		hash := hex.EncodeToString(sum[:])
		l := &witnessed{origin: key.Name, key: policy.Log(), policy: policy, dir: "witness/" + hash + "/", turn: make(chan struct{}, 1)}
		w.logs[key.Name], w.hashes[hash] = l, l
	}
	return w, nil
}

// Key returns the key of a witness with this name and Ed25519 key, as the line "witness" of
// a policy names it. The error wraps [ErrConfig].
func Key(name string, public tuf.Key) (tlog.Key, error) {
	raw, err := hex.DecodeString(public.Public)
	if err != nil || len(raw) != ed25519.PublicKeySize || public.Type != "ed25519" || public.Scheme != "ed25519" {
		return tlog.Key{}, fmt.Errorf("witness: %w: the signer has a key of type %s, want ed25519", ErrConfig, text.Name(public.Type))
	}
	key := tlog.Key{Name: name, Type: tlog.TypeCosigner, Public: raw}
	if _, err := tlog.ParseKey(key.String()); err != nil {
		return tlog.Key{}, fmt.Errorf("witness: %w: %w", ErrConfig, err)
	}
	return key, nil
}

// Key returns the key of the witness, as the line "witness" of a policy names it.
func (w *Witness) Key() tlog.Key { return w.key }

// Checkpoint returns the newest cosigned checkpoint of a log, with the signatures of the
// log and of this witness. The error wraps [ErrUnknownLog], fs.ErrNotExist before the first
// one, [ErrUnavailable] or [ErrState].
func (w *Witness) Checkpoint(ctx context.Context, origin string) ([]byte, error) {
	l := w.logs[origin]
	if l == nil {
		return nil, unknown(origin)
	}
	return w.checkpoint(ctx, l)
}

func unknown(origin string) error {
	return fmt.Errorf("witness: %w: %s", ErrUnknownLog, text.Quote(origin))
}
