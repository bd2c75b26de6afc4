package git

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/repo/storage"
)

const (
	maxRounds = 100 // of a commit that other publishers are faster than
	maxStuck  = 10  // of them without a change of the branch
)

// head asks the host for the commit of the branch; "" if there is no branch.
func (b *Branch) head(ctx context.Context) (string, error) {
	out, err := b.git(ctx, command{args: []string{"ls-remote", "--refs", "origin", b.ref}})
	if err != nil {
		return "", b.unreachable(ctx, err)
	}
	for _, line := range lines(out) {
		if oid, ref, ok := strings.Cut(line, "\t"); ok && ref == b.ref {
			if !oidForm.MatchString(oid) {
				return "", errors.New("the repository does not use SHA-1 object names, which this package needs")
			}
			return oid, nil
		}
	}
	return "", nil
}

// unreachable explains why the host could not be asked.
func (b *Branch) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("the remote can't be read: %w; check the address, the network and the credentials with: git ls-remote %s", err, b.remote)
}

// sync returns the present state of the branch.
func (b *Branch) sync(ctx context.Context) (*state, error) {
	for range 10 {
		tip, err := b.head(ctx)
		if err != nil {
			return nil, err
		}
		last := b.known()
		if last != nil && last.tip == tip {
			return last, nil
		}
		if tip != "" {
			if tip, err = b.fetch(ctx, tip, last); err != nil {
				return nil, err
			}
			if tip == "" {
				continue // removed in the meantime
			}
		}
		s, err := b.load(ctx, tip)
		if err != nil {
			return nil, err
		}
		b.learn(s)
		return s, nil
	}
	return nil, fmt.Errorf("%w: the branch is removed and made again all the time", storage.ErrConflict)
}

func (b *Branch) known() *state {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

func (b *Branch) learn(s *state) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = s
}

// fetch gets the tip of the branch, which may be a newer one than tip by now. It is "" if
// there is no branch any more.
func (b *Branch) fetch(ctx context.Context, tip string, last *state) (string, error) {
	if b.has(ctx, tip) {
		return tip, nil // an earlier process has fetched it, or made it
	}
	have := ""
	if last != nil {
		have = last.tip
	}
	if have == "" {
		have = b.remembered(ctx)
	}
	dir, done, err := b.scratch(have)
	if err != nil {
		return "", err
	}
	defer done()
	_, err = b.git(ctx, command{dir: dir, args: []string{"fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc",
		"origin", "+" + b.ref + ":refs/visum/new"}})
	if err != nil {
		if now, again := b.head(ctx); again == nil && now == "" {
			return "", nil
		}
		return "", b.unreachable(ctx, err)
	}
	out, err := b.git(ctx, command{dir: dir, args: []string{"rev-parse", "--verify", "refs/visum/new^{commit}"}})
	if err != nil {
		return "", err
	}
	tip = strings.TrimSpace(string(out))
	b.remember(tip)
	b.collect(ctx, tip)
	return tip, nil
}

// has reports whether the local copy has a commit and its tree. In the directory that has
// a remote, git would fetch what is missing, object by object.
func (b *Branch) has(ctx context.Context, tip string) bool {
	_, err := b.git(ctx, command{dir: b.offline, args: []string{"ls-tree", "-r", "-t", "-z", tip}, limit: maxTree})
	return err == nil
}

// remembered returns the commit that an earlier process has fetched: the host need not
// send what it has.
func (b *Branch) remembered(ctx context.Context) string {
	data, err := readSmall(filepath.Join(b.dir, "tip"))
	tip := strings.TrimSpace(string(data))
	if err != nil || !oidForm.MatchString(tip) || !b.has(ctx, tip) {
		return ""
	}
	return tip
}

func (b *Branch) remember(tip string) {
	_ = durable.WriteFile(filepath.Join(b.dir, "tip"), []byte(tip+"\n"), 0o600) // a hint for later processes
}

