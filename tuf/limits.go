package tuf

import "time"

// Limits bounds what one metadata file may cost. Each limit bounds one
// resource-exhaustion attack. Zero fields take the default.
//
// What a file costs before its signatures are checked, when a location without
// any key serves it, follows from its bytes: parsing allocates at most 32 bytes
// for each byte of a root and 8 of another file, in addition to 64 kB, and takes
// time that grows with the length. At worst, measured on one core of a server of 2026, the defaults allow:
//
//	                         bytes      allocated   processor time
//	root                     512 kB       11 MiB          12 ms
//	timestamp                 16 kB      0.1 MiB         0.3 ms
//	unlisted, charter          1 MiB       6 MiB          16 ms
//	unlisted, no charter      16 MiB      48 MiB          92 ms
//
// A file with a listed hash is compared with it first; wrong bytes cost one
// sha256. If only the length is listed, a location can make a client parse wrong
// bytes: 3 MiB allocated and 6 ms for each MiB, that is 192 MiB and 0.4 s for 64 MB.
type Limits struct {
	Root      int64 // bytes of a root: endless data as an answer to a request for root N+1; default 512 kB
	Timestamp int64 // bytes of a timestamp: endless data; default 16 kB
	Snapshot  int64 // bytes of a snapshot, whatever length the timestamp lists: an attacker with the timestamp key; default 16 MB
	Targets   int64 // bytes of a targets role, whatever length the snapshot lists: an attacker with the online keys; default 64 MB
	// Unlisted bounds the bytes of a snapshot or targets role without a listed
	// length: endless data from a location without any key. 0: 1 MiB with a charter,
	// 16 MiB without one. Package repo lists lengths; a repository of an earlier
	// version or of another tool with larger roles needs a higher limit.
	Unlisted   int64
	Signatures int // signatures in one file: time spent on invalid signatures; default 1024
	// Visits bounds the roles visited in one search, and for each party the roles
	// that [Snapshot.Candidates] reads: cycles and large trees of delegations; default
	// 64. The roles of one search have together at most four times Targets bytes.
	Visits int
	Depth  int // delegations between the first and the last role of a search: long chains; default 32
}

// WithDefaults returns l with defaults for its zero fields; Unlisted stays 0.
func (l Limits) WithDefaults() Limits {
	def := func(p *int64, d int64) {
		if *p <= 0 {
			*p = d
		}
	}
	def(&l.Root, 512<<10)
	def(&l.Timestamp, 16<<10)
	def(&l.Snapshot, 16<<20)
	def(&l.Targets, 64<<20)
	if l.Signatures <= 0 {
		l.Signatures = 1024
	}
	if l.Visits <= 0 {
		l.Visits = 64
	}
	if l.Depth <= 0 {
		l.Depth = 32
	}
	return l
}

func (l Limits) forType(typ string) int64 {
	switch typ {
	case "root":
		return l.Root
	case "timestamp":
		return l.Timestamp
	case "snapshot":
		return l.Snapshot
	}
	return l.Targets
}

// Options are the settings of verification. A root passes its options to every
// value opened from it. The zero value, or nil, is right for products.
type Options struct {
	Limits Limits // zero fields take the defaults
	// UnsafeLoopback accepts http:// URLs and loopback addresses as locations. For
	// development and tests on one machine.
	UnsafeLoopback bool
	// UnsafeStale accepts timestamps and snapshots for this long after their expiry.
	// The expiry of root, targets.json and the parties' roles does not change. It is
	// for machines without a network. It extends a freeze attack by the same time:
	// the supplier of the files can hide later recalls and releases. 0 or less: none.
	UnsafeStale time.Duration
	// UnsafeUnlogged lets [Snapshot.Approve] and [Snapshot.Candidates] decide without a proof
	// of the log. For tools that publish: they examine what is not in the log yet.
	UnsafeUnlogged bool
}

// lasts returns the end of acceptance of a timestamp or snapshot with that expiry.
func (o *Options) lasts(expires time.Time) time.Time { return expires.Add(max(0, o.UnsafeStale)) }
