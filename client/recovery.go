package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// minRecoveryOperators is how many operators must report that there is no regular next
// root, and serve the same recovery statement.
const minRecoveryOperators = 2

// maxRecovered limits the recoveries that the state remembers.
const maxRecovered = 16

// recovery looks for a recovery root if the repository cannot continue regularly: the
// newest root has expired, or no location serves valid content under it, or a newer one
// was lost. A regular next root always takes precedence. It returns the root to
// continue from; nil if there is none, or the waiting period is not over.
//
// Without such a failure no recovery file is requested.
func (c *Client) recovery(ctx context.Context, w *walk) (*tuf.Root, error) {
	if w.trusted.RecoveryRule() == nil {
		return nil, nil
	}
	trusted := w.trusted
	rec, err := c.statement(ctx, w)
	if rec == nil || err != nil {
		return nil, err
	}
	wait := w.session.waited(rec).Tick(rec, w.now)
	w.session.Wait = &wait
	next, err := rec.Accept(wait)
	if err != nil {
		c.log.Warn("waiting for a recovery", "reason", err)
		w.problems = append(w.problems, err)
		return nil, nil
	}
	if err := w.session.keepRecovery(rec, wait, trusted); err != nil {
		return nil, err
	}
	c.log.Warn("recovered", "root", next.Version(), "statement", rec.ID())
	w.advance(next)
	return next, nil
}

// statement returns the recovery statement that enough operators serve: the one whose
// waiting period has begun, unless there is one with a higher counter.
func (c *Client) statement(ctx context.Context, w *walk) (*tuf.Recovery, error) {
	seen := map[string]*tuf.Recovery{}
	shown := map[string]operators{} // by ID
	var locations []*location
	for _, p := range c.locations(w.trusted, w.now) {
		// A location that withholds a regular root must not be able to offer a
		// recovery.
		if p.operator != "" && w.none[p.key] > w.trusted.Version() {
			locations = append(locations, p)
		}
	}
	w.sort(locations)
	asked := map[string]*location{}
	next := each(locations)
	q := inquiry[recoveryFiles]{pace: w.pace, get: func(ctx context.Context, p *location, answered func()) (recoveryFiles, error) {
		return c.recoveryFiles(ctx, w.trusted, p, answered)
	}}
	q.next = func() *location {
		p := next()
		if p != nil {
			asked[p.key] = p
		}
		return p
	}
	q.use = func(p *location, files recoveryFiles, err error) need {
		delete(asked, p.key)
		var rec *tuf.Recovery
		if err == nil {
			rec, err = c.openRecovery(w, p, files)
		}
		if isAbsent(err) {
			return required
		}
		if err != nil {
			w.problems = append(w.problems, fmt.Errorf("%s: %w", text.Name(p.name), err))
			return required
		}
		seen[rec.ID()] = rec
		ops := shown[rec.ID()]
		ops.add(p)
		shown[rec.ID()] = ops
		w.session.Counter = max(w.session.Counter, rec.Counter())
		if len(ops) >= minRecoveryOperators {
			return welcome
		}
		return required
	}
	if err := q.run(ctx); err != nil {
		return nil, err
	}
	w.unanswered(asked, false)
	var best *tuf.Recovery
	for id, rec := range seen {
		if len(shown[id]) < minRecoveryOperators {
			continue
		}
		if rec.Counter() < w.session.Counter {
			w.problems = append(w.problems, &tuf.Error{Role: "recovery", Version: rec.Counter(), Err: tuf.ErrRollback, Detail: fmt.Sprintf("a statement with counter %d was seen", w.session.Counter)})
			continue
		}
		waited := w.session.Wait != nil && w.session.Wait.Statement == id
		if best == nil || rec.Counter() > best.Counter() || rec.Counter() == best.Counter() && waited {
			best = rec
		}
	}
	return best, nil
}

// recoveryFiles are the files that a location serves for a recovery.
type recoveryFiles struct{ statement, root []byte }

func (c *Client) recoveryFiles(ctx context.Context, trusted *tuf.Root, p *location, answered func()) (out recoveryFiles, err error) {
	statement, root := trusted.RecoveryFiles()
	if out.statement, err = readAll(ctx, p.source, layout.MetadataName(statement), tuf.MaxRecoveryStatement, c.cfg.MetadataTimeout, answered); err != nil {
		return out, err
	}
	out.root, err = readAll(ctx, p.source, layout.MetadataName(root), c.limits.Root, c.cfg.MetadataTimeout, answered)
	return out, err
}

