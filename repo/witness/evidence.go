package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
)

const (
	// MaxEvidence is how much evidence of each kind is kept for a log. The first ones are
	// kept; nothing is overwritten.
	MaxEvidence = 8
	// keepWait limits the time in which evidence is stored. The end of the request does not
	// end it: a log that forks must not be able to prevent its record by hanging up.
	keepWait = 10 * time.Second
)

// Kinds of evidence.
const (
	// Fork: two checkpoints of one size with different roots, both signed by the log. They
	// prove that the log has forked.
	Fork = "fork"
	// Unproven: a larger checkpoint for which the proof did not verify. It proves nothing
	// by itself, because anyone can send a wrong proof. With the entries of one of the
	// trees it can be examined whether it is consistent with the other.
	Unproven = "unproven"
)

// Evidence is two checkpoints of a log, each with the signature of the log.
type Evidence struct {
	Kind      string    // Fork or Unproven
	Known     []byte    // the newest signed checkpoint at that time
	Presented []byte    // the other one, which was refused
	At        time.Time // when it was refused, by the clock of the witness
}

// evidenceFile is the form of evidence in the storage.
type evidenceFile struct {
	Kind      string `json:"kind"`
	At        int64  `json:"at"` // seconds
	Known     string `json:"known"`
	Presented string `json:"presented"`
}

func (l *witnessed) evidenceName(kind string, n int) string {
	return l.dir + kind + "-" + strconv.Itoa(n) + ".json"
}

// keep stores evidence. A failure is recorded in the log of the program, and does not
// change the answer.
func (w *Witness) keep(ctx context.Context, kind string, r *request, st *state) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepWait)
	defer cancel()
	name, err := w.store(ctx, r, evidenceFile{kind, w.now().Unix(), st.file.Checkpoint, string(r.note)})
	switch {
	case err != nil:
		w.log.ErrorContext(ctx, "evidence was not stored", "origin", text.Line(r.log.origin), "kind", kind, "error", text.Line(err.Error()))
	case name != "":
		w.log.WarnContext(ctx, "evidence was stored", "origin", text.Line(r.log.origin), "kind", kind, "size", r.new.Size, "file", name)
	}
}

// store creates a file of evidence, and returns its name; "" if there is one for the same
// checkpoint, or enough.
func (w *Witness) store(ctx context.Context, r *request, file evidenceFile) (name string, err error) {
	for n := 1; n <= MaxEvidence; n++ {
		name = r.log.evidenceName(file.Kind, n)
		// The second attempt reads what another process has created since.
		for range 2 {
			raw, err := w.storage.Read(ctx, name)
			if err == nil {
				if e, err := r.log.openEvidence(raw); err == nil && string(e.Presented) == string(r.note) {
					return "", nil
				}
				break
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			if err = w.storage.Create(ctx, name, bytes.NewReader(encode(file))); err == nil {
				return name, nil
			}
			if !errors.Is(err, storage.ErrConflict) {
				return "", err
			}
		}
	}
	return "", nil
}

// Evidence returns the evidence that was kept for a log, verified: first forks, then what
// is unproven, each in the order in which it came. The error wraps [ErrUnknownLog],
// [ErrUnavailable] or [ErrState].
func (w *Witness) Evidence(ctx context.Context, origin string) ([]Evidence, error) {
	l := w.logs[origin]
	if l == nil {
		return nil, unknown(origin)
	}
	var out []Evidence
	for _, kind := range []string{Fork, Unproven} {
		for n := 1; n <= MaxEvidence; n++ {
			name := l.evidenceName(kind, n)
			raw, err := w.storage.Read(ctx, name)
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("witness: %w: %s: %w", ErrUnavailable, name, err)
			}
			e, err := l.openEvidence(raw)
			if err == nil && e.Kind != kind {
				err = fmt.Errorf("it is of kind %s", e.Kind)
			}
			if err != nil {
				return nil, fmt.Errorf("witness: %w: %s: %v", ErrState, name, err)
			}
			out = append(out, e)
		}
	}
	return out, nil
}

// openEvidence verifies evidence: the signatures, and what its kind says.
func (l *witnessed) openEvidence(raw []byte) (Evidence, error) {
	var file evidenceFile
	if err := decode(raw, &file); err != nil {
		return Evidence{}, err
	}
	known, err := l.policy.Checkpoint([]byte(file.Known))
	if err != nil {
		return Evidence{}, err
	}
	presented, err := l.policy.Checkpoint([]byte(file.Presented))
	if err != nil {
		return Evidence{}, err
	}
	kind := ""
	switch {
	case presented.Size == known.Size && presented.Root != known.Root:
		kind = Fork
	case presented.Size > known.Size:
		kind = Unproven
	}
	if kind == "" || kind != file.Kind {
		return Evidence{}, fmt.Errorf("kind %s, with %d and %d entries", text.Name(file.Kind), known.Size, presented.Size)
	}
	return Evidence{kind, []byte(file.Known), []byte(file.Presented), time.Unix(file.At, 0).UTC()}, nil
}
