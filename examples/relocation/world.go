package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// The days of the story.
const (
	announceDay = 10
	cutOverDay  = 30
	theftDay    = 45 // place A, and every key of the vendor from before the cut-over
	evilDay     = 50 // until then he shows the past
	retireDay   = 60
	outageDay   = 70 // place B is out for two days
	sunsetDay   = 80
	lastDay     = 120
)

// site is a place on the web: a server with a listener of its own.
type site struct {
	name  string
	url   string
	stop  func() error
	roots bool // roots only, as a rendezvous

	mu       sync.Mutex
	serves   repo.Storage   // nil: connections break
	requests map[string]int // by User-Agent, which names the client
}

func newSite(name string) (*site, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &site{name: name, requests: map[string]int{}, url: "http://" + ln.Addr().String() + "/"}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(ln) // ends with stop
	s.stop = srv.Close
	return s, nil
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests[r.UserAgent()]++
	from := s.serves
	s.mu.Unlock()
	switch {
	case from == nil:
		panic(http.ErrAbortHandler) // as when the host is gone
	case s.roots && !strings.HasSuffix(r.URL.Path, ".root.json"):
		http.NotFound(w, r)
	default:
		repo.Handler(from).ServeHTTP(w, r)
	}
}

func (s *site) serve(from repo.Storage) {
	s.mu.Lock()
	s.serves = from
	s.mu.Unlock()
}

func (s *site) asked(by string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[by]
}

// world is the repository, its places, its parties and the thief.
type world struct {
	day     int
	a, b, z *site
	storage *storage.OverlayStorage // what the vendor publishes; in earnest repo.Folder
	frozen  *storage.OverlayStorage // what the thief found
	move    *relocate.Move
	old     [6]tuf.Signer    // two root keys, timestamp, snapshot, targets, release
	fresh   [6]tuf.Signer    // the vendor's after the cut-over
	centre  [3]tuf.Signer    // two root keys, release
	vendor  []tuf.Signer     // what it works with today
	ledger  repo.Ledger      // in earnest each party has its own
	honest  map[int64]string // root hashes
	release int
	pins    [][]byte
}

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func date(day int) time.Time { return begin.AddDate(0, 0, day) }

func (w *world) now() time.Time { return date(w.day) }

func (w *world) open(signers ...tuf.Signer) *repo.Repo { return repo.New(w.storage, w.config(signers)) }

func (w *world) config(signers []tuf.Signer) *repo.Config {
	return &repo.Config{Signers: signers, Now: w.now, UnsafeLoopback: true, Ledger: w.ledger,
		Expiry: repo.Expiry{Release: 150 * 24 * time.Hour, Snapshot: 60 * 24 * time.Hour, Timestamp: 40 * time.Hour}}
}

// attacker is a handle on the copy of place A. An attacker has no use for a
// ledger that would refuse.
func (w *world) attacker(signers ...tuf.Signer) *repo.Repo {
	cfg := w.config(signers)
	cfg.Ledger, cfg.UnsafeTrustStorage = nil, true
	return repo.New(w.frozen, cfg)
}

func public(signers ...tuf.Signer) (k repo.Keys) {
	for _, s := range signers {
		k.Keys = append(k.Keys, s.Key())
	}
	return k
}

func newSigners(list []tuf.Signer) error {
	for i := range list {
		_, private, err := ed25519.GenerateKey(nil) // in earnest keys.Generate
		if err != nil {
			return err
		}
		if list[i], err = tuf.NewSigner(private); err != nil {
			return err
		}
	}
	return nil
}

