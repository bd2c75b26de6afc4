package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/walk"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Mirror is a copy that must have the same files as the repository.
type Mirror struct {
	Name   string         // used in the report
	Source storage.Source // where the copy is read
	// RootsOnly states that the copy has the roots only.
	RootsOnly bool
}

// Verify checks the repository in a storage from a pin on, first as a client would, then
// exhaustively. For a repository without charter, pin may be a bare root.json, with or
// without consistent snapshots. Verify checks every root, timestamp, snapshot, every
// reachable role under each of its delegators, the full content of every target file,
// and reviewers' statements. It checks up to 32 targets at the same time. With
// [Options].Quick it reads no target. If the storage is a [storage.Lister], it also finds all other
// files in metadata/ and targets/. It compares each copy with the repository, file by
// file.
//
// Verify needs no key and changes nothing. The report contains all faults, not only the
// first. An error means that there is no report: the pin can't be opened, or ctx has
// ended. Verify may run concurrently with publishers: if something was published in the
// meantime, it checks its findings again. If the repository keeps changing, the error
// wraps [storage.ErrConflict].
func Verify(ctx context.Context, s storage.Storage, pin []byte, opt *Options, copies ...Mirror) (_ *Report, err error) {
	defer text.OneLine(&err)
	opened, err := tuf.OpenPin(pin, opt.tuf())
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	mirrors := append([]Mirror{{Source: storage.SourceOf(s)}}, copies...)
	for i := range copies {
		if copies[i].Name == "" {
			mirrors[i+1].Name = fmt.Sprintf("copy %d", i+1)
		}
	}
	right := map[[16]byte]bool{}
	var last *Report
	var stays map[Finding]bool // findings of every pass so far
	for range maxReads {
		v := &verification{opt: opt, mirrors: mirrors, right: right}
		if err := v.listTargets(ctx); err != nil {
			return nil, err
		}
		report, err := v.run(ctx, opened.Root())
		if err != nil || report.Err() == nil || !v.walker.Moved(ctx) {
			return report, err
		}
		// After a concurrent publish, the findings may mix two states.
		found := map[Finding]bool{}
		for _, f := range report.Findings {
			if f = (Finding{Kind: f.Kind, Copy: f.Copy, Name: f.Name}); stays == nil || stays[f] {
				found[f] = true
			}
		}
		last, stays = report, found
	}
	last.Findings = slices.DeleteFunc(last.Findings, func(f Finding) bool {
		return !f.Harmless() && !stays[Finding{Kind: f.Kind, Copy: f.Copy, Name: f.Name}]
	})
	if last.Err() == nil {
		return nil, errBusy
	}
	return last, nil
}

// run makes one pass.
func (v *verification) run(ctx context.Context, pinned *tuf.Root) (*Report, error) {
	v.report = &Report{At: v.opt.now(), Quick: v.opt.quick()}
	v.targets, v.names, v.reported = map[[16]byte]bool{}, map[[16]byte]bool{}, map[[16]byte]bool{}
	v.walker = &walk.Walker{Source: v.mirrors[0].Source, Options: v.opt.tuf(), Now: v.report.At, Found: v.fault,
		Metadata: v.metadata, Role: v.role}
	if err := v.walker.Run(ctx, pinned); err != nil {
		return nil, err
	}
	if root := v.walker.Newest(); chain.Ahead(root.Charter(), v.report.At) > 0 {
		at := root.Charter().SignedAt()
		if err := v.add(Finding{Kind: FileAhead, Name: layout.RootName(root.Version()),
			Text: fmt.Sprintf("signed_at is %s, %s ahead of this machine's clock: clients use that as the current time", text.Time(at), text.Duration(at.Sub(v.report.At)))}); err != nil {
			return nil, err
		}
	}
	if err := v.recoveries(ctx); err != nil {
		return nil, err
	}
	if err := v.ends(ctx); err != nil {
		return nil, err
	}
	if err := v.unlistedFiles(ctx); err != nil {
		return nil, err
	}
	s := v.walker
	v.report.Root, v.report.Roles = s.Newest().Version(), s.Roles
	if s.Snapshot != nil {
		v.report.Timestamp, v.report.Snapshot = s.Timestamp.Version(), s.Snapshot.Version()
	}
	return v.report, nil
}

// maxReads limits how often the repository is read again because something was
// published in the meantime.
const maxReads = 10

var errBusy = fmt.Errorf("mirror: the repository kept changing during %d reads: %w", maxReads, storage.ErrConflict)

