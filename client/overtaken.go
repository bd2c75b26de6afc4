package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// maxOvertaken is how often one refresh starts again because a root was published while
// it ran.
const maxOvertaken = 3

// overtaken handles a root that is published during the refresh: it asks the locations
// whose timestamp the keys of the newest trusted root did not sign for the next root
// again. If there is one, the refresh continues from it. Timestamps that no root
// explains are evidence.
func (c *Client) overtaken(ctx context.Context, w *walk, view *View) (*View, error) {
	defer func() {
		w.reportUnsigned(c)
		c.former.Store(&w.former)
	}()
	for range maxOvertaken {
		if len(w.unsigned) == 0 || ctx.Err() != nil {
			break
		}
		next, err := c.nextRootFromUnsigned(ctx, w)
		if err != nil {
			return nil, err
		}
		if next == nil {
			break
		}
		w.dropPrefetched()
		if err := c.acceptRoot(w, next); err != nil {
			return nil, err
		}
		w.reportUnsigned(c)
		if err := c.walk(ctx, w); err != nil {
			return nil, err
		}
		w.session.Root = max(w.session.Root, w.trusted.Version())
		w.session.recover(w.trusted)
		view = c.buildView(ctx, w)
	}
	return view, nil
}

// nextRootFromUnsigned returns the root after trusted if one of these locations has it now.
func (c *Client) nextRootFromUnsigned(ctx context.Context, w *walk) (found *tuf.Root, err error) {
	var locations []*location
	for _, u := range w.unsigned {
		if !w.bad[u.location.key] && !slices.Contains(locations, u.location) {
			locations = append(locations, u.location)
		}
	}
	q := inquiry[[]byte]{pace: w.pace, next: each(locations), get: c.metadata(rootName(w.trusted.Version()+1), c.limits.Root)}
	q.use = func(p *location, data []byte, err error) need {
		if found = c.rootFrom(w, p, data, err); found != nil {
			return nothingMore
		}
		return welcome
	}
	return found, q.run(ctx)
}

// reportUnsigned records the timestamps that the keys of the newest trusted root did
// not sign, and forgets them. If keys of former roots signed them, they come from
// mirrors that lag: they are refused, but no evidence.
func (w *walk) reportUnsigned(c *Client) {
	for _, u := range w.unsigned {
		if _, err := w.trusted.Timestamp(u.data, nil, w.now); !errors.Is(err, tuf.ErrThreshold) {
			continue
		}
		if slices.ContainsFunc(w.former, func(r *tuf.Root) bool {
			_, err := r.Timestamp(u.data, nil, time.Time{}) // expired ones too
			return err == nil
		}) {
			w.failed(u.location, u.err, true)
			continue
		}
		w.faulty(c, u.location, u.err)
	}
	w.unsigned = nil
}