func newWorld(ctx context.Context) (w *world, err error) {
	w = &world{storage: storage.Overlay(nil), ledger: repo.MemLedger(), honest: map[int64]string{}}
	for _, list := range [][]tuf.Signer{w.old[:], w.fresh[:], w.centre[:]} {
		if err := newSigners(list); err != nil {
			return nil, err
		}
	}
	for _, p := range []struct {
		to   **site
		name string
	}{{&w.a, "A"}, {&w.b, "B"}, {&w.z, "Z"}} {
		if *p.to, err = newSite(p.name); err != nil {
			w.close()
			return nil, err
		}
		(*p.to).serve(w.storage)
	}
	w.z.roots = true
	w.vendor = w.old[:]
	place := func(id, tier, operator string, s *site, priority int) tuf.Location {
		return tuf.Location{ID: id, Tier: tier, Operator: operator, Base: s.url, Metadata: "metadata/", Targets: "targets/", Priority: priority}
	}
	w.move = &relocate.Move{From: []string{"place-a"}, To: []tuf.Location{place("place-b", tuf.Primary, "vendor-new", w.b, 5)},
		RootKeys: public(w.fresh[:2]...).Keys, Timestamp: public(w.fresh[2]), Snapshot: public(w.fresh[3]), Targets: public(w.fresh[4]),
		Release: map[string]repo.Keys{"vendor-agent": public(w.fresh[5])},
		Dates:   relocate.Dates{Announce: date(announceDay), CutOver: date(cutOverDay), Retire: date(retireDay), Sunset: date(sunsetDay)}}
	err = w.open(append(w.old[:], w.centre[:]...)...).Update(ctx, func(tx *repo.Tx) error {
		tx.SetRoot(repo.Root{
			Parties:   []repo.Party{{Name: "vendor", Keys: public(w.old[:2]...).Keys}, {Name: "review", Keys: public(w.centre[:2]...).Keys}},
			Timestamp: public(w.old[2]), Snapshot: public(w.old[3]), Targets: public(w.old[4]),
			Classes: []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
				{Party: "vendor", Role: "vendor-agent", Keys: public(w.old[5])}, {Party: "review", Role: "review-agent", Keys: public(w.centre[2])}}}},
			Locations: []tuf.Location{place("place-a", tuf.Primary, "vendor-old", w.a, 10), place("place-z", tuf.Rendezvous, "review", w.z, 20)},
		})
		return nil
	})
	if err == nil {
		err = w.newRelease(ctx)
	}
	if err == nil {
		err = w.noted(ctx)
	}
	if err != nil {
		w.close()
	}
	return w, err
}

func (w *world) close() {
	for _, s := range []*site{w.a, w.b, w.z} {
		if s != nil {
			s.stop()
		}
	}
}

// newRelease is a release by the vendor, approved by the review centre.
func (w *world) newRelease(ctx context.Context) error {
	w.release++
	path := fmt.Sprintf("agent/agent-1.%d", w.release)
	err := w.open(w.vendor...).Update(ctx, func(tx *repo.Tx) error {
		return tx.Add("vendor", path, strings.NewReader(path), &tuf.Release{Product: "agent", Version: fmt.Sprintf("1.%d.0", w.release), Channel: "stable", Platform: "any"})
	})
	if err != nil {
		return err
	}
	centre := w.open(w.centre[:]...)
	d, err := centre.Stage(ctx, func(tx *repo.Tx) error { return tx.Approve("review", path, nil) })
	if err != nil {
		return err
	}
	return w.open(w.vendor...).Publish(ctx, d)
}

// noted remembers the honest roots, and the pin of today.
func (w *world) noted(ctx context.Context) error {
	chain, err := w.open().Chain(ctx)
	if err != nil {
		return err
	}
	for _, root := range chain {
		w.honest[root.Version()] = root.SHA256()
	}
	pin, err := w.open().Pin(ctx)
	w.pins = append(w.pins, pin)
	return err
}

// step publishes one root of the move, which both parties sign.
func (w *world) step(ctx context.Context, r *repo.Repo, make func(context.Context, *repo.Repo) (*repo.Draft, error)) error {
	d, err := make(ctx, r)
	if err != nil {
		return err
	}
	for _, key := range w.centre[:2] {
		if err := d.Sign(ctx, key); err != nil {
			return err
		}
	}
	if err := r.Publish(ctx, d); err != nil {
		return err
	}
	return w.noted(ctx)
}