// verification is one call of Verify.
type verification struct {
	opt     *Options
	walker  *walk.Walker
	report  *Report
	mirrors []Mirror // the first is the repository itself
	// Names are stored as a part of their hash, since there may be a million.
	targets  map[[16]byte]bool    // checked targets, by name, length and hashes
	right    map[[16]byte]bool    // valid targets, by copy; also from earlier passes
	names    map[[16]byte]bool    // names that metadata lists
	reported map[[16]byte]bool    // reported files, by copy
	keys     []metafile.KeySet    // keys of delegated roles
	unknown  []storage.FileInfo   // metadata without a signature of known keys
	sizes    []map[[16]byte]int64 // of a quick verification: the files in targets/, by copy; nil for one that can't list
	files    int
}

// add reports a finding. It keeps the first one for each file.
func (v *verification) add(f Finding) error {
	if key := metafile.Key(f.Copy, f.Name); !v.reported[key] {
		v.reported[key] = true
		f.Text = text.Line(f.Text)
		v.report.Findings = append(v.report.Findings, f)
	}
	return nil
}

// fault reports a fault of the repository itself.
func (v *verification) fault(f walk.Fault) error {
	return v.add(Finding{Kind: FindingKind(f.Kind), Name: f.Name, Text: f.Text, Err: f.Err})
}

