package client

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Config says how a client works. Zero fields are safe.
type Config struct {
	// Dir is the folder for the client's state; made if absent. Below it each
	// repository with a charter has a folder of its own, so products may share
	// Dir; one without has no identity, and needs a Dir that no other uses.
	// Required, unless there is a Store: a client that forgets can be shown the past.
	Dir string
	// Store keeps the state instead of Dir; for one repository only.
	Store Store
	// Sources are further places to ask, before all others: a folder, an
	// embedded tree, a bundle, a [URL]. What they hold is verified like everything else.
	// They do not count as operators when a new root is looked for. A [URL], also one
	// in a [List], whose host the newest root has retired is not asked any more.
	Sources []Source
	// Offline keeps the client from asking anything but Sources.
	Offline bool
	// UnsafeStale accepts timestamps and snapshots up to that long after their expiry,
	// with Offline alone; [New] refuses it otherwise, and below 0. It is for machines
	// that no network reaches: whoever brings a bundle can hide for so long what was
	// recalled, held or published since. Roots and the parties' roles, holds among
	// them, expire as ever; see repo.BundleOptions.Report.
	UnsafeStale time.Duration
	// HTTP makes the requests; nil: a client of our own that honours the
	// system's proxy settings and judges certificates at the later of Now and the time
	// at which the newest root was signed. It is copied; redirects of metadata are never
	// followed, those of targets as [Client.Save] says, whatever its CheckRedirect is.
	// Its Timeout, if it has one, ends long downloads too, which then go on. Its
	// Transport bounds the headers of an answer, net/http's at 10 MB unless its
	// MaxResponseHeaderBytes says otherwise; of our own client they are 64 KiB. How
	// long an answer is waited for is bounded here, whatever the Transport says.
	HTTP *http.Client
	// UserAgent is sent with requests; "": "visum".
	UserAgent string
	// MetadataTimeout ends the fetching of a metadata file that has not ended by then
	// and brings less than 8 KiB a second for so long; 0: 30 s. So a file of n bytes takes
	// at most n / 8 KiB seconds more. While
	// another location is untried the client asks it as well, after 5 s without an
	// answer or 10 s that one location took for its files; what answers first counts.
	MetadataTimeout time.Duration
	// IdleTimeout ends a download that brings less than 1 KiB a second for so
	// long; 0: 30 s. While another location is untried, one that brings less than 64
	// KiB a second for 5 s, or too little to bring the whole in 15 minutes, is left
	// for it.
	IdleTimeout time.Duration
	// Retries is how often a call goes round again where no place answers at all,
	// after half a second first, then twice as long each time; 0: 2, below 0: never.
	Retries int
	// Progress is told how far a [Client.Save] is; nil: nobody is. Save calls it from
	// its own goroutine, when it begins, every tenth of a second at most, and when it
	// has succeeded, and goes on when it returns. Several Saves may call it at once.
	Progress func(Progress)
	// Only is the administrator's pin: the one version that may be installed, or,
	// with a dot at its end, the numbers that its version begins with ("11." allows
	// 11.4.0 and 11, not 110.1). "": any. Versions are compared by tuf.Version: "1.2"
	// is "v1.2.0". New refuses what is neither.
	Only string
	// Deny lists versions that are not installed, compared likewise. New refuses what
	// is no version.
	Deny []string
	// RolloutSeed stands for this machine where a release goes to a part of the
	// machines: any text that differs between machines and stays the same on one, such
	// as its serial number. From it and the release comes a number from 0 to 99, another
	// for each release, and a rollout of n percent is for the numbers below n. "": what
	// the client drew at random when its state was made, which machines that were
	// cloned with their state share. Machines with one seed get their releases together.
	RolloutSeed string
	// Defer is how long a release waits from when this client first saw it approved.
	Defer time.Duration
	// Log receives what happens; nil: silence. It gets no keys and no bodies; URLs are in
	// it. Attributes are one line of printable ASCII, 4 kB at most, whatever a location
	// or metadata says.
	Log *slog.Logger
	// Now is the clock; nil: time.Now. It is read once in a refresh.
	Now func() time.Time
	// Limits bounds the metadata; see tuf.Limits.
	Limits tuf.Limits
	// UnsafeLoopback lets the repository be served over http:// from this
	// machine. For development and tests.
	UnsafeLoopback bool
	// UnsafeHTTP lets a [URL] in Sources be http://, on any host: who is on the way
	// sees what is asked for, and can keep it back. The repository's own locations
	// stay https://.
	UnsafeHTTP bool
	// UnsafeNoReview lets the pin be the bare root of an ordinary TUF repository:
	// nobody but who holds its keys answers for what it lists, and it can't move.
	// Where to ask is what Sources says. Repositories with and without consistent
	// snapshots are read. Without them a publish replaces files: a refresh in its midst
	// fails with ErrNoContent, and the next one succeeds.
	UnsafeNoReview bool
}

// Progress is how far a [Client.Save] is.
type Progress struct {
	Path  string // of the target
	Done  int64  // bytes there are, those that an earlier process got too; less than before where they were wrong
	Total int64  // bytes of the target
	Place string // id of the location that gave the last ones
}

// policy is what Config.Only and Config.Deny say.
type policy struct {
	only    tuf.Version // zero: any
	numbers int         // how many numbers of only count; 0: it is one version
	text    string      // Config.Only, for messages
	deny    []tuf.Version
}

func newPolicy(cfg *Config) (p policy, err error) {
	if p.text = text.Name(cfg.Only); cfg.Only != "" {
		line, isLine := strings.CutSuffix(cfg.Only, ".")
		if isLine {
			p.numbers = 1 + strings.Count(line, ".")
		}
		if isLine && strings.ContainsAny(line, "-+") {
			return p, fmt.Errorf("client: Config.Only: %s: a version that ends with a dot is made of numbers", text.Quote(cfg.Only))
		}
		if p.only, err = tuf.ParseVersion(line); err != nil {
			return p, fmt.Errorf("client: Config.Only: %v", err)
		}
	}
	for i, s := range cfg.Deny {
		v, err := tuf.ParseVersion(s)
		if err != nil {
			return p, fmt.Errorf("client: Config.Deny[%d]: %v", i, err)
		}
		p.deny = append(p.deny, v)
	}
	return p, nil
}
