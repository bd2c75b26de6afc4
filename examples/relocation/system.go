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
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// The days of the events.
const (
	announceDay = 10
	cutOverDay  = 30
	theftDay    = 45 // the attacker gets location A and every old key of the vendor: freeze attack
	forgeDay    = 50 // the attacker publishes a forged root and release
	retireDay   = 60
	outageDay   = 70 // location B is unreachable for two days
	sunsetDay   = 80
	lastDay     = 120
)

// site is a location: a web server with its own listener.
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
		panic(http.ErrAbortHandler) // the connection breaks
	case s.roots && !strings.HasSuffix(r.URL.Path, ".root.json"):
		http.NotFound(w, r)
	default:
		mirror.Handler(from).ServeHTTP(w, r)
	}
}

func (s *site) serve(from repo.Storage) {
	s.mu.Lock()
	s.serves = from
	s.mu.Unlock()
}

func (s *site) count(by string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[by]
}

// system is the repository, its locations, its parties and the attacker.
type system struct {
	day     int
	a, b, z *site
	storage *storage.OverlayStorage // what the vendor publishes; in production repo.Folder
	frozen  *storage.OverlayStorage // the attacker's copy of location A
	move    *relocate.Move
	old     [6]tuf.Signer    // two root keys, timestamp, snapshot, targets, release
	fresh   [6]tuf.Signer    // keys of the vendor after the cut-over
	centre  [3]tuf.Signer    // two root keys, release
	vendor  []tuf.Signer     // the keys that the vendor uses today
	ledger  signing.Ledger   // in production each party has its own
	honest  map[int64]string // root hashes
	release int
	pins    [][]byte
}

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func date(day int) time.Time { return begin.AddDate(0, 0, day) }

func (w *system) now() time.Time { return date(w.day) }

func (w *system) open(signers ...tuf.Signer) *repo.Repo {
	return repo.New(w.storage, w.config(signers))
}

func (w *system) config(signers []tuf.Signer) *repo.Config {
	return &repo.Config{Signers: signers, Now: w.now, UnsafeLoopback: true, Ledger: w.ledger,
		Expiry: repo.Expiry{Release: 150 * 24 * time.Hour, Snapshot: 60 * 24 * time.Hour, Timestamp: 40 * time.Hour}}
}

// attacker is a handle on the copy of location A, without a ledger, which would refuse.
func (w *system) attacker(signers ...tuf.Signer) *repo.Repo {
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
		_, private, err := ed25519.GenerateKey(nil) // in production keys.Generate
		if err != nil {
			return err
		}
		if list[i], err = tuf.NewSigner(private); err != nil {
			return err
		}
	}
	return nil
}

func newSystem(ctx context.Context) (w *system, err error) {
	w = &system{storage: storage.Overlay(nil), ledger: signing.MemLedger(), honest: map[int64]string{}}
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
	at := func(id, tier, operator string, s *site, priority int) tuf.Location {
		return tuf.Location{ID: id, Tier: tier, Operator: operator, Base: s.url, Metadata: "metadata/", Targets: "targets/", Priority: priority}
	}
	w.move = &relocate.Move{From: []string{"location-a"}, To: []tuf.Location{at("location-b", tuf.Primary, "vendor-new", w.b, 5)},
		RootKeys: public(w.fresh[:2]...).Keys, Timestamp: public(w.fresh[2]), Snapshot: public(w.fresh[3]), Targets: public(w.fresh[4]),
		Release: map[string]repo.Keys{"vendor-agent": public(w.fresh[5])},
		Dates:   relocate.Dates{Announce: date(announceDay), CutOver: date(cutOverDay), Retire: date(retireDay), Sunset: date(sunsetDay)}}
	err = w.open(append(w.old[:], w.centre[:]...)...).Update(ctx, func(tx *repo.Tx) error {
		tx.SetRoot(repo.Root{
			Parties:   []repo.Party{{Name: "vendor", Keys: public(w.old[:2]...).Keys}, {Name: "review", Keys: public(w.centre[:2]...).Keys}},
			Timestamp: public(w.old[2]), Snapshot: public(w.old[3]), Targets: public(w.old[4]),
			Classes: []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
				{Party: "vendor", Role: "vendor-agent", Keys: public(w.old[5])}, {Party: "review", Role: "review-agent", Keys: public(w.centre[2])}}}},
			Locations: []tuf.Location{at("location-a", tuf.Primary, "vendor-old", w.a, 10), at("location-z", tuf.Rendezvous, "review", w.z, 20)},
		})
		return nil
	})
	if err == nil {
		err = w.newRelease(ctx)
	}
	if err == nil {
		err = w.record(ctx)
	}
	if err != nil {
		w.close()
	}
	return w, err
}

