//go:build !unix

package tuftest

// PeakMemory is 0, because the system does not report it.
func PeakMemory() int64 { return 0 }
