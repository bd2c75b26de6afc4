package tuf

// Limits bounds what one metadata file may cost. Each field is an attack's end.
// Zero fields take the default.
type Limits struct {
	Root      int64 // bytes of a root: endless data by whoever answers for N+1; default 512 kB
	Timestamp int64 // bytes of a timestamp: endless data; default 16 kB
	Snapshot  int64 // bytes of a snapshot, whatever the timestamp promises: a thief of the timestamp key filling memory; default 16 MB
	Targets   int64 // bytes of a targets role, whatever the snapshot promises; default 64 MB
	// Unlisted bounds the bytes of a snapshot or targets role whose length the
	// timestamp or snapshot does not list. A location that has no key can make
	// a client read and parse so much. 0: 1 MiB with a charter, 16 MiB without
	// one. Package repo lists lengths; a repository of an earlier version, or of
	// another tool, with larger roles needs a higher limit.
	Unlisted   int64
	Signatures int // signatures in one file: time spent on junk; default 1024
	Visits     int // roles visited in one search: delegation loops and forests; default 64
	Depth      int // delegations between the first role of a search and the last: chains of them; default 32
}

// WithDefaults returns l with the default in each field that is zero.
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

// Options are the judge's settings; they go with a root to all that is opened
// from it. The zero value, or nil, is right for products.
type Options struct {
	Limits Limits
	// UnsafeLoopback lets locations be http:// and loopback addresses. For
	// development and tests on one machine.
	UnsafeLoopback bool
}
