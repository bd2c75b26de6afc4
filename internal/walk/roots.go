package walk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// walkRoots reads every root. From the pin's root on, each must follow from the one
// before. Older roots, which clients with older pins need, must lead to the pin's root.
// In a repository without charter, older roots may be missing or have an unsupported
// form.
func (s *Walker) walkRoots(ctx context.Context, pinned *tuf.Root) (files map[int64][]byte, err error) {
	files = map[int64][]byte{}
	s.Recoveries = map[int64]chain.Recovery{}
	var last *tuf.Root // the end of an unbroken chain from root 1 on
	for n := int64(1); ; n++ {
		if n == chain.MaxRoots {
			return nil, fmt.Errorf("more than %d roots", chain.MaxRoots)
		}
		name := layout.RootName(n)
		data, err := storage.ReadAll(ctx, s.Source, name, s.limits.Root)
		var f chain.Recovery
		if last != nil && errors.Is(err, fs.ErrNotExist) { // a recovery may take its place
			if f, err = s.recoveryOf(ctx, last, err); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if f.Statement != nil {
				name, data = f.Names[1], f.Data[1]
			}
		}
		if n > pinned.Version() && errors.Is(err, fs.ErrNotExist) {
			s.absent = n
			break
		}
		var root *tuf.Root
		switch {
		case err != nil:
		case n == 1:
			root, err = tuf.OpenRoot(data, s.Options)
		case f.Statement != nil:
			root, err = f.Root()
		case last != nil:
			root, err = last.Next(data)
		case n < pinned.Version():
			root, err = tuf.OpenRoot(data, s.Options) // the gap before it has been reported
		}
		if err == nil && n == pinned.Version() {
			if root, err = tuf.OpenRoot(data, s.Options); err == nil && root.SHA256() != pinned.SHA256() {
				err = &tuf.Error{Role: "root", Version: n, Err: tuf.ErrMismatch, Detail: "it differs from the pin's root"}
			}
		}
		if err != nil {
			if err := s.reportRoot(ctx, pinned, n, name, err); err != nil {
				return nil, err
			}
			if n > pinned.Version() {
				break // no client gets beyond it
			}
			root = nil
		}
		switch {
		case n == pinned.Version():
			root = pinned // trusted, regardless of the file
			fallthrough
		case root != nil:
			s.chain = append(s.chain, root)
		}
		if last = root; err == nil && f.Statement == nil {
			files[n] = data
		}
		if f.Statement == nil || n == pinned.Version() {
			s.regular = max(s.regular, n)
		}
	}
	s.believed = slices.IndexFunc(s.chain, func(r *tuf.Root) bool { return r == pinned })
	for s.believed > 0 {
		after, before := s.chain[s.believed], s.chain[s.believed-1]
		if after.Charter() == nil || before.Version() != after.Version()-1 || before.SHA256() != after.Charter().PrevRoot() {
			break
		}
		s.believed--
	}
	return files, nil
}

// reportRoot makes a finding of an error of root n, unless the error is permitted.
func (s *Walker) reportRoot(ctx context.Context, pinned *tuf.Root, n int64, name string, err error) error {
	missing := errors.Is(err, fs.ErrNotExist)
	if pinned.Charter() == nil && (n < pinned.Version() && errors.Is(err, tuf.ErrUntrusted) || n <= pinned.Version() && missing) {
		return nil
	}
	return s.report(ctx, name, err)
}

// Trusted returns the roots under which content and statements count.
func (s *Walker) Trusted() []*tuf.Root { return s.chain[s.believed:] }

// recoveryOf looks for a recovery after root; if there is none, it returns the error
// none.
func (s *Walker) recoveryOf(ctx context.Context, root *tuf.Root, none error) (chain.Recovery, error) {
	f, err := chain.RecoveryOf(ctx, s.Source, root)
	if err != nil {
		if err := s.report(ctx, f.Names[0], err); err != nil {
			return f, err
		}
	}
	if f.Statement == nil {
		return chain.Recovery{}, none
	}
	s.Recoveries[root.Version()] = f
	return f, nil
}

// end removes recovery roots from the end of the chain if no content is signed under
// them, since they are not in force yet.
func (s *Walker) end(signed *tuf.Root) error {
	for s.Newest().Version() > s.regular && s.Newest() != signed && len(s.Trusted()) > 1 {
		s.chain = s.chain[:len(s.chain)-1]
	}
	name := layout.RootName(s.Newest().Version())
	if f, ok := s.Recoveries[s.Newest().Version()-1]; ok {
		name = f.Names[1]
	}
	return s.dated(name, s.Newest().Expires())
}
