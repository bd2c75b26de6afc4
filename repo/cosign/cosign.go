package cosign

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf/tlog"
)

// Config configures [Ask].
type Config struct {
	// Policies are those that need a quorum, all of the same log. More than one is for the
	// time in which a change of the rule of the log is pending. At most 4.
	Policies []*tlog.Policy
	// URLs are the submission prefixes of cosigners by the text of their keys. One that is
	// missing is that of a policy.
	URLs map[string]string
	// HTTP makes the requests. nil: http.DefaultClient.
	HTTP *http.Client
	// Wait is the time for all requests. 0: 2 minutes.
	Wait time.Duration
}

const (
	defaultWait    = 2 * time.Minute
	requestTimeout = 10 * time.Second
	// lateTime is how long cosigners are waited for that are not needed for a quorum.
	lateTime    = time.Second
	maxPolicies = 4
)

// Result is what cosigners have signed.
type Result struct {
	// Note is the checkpoint with the signature of the log and all verified cosignatures, in
	// the order of the policies.
	Note []byte
	// Checkpoints are the verified contents of Note under each policy.
	Checkpoints []*tlog.Checkpoint
	// Failures are the cosigners that have not signed, sorted by name.
	Failures []Failure
}

// Failure is a cosigner that has not signed.
type Failure struct {
	Name string // in the first policy that names it
	Err  error  // the reason
}

// String describes the failure in one line.
func (f Failure) String() string {
	return text.Line(fmt.Sprintf("%s: %v", text.Name(f.Name), f.Err))
}

// cosigner is one that can be asked.
type cosigner struct {
	name   string
	key    tlog.Key
	url    string
	policy *tlog.Policy // one that names it
}

// Ask asks the cosigners for signatures of a checkpoint that the log has signed. Other
// signatures of note are kept if they are of cosigners and verify. tree is the tree of the
// checkpoint, whose tiles are read for proofs of consistency, and oldSize the size of an
// earlier checkpoint that the cosigners have probably seen, or 0.
//
// With a quorum of every policy the error is nil, even if others failed; otherwise it wraps
// [ErrUnwitnessed], and the result has the signatures that were obtained, so that they count
// the next time. The error wraps [ErrFork] if a fork is proven, and [ErrAhead] if a
// cosigner has seen a larger tree, with or without a quorum.
// Malformed arguments, and a note without the signature of the log, are errors of package
// tlog. The error of tree.Read is returned if proofs cannot be made.
func Ask(ctx context.Context, cfg Config, note []byte, tree *tlog.Tree, oldSize int64) (*Result, error) {
	a, err := newAsking(cfg, note, tree)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(cfg.Wait, defaultWait))
	defer cancel()
	answers := make(chan answer, len(a.cosigners))
	waiting := 0
	for i, c := range a.cosigners {
		if a.lines[i] != "" {
			continue
		}
		waiting++
		go func() {
			line, err := a.ask(ctx, c, oldSize)
			answers <- answer{i, line, err}
		}()
	}
	errs := make([]error, len(a.cosigners))
	var late <-chan time.Time
	for waiting > 0 {
		if late == nil && a.quorums() {
			timer := time.NewTimer(lateTime)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case x := <-answers:
			waiting--
			a.lines[x.i], errs[x.i] = x.line, x.err
		case <-late:
			cancel() // those that are asked answer at once
			late = nil
			for ; waiting > 0; waiting-- {
				x := <-answers
				a.lines[x.i], errs[x.i] = x.line, x.err
			}
		}
	}
	return a.result(errs)
}

// answer is the end of the requests to one cosigner.
type answer struct {
	i    int
	line string
	err  error
}

// asking is the state of one call.
type asking struct {
	http      *http.Client
	policies  []*tlog.Policy
	base      string // the checkpoint with the signature of the log alone
	origin    string
	tree      *tlog.Tree
	cosigners []cosigner
	lines     []string // by cosigner: the verified line, or ""
}

func newAsking(cfg Config, note []byte, tree *tlog.Tree) (*asking, error) {
	if len(cfg.Policies) == 0 || len(cfg.Policies) > maxPolicies || tree == nil {
		return nil, fmt.Errorf("cosign: want 1 to %d policies and a tree", maxPolicies)
	}
	a := &asking{policies: cfg.Policies, tree: tree}
	var first *tlog.Checkpoint
	for _, p := range cfg.Policies {
		c, err := p.Checkpoint(note)
		if err != nil {
			return nil, fmt.Errorf("cosign: %w", err)
		}
		if first == nil {
			first = c
		}
	}
	if first.Size != tree.Size || first.Root != tree.Root {
		return nil, fmt.Errorf("cosign: the checkpoint is of %d entries with root %x, the tree of %d with %x", first.Size, first.Root[:8], tree.Size, tree.Root[:8])
	}
	a.origin = first.Origin
	s, lines, err := tlog.SplitNote(note)
	if err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	a.base = s + "\n"
	for _, l := range lines {
		if l.By(cfg.Policies[0].Log()) {
			a.base += l.Line
		}
	}
	for _, p := range cfg.Policies {
		for _, c := range p.Cosigners() {
			if slices.ContainsFunc(a.cosigners, func(o cosigner) bool { return o.key.String() == c.Key.String() }) {
				continue
			}
			line := ""
			if i := slices.IndexFunc(lines, func(l tlog.SignatureLine) bool { return l.By(c.Key) }); i >= 0 && c.Key.Type == tlog.TypeCosigner {
				line = lines[i].Line // p.Checkpoint has verified it
			}
			url := c.URL
			if given := cfg.URLs[c.Key.String()]; given != "" {
				url = given
			}
			a.cosigners = append(a.cosigners, cosigner{c.Name, c.Key, strings.TrimSuffix(url, "/"), p})
			a.lines = append(a.lines, line)
		}
	}
	client := cmp.Or(cfg.HTTP, http.DefaultClient)
	copied := *client
	copied.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	a.http = &copied
	return a, nil
}

// note is the checkpoint with what was signed so far.
func (a *asking) note() []byte { return []byte(a.base + strings.Join(a.lines, "")) }

// quorums reports whether every policy has a quorum.
func (a *asking) quorums() bool {
	for _, p := range a.policies {
		if c, err := p.Checkpoint(a.note()); err != nil || c.Time.IsZero() {
			return false
		}
	}
	return true
}

func (a *asking) result(errs []error) (*Result, error) {
	out := &Result{Note: a.note()}
	var problems []error
	for i, err := range errs {
		if err == nil {
			continue
		}
		if errors.Is(err, ErrFork) || errors.Is(err, ErrAhead) {
			problems = append(problems, err)
		}
		out.Failures = append(out.Failures, Failure{a.cosigners[i].name, err})
	}
	slices.SortStableFunc(out.Failures, func(x, y Failure) int { return strings.Compare(x.Name, y.Name) })
	lacking := false
	for _, p := range a.policies {
		c, err := p.Checkpoint(out.Note)
		if err != nil {
			return nil, fmt.Errorf("cosign: %w", err) // each line was verified
		}
		out.Checkpoints = append(out.Checkpoints, c)
		lacking = lacking || c.Time.IsZero()
	}
	if lacking {
		var who []string
		for _, f := range out.Failures {
			who = append(who, f.String())
		}
		problems = append(problems, fmt.Errorf("cosign: %w: %s", ErrUnwitnessed, strings.Join(who, "; ")))
	}
	return out, errors.Join(problems...)
}
