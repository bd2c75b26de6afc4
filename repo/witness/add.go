package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf/tlog"
)

const (
	// maxSwaps is how often a request is compared with a state that another process has
	// changed. Each change means that another request succeeded.
	maxSwaps = 10
	// maxBehind is how far the clock may be behind the newest signed time, in seconds.
	maxBehind = 60
)

// AddCheckpoint handles the body of a request as the handler does: it returns the line of
// the cosignature. The error wraps [tlog.ErrMalformed] (400), [ErrUnknownLog] (404),
// [tlog.ErrSignature] (403), [tlog.ErrInclusion] (422), [ErrCheck] or [ErrUnavailable]
// (503), or [ErrState] (500), or is a *[SizeError] (409).
func (w *Witness) AddCheckpoint(ctx context.Context, body []byte) ([]byte, error) {
	r, err := w.parse(body)
	if err != nil {
		return nil, err
	}
	// One request of a log at a time, so that of many that ask for the signed tree in one
	// second one is signed, and the others get the same line. Other processes are excluded
	// by compare-and-swap.
	select {
	case r.log.turn <- struct{}{}:
		defer func() { <-r.log.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("witness: %w: %w", ErrUnavailable, ctx.Err())
	}
	for range maxSwaps {
		line, moved, err := w.add(ctx, r)
		if err != nil {
			return nil, err
		}
		if !moved {
			return []byte(line), nil
		}
	}
	return nil, fmt.Errorf("witness: %w: other processes changed the state %d times", ErrUnavailable, maxSwaps)
}

// add compares a request with the state, and signs. It reports whether another process has
// changed the state since it was read; nothing was signed then.
func (w *Witness) add(ctx context.Context, r *request) (line string, moved bool, err error) {
	fail := func(err error) (string, bool, error) { return "", false, err }
	st, err := w.load(ctx, r.log)
	if err != nil {
		return fail(err)
	}
	if err := w.compare(ctx, r, st); err != nil {
		return fail(err)
	}
	now, err := w.time(st)
	if err != nil {
		return fail(err)
	}
	if c := st.cosigned; c != nil && c.text == r.text && c.time == now {
		return c.line, false, nil
	}
	old := tlog.Checkpoint{Origin: r.log.origin, Size: st.size, Root: st.root}
	if err := w.check(ctx, Growth{Old: old, New: r.new, Note: bytes.Clone(r.note)}); err != nil {
		return fail(fmt.Errorf("witness: %w: %w", ErrCheck, err))
	}
	if now, err = w.time(st); err != nil { // the check may have taken long
		return fail(err)
	}
	next := stateFile{Checkpoint: string(r.note), SigningTime: now, Cosigned: st.file.Cosigned}
	raw := encode(next)
	// The state says what will be signed before the key signs it. A process that is killed
	// in between has signed nothing that the state does not say.
	if err := w.storage.Replace(ctx, r.log.stateName(), st.raw, raw); errors.Is(err, storage.ErrConflict) {
		return "", true, nil
	} else if err != nil {
		return fail(fmt.Errorf("witness: %w: state of %s: %w", ErrUnavailable, text.Quote(r.log.origin), err))
	}
	r.log.saw(position{r.new.Size, r.new.Root, now})
	if line, err = w.cosign(ctx, r, now); err != nil {
		return fail(err)
	}
	next.Cosigned = string(r.note) + line
	// The signature is valid without this write. Where it fails, Checkpoint returns the one
	// before until the next signature.
	if err := w.storage.Replace(ctx, r.log.stateName(), raw, encode(next)); err != nil && !errors.Is(err, storage.ErrConflict) {
		w.log.WarnContext(ctx, "the cosigned checkpoint was not stored", "origin", text.Line(r.log.origin), "error", text.Line(err.Error()))
	}
	return line, false, nil
}

// compare compares a request with the state. It keeps evidence.
func (w *Witness) compare(ctx context.Context, r *request, st *state) error {
	if st.text != "" && r.new.Size == st.size && r.new.Root != st.root {
		w.keep(ctx, Fork, r, st)
	}
	if r.old != st.size {
		return &SizeError{Size: st.size, Old: r.old}
	}
	err := tlog.CheckConsistency(r.proof, r.old, st.root, r.new.Size, r.new.Root)
	if err != nil {
		if r.old > 0 && r.old < r.new.Size {
			w.keep(ctx, Unproven, r, st)
		}
		return wrap(err)
	}
	return nil
}

// time returns the time to sign, in seconds.
func (w *Witness) time(st *state) (int64, error) {
	now := w.now().Unix()
	switch {
	case now < 1 || now > lastTime:
		return 0, fmt.Errorf("witness: %w: the clock is at %d s", ErrUnavailable, now)
	case now >= st.time:
		return now, nil
	case st.time-now <= maxBehind:
		return st.time, nil
	}
	return 0, fmt.Errorf("witness: %w: the clock is behind the newest cosignature, %s", ErrUnavailable, text.Time(time.Unix(st.time, 0)))
}

// cosign makes and verifies a cosignature.
func (w *Witness) cosign(ctx context.Context, r *request, now int64) (line string, err error) {
	at := time.Unix(now, 0)
	sig, err := w.signer.Sign(ctx, tlog.CosignatureMessage(at, r.text))
	if err != nil {
		return "", fmt.Errorf("witness: %w: key %s: %w", ErrUnavailable, text.Quote(w.key.Name), err)
	}
	line = w.key.CosignatureLine(at, sig)
	c, err := r.log.policy.Checkpoint(append(bytes.Clone(r.note), line...))
	if err != nil || len(c.Cosigners) != 1 {
		return "", fmt.Errorf("witness: %w: key %s: the signature does not verify", ErrUnavailable, text.Quote(w.key.Name))
	}
	return line, nil
}
