package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Bounds of what is read from an exchange.
const (
	maxNames  = 10_000  // names of one listing
	maxDrafts = 1000    // drafts that one List opens
	maxBytes  = 1 << 30 // of these drafts together
	maxCopies = 8       // of one draft that can't be merged
	maxSwaps  = 30      // attempts to change one file
)

// ErrForeign: a file in the exchange is not a usable draft of the repository.
var ErrForeign = errors.New("not a usable draft")

// Exchange is one repository's part of an exchange. Its methods are safe for concurrent
// use, also by other processes.
type Exchange struct {
	storage storage.Storage
	repo    *repo.Repo
	target  storage.Storage
	id      string
}

// New returns the part of a repository in an exchange. r is the handle that opens the
// drafts, and own is the repository's storage, from which r reads. repoID is the id of
// the repository: 32 lower-case hex digits.
func New(exchange storage.Storage, r *repo.Repo, own storage.Storage, repoID string) (*Exchange, error) {
	if !layout.IsRepoID(repoID) {
		return nil, fmt.Errorf("exchange: %s: %w: a repository id has 32 lower-case hex digits", text.Quote(repoID), fs.ErrInvalid)
	}
	return &Exchange{exchange, r, own, repoID}, nil
}

// State says how a draft relates to the published metadata.
type State string

// The states of a draft.
const (
	Open      State = "open"      // it follows what is published
	Published State = "published" // its content is published
	Stale     State = "stale"     // other content was published since: it can't be published any more
	NotYet    State = "not yet"   // the repository's storage is older than the draft, as an outdated copy is
)

// Item is a draft in the exchange.
type Item struct {
	Draft  *repo.Draft // opened by the handle, with the valid signatures of all copies
	Digest string      // Draft.Digest
	State  State       // how it relates to the published metadata
	// Targets are the targets that an open draft newly lists; see [repo.Repo.NewTargets].
	Targets []repo.Target
	// Reason is why the draft is not open, human-readable; "" for an open one.
	Reason string

	files []storage.FileInfo
}

// Skipped is a file that List does not use.
type Skipped struct {
	Name string // in the storage
	Err  error  // the reason; it wraps [ErrForeign] or an error of the storage
}

var draftName = regexp.MustCompile(`^([a-z2-7]{4}(?:-[a-z2-7]{4}){7})(?:-[2-8])?\.draft$`)

func (x *Exchange) drafts() string { return x.id + "/drafts/" }

// names are the names of a draft, in the order in which they are used.
func (x *Exchange) names(digest string) []string {
	out := []string{x.drafts() + digest + ".draft"}
	for n := 2; n <= maxCopies; n++ {
		out = append(out, fmt.Sprintf("%s%s-%d.draft", x.drafts(), digest, n))
	}
	return out
}

