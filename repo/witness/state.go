package witness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf/tlog"
)

const (
	maxState = 128 << 10 // bytes of a state or of evidence: two notes in JSON
	lastTime = 253402300799
)

// position is how far a log was followed.
type position struct {
	size int64
	root tlog.Hash
	time int64 // of the newest cosignature, in seconds; 0: none
}

// before reports whether p is older than other: not a state that can follow it.
func (p position) before(other position) bool {
	return p.size < other.size || p.time < other.time || other.time > 0 && p.size == other.size && p.root != other.root
}

func (p position) String() string {
	if p.time == 0 {
		return "0 entries"
	}
	return fmt.Sprintf("%d entries at %s", p.size, text.Time(time.Unix(p.time, 0)))
}

// stateFile is the form of a state in the storage.
type stateFile struct {
	Checkpoint  string `json:"checkpoint"`         // the newest, with the signature of the log
	SigningTime int64  `json:"signing_time"`       // of the newest cosignature that was made or was about to be made, in seconds
	Cosigned    string `json:"cosigned,omitempty"` // the newest cosigned one, with both signatures
}

// state is the verified state of a log.
type state struct {
	position
	raw      []byte // the file; nil: none
	file     stateFile
	text     string // of the checkpoint; "": none
	cosigned *cosigned
}

// cosigned is a checkpoint with a verified cosignature of this witness.
type cosigned struct {
	text string
	line string // of the cosignature
	time int64
}

func (l *witnessed) stateName() string { return l.dir + "state.json" }

// load reads the state of a log. The error wraps [ErrUnavailable] or [ErrState].
func (w *Witness) load(ctx context.Context, l *witnessed) (*state, error) {
	l.mu.Lock()
	known := l.last // as of before the read: another request may write after it
	l.mu.Unlock()
	raw, err := w.storage.Read(ctx, l.stateName())
	st := &state{position: position{root: tlog.EmptyRoot}}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("witness: %w: state of %s: %w", ErrUnavailable, text.Quote(l.origin), err)
	default:
		if st, err = l.open(raw, w.key); err != nil {
			return nil, fmt.Errorf("witness: %w: state of %s: %v", ErrState, text.Quote(l.origin), err)
		}
	}
	if st.before(known) {
		return nil, fmt.Errorf("witness: %w: state of %s: it was set back from %s to %s", ErrState, text.Quote(l.origin), known, st.position)
	}
	l.saw(st.position)
	return st, nil
}

// saw records what this process has read or written.
func (l *witnessed) saw(p position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.before(p) {
		l.last = p
	}
}

// open verifies a state.
func (l *witnessed) open(raw []byte, self tlog.Key) (*state, error) {
	st := &state{raw: raw}
	if err := decode(raw, &st.file); err != nil {
		return nil, err
	}
	c, err := l.policy.Checkpoint([]byte(st.file.Checkpoint))
	if err != nil {
		return nil, err
	}
	st.text = textOf(c)
	st.position = position{c.Size, c.Root, st.file.SigningTime}
	if st.time < 1 || st.time > lastTime {
		return nil, fmt.Errorf("signing time %d", st.time)
	}
	if st.file.Cosigned == "" {
		return st, nil
	}
	if c, err = l.policy.Checkpoint([]byte(st.file.Cosigned)); err != nil {
		return nil, err
	}
	if len(c.Cosigners) == 0 {
		return st, nil // by an earlier key of the witness
	}
	if at := c.Time.Unix(); at > st.time || c.Size > st.size {
		return nil, fmt.Errorf("the cosigned checkpoint of %d entries is newer than the checkpoint", c.Size)
	}
	_, lines, err := tlog.SplitNote([]byte(st.file.Cosigned))
	if err != nil {
		return nil, err
	}
	st.cosigned = &cosigned{text: textOf(c), time: c.Time.Unix()}
	for _, line := range lines {
		if line.By(self) {
			st.cosigned.line = line.Line
		}
	}
	return st, nil
}

// textOf returns the text of a verified checkpoint, which has one form.
func textOf(c *tlog.Checkpoint) string { return tlog.CheckpointText(c.Origin, c.Size, c.Root) }

// checkpoint returns the newest cosigned checkpoint.
func (w *Witness) checkpoint(ctx context.Context, l *witnessed) ([]byte, error) {
	st, err := w.load(ctx, l)
	if err != nil {
		return nil, err
	}
	if st.cosigned == nil {
		return nil, fmt.Errorf("witness: checkpoint of %s: %w", text.Quote(l.origin), fs.ErrNotExist)
	}
	return []byte(st.file.Cosigned), nil
}

// decode reads one JSON value into x, without members that x does not have.
func decode(raw []byte, x any) error {
	if len(raw) > maxState {
		return fmt.Errorf("%d bytes, at most %d", len(raw), maxState)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(x); err != nil {
		return err
	}
	if d.More() {
		return errors.New("data after the end")
	}
	return nil
}

// encode returns x as JSON with a line feed at its end.
func encode(x any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(x); err != nil {
		panic(err) // impossible: structs of strings and numbers
	}
	return b.Bytes()
}
