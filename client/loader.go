package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// fetch returns a metadata file: name is its name at locations, kept its name in the
// store, "" if it is not kept.
type fetch = func(f tuf.RoleFile, name, kept string) ([]byte, error)

// loader provides metadata files to their verifier: from the disk, or from locations if
// they are missing there or do not verify. Timestamp and snapshot determine the bytes,
// so any location may serve them.
type loader struct {
	c         *Client
	pace      *pace
	locations func() []*location           // the best first
	verified  func(tuf.RoleFile) bool      // whether a provided file was verified
	faulty    func(p *location, err error) // called with the error of a location
	damaged   func(tuf.RoleFile, []byte)   // called with files on disk that do not verify
	rejected  map[rejected]bool            // files that did not verify
	roles     []string                     // fetched from locations
	dead      error                        // no location is reachable: the next file is not requested
}

// rejected is a file that did not verify, from a location or ("") the disk.
type rejected struct{ name, location string }

// brought is a file that was provided, from a location or (nil) the disk.
type brought struct {
	file tuf.RoleFile
	name string
	from *location
	data []byte
}

func (c *Client) loader(pc *pace, locations func() []*location, faulty func(*location, error)) *loader {
	return &loader{c: c, pace: pc, locations: locations, faulty: faulty, damaged: func(tuf.RoleFile, []byte) {}, rejected: map[rejected]bool{}}
}

// run calls use until it succeeds, or no location can change its result. Files that
// verified in one call are not requested again in the next.
func (l *loader) run(ctx context.Context, use func(fetch) error) error {
	var problems []error
	for {
		var out []brought
		done := func() {}
		err := use(func(f tuf.RoleFile, name, kept string) ([]byte, error) {
			done()
			done = func() {}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if kept != "" && !l.rejected[rejected{name: name}] {
				if data, err := l.c.store.Read(kept, f.MaxLength); err == nil {
					out = append(out, brought{f, name, nil, data})
					return data, nil
				}
			}
			if l.dead != nil {
				return nil, l.dead
			}
			l.roles = append(l.roles, f.Role)
			data, from, err := l.fetch(ctx, name, f.MaxLength)
			if err != nil {
				return nil, err
			}
			out = append(out, brought{f, name, from, data})
			done = l.c.noteParsing(from, len(data))
			return data, nil
		})
		done()
		switch {
		case err == nil || decided(err):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		bad := slices.DeleteFunc(slices.Clone(out), func(b brought) bool { return l.verified(b.file) })
		if len(bad) == 0 {
			if len(out) == 0 || len(out) > 0 && l.isRejected(out[len(out)-1]) {
				return errors.Join(append(problems, err)...)
			}
			bad = out[len(out)-1:] // verified by one delegation, but not by another
		}
		for _, b := range bad {
			if b.from == nil {
				l.rejected[rejected{name: b.name}] = true
				l.damaged(b.file, b.data)
				continue
			}
			l.rejected[rejected{b.name, b.from.key}] = true
			l.faulty(b.from, err)
			problems = append(problems, fmt.Errorf("%s: %w", text.Name(b.from.name), err))
		}
	}
}

// isRejected reports whether a file has been rejected already.
func (l *loader) isRejected(b brought) bool {
	key := ""
	if b.from != nil {
		key = b.from.key
	}
	return l.rejected[rejected{b.name, key}]
}

// At most maxLarge copies of a file larger than largeFile are read at the same time,
// because each needs its memory before it can be verified.
const (
	largeFile = 4 << 20
	maxLarge  = 3
)

// fetch returns the file from the first location that has it.
func (l *loader) fetch(ctx context.Context, name string, limit int64) (data []byte, from *location, err error) {
	locations := slices.DeleteFunc(l.locations(), func(p *location) bool { return l.rejected[rejected{name, p.key}] })
	var problems []error
	down := 0 // locations that are unreachable for other files too
	asked := map[string]*location{}
	next := each(locations)
	q := inquiry[[]byte]{pace: l.pace, get: l.c.metadata(name, limit)}
	if limit > largeFile {
		q.most = maxLarge
	}
	q.next = func() *location {
		p := next()
		if p != nil {
			asked[p.key] = p
		}
		return p
	}
	q.use = func(p *location, b []byte, err error) need {
		delete(asked, p.key)
		if err == nil {
			data, from = b, p
			return nothingMore
		}
		l.faulty(p, err)
		if !isAbsent(err) && !errors.Is(err, tuf.ErrUntrusted) && !errors.Is(err, fs.ErrInvalid) {
			down++
		}
		problems = append(problems, fmt.Errorf("%s: %w", text.Name(p.name), err))
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
		if down > 0 && down == len(problems) {
			l.dead = errors.Join(problems...)
		}
		return nil, nil, errors.Join(append([]error{fmt.Errorf("%s: no location has it", text.Name(name))}, problems...)...)
	}
	if l.pace.late[from.key] {
		l.faulty(from, errLate)
	}
	return data, from, nil
}
