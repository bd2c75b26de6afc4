package repotest

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// Product is a client that uses only package tuf: it keeps the newest root and the
// state that it saw last.
type Product struct {
	W                   *World
	Root                *tuf.Root
	Timestamp, Snapshot []byte
}

func (w *World) Product() *Product { return &Product{W: w} }

func (p *Product) Read(name string) ([]byte, error) { return p.W.Store.Read(p.W.T.Context(), name) }

// Refresh follows the repository as a client does. The snapshot is nil if there is an
// error.
func (p *Product) Refresh() (*tuf.Snapshot, error) {
	for n := int64(1); ; n++ {
		if p.Root != nil {
			n = p.Root.Version() + 1
		}
		data, err := p.Read(fmt.Sprintf("metadata/%d.root.json", n))
		if errors.Is(err, fs.ErrNotExist) && n > 1 {
			break
		}
		if err != nil {
			return nil, err
		}
		if p.Root == nil {
			p.Root, err = tuf.OpenRoot(data, nil)
		} else {
			p.Root, err = p.Root.Next(data)
		}
		if err != nil {
			p.W.T.Fatal("a root that breaks the chain:", err)
		}
	}
	timestamp, err := p.Read("metadata/timestamp.json")
	if err != nil {
		return nil, err
	}
	ts, err := p.Root.Timestamp(timestamp, p.Timestamp, p.W.Now)
	if err != nil {
		return nil, err
	}
	snapshot, err := p.Get(ts.SnapshotFile())
	if err != nil {
		return nil, err
	}
	snap, err := ts.Snapshot(snapshot, p.Snapshot)
	if err == nil {
		p.Timestamp, p.Snapshot = timestamp, snapshot
	}
	return snap, err
}

func (p *Product) Get(f tuf.RoleFile) ([]byte, error) {
	return p.Read(fmt.Sprintf("metadata/%d.%s.json", f.Version, f.Role))
}

// State describes what the product sees: the releases that it accepts.
func (p *Product) State() string {
	snap, err := p.Refresh()
	if p.Root == nil {
		return "empty"
	}
	out := fmt.Sprintf("root %d", p.Root.Version())
	if err == nil {
		err = snap.OpenRoles(p.Get) // as a client demands of a set
	}
	if err == nil {
		var all []tuf.Candidate
		if all, err = snap.Candidates(p.W.T.Context(), nil, p.Get); err == nil {
			for _, c := range all {
				if c.Err == nil {
					out += " " + c.Path
				}
			}
			return out
		}
	}
	if !errors.Is(err, tuf.ErrUntrusted) && !errors.Is(err, fs.ErrNotExist) {
		p.W.T.Fatal(err)
	}
	return out + " without content"
}

// Waits returns a product that has completed the waiting period of a recovery.
func (p *Product) Waits() *Product {
	p.W.T.Helper()
	_, _ = p.Refresh()
	statement, root := p.Root.RecoveryFiles()
	s, err := p.Read("metadata/" + statement)
	rawtuf.NoErr(p.W.T, err)
	r, err := p.Read("metadata/" + root)
	rawtuf.NoErr(p.W.T, err)
	rec, err := p.Root.Recovery(s, r, p.W.Now)
	rawtuf.NoErr(p.W.T, err)
	var wait tuf.Wait
	for i := range 15 {
		if _, err := rec.Accept(wait); !errors.Is(err, tuf.ErrWaiting) {
			p.W.T.Fatalf("after %d searches: %v", i, err)
		}
		wait = wait.Tick(rec, p.W.Now.Add(time.Duration(i)*24*time.Hour))
	}
	p.Root, err = rec.Accept(wait)
	rawtuf.NoErr(p.W.T, err)
	p.Timestamp, p.Snapshot = nil, nil
	return p
}
