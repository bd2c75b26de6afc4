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

// Config configures a client. The zero value of every field is safe.
type Config struct {
	// Dir is the directory for the client's state; it is created if absent. Each
	// repository with a charter has its own subdirectory, so products may share Dir. A
	// repository without a charter has no identity, and needs a Dir of its own.
	// Required unless Store is set: without persistent state the client has no rollback
	// protection.
	Dir string
	// Store keeps the state instead of Dir, for one repository only.
	Store Store
	// Sources are additional sources, which are asked before all others: a directory,
	// an embedded tree, a bundle, a [HTTPSource]. Their files are verified like all others.
	// They do not count as operators in a search for a new root. The client no longer
	// contacts a [HTTPSource], also one in a [MultiSource], if the newest root has retired its host.
	Sources []Source
	// Offline restricts the client to Sources.
	Offline bool
	// UnsafeStale accepts timestamps and snapshots up to this long after their expiry.
	// It requires Offline; [New] refuses it otherwise, and negative values. It is for
	// machines without a network: the supplier of a bundle can hide newer recalls,
	// holds and releases for that time. Roots and the parties' roles, including holds,
	// expire as usual; see mirror.BundleOptions.Report.
	UnsafeStale time.Duration
	// HTTP makes the requests. nil: a client that honours the system's proxy settings
	// and verifies certificates at the later of Now and the time at which the newest
	// root was signed. HTTP is copied. Its CheckRedirect is ignored: redirects of
	// metadata are never followed, those of targets as documented at [Client.Save]. Its
	// Timeout, if set, also interrupts long downloads, which are then resumed. Its
	// Transport limits the size of response headers (net/http: 10 MB unless
	// MaxResponseHeaderBytes is set; the default client: 64 KiB). Waiting for a
	// response is limited here, whatever the Transport allows.
	HTTP *http.Client
	// UserAgent is sent with requests; "": "visum".
	UserAgent string
	// MetadataTimeout limits the download of a metadata file: after this time it is
	// aborted if it delivered less than 8 KiB per second over such a period; 0: 30 s.
	// So a file of n bytes takes at most n / 8 KiB seconds more. While another location
	// is untried, the client asks it in addition after 5 s without an answer, or after
	// 10 s spent on all files of one location; the first answer counts.
	MetadataTimeout time.Duration
	// IdleTimeout aborts a transfer that delivers less than 1 KiB per second for this
	// long; 0: 30 s. While another location is untried, the client switches to it if
	// the current one delivers less than 64 KiB per second over 5 s, or too little to
	// complete the file in 15 minutes.
	IdleTimeout time.Duration
	// Retries is the number of retries when no location is reachable. The first comes
	// after half a second, and the delay doubles each time; 0: 2, below 0: none.
	Retries int
	// Progress reports the progress of [Client.Save]; nil: no reports. Save calls it
	// synchronously: at its start, at most every 100 ms, and after success. Concurrent
	// Saves may call it at the same time.
	Progress func(Progress)
	// AllowVersion is the only version that the administrator allows, or, with a dot at its
	// end, the leading numbers of the allowed versions ("11." allows 11.4.0 and 11, not
	// 110.1). "": any. Versions are compared by tuf.Version: "1.2" equals "v1.2.0". New
	// refuses anything else.
	AllowVersion string
	// DenyVersions lists versions that are not installed, compared as in Only. New refuses an
	// entry that is not a version.
	DenyVersions []string
	// RolloutSeed identifies this machine in staged rollouts: any text that differs
	// between machines and never changes on one, such as its serial number. The seed
	// and the release are hashed to a number from 0 to 99; a rollout of n percent
	// includes the machines whose number is below n. "": a random seed that is stored
	// in the state, and shared by machines that were cloned together with their state.
	// Machines with equal seeds get each release at the same time.
	RolloutSeed string
	// DeferFor is how long a release must have been approved, as seen by this client,
	// before it is offered.
	DeferFor time.Duration
	// Log receives log records; nil: none. They contain URLs, but no keys and no
	// bodies. Each attribute is one line of printable ASCII of at most 4 kB, whatever a
	// location or metadata contains.
	Log *slog.Logger
	// Now is the clock; nil: time.Now. A refresh reads it once.
	Now func() time.Time
	// Limits limits the metadata; see tuf.Limits.
	Limits tuf.Limits
	// UnsafeLoopback allows locations with http:// URLs on this machine. For
	// development and tests.
	UnsafeLoopback bool
	// UnsafeHTTP allows a [HTTPSource] in Sources to be http://, on any host: an on-path
	// attacker can observe and block requests. The repository's own locations stay
	// https://.
	UnsafeHTTP bool
	// UnsafeNoReview allows the pin to be the bare root of a standard TUF repository:
	// there is no independent review, and the repository cannot move. Sources specifies
	// the locations. Repositories with and without consistent snapshots are supported.
	// Without them a publish replaces files: a refresh that runs at the same time fails
	// with ErrNoContent, and the next one succeeds.
	UnsafeNoReview bool
}

// Progress is the progress of a [Client.Save].
type Progress struct {
	Path     string // of the target
	Done     int64  // bytes obtained, including those of an earlier process; decreases when bytes turn out to be wrong
	Total    int64  // length of the target in bytes
	Location string // id of the location that delivered the last bytes
}

// policy is Config.AllowVersion and Config.DenyVersions, parsed.
type policy struct {
	only    tuf.Version // zero: any
	numbers int         // how many numbers of only are compared; 0: only is one version
	text    string      // Config.AllowVersion, for messages
	deny    []tuf.Version
}

func newPolicy(cfg *Config) (p policy, err error) {
	if p.text = text.Name(cfg.AllowVersion); cfg.AllowVersion != "" {
		line, isLine := strings.CutSuffix(cfg.AllowVersion, ".")
		if isLine {
			p.numbers = 1 + strings.Count(line, ".")
		}
		if isLine && strings.ContainsAny(line, "-+") {
			return p, fmt.Errorf("client: Config.AllowVersion: %s: a version that ends with a dot must consist of numbers", text.Quote(cfg.AllowVersion))
		}
		if p.only, err = tuf.ParseVersion(line); err != nil {
			return p, fmt.Errorf("client: Config.AllowVersion: %v", err)
		}
	}
	for i, s := range cfg.DenyVersions {
		v, err := tuf.ParseVersion(s)
		if err != nil {
			return p, fmt.Errorf("client: Config.DenyVersions[%d]: %v", i, err)
		}
		p.deny = append(p.deny, v)
	}
	return p, nil
}