func (c *Client) openRecovery(w *walk, p *location, files recoveryFiles) (*tuf.Recovery, error) {
	statement, root := files.statement, files.root
	done := c.noteParsing(p, len(root))
	defer done()
	rec, err := w.trusted.Recovery(statement, root, w.now)
	if errors.Is(err, tuf.ErrExpired) {
		// It had not expired when the waiting period ran.
		for _, wait := range w.session.Recovered {
			if then, thenErr := w.trusted.Recovery(statement, root, wait.Last); thenErr == nil && then.ID() == wait.Statement {
				return then, nil
			}
		}
	}
	if errors.Is(err, tuf.ErrUntrusted) {
		w.keepEvidence(c, p.name, "recovery.json", statement, err)
	}
	return rec, err
}

// followed returns the completed wait for a statement that this client has followed
// before.
func (s *session) followed(rec *tuf.Recovery) (tuf.Wait, bool) {
	i := slices.IndexFunc(s.Recovered, func(wait tuf.Wait) bool { return wait.Statement == rec.ID() })
	if i < 0 {
		return tuf.Wait{}, false
	}
	return s.Recovered[i], true
}

// waited returns how long this client has waited for a statement; the complete wait if
// it followed the statement before and lost its files.
func (s *session) waited(rec *tuf.Recovery) tuf.Wait {
	if wait, ok := s.followed(rec); ok {
		return wait
	}
	if s.Wait != nil {
		return *s.Wait
	}
	return tuf.Wait{}
}

// keepRecovery stores what replay needs to verify the recovery again.
func (s *session) keepRecovery(rec *tuf.Recovery, wait tuf.Wait, trusted *tuf.Root) error {
	statement, root := rec.Bytes()
	if err := s.store.Write(recoveryName(trusted), statement); err != nil {
		return err
	}
	if err := s.store.Write("roots/"+rootName(trusted.Version()+1), root); err != nil {
		return err
	}
	if _, again := s.followed(rec); !again { // otherwise its last tick may be after the statement's expiry
		// Drop the oldest: a newer pin leads past it.
		s.Recovered = append(s.Recovered, wait)[max(0, len(s.Recovered)+1-maxRecovered):]
	}
	s.Wait = nil
	return nil
}

// alive reports whether the repository continues from the newest trusted root in the
// regular way: a location has a regular next root, or a complete set of content. Then w
// continues there too, and the recovery by that the state remembers is forgotten. It is
// called if the root has not expired, because the state alone must not divert a client
// from a working repository.
func (c *Client) alive(ctx context.Context, w *walk, by *tuf.Recovery) (bool, error) {
	s := *w.session
	s.Health, s.Floors = maps.Clone(s.Health), maps.Clone(s.Floors)
	s.Root = w.trusted.Version()
	if s.Log != nil {
		mark := *s.Log
		s.Log = &mark
	}
	trial := newWalk(&s, w.clock)
	trial.quiet, trial.down, trial.pace = true, maps.Clone(w.down), w.pace
	maps.Copy(trial.wait, w.wait)
	trial.advance(w.trusted)
	if err := c.roots(ctx, trial, probe(w.trusted).MinOperators); err != nil {
		return false, err
	}
	if trial.trusted == w.trusted {
		if _, _, err := c.content(ctx, trial); err != nil {
			if disk, ok := errors.AsType[diskError](err); ok {
				return false, disk
			}
			if found, err := c.search(ctx, trial); !found || err != nil {
				return false, errors.Join(err, ctx.Err())
			}
		}
	}
	c.log.Warn("the repository continues regularly; forgetting the recovery in the state", "root", w.trusted.Version(), "statement", by.ID())
	s.Recovered = slices.DeleteFunc(slices.Clone(s.Recovered), func(wait tuf.Wait) bool { return wait.Statement == by.ID() })
	s.Wait = nil
	*w.session = s
	if trial.trusted != w.trusted {
		w.advance(trial.trusted)
	}
	s.dropRootsFrom(w.trusted.Version() + 1)
	return true, nil
}
