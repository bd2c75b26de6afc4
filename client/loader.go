package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/visum-dev/visum/tuf"
)

// fetch brings a metadata file: name is its name at locations, kept the one in
// the store, "" where it is not looked for there.
type fetch = func(f tuf.RoleFile, name, kept string) ([]byte, error)

// loader brings metadata files to what verifies them: from the disk, and from
// locations where it is not there or does not verify. Timestamp and snapshot name
// the bytes, so any location will do.
type loader struct {
	c       *Client
	pace    *pace
	places  func() []*place            // the best first
	faulty  func(p *place, err error)  // what a location did instead
	damaged func(tuf.RoleFile, []byte) // nil, or told of files on disk that do not verify
	spoiled map[spoiled]bool           // files that did not verify
	roles   []string                   // that came from locations
}

// spoiled is a file that did not verify, of a location or ("") of the disk.
type spoiled struct{ name, place string }

func (c *Client) loader(pc *pace, places func() []*place, faulty func(*place, error)) *loader {
	return &loader{c: c, pace: pc, places: places, faulty: faulty, spoiled: map[spoiled]bool{}}
}

// run calls use until it succeeds, or no location can change what it returns. use
// stops at the first file that does not verify; what verified before it is not
// asked for again.
func (l *loader) run(ctx context.Context, use func(fetch) error) error {
	var problems []error
	for {
		// The file that use got last, and its origin.
		var file tuf.RoleFile
		var name string
		var from *place
		var data []byte
		done := func() {}
		err := use(func(f tuf.RoleFile, n, kept string) (_ []byte, err error) {
			done()
			done = func() {}
			file, name, from = f, n, nil
			if kept != "" && !l.spoiled[spoiled{name: n}] {
				if data, err = l.c.store.Read(kept, f.MaxLength); err == nil {
					return data, nil
				}
			}
			l.roles = append(l.roles, f.Role)
			if data, from, err = l.fetch(ctx, n, f.MaxLength); err != nil {
				name = ""
				return nil, err
			}
			done = l.c.attempt(from, len(data))
			return data, nil
		})
		done()
		switch {
		case err == nil || decided(err):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case name == "": // nothing was asked for, or nobody has it
			return errors.Join(append(problems, err)...)
		case from == nil:
			l.spoiled[spoiled{name: name}] = true
			if l.damaged != nil {
				l.damaged(file, data)
			}
		default:
			l.spoiled[spoiled{name, from.key}] = true
			l.faulty(from, err)
			err = fmt.Errorf("%s: %w", from.name, err)
		}
		problems = append(problems, err)
	}
}

// fetch returns the first answer of a location that holds the file.
func (l *loader) fetch(ctx context.Context, name string, limit int64) (data []byte, from *place, err error) {
	places := slices.DeleteFunc(l.places(), func(p *place) bool { return l.spoiled[spoiled{name, p.key}] })
	var problems []error
	asked := map[string]*place{}
	next := each(places)
	q := inquiry[[]byte]{pace: l.pace, get: l.c.metadata(name, limit)}
	q.next = func() *place {
		p := next()
		if p != nil {
			asked[p.key] = p
		}
		return p
	}
	q.use = func(p *place, b []byte, err error) need {
		delete(asked, p.key)
		if err == nil {
			data, from = b, p
			return nothingMore
		}
		l.faulty(p, err)
		problems = append(problems, fmt.Errorf("%s: %w", p.name, err))
		return required
	}
	if err := q.run(ctx); err != nil {
		return nil, nil, err
	}
	for key, p := range asked {
		if l.pace.late[key] {
			l.faulty(p, errLate)
		}
	}
	if from == nil {
		return nil, nil, errors.Join(append([]error{fmt.Errorf("%s: no location has it", name)}, problems...)...)
	}
	if l.pace.late[from.key] {
		l.faulty(from, errLate)
	}
	return data, from, nil
}