// morning is what happens before the clients wake.
func (w *world) morning(ctx context.Context, v *view) (err error) {
	switch w.day {
	case announceDay:
		v.say(w, "The vendor and the review centre announce place B.")
		if err = w.copyAside(ctx); err == nil {
			err = w.step(ctx, w.open(w.vendor...), w.move.Announce)
		}
	case cutOverDay:
		v.say(w, "They cut over to B: new root, online and release keys; A goes on as a mirror. For a day both generations sign.")
		err = w.cutOver(ctx)
	case theftDay:
		v.say(w, "A thief has place A and every key that the vendor had before. He shows the past, from before the move.")
		err = w.attacker(w.old[:]...).Renew(ctx) // with the keys that he has the past stays young
		w.a.serve(w.frozen)
	case evilDay:
		v.say(w, "He shows a root of his own, and 6.6.6 with good signatures of the vendor.")
		err = w.evil(ctx)
	case retireDay:
		v.say(w, "A is retired.")
		err = w.step(ctx, w.open(w.vendor...), w.move.Retire)
	case outageDay:
		v.say(w, "B is out for two days.")
		w.b.serve(nil)
	case outageDay + 2:
		v.say(w, "B is back.")
		w.b.serve(w.storage)
	case sunsetDay:
		v.say(w, "The sunset of A: who knows of it from root 3 leaves it alone too.")
	}
	if err == nil && w.day > 0 && w.day%10 == 5 {
		err = w.newRelease(ctx)
	}
	return errors.Join(err, w.open(w.vendor...).Renew(ctx))
}

func (w *world) cutOver(ctx context.Context) error {
	cfg := w.config(append(append([]tuf.Signer{}, w.fresh[:]...), w.old[:2]...))
	r, err := w.move.Bridge(ctx, w.storage, cfg, w.old[2:]...)
	if err != nil {
		return err
	}
	w.vendor = w.fresh[:]
	return w.step(ctx, r, w.move.CutOver)
}

// copyAside keeps what A serves before the move, for the thief.
func (w *world) copyAside(ctx context.Context) error {
	w.frozen = storage.Overlay(nil)
	for name, data := range w.storage.Written() {
		if err := w.frozen.Create(ctx, name, bytes.NewReader(data)); err != nil {
			return err
		}
	}
	return nil
}

// evil publishes the thief's release and root on the past that he found.
func (w *world) evil(ctx context.Context) error {
	thief := w.attacker(w.old[:]...)
	err := thief.Update(ctx, func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/agent-6.6.6", strings.NewReader("evil"), &tuf.Release{Product: "agent", Version: "6.6.6", Channel: "stable", Platform: "any"})
	})
	if err != nil {
		return err
	}
	var mine [3]tuf.Signer
	if err := newSigners(mine[:]); err != nil {
		return err
	}
	d, err := w.attacker(append(mine[:], w.old[:]...)...).Stage(ctx, func(tx *repo.Tx) error {
		r := tx.Root()
		r.Parties[1].Keys, r.Classes[0].Roles[1].Keys = public(mine[:2]...).Keys, public(mine[2])
		return nil
	})
	if err != nil {
		return err
	}
	// The tool would not publish it; he takes it from the draft.
	data, err := d.Bytes()
	if err != nil {
		return err
	}
	var draft struct {
		Files []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"files"`
	}
	if err := json.Unmarshal(data, &draft); err != nil {
		return err
	}
	for _, f := range draft.Files {
		if f.Role == "root" {
			return w.frozen.Create(ctx, "metadata/2.root.json", bytes.NewReader(f.Content))
		}
	}
	return errors.New("the thief's draft has no root")
}
