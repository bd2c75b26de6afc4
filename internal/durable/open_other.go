//go:build !unix

package durable

// There are no named pipes in folders here, and no such flags.
const (
	noWait   = 0
	noFollow = 0
)
