package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// checksAtOnce is the number of targets that are checked at the same time, each with one
// request.
const checksAtOnce = 32

// listed is a target file to check. may permits that it is missing.
type listed struct {
	metafile.Target
	may bool
}

// checked is what one copy has of a target.
type checked struct {
	known bool   // it is known to be right from an earlier pass
	why   string // why it does not match; "": it does
	err   error
	said  []said
}

// said is a statement on a target.
type said struct {
	name string
	data []byte // nil: it can't be read, or was not
	err  error
}

// check is the check of one target on all copies.
type check struct {
	listed
	copies []checked
	done   chan struct{}
}

// fresh appends a target that was not checked yet.
func (v *verification) fresh(list []listed, x metafile.Target, may bool) []listed {
	key := metafile.Key(x.Name, fmt.Sprint(x.Length), x.SHA256, x.SHA512)
	if v.targets[key] {
		return list
	}
	v.targets[key], v.names[metafile.Key(x.Name)] = true, true
	return append(list, listed{x, may})
}

// rightKey is the key of v.right.
func rightKey(p Mirror, x metafile.Target) [16]byte {
	return metafile.Key(p.Name, x.Name, fmt.Sprint(x.Length), x.SHA256, x.SHA512)
}

// checkAll checks the files of a role, several at the same time, and reports on them in
// the order of the list. Progress is told in the goroutine of the call.
func (v *verification) checkAll(ctx context.Context, t *tuf.Targets, list []listed) error {
	ctx, cancel := context.WithCancel(ctx)
	progress := make(chan storage.Progress)
	var running []*check
	defer func() {
		cancel()
		for _, c := range running {
			<-c.done
		}
	}()
	tell := func(x metafile.Target) func(int64) {
		if v.opt == nil || v.opt.Progress == nil {
			return func(int64) {}
		}
		return func(done int64) {
			select {
			case progress <- storage.Progress{Path: x.Name, Done: done, Total: x.Length}:
			case <-ctx.Done():
			}
		}
	}
	for len(list) > 0 || len(running) > 0 {
		for len(list) > 0 && len(running) < checksAtOnce {
			c := &check{listed: list[0], copies: make([]checked, len(v.mirrors)), done: make(chan struct{})}
			for i, p := range v.mirrors {
				c.copies[i].known = v.right[rightKey(p, c.Target)]
			}
			list, running = list[1:], append(running, c)
			go func() {
				defer close(c.done)
				v.check(ctx, c, tell(c.Target))
			}()
		}
		select {
		case p := <-progress:
			p.Files = v.files
			v.opt.progress(p)
		case <-running[0].done:
			c := running[0]
			running = running[1:]
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := v.reportOn(t, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// check reads one target, and the statements on it, on all copies. It is called
// concurrently.
func (v *verification) check(ctx context.Context, c *check, tell func(int64)) {
	for i, p := range v.mirrors {
		if p.RootsOnly {
			continue
		}
		got := &c.copies[i]
		if v.opt.quick() {
			v.compareListed(i, c.listed, got)
			continue
		}
		if !got.known {
			got.why, got.err = checkTarget(ctx, p.Source, c.Target, tell)
		}
		if c.may {
			continue
		}
		err := chain.Statements(ctx, p.Source, v.walker.Trusted(), c.Target, nil, func(name string, data []byte, err error) error {
			got.said = append(got.said, said{name, data, err})
			return nil
		})
		if err != nil && got.err == nil {
			got.err = err // only the end of ctx
		}
	}
}

// reportOn reports what was found out about one target.
func (v *verification) reportOn(t *tuf.Targets, c *check) error {
	for i, p := range v.mirrors {
		got := c.copies[i]
		f := Finding{Copy: p.Name, Name: c.Name, Err: got.err}
		switch {
		case p.RootsOnly, v.sizes != nil && v.sizes[i] == nil:
			continue
		case errors.Is(got.err, fs.ErrNotExist):
			if c.may {
				continue
			}
			f.Kind, f.Text = FileMissing, fmt.Sprintf("%s v%d lists it", text.Name(t.Role()), t.Version())
		case got.err != nil:
			f.Kind, f.Text = FileUnreadable, got.err.Error()
		case got.why != "":
			f.Kind, f.Text = FileDamaged, got.why
		default:
			v.right[rightKey(p, c.Target)] = true
			if i == 0 && !c.may {
				v.report.Targets++
				v.report.Bytes += c.Length
			}
			continue
		}
		if err := v.add(f); err != nil {
			return err
		}
	}
	v.files++
	if c.may {
		return nil
	}
	return v.statements(c)
}

// statements reports on reviewers' statements on a target.
func (v *verification) statements(c *check) error {
	here := map[string]said{}
	for i, p := range v.mirrors {
		if p.RootsOnly || v.sizes != nil && v.sizes[i] == nil {
			continue
		}
		there := map[string]bool{}
		for _, s := range c.copies[i].said {
			there[s.name] = true
			v.names[metafile.Key(s.name)] = true
			f := Finding{Kind: FileUntrusted, Copy: p.Name, Name: s.name, Err: s.err}
			own, have := here[s.name]
			switch {
			case s.err == nil && i == 0:
				here[s.name] = s
				continue
			case s.err == nil && have && bytes.Equal(own.data, s.data):
				continue
			case s.err == nil:
				f.Kind, f.Text = FileDiffers, "the repository has another statement, or none"
			case s.data == nil:
				f.Kind, f.Text = FileUnreadable, s.err.Error()
			default:
				f.Text = s.err.Error()
			}
			if err := v.add(f); err != nil {
				return err
			}
		}
		for _, name := range slices.Sorted(maps.Keys(here)) {
			if !there[name] {
				if err := v.differs(p, FileMissing, name, "the repository has this statement", fs.ErrNotExist); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// listTargets lists the files of targets/ for a quick verification.
func (v *verification) listTargets(ctx context.Context) error {
	if !v.opt.quick() {
		return nil
	}
	v.sizes = make([]map[[16]byte]int64, len(v.mirrors))
	for i, p := range v.mirrors {
		l := listerOf(p)
		if l == nil && i == 0 {
			return fmt.Errorf("mirror: a quick verification needs a storage that can list its files: %w", errors.ErrUnsupported)
		}
		if l == nil || p.RootsOnly {
			continue
		}
		sizes := map[[16]byte]int64{}
		for f, err := range l.List(ctx, "targets/") {
			if err != nil {
				return fmt.Errorf("mirror: %w", err)
			}
			sizes[metafile.Key(f.Name)] = f.Size
		}
		v.sizes[i] = sizes
	}
	return nil
}

// compareListed is check with the listing of a copy.
func (v *verification) compareListed(i int, x listed, got *checked) {
	sizes := v.sizes[i]
	if sizes == nil {
		return
	}
	switch size, have := sizes[metafile.Key(x.Name)]; {
	case !have:
		got.err = fs.ErrNotExist
	case size != x.Length:
		got.why = fmt.Sprintf("%d bytes, %d are listed", size, x.Length)
	}
	c := v.walker.Newest().Charter()
	if x.may || c == nil {
		return
	}
	subject := attestation.Subject{Path: x.Path, Length: x.Length, SHA256: x.SHA256}
	for _, class := range c.Classes() {
		if !strings.HasPrefix(x.Path, class.Prefix) {
			continue
		}
		for _, role := range class.Roles {
			for n := 1; n <= chain.MaxStatements; n++ {
				name := chain.StatementName(subject, role.Role, n)
				size, have := sizes[metafile.Key(name)]
				if !have {
					break
				}
				got.said = append(got.said, said{name: name, data: fmt.Append(nil, size)})
			}
		}
	}
}