// open opens one file.
func (x *Exchange) open(name string, data []byte) (*repo.Draft, error) {
	m := draftName.FindStringSubmatch(strings.TrimPrefix(name, x.drafts()))
	if m == nil {
		return nil, fmt.Errorf("%w: not a name of a draft", ErrForeign)
	}
	d, err := x.repo.OpenDraft(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if got := d.Digest(); got != m[1] {
		return nil, fmt.Errorf("%w: it has the draft %s", ErrForeign, got)
	}
	d.DropInvalid()
	return d, nil
}

// Send writes a draft to the exchange and returns its name there. If the exchange has a
// copy of it, the signatures of both are kept. sent is false if nothing had to be
// written. A file of another content under the name is left as it is, and the draft gets
// the next name. The draft must have at most [storage.MaxRead] bytes.
func (x *Exchange) Send(ctx context.Context, d *repo.Draft) (name string, sent bool, err error) {
	defer text.OneLine(&err)
	data, err := d.Bytes()
	if err != nil {
		return "", false, fmt.Errorf("exchange: %w", err)
	}
	if d, err = x.repo.OpenDraft(data); err != nil { // a copy: the caller's draft stays as it is
		return "", false, fmt.Errorf("exchange: %w", err)
	}
	d.DropInvalid()
	own, err := d.Bytes()
	if err != nil {
		return "", false, fmt.Errorf("exchange: %w", err)
	}
	if len(own) > storage.MaxRead {
		return "", false, fmt.Errorf("exchange: the draft has %d bytes, at most %d: %w", len(own), storage.MaxRead, tuf.ErrTooLarge)
	}
	for _, name := range x.names(d.Digest()) {
		switch sent, err := x.sendAs(ctx, name, d, own); {
		case errors.Is(err, ErrForeign):
			continue
		case err != nil:
			return "", false, fmt.Errorf("exchange: %s: %w", text.Name(name), err)
		default:
			return name, sent, nil
		}
	}
	return "", false, fmt.Errorf("exchange: %s and %d more names have other content: %w", text.Name(x.names(d.Digest())[0]), maxCopies-1, ErrForeign)
}

func (x *Exchange) sendAs(ctx context.Context, name string, d *repo.Draft, own []byte) (sent bool, err error) {
	for range maxSwaps {
		have, err := x.storage.Read(ctx, name)
		data := own
		switch {
		case errors.Is(err, fs.ErrNotExist):
			have = nil
		case errors.Is(err, tuf.ErrTooLarge):
			return false, fmt.Errorf("%w: %w", ErrForeign, err)
		case err != nil:
			return false, err
		default:
			there, err := x.open(name, have)
			if err != nil {
				return false, err
			}
			if err := there.Merge(d); err != nil {
				return false, fmt.Errorf("%w: %w", ErrForeign, err)
			}
			if data, err = there.Bytes(); err != nil {
				return false, err
			}
			if bytes.Equal(data, have) {
				return false, nil
			}
		}
		if err := x.storage.Replace(ctx, name, have, data); !errors.Is(err, storage.ErrConflict) {
			return err == nil, err
		}
	}
	return false, fmt.Errorf("the file kept changing during %d attempts: %w", maxSwaps, storage.ErrConflict)
}

// List returns the drafts in the exchange, sorted by digest, and the files that it
// skipped. The storage must be a [storage.Lister]; otherwise the error wraps
// [errors.ErrUnsupported]. At most 1000 drafts of 1 GiB together are opened.
func (x *Exchange) List(ctx context.Context) (items []*Item, skipped []Skipped, err error) {
	defer text.OneLine(&err)
	files, skipped, err := x.files(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("exchange: %w", err)
	}
	skip := func(name string, err error) { skipped = append(skipped, Skipped{name, err}) }
	byDigest := map[string][]*Item{}
	total, opened := int64(0), 0
	for _, f := range files {
		if opened == maxDrafts || total+f.Size > maxBytes {
			skip(f.Name, fmt.Errorf("%w: the exchange has more than %d drafts or %d bytes", ErrForeign, maxDrafts, maxBytes))
			continue
		}
		data, err := x.storage.Read(ctx, f.Name)
		switch {
		case ctx.Err() != nil:
			return nil, nil, fmt.Errorf("exchange: %w", ctx.Err())
		case errors.Is(err, fs.ErrNotExist):
			continue // removed in the meantime
		case err != nil:
			skip(f.Name, err)
			continue
		}
		total, opened = total+int64(len(data)), opened+1
		d, err := x.open(f.Name, data)
		if err != nil {
			skip(f.Name, err)
			continue
		}
		digest := d.Digest()
		merged := false
		for _, have := range byDigest[digest] {
			if merged = have.Draft.Merge(d) == nil; merged {
				have.files = append(have.files, f)
				break
			}
		}
		if !merged {
			byDigest[digest] = append(byDigest[digest], &Item{Draft: d, Digest: digest, files: []storage.FileInfo{f}})
		}
	}
	for _, digest := range slices.Sorted(maps.Keys(byDigest)) {
		for _, it := range byDigest[digest] {
			switch err := x.examine(ctx, it); {
			case ctx.Err() != nil:
				return nil, nil, fmt.Errorf("exchange: %w", ctx.Err())
			case err != nil:
				skip(it.files[0].Name, fmt.Errorf("%w: %w", ErrForeign, err))
			default:
				items = append(items, it)
			}
		}
	}
	return items, skipped, nil
}

// files lists the drafts, sorted by name.
func (x *Exchange) files(ctx context.Context) (out []storage.FileInfo, skipped []Skipped, err error) {
	lister, ok := x.storage.(storage.Lister)
	if !ok {
		return nil, nil, fmt.Errorf("the storage can't list its files: %w", errors.ErrUnsupported)
	}
	n := 0
	for f, err := range lister.List(ctx, x.drafts()) {
		if err != nil {
			return nil, nil, err
		}
		if n++; n > maxNames {
			skipped = append(skipped, Skipped{x.drafts(), fmt.Errorf("%w: more than %d files; the others were not read", ErrForeign, maxNames)})
			break
		}
		switch {
		case !draftName.MatchString(strings.TrimPrefix(f.Name, x.drafts())):
			skipped = append(skipped, Skipped{f.Name, fmt.Errorf("%w: not a name of a draft", ErrForeign)})
		case f.Size > storage.MaxRead:
			skipped = append(skipped, Skipped{f.Name, fmt.Errorf("%w: %d bytes, at most %d", ErrForeign, f.Size, storage.MaxRead)})
		default:
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b storage.FileInfo) int { return strings.Compare(a.Name, b.Name) })
	return out, skipped, nil
}

// examine sets the state of a draft. An error states why it is not a draft of this
// repository.
func (x *Exchange) examine(ctx context.Context, it *Item) (err error) {
	it.Targets, err = x.repo.NewTargets(ctx, it.Draft)
	switch {
	case errors.Is(err, repo.ErrPublished):
		it.State = Published
	case errors.Is(err, repo.ErrNotYet):
		it.State = NotYet
	case errors.Is(err, repo.ErrStale):
		it.State = Stale
	case err != nil:
		return err
	default:
		it.State = Open
		return x.statements(ctx, it)
	}
	it.Reason, it.Targets = text.Line(err.Error()), nil
	return nil
}

// statements finds out whether a draft of statements alone is published: then the
// storage has a statement of each name.
func (x *Exchange) statements(ctx context.Context, it *Item) error {
	only, err := x.repo.StatementsIn(ctx, it.Draft)
	if err != nil || len(only) == 0 || len(it.Targets) > 0 || it.Draft.HasFiles() {
		return err
	}
	for _, s := range only {
		if _, err := x.target.Read(ctx, s.Name); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	it.State, it.Reason = Published, "its statements are published"
	return nil
}

// Prune removes the files of published and of stale drafts among items and returns their
// names. A file that was written since the listing stays. With dryRun it removes nothing.
func (x *Exchange) Prune(ctx context.Context, items []*Item, dryRun bool) (removed []string, err error) {
	defer text.OneLine(&err)
	remover, ok := x.storage.(storage.Remover)
	if !ok {
		return nil, fmt.Errorf("exchange: the storage can't remove files: %w", errors.ErrUnsupported)
	}
	for _, it := range items {
		if it.State != Published && it.State != Stale {
			continue
		}
		for _, f := range it.files {
			if !dryRun {
				// Write times of some stores are in whole seconds.
				err := remover.Remove(ctx, f.Name, f.Written.Add(time.Second))
				if errors.Is(err, storage.ErrConflict) {
					continue
				}
				if err != nil {
					return removed, fmt.Errorf("exchange: %s: %w", text.Name(f.Name), err)
				}
			}
			removed = append(removed, f.Name)
		}
	}
	return removed, nil
}
