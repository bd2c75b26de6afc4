//go:build !unix

package durable

// This system has no named pipes in folders and no such flags.
const (
	noWait   = 0
	noFollow = 0
)
