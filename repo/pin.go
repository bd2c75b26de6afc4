package repo

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// pinJSON is the JSON form of a pin. Unknown members are rejected.
type pinJSON struct {
	Schema    int             `json:"schema"`
	RepoID    string          `json:"repo_id"`
	Root      json.RawMessage `json:"root"`
	Review    pinReview       `json:"review"`
	Locations []locationJSON  `json:"locations"`
}

type pinReview struct {
	Party string   `json:"party"`
	Min   int      `json:"min"`
	Keys  []pinKey `json:"keys"`
}

type pinKey struct {
	Type   string `json:"keytype"`
	Scheme string `json:"scheme"`
	Value  struct {
		Public string `json:"public"`
	} `json:"keyval"`
}

// Pin returns the file that a product embeds: the newest root, the review party's keys
// and the locations that are in use now. The result has been verified with tuf.OpenPin. It
// is canonical JSON without a line break at the end, so the sha256 of the file is
// [tuf.Pin.Fingerprint].
func (r *Repo) Pin(ctx context.Context) (_ []byte, err error) {
	defer text.OneLine(&err)
	p, err := r.loadPublished(ctx)
	if err != nil {
		return nil, err
	}
	return r.pin(p.root, r.cfg.Review, r.now())
}

// pin builds the pin of a root with a reviewing party, with the locations that are in use
// at that time.
func (r *Repo) pin(root *tuf.Root, review string, at time.Time) ([]byte, error) {
	layout := rootOf(root)
	i := slices.IndexFunc(layout.Parties, func(x Party) bool { return x.Name == review })
	if i < 0 {
		return nil, fmt.Errorf("repo: root v%d has no party %q", root.Version(), review)
	}
	out := pinJSON{Schema: 1, RepoID: layout.RepoID, Root: root.Bytes(), Review: pinReview{Party: review, Min: layout.Parties[i].Min}}
	for _, k := range layout.Parties[i].Keys {
		j := pinKey{Type: k.Type, Scheme: k.Scheme}
		j.Value.Public = k.Public
		out.Review.Keys = append(out.Review.Keys, j)
	}
	layout.Locations = slices.DeleteFunc(layout.Locations, func(l tuf.Location) bool { return !root.Charter().Usable(l, at) })
	out.Locations = locationsJSON(layout.Locations)
	data, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	canonical, err := wire.Canonical(data)
	if err != nil {
		return nil, fmt.Errorf("repo: pin: %w", err)
	}
	data = canonical.JSON()
	if _, err := tuf.OpenPin(data, &tuf.Options{UnsafeLoopback: r.cfg.UnsafeLoopback}); err != nil {
		return nil, fmt.Errorf("repo: %w", err)
	}
	return data, nil
}
