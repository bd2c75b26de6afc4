package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/walk"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
	"github.com/visum-dev/visum/tuf/receipt"
)

// maxReceiptRoots is the number of roots that a receipt can have.
const maxReceiptRoots = 1024

// maxReceiptStatements is the number of statements of one role that a receipt has: the
// last ones, which count.
const maxReceiptStatements = 16

// ReceiptOptions selects the bytes of a receipt.
type ReceiptOptions struct {
	Options
	// SHA256 of the bytes, in lower-case hex; "": those that the parties list, else those
	// of the latest recall of the path.
	SHA256 string
}

// Receipt returns a receipt for the bytes that a repository lists under a path: one file
// that shows offline, years later, that they were approved at the time of the call, or
// held or recalled. Recalled bytes need not be listed any more; then the receipt states
// neither their length nor statements on them. [receipt.Open] verifies it with the same pin, or with a later one.
//
// The receipt has the newest metadata of the source. It has all roots that the pin
// authenticates, also those before the pin's, so that programs with older pins can verify
// it, and the last 16 statements of each role of the class; those that do not verify are
// left out. Receipt does not read the target itself.
//
// The time of the receipt is that of [Options].Now, or signed_at of the root if that is
// later. If the metadata is expired at that time the error wraps [tuf.ErrExpired]. Other
// errors are those of [tuf.Snapshot.Approve], such as [tuf.ErrNoTarget] and
// [tuf.ErrNotApproved], and of [receipt.Open], with which Receipt verifies its result: a
// recovered root after the pin's is [tuf.ErrWaiting]. If another process published during
// the call, the error wraps [storage.ErrConflict]; call Receipt again.
func Receipt(ctx context.Context, from storage.Source, pin []byte, target string, opts *ReceiptOptions) (data []byte, err error) {
	defer text.OneLine(&err)
	err = oneState(ctx, from, func(from storage.Source) error {
		data, err = makeReceipt(ctx, from, pin, target, opts)
		return err
	})
	return data, err
}

func makeReceipt(ctx context.Context, from storage.Source, pin []byte, target string, opts *ReceiptOptions) (data []byte, err error) {
	if opts == nil {
		opts = &ReceiptOptions{}
	}
	opt := &opts.Options
	opened, err := tuf.OpenPin(pin, opt.tuf())
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	m := &receiptMaker{from: from, want: opts.SHA256}
	m.Path = target
	s := newestOf(from, opened.Root(), opt)
	s.Opened = func(ctx context.Context, timestamp, snapshot []byte) error {
		if err := m.collect(ctx, s, opened.Root().Version(), timestamp, snapshot, opt); err != nil {
			return err
		}
		return errCollected
	}
	// What was collected is one state, whatever was published since.
	if err := s.Run(ctx, opened.Root()); !errors.Is(err, errCollected) {
		return nil, fmt.Errorf("mirror: receipt of %s: %w", text.Name(target), s.Conflict(ctx, err))
	}
	data = receipt.Seal(m.Contents)
	if _, err := receipt.Open(data, pin, &receipt.Options{UnsafeLoopback: opt.UnsafeLoopback}); err != nil {
		return nil, fmt.Errorf("mirror: receipt of %s: %w", text.Name(target), err)
	}
	return data, nil
}

// errCollected ends a walk before it reads roles that the receipt does not need.
var errCollected = errors.New("everything was read")

// receiptMaker collects the parts of a receipt.
type receiptMaker struct {
	receipt.Contents
	from storage.Source
	want string // sha256; "": the listed one
}

func (m *receiptMaker) collect(ctx context.Context, s *walk.Walker, pinned int64, timestamp, snapshot []byte, opt *Options) error {
	root := s.Under
	if root.Charter() == nil {
		return &tuf.Error{Role: m.Path, Err: tuf.ErrNotApproved, Detail: "the repository has no charter and no review"}
	}
	m.RepoID, m.Time, m.Timestamp, m.Snapshot = root.Charter().RepoID(), opt.now(), timestamp, snapshot
	if signed := root.Charter().SignedAt(); m.Time.Before(signed) {
		m.Time = signed
	}
	roots := s.Trusted()
	for len(roots) > maxReceiptRoots && roots[0].Version() < pinned {
		roots = roots[1:]
	}
	for _, r := range roots {
		m.Roots = append(m.Roots, receipt.RootFile{Root: r.Bytes(), Recovery: s.Recoveries[r.Version()-1].Data[0]})
	}
	ts, err := root.Timestamp(timestamp, nil, m.Time)
	if err != nil {
		return err
	}
	snap, err := ts.Snapshot(snapshot, nil)
	if err != nil {
		return err
	}
	m.Roles = map[string][]byte{}
	get := func(f tuf.RoleFile) ([]byte, error) {
		data, err := storage.ReadAll(ctx, m.from, layout.MetadataName(f.Name()), f.MaxLength)
		if err == nil {
			m.Roles[f.Role] = data
		}
		return data, err
	}
	d, err := receipt.Decide(snap, m.Path, m.want, get)
	if err != nil {
		return err
	}
	m.Length, m.SHA256 = d.Agreed.Length, d.Agreed.SHA256
	if len(d.Agreed.Signoffs) == 0 { // recalled, and no longer listed
		return nil
	}
	return m.statements(ctx, s, root)
}

// statements adds the statements that verify under the roots up to that of the decision.
func (m *receiptMaker) statements(ctx context.Context, s *walk.Walker, root *tuf.Root) error {
	subject := attestation.Subject{Path: m.Path, Length: m.Length, SHA256: m.SHA256}
	parties, found := map[string]string{}, map[string][]receipt.StatementFile{}
	for _, class := range root.Charter().Classes() {
		for _, role := range class.Roles {
			parties[role.Role] = role.Party
		}
	}
	x := metafile.Target{Path: m.Path, Length: m.Length, SHA256: m.SHA256}
	err := chain.Statements(ctx, m.from, s.Trusted(), x, nil, func(name string, data []byte, err error) error {
		role, n := layout.SplitStatement(path.Base(name))
		if err != nil || n == 0 {
			return nil
		}
		f := receipt.StatementFile{Role: role, Number: n, Data: data}
		if _, err := receipt.OpenStatement(f, root, parties[role], subject, m.Time, s.Trusted()...); err != nil {
			return nil // a statement that does not verify is ignored
		}
		if found[role] = append(found[role], f); len(found[role]) > maxReceiptStatements {
			found[role] = found[role][1:]
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, role := range slices.Sorted(maps.Keys(found)) {
		m.Statements = append(m.Statements, found[role]...)
	}
	return nil
}
