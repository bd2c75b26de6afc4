package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/visum-dev/visum/tuf"
)

// minRecoveryOperators is how many must say that there is no ordinary next root
// and show one recovery statement, for a search to count.
const minRecoveryOperators = 2

// maxRecovered bounds the recoveries that the state remembers.
const maxRecovered = 16

// recovery looks for a way on where the repository is at its end: the newest
// root has expired, or nobody serves valid content under it, or a newer one was
// lost. An ordinary next root comes first, and beats any recovery. It returns the root to go on from;
// nil where there is none, or not yet.
//
// In good times nothing of this is asked for.
func (c *Client) recovery(ctx context.Context, w *walk) (*tuf.Root, error) {
	if w.tip.Charter() == nil || w.tip.Charter().Recovery() == nil {
		return nil, nil
	}
	tip := w.tip
	if err := c.roots(ctx, w, everyone); err != nil {
		return nil, err
	}
	if w.tip != tip {
		return w.tip, nil
	}
	rec, err := c.statement(ctx, w)
	if rec == nil || err != nil {
		return nil, err
	}
	wait := w.session.waited(rec).Tick(rec, w.now)
	w.session.Wait = &wait
	next, err := rec.Accept(wait)
	if err != nil {
		c.log.Warn("a recovery waits", "reason", err)
		w.problems = append(w.problems, err)
		return nil, nil
	}
	if err := w.session.keepRecovery(rec, wait, tip); err != nil {
		return nil, err
	}
	c.log.Warn("recovered", "root", next.Version(), "statement", rec.ID())
	w.advance(next)
	return next, nil
}

// statement returns the recovery statement that enough operators show: the one
// that is waited for already, unless there is one with a higher counter.
func (c *Client) statement(ctx context.Context, w *walk) (*tuf.Recovery, error) {
	seen := map[string]*tuf.Recovery{}
	shown := map[string]map[string]bool{} // by ID: operators
	for _, p := range c.places(w.tip, w.now) {
		// Who keeps the ordinary root from us must not make us wait for another.
		if p.operator == "" || w.none[p.key] <= w.tip.Version() {
			continue
		}
		rec, err := c.statementFrom(ctx, w, p)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if isAbsent(err) {
			continue
		}
		if err != nil {
			w.problems = append(w.problems, fmt.Errorf("%s: %w", p.name, err))
			continue
		}
		if shown[rec.ID()] == nil {
			seen[rec.ID()], shown[rec.ID()] = rec, map[string]bool{}
		}
		shown[rec.ID()][p.operator] = true
	}
	var best *tuf.Recovery
	for id, rec := range seen {
		if len(shown[id]) < minRecoveryOperators {
			continue
		}
		waited := w.session.Wait != nil && w.session.Wait.Statement == id
		if best == nil || rec.Counter() > best.Counter() || rec.Counter() == best.Counter() && waited {
			best = rec
		}
	}
	return best, nil
}

func (c *Client) statementFrom(ctx context.Context, w *walk, p *place) (*tuf.Recovery, error) {
	statementName, rootName := w.tip.RecoveryFiles()
	statement, err := readAll(ctx, p.source, "metadata/"+statementName, tuf.MaxRecoveryStatement, c.cfg.MetadataTimeout)
	if err != nil {
		return nil, err
	}
	root, err := readAll(ctx, p.source, "metadata/"+rootName, c.limits.Root, c.cfg.MetadataTimeout)
	if err != nil {
		return nil, err
	}
	rec, err := w.tip.Recovery(statement, root, w.now)
	if errors.Is(err, tuf.ErrExpired) {
		// It was in date when it was waited for.
		for _, wait := range w.session.Recovered {
			if then, thenErr := w.tip.Recovery(statement, root, wait.Last); thenErr == nil && then.ID() == wait.Statement {
				return then, nil
			}
		}
	}
	if errors.Is(err, tuf.ErrUntrusted) {
		w.keepEvidence(c, p.name, "recovery.json", statement, err)
	}
	return rec, err
}

// followed returns the wait for a statement that this client went by already.
func (s *session) followed(rec *tuf.Recovery) (tuf.Wait, bool) {
	i := slices.IndexFunc(s.Recovered, func(wait tuf.Wait) bool { return wait.Statement == rec.ID() })
	if i < 0 {
		return tuf.Wait{}, false
	}
	return s.Recovered[i], true
}

// waited returns how long this client has waited for a statement; all the time
// where it followed it before, and lost what it kept of it.
func (s *session) waited(rec *tuf.Recovery) tuf.Wait {
	if wait, ok := s.followed(rec); ok {
		return wait
	}
	if s.Wait != nil {
		return *s.Wait
	}
	return tuf.Wait{}
}

func recoveryName(tip *tuf.Root) string {
	return fmt.Sprintf("recovery/%d.statement.json", tip.Version())
}

// keepRecovery keeps what a later replay needs to go the same way.
func (s *session) keepRecovery(rec *tuf.Recovery, wait tuf.Wait, tip *tuf.Root) error {
	statement, root := rec.Bytes()
	if err := s.store.Write(recoveryName(tip), statement); err != nil {
		return err
	}
	if err := s.store.Write("roots/"+rootName(tip.Version()+1), root); err != nil {
		return err
	}
	if _, again := s.followed(rec); !again { // else its last tick may be after the statement's date
		// The oldest is the least missed: a pin of a later day leads past it.
		s.Recovered = append(s.Recovered, wait)[max(0, len(s.Recovered)+1-maxRecovered):]
	}
	s.Wait = nil
	return nil
}

// follow returns the root after tip from kept bytes: an ordinary successor, or
// one that was recovered to after a wait that is over.
func follow(store Store, tip *tuf.Root, data []byte, recovered []tuf.Wait) (*tuf.Root, error) {
	next, err := tip.Next(data)
	if err == nil {
		return next, nil
	}
	statement, readErr := store.Read(recoveryName(tip), tuf.MaxRecoveryStatement)
	if readErr != nil {
		return nil, err
	}
	for _, wait := range recovered {
		if rec, recErr := tip.Recovery(statement, data, wait.Last); recErr == nil {
			if next, recErr := rec.Accept(wait); recErr == nil {
				return next, nil
			}
		}
	}
	return nil, err
}
