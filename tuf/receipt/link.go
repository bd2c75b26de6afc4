package receipt

import (
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// link verifies the roots, sets that of the decision and the newest one, and returns the
// roots before that of the decision.
func (r *Receipt) link(pinned *tuf.Root, t *tuf.Options, opt *Options) (older []*tuf.Root, err error) {
	files := slices.Clone(r.contents.Roots)
	decision := len(files) - 1
	fits := func(data []byte) error {
		if limit := t.Limits.WithDefaults().Root; int64(len(data)) > limit {
			return refuse(tuf.ErrTooLarge, "a root of %d bytes, at most %d", len(data), limit)
		}
		return nil
	}
	for _, f := range files {
		if err := fits(f.Root); err != nil {
			return nil, err
		}
	}
	first, last := versionOf(files[0].Root), versionOf(files[decision].Root)
	if first < 1 || last != first+int64(decision) {
		return nil, refuse(tuf.ErrVersion, "%d roots from v%d to v%d", len(files), first, last)
	}
	for _, data := range opt.Roots {
		if err := fits(data); err != nil {
			return nil, err
		}
		switch v := versionOf(data); {
		case v <= last:
		case len(files) == 2*maxRoots:
			return nil, refuse(tuf.ErrTooLarge, "more than %d roots", 2*maxRoots)
		case v != first+int64(len(files)):
			return nil, refuse(tuf.ErrVersion, "the root after v%d must be v%d, it is v%d", v-1, first+int64(len(files)), v)
		default:
			files = append(files, RootFile{Root: data})
		}
	}
	if pinned.Version() == first+int64(len(files)) {
		files = append(files, RootFile{Root: pinned.Bytes()})
	}
	at := pinned.Version() - first
	if at < 0 || at >= int64(len(files)) {
		return nil, refuse(tuf.ErrVersion, "the pin has root v%d, the receipt and the given roots are v%d to v%d", pinned.Version(), first, first+int64(len(files))-1)
	}
	chain := make([]*tuf.Root, len(files))
	own, err := tuf.OpenRoot(files[at].Root, t)
	if err != nil {
		return nil, err
	}
	if own.SHA256() != pinned.SHA256() {
		return nil, refuse(tuf.ErrMismatch, "its root v%d is not that of the pin", pinned.Version())
	}
	chain[at] = pinned
	for i := at + 1; i < int64(len(files)); i++ {
		if chain[i], err = r.next(chain[i-1], files[i], opt); err != nil {
			return nil, err
		}
	}
	// A forged root can lead forward to the pin's root, with signatures that its forger
	// adds to a copy of it. So roots before the pin's count only if the next one names them.
	for i := at - 1; i >= 0; i-- {
		after := chain[i+1]
		if chain[i], err = tuf.OpenRoot(files[i].Root, t); err != nil {
			return nil, err
		}
		if after.Charter() == nil || chain[i].SHA256() != after.Charter().PrevRoot() || chain[i].Version() != after.Version()-1 {
			return nil, refuse(tuf.ErrMismatch, "root v%d does not name its root v%d as the one before it", after.Version(), after.Version()-1)
		}
	}
	r.root, r.newest = chain[decision], chain[len(chain)-1]
	return chain[:decision], nil
}

// next verifies the root after before.
func (r *Receipt) next(before *tuf.Root, f RootFile, opt *Options) (*tuf.Root, error) {
	if f.Recovery == nil {
		return before.Next(f.Root)
	}
	// The statement's expiry ends the time in which clients begin to wait. That a client
	// followed it in time is not in a file.
	rec, err := before.Recovery(f.Recovery, f.Root, time.Time{})
	if err != nil {
		return nil, err
	}
	var wait tuf.Wait
	if opt.UnsafeSkipWait {
		wait = tuf.Wait{Statement: rec.ID(), Held: rec.Rule().Hold, Ticks: rec.Rule().MinTicks}
	}
	root, err := rec.Accept(wait)
	if err == nil {
		r.recovered = root.Version()
	}
	return root, err
}

// versionOf returns the version that a root states, which is not verified; 0 if it can't
// be read.
func versionOf(data []byte) int64 {
	v, err := wire.Canonical(data)
	if err != nil {
		return 0
	}
	var signed, version wire.Value
	if v.Fields(wire.Field{Name: "signed", To: &signed}) != nil || signed.Fields(wire.Field{Name: "version", To: &version}) != nil {
		return 0
	}
	n, err := version.Int()
	if err != nil || n < 1 || n >= 1<<53 {
		return 0
	}
	return n
}