// metadata is called for each verified metadata file.
func (v *verification) metadata(ctx context.Context, name string, data []byte) error {
	v.names[metafile.Key(name)] = true
	v.files++
	v.opt.progress(storage.Progress{Path: name, Done: int64(len(data)), Total: int64(len(data)), Files: v.files})
	for _, c := range v.mirrors[1:] {
		if c.RootsOnly && !layout.IsRootName(name) {
			continue
		}
		got, err := storage.ReadAll(ctx, c.Source, name, int64(len(data))+1<<20)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			err = v.differs(c, FileMissing, name, "the repository has it", err)
		case err != nil:
			err = v.differs(c, FileUnreadable, name, err.Error(), err)
		case !bytes.Equal(got, data):
			err = v.otherBytes(c, name, got, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) differs(c Mirror, kind FindingKind, name, text string, err error) error {
	return v.add(Finding{Kind: kind, Copy: c.Name, Name: name, Text: text, Err: err})
}

func (v *verification) otherBytes(c Mirror, name string, have, want []byte) error {
	return v.differs(c, FileDiffers, name, fmt.Sprintf("%d bytes, sha256 %s; the repository has %d bytes, sha256 %s", len(have), metafile.SHA256(have), len(want), metafile.SHA256(want)), nil)
}

// role checks every file that a role lists.
func (v *verification) role(ctx context.Context, name string, t *tuf.Targets) error {
	keys, err := metafile.DelegatedKeys(t)
	if err != nil {
		return err
	}
	v.learn(keys)
	var list []listed
	err = v.walker.Targets(t, func(x metafile.Target) error {
		if x.Unstorable != nil {
			return v.add(unstorable(layout.RoleName(t.Role(), t.Version()), x))
		}
		list = v.fresh(list, x, false)
		for _, o := range v.walker.Others(x) {
			list = v.fresh(list, o, true)
		}
		return v.release(t, x)
	})
	if err := v.checkAll(ctx, t, list); err != nil {
		return err
	}
	var bad *tuf.Error
	if errors.As(err, &bad) {
		return v.add(Finding{FileUntrusted, "", name, err.Error(), err})
	}
	return err
}

// unstorable is the finding for a target that no storage can hold.
func unstorable(role string, x metafile.Target) Finding {
	return Finding{Kind: FileUnstorable, Name: x.Name, Text: fmt.Sprintf("%s lists it: %v", text.Name(role), x.Unstorable), Err: x.Unstorable}
}

// release reports release data that clients refuse. Entries of a hold role have other
// data.
func (v *verification) release(t *tuf.Targets, x metafile.Target) error {
	if c := v.walker.Under.Charter(); x.Release == nil || c != nil && slices.ContainsFunc(c.Classes(), func(c tuf.Class) bool { return c.Hold != nil && c.Hold.Role == t.Role() }) {
		return nil
	}
	if _, err := tuf.ParseRelease(x.Release.JSON()); err != nil {
		// Reported under the name of the path, since the file may have a finding of its
		// own.
		return v.add(Finding{Kind: FileUntrusted, Name: "targets/" + x.Path, Text: fmt.Sprintf("%s v%d: %v", text.Name(t.Role()), t.Version(), err), Err: err})
	}
	return nil
}

// checkTarget reads a target file completely. why describes a mismatch, "" if there is
// none.
func checkTarget(ctx context.Context, src storage.Source, x metafile.Target, tell func(done int64)) (why string, err error) {
	f, err := src.Open(ctx, x.Name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r := metafile.NewReader(ctxio.NewReader(ctx, f), x, tell)
	if _, err := io.Copy(io.Discard, r); r.Mismatch != "" {
		return r.Mismatch, nil
	} else if err != nil {
		return "", err
	}
	return "", nil
}

// recoveries checks the prepared recoveries after each root whose charter permits one.
func (v *verification) recoveries(ctx context.Context) error {
	reported, roots := map[string]bool{}, v.walker.Trusted()
	for i, root := range roots {
		var ours chain.Recovery
		for j, p := range v.mirrors {
			files, err := v.recovery(ctx, p, root)
			if err != nil {
				return err
			}
			if i+1 == len(roots) || v.reported[metafile.Key("", layout.RootName(root.Version()+1))] { // no regular root follows
				if err := v.half(ctx, p, files); err != nil {
					return err
				}
			}
			if j == 0 {
				ours = files
			} else if err := v.sameRecovery(p, ours, files); err != nil {
				return err
			}
			if files.Statement == nil || reported[files.Statement.ID()] {
				continue
			}
			reported[files.Statement.ID()] = true
			next, err := files.Root()
			if err != nil {
				return err
			}
			v.report.Recoveries = append(v.report.Recoveries, RecoveryInfo{p.Name, root.Version(), files.Statement.Counter(), files.Statement.Expires(),
				i+1 < len(roots) && roots[i+1].SHA256() == next.SHA256()})
		}
	}
	return nil
}

// recovery reads the recovery after a root on one copy, and reports an invalid one.
func (v *verification) recovery(ctx context.Context, p Mirror, root *tuf.Root) (chain.Recovery, error) {
	files, err := chain.RecoveryOf(ctx, p.Source, root)
	if ctx.Err() != nil {
		return files, ctx.Err()
	}
	for _, name := range files.Names {
		v.names[metafile.Key(name)] = true
	}
	if err == nil {
		return files, nil
	}
	return files, v.add(Finding{Kind: FindingKind(walk.KindOf(err)), Copy: p.Name, Name: files.Names[0], Text: err.Error(), Err: err})
}

// half reports a recovery of which only one file exists.
func (v *verification) half(ctx context.Context, p Mirror, f chain.Recovery) error {
	if f.Names[0] == "" || f.Statement != nil {
		return nil
	}
	statement := f.Data[0] != nil
	root, _, err := storage.Stat(ctx, p.Source, f.Names[1])
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return v.differs(p, FileUnreadable, f.Names[1], err.Error(), err)
	case root && !statement:
		return v.differs(p, FileMissing, f.Names[0], "only the recovery root exists, so clients can't accept it", fs.ErrNotExist)
	case statement && !root:
		return v.differs(p, FileMissing, f.Names[1], "only the statement that names it exists, so clients can't accept the recovery", fs.ErrNotExist)
	}
	return nil
}

// sameRecovery compares a copy's recovery with that of the repository. If the
// repository has none, the report lists the copy's one.
func (v *verification) sameRecovery(p Mirror, ours, theirs chain.Recovery) error {
	if ours.Statement == nil {
		return nil
	}
	for i, name := range ours.Names {
		if i == 1 && theirs.Data[0] == nil {
			return nil // the repository was not searched for it
		}
		var err error
		switch have, want := theirs.Data[i], ours.Data[i]; {
		case bytes.Equal(have, want):
		case have == nil:
			err = v.differs(p, FileMissing, name, "the repository has it", fs.ErrNotExist)
		default:
			err = v.otherBytes(p, name, have, want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ends looks on the copies for roots beyond the repository's newest, and for regular
// roots where the repository has a recovery root. Clients would continue with them.
func (v *verification) ends(ctx context.Context) error {
	after := map[int64]bool{v.walker.Newest().Version(): true}
	for n := range v.walker.Recoveries {
		after[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(after)) {
		if err := v.end(ctx, layout.RootName(n+1)); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) end(ctx context.Context, name string) error {
	for _, c := range v.mirrors[1:] {
		_, err := storage.ReadAll(ctx, c.Source, name, 1<<20)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil:
			err = v.differs(c, FileDiffers, name, "the repository has no such root", nil)
		default:
			err = v.differs(c, FileUnreadable, name, "the copy must report that it does not exist: "+err.Error(), err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