// commit makes the changes in one commit and pushes it. If another publisher was faster,
// the changes are applied to the new state, unless their conditions or reads, the files
// that they rely on, do not hold there. base may be out of date if fresh is false.
func (b *Branch) commit(ctx context.Context, base *state, fresh bool, reads map[string]string, ops []op) error {
	select {
	case b.busy <- struct{}{}:
		defer func() { <-b.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !fresh {
		base = b.known() // another goroutine may have pushed
	}
	stuck, tried := 0, "" // rounds in which the host refused the push and the tip stayed
	for round := range maxRounds {
		if base == nil {
			s, err := b.sync(ctx)
			if err != nil {
				return err
			}
			base, fresh = s, true
		}
		now := b.clock()
		v, err := base.replay(reads, ops, now)
		if err == nil && !base.ours {
			err = fmt.Errorf("%w: its tip %.12s has no file %s, and a publish would replace its history by one commit; use a branch of its own, or add an empty file of that name to agree", ErrForeignBranch, base.tip, b.folder+indexName)
		}
		if err != nil || len(v.files) == 0 {
			if !fresh {
				base = nil
				continue
			}
			return err
		}
		next, err := b.pushCommit(ctx, base, v, now)
		if err == nil {
			b.learn(next)
			return nil
		}
		var lost *lostError
		if !errors.As(err, &lost) {
			return err
		}
		if stuck++; base.tip != tried {
			stuck, tried = 0, base.tip
		}
		if stuck >= maxStuck {
			return lost.err
		}
		base = nil // another publisher was faster
		if round >= 3 {
			var random [1]byte
			rand.Read(random[:]) // never fails
			if err := b.wait(ctx, time.Duration(random[0])*time.Duration(min(round, 16))*time.Millisecond/8); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("%w: other publishers were faster %d times", storage.ErrConflict, maxRounds)
}

// replay applies changes to a state.
func (s *state) replay(reads map[string]string, ops []op, now time.Time) (*view, error) {
	for path, oid := range reads {
		if f := s.files[path]; f.oid != oid {
			return nil, fmt.Errorf("%w: %s has changed", storage.ErrConflict, path)
		}
	}
	v := newView(s)
	for _, o := range ops {
		if err := o.apply(v, now); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// pushCommit returns the new state, or a lostError.
func (b *Branch) pushCommit(ctx context.Context, base *state, v *view, now time.Time) (*state, error) {
	dir, done, err := b.scratch(base.tip)
	if err != nil {
		return nil, err
	}
	defer done()
	next, err := b.makeCommit(ctx, dir, base, v, now)
	if err != nil {
		return nil, err
	}
	_, err = b.git(ctx, command{dir: dir, args: []string{"push", "--porcelain", "--no-verify", "--no-follow-tags", "--no-signed", "--no-recurse-submodules",
		"--force-with-lease=" + b.ref + ":" + base.tip, "origin", next.tip + ":" + b.ref}})
	if err != nil {
		return b.afterPush(ctx, base, next, err)
	}
	b.remember(next.tip)
	b.collect(ctx, next.tip)
	return next, nil
}

// makeCommit makes the commit in the local copy. It has no parent: the branch is one
// commit at any time.
func (b *Branch) makeCommit(ctx context.Context, dir string, base *state, v *view, now time.Time) (*state, error) {
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	next := &state{ours: true, files: maps.Clone(base.files), dirs: maps.Clone(base.dirs)}
	next.chain = append([]string{base.tip}, base.chain...)
	if base.tip == "" {
		next.chain = nil
	}
	next.chain = next.chain[:min(len(next.chain), maxChain)]
	for _, f := range v.files {
		if f != nil && f.written == 0 {
			f.written = now.UnixNano()
		}
	}
	for _, x := range []struct {
		path string
		need bool
		make func() []byte
	}{
		{noJekyll, v.missing(noJekyll), func() []byte { return nil }},
		{b.folder + indexName, true, func() []byte { return b.writeIndex(next.with(v)) }},
	} {
		if !x.need {
			continue
		}
		content := x.make()
		oid, err := b.storeBytes(ctx, content)
		if err != nil {
			return nil, err
		}
		v.set(x.path, &file{oid: oid, mode: "100644", size: int64(len(content)), written: now.UnixNano()})
	}
	next.with(v)
	for d, n := range v.dirs {
		if next.dirs[d] += n; next.dirs[d] == 0 {
			delete(next.dirs, d)
		}
	}
	index := []string{"GIT_INDEX_FILE=" + filepath.Join(dir, "index")}
	if base.tip != "" {
		if _, err := b.git(ctx, command{dir: dir, env: index, args: []string{"read-tree", base.tip}}); err != nil {
			return nil, err
		}
	}
	var changes strings.Builder
	for _, path := range slices.Sorted(maps.Keys(v.files)) {
		if f := v.files[path]; f != nil {
			changes.WriteString(f.mode + " " + f.oid + "\t" + path + "\x00")
		} else {
			changes.WriteString("0 0000000000000000000000000000000000000000\t" + path + "\x00")
		}
	}
	if _, err := b.git(ctx, command{dir: dir, env: index, args: []string{"update-index", "-z", "--index-info"}, stdin: strings.NewReader(changes.String())}); err != nil {
		return nil, err
	}
	tree, err := b.git(ctx, command{dir: dir, env: index, args: []string{"write-tree", "--missing-ok"}})
	if err != nil {
		return nil, err
	}
	message := fmt.Sprintf("visum: publish\n\nvisum-write: %s\n", hex.EncodeToString(nonce[:]))
	for _, oid := range next.chain {
		message += chainKey + oid + "\n"
	}
	out, err := b.git(ctx, command{dir: dir, args: []string{"commit-tree", strings.TrimSpace(string(tree))}, stdin: strings.NewReader(message)})
	if err != nil {
		return nil, err
	}
	if next.tip = strings.TrimSpace(string(out)); !oidForm.MatchString(next.tip) {
		return nil, errors.New("git commit-tree: unexpected output")
	}
	return next, nil
}

func (v *view) missing(path string) bool { _, ok := v.get(path); return !ok }

// with applies the changes of a view to the files and returns them.
func (s *state) with(v *view) map[string]file {
	for path, f := range v.files {
		if f == nil {
			delete(s.files, path)
		} else {
			s.files[path] = *f
		}
	}
	return s.files
}

var (
	refusal = regexp.MustCompile(`(?m)^!\t\S*\t\[(remote )?rejected\] \((.*)\)$`)
	busyRef = regexp.MustCompile(`(?i)cannot lock ref|failed to (update|lock)|incorrect old value|already exists|unable to (create|resolve)|stale info`)
)

// lostError: another publisher was faster. err is the answer of the host.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }

// afterPush finds out what a push did that reported an error: it may have taken effect
// without an answer.
func (b *Branch) afterPush(ctx context.Context, base, next *state, err error) (*state, error) {
	unknown := func(why error) error {
		return fmt.Errorf("it is unknown whether the push took effect: %w; the same command can be run again", why)
	}
	failed, ok := isRunError(err)
	if !ok {
		return nil, unknown(err) // ctx has ended
	}
	said := refusal.FindSubmatch(failed.out)
	refused := fmt.Errorf("%w: %w", ErrRefused, err)
	if said != nil {
		refused = fmt.Errorf("%w (%s): %s; check the rights of the credentials, and that the branch permits forced pushes", ErrRefused, clean(said[2]), failed.messages)
	}
	now, look := b.sync(ctx)
	switch {
	case look != nil && said == nil:
		return nil, unknown(errors.Join(err, look))
	case look != nil:
		return nil, look
	case now.tip == next.tip, slices.Contains(now.chain, next.tip):
		return now, nil
	case now.tip == base.tip && said == nil:
		return nil, fmt.Errorf("the push failed: %w", err)
	case now.tip == base.tip && !busyRef.Match(said[2]):
		return nil, refused
	case said != nil, base.tip != "" && slices.Contains(now.chain, base.tip):
		return nil, &lostError{refused}
	}
	return nil, unknown(fmt.Errorf("the branch was replaced in the meantime: %w", err))
}

// collect removes objects that no state needs any more, from time to time.
func (b *Branch) collect(ctx context.Context, tip string) {
	b.mu.Lock()
	n := b.pushes
	b.pushes++
	b.mu.Unlock()
	if n%50 != 0 {
		return
	}
	unlock, err := durable.TryLock(filepath.Join(b.dir, "gc.lock"))
	if unlock == nil || err != nil {
		return
	}
	defer unlock()
	dir, done, err := b.scratch(tip)
	if err != nil {
		return
	}
	defer done()
	_, _ = b.git(ctx, command{dir: dir, args: []string{"gc", "--auto", "--quiet"}}) // the next process tries again
}