func (w *system) close() {
	for _, s := range []*site{w.a, w.b, w.z} {
		if s != nil {
			s.stop()
		}
	}
}

// newRelease publishes a release of the vendor, approved by the review centre.
func (w *system) newRelease(ctx context.Context) error {
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

// record records the hashes of the honest roots, and the pin of today.
func (w *system) record(ctx context.Context) error {
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

// step publishes one root of the move with the signatures of both parties.
func (w *system) step(ctx context.Context, r *repo.Repo, make func(context.Context, *repo.Repo) (*repo.Draft, error)) error {
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
	return w.record(ctx)
}

// morning performs the events of a day before the clients check for updates.
func (w *system) morning(ctx context.Context, v *view) (err error) {
	switch w.day {
	case announceDay:
		v.say(w, "The vendor and the review centre announce location B.")
		if err = w.copyAside(ctx); err == nil {
			err = w.step(ctx, w.open(w.vendor...), w.move.Announce)
		}
	case cutOverDay:
		v.say(w, "They cut over to B: new root, online and release keys; A remains as a mirror. For a day both generations of keys sign.")
		err = w.cutOver(ctx)
	case theftDay:
		v.say(w, "Location A and every old key of the vendor are compromised. The attacker serves metadata from before the move (freeze attack).")
		err = w.attacker(w.old[:]...).Renew(ctx) // the compromised keys renew the expiry of the old metadata
		w.a.serve(w.frozen)
	case forgeDay:
		v.say(w, "The attacker serves a forged root, and 6.6.6 with valid signatures of the vendor.")
		err = w.forge(ctx)
	case retireDay:
		v.say(w, "A is retired.")
		err = w.step(ctx, w.open(w.vendor...), w.move.Retire)
	case outageDay:
		v.say(w, "B is unreachable for two days.")
		w.b.serve(nil)
	case outageDay + 2:
		v.say(w, "B is reachable again.")
		w.b.serve(w.storage)
	case sunsetDay:
		v.say(w, "The sunset of A: clients at root 3 do not contact A any more either.")
	}
	if err == nil && w.day > 0 && w.day%10 == 5 {
		err = w.newRelease(ctx)
	}
	return errors.Join(err, w.open(w.vendor...).Renew(ctx))
}

func (w *system) cutOver(ctx context.Context) error {
	cfg := w.config(append(append([]tuf.Signer{}, w.fresh[:]...), w.old[:2]...))
	r, err := w.move.DualSigner(ctx, w.storage, cfg, w.old[2:]...)
	if err != nil {
		return err
	}
	w.vendor = w.fresh[:]
	return w.step(ctx, r, w.move.CutOver)
}

// copyAside copies location A from before the move, for the attacker.
func (w *system) copyAside(ctx context.Context) error {
	w.frozen = storage.Overlay(nil)
	for name, data := range w.storage.Written() {
		if err := w.frozen.Create(ctx, name, bytes.NewReader(data)); err != nil {
			return err
		}
	}
	return nil
}

// forge publishes a release and a root of the attacker on the copy of location A.
func (w *system) forge(ctx context.Context) error {
	attacker := w.attacker(w.old[:]...)
	err := attacker.Update(ctx, func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/agent-6.6.6", strings.NewReader("evil"), &tuf.Release{Product: "agent", Version: "6.6.6", Channel: "stable", Platform: "any"})
	})
	if err != nil {
		return err
	}
	var own [3]tuf.Signer
	if err := newSigners(own[:]); err != nil {
		return err
	}
	d, err := w.attacker(append(own[:], w.old[:]...)...).Stage(ctx, func(tx *repo.Tx) error {
		r := tx.Root()
		r.Parties[1].Keys, r.Classes[0].Roles[1].Keys = public(own[:2]...).Keys, public(own[2])
		return nil
	})
	if err != nil {
		return err
	}
	// The tool refuses to publish it, so it is taken from the draft.
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
	return errors.New("the attacker's draft has no root")
}
