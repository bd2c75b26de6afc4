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

// fetch brings a metadata file: name is its name at locations, kept the one in
// the store, "" where it is not looked for there.
type fetch = func(f tuf.RoleFile, name, kept string) ([]byte, error)

// loader brings metadata files to what verifies them: from the disk, and from
// locations where it is not there or does not verify. Timestamp and snapshot name
// the bytes, so any location will do.
type loader struct {
	c         *Client
	pace      *pace
	locations func() []*location           // the best first
	verified  func(tuf.RoleFile) bool      // whether what was brought turned out to be right
	faulty    func(p *location, err error) // what a location did instead
	damaged   func(tuf.RoleFile, []byte)   // told of files on disk that do not verify
	rejected  map[rejected]bool            // files that did not verify
	roles     []string                     // that came from locations
	dead      error                        // no location answers: the next file is not asked for
}

// spoiled is a file that did not verify, of a location or ("") of the disk.
type rejected struct{ name, location string }

// brought is a file that was handed out, from a location or (nil) the disk.
type brought struct {
	file tuf.RoleFile
	name string
	from *location
	data []byte
}

func (c *Client) loader(pc *pace, locations func() []*location, faulty func(*location, error)) *loader {
	return &loader{c: c, pace: pc, locations: locations, faulty: faulty, damaged: func(tuf.RoleFile, []byte) {}, rejected: map[rejected]bool{}}
}

// run calls use until it succeeds, or no location can change what it returns. What
// verified in one call is not asked for again in the next.
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
			bad = out[len(out)-1:] // right for one delegator, but not for another
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

// spoils reports whether a file is known to be no good already.
func (l *loader) isRejected(b brought) bool {
	key := ""
	if b.from != nil {
		key = b.from.key
	}
	return l.rejected[rejected{b.name, key}]
}

// Of a file that may have more than largeFile bytes no more than maxLarge copies
// are read at the same time: each takes its memory before anything is verified.
const (
	largeFile = 4 << 20
	maxLarge  = 3
)

// fetch returns the first answer of a location that holds the file.
func (l *loader) fetch(ctx context.Context, name string, limit int64) (data []byte, from *location, err error) {
	locations := slices.DeleteFunc(l.locations(), func(p *location) bool { return l.rejected[rejected{name, p.key}] })
	var problems []error
	down := 0 // of these locations nothing else can be had now either
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
