package drill

import (
	"cmp"
	"sync"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// Drill is the configuration of a rehearsal.
type Drill struct {
	// Storage is the published repository. It is only read.
	Storage repo.Storage
	// Config is the configuration for publishing the draft: the trust anchor (a Pin,
	// or a Ledger that knows the repository; see [signing.ErrNoPin]), the online signers,
	// and the keys for dual signing. The drill treats old vendor keys among the
	// signers as compromised.
	Config repo.Config
	// Draft is the step, fully signed; nil: the published repository is rehearsed.
	Draft *repo.Draft
	// Pins are pins of shipped products, in addition to those derived from the
	// published roots.
	Pins [][]byte
	// Old are the ids of the locations that become unreachable, frozen or compromised;
	// nil: those that the step demotes or retires, or else the first with content.
	Old []string
	// Locations holds the current files of locations, by location id, if they differ from
	// Storage, for example the folder of a mirror. The files of the draft are added.
	Locations map[string]repo.Storage
	// Stolen are further compromised keys, for example all keys that the vendor ever
	// had. Keys of the review party among them are ignored.
	Stolen []tuf.Signer
	// MaxPins bounds the pins, and the roots for go-tuf, that are used in every
	// scenario: the first, the last and some between. The others are used only in the
	// scenario with healthy locations. 0: 16; the minimum is 2.
	MaxPins int
}

// play is the state of a running drill.
type play struct {
	*Drill
	now           time.Time
	before, after []*tuf.Root
	recovered     map[int64]bool  // versions in after that a recovery introduced
	old, fresh    map[string]bool // location ids
	locations     []tuf.Location  // of all roots and pins, by base
	well          map[string]host // healthy behaviour of all locations after the step, by base
	pins          [][]byte
	files         map[string]repo.Storage // by name: before, after, late, evil, fork
	fork          []byte                  // the attacker's next root; nil: none
	evil          string                  // path of a forged target
	good          map[string][]string     // sha256 of approved targets, before or after the step, by path
	paths         []tuf.Approved          // some targets that are approved after the step
	report        *Report

	mu    sync.Mutex
	valid map[validKey]bool
}

func (p *play) tip() *tuf.Root { return p.after[len(p.after)-1] }

func (p *play) was() *tuf.Root { return p.before[len(p.before)-1] }

// sample selects at most MaxPins of n elements: the first, the last and some between.
func (p *play) sample(n int) (out []int) {
	limit := min(n, max(2, cmp.Or(p.MaxPins, 16)))
	for i := range limit {
		out = append(out, i*(n-1)/max(1, limit-1))
	}
	return out
}

// waits reports whether there is a recovery between a root and the newest.
func (p *play) waits(root int64) bool {
	for v := range p.recovered {
		if v > root {
			return true
		}
	}
	return false
}

// host is the behaviour of one location in a scenario.
type host struct {
	unreachable bool
	answer      func(name string) (int, []byte) // its answer to every request; nil: it serves files
	files       string                          // name in play.files
	roots       int64                           // version of its newest root; 0: no limit
	content     bool                            // serves content too, not only roots
	fork        []byte                          // a forged or forked root in the position forkAt
	forkAt      int64
}

// validKey is the key of a cached result of opens.
type validKey struct {
	root    int64
	base    string
	files   string
	content bool
}

// expectation is the result that a client must reach.
type expectation struct {
	root    int64
	content bool
	// stop is the first root at which a client may stop before the newest one, 0 for
	// none: the charter needs one operator only, one reports that there is no next root,
	// and there is content. With more operators a client asks them in turn.
	stop int64
}

// scene is one scenario: the behaviour of each location.
type scene struct {
	name  string
	hosts map[string]host // by base
}

// stage serves the locations of a scenario as an http.RoundTripper without a network.
type stage struct {
	play  *play
	hosts map[string]host // by base
	mu    sync.Mutex
	asked []request
}

type request struct {
	base string // "": of no location
	url  string
}
