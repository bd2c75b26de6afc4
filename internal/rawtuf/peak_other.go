//go:build !unix

package rawtuf

// PeakMemory is 0, because the system does not report it.
func PeakMemory() int64 { return 0 }
