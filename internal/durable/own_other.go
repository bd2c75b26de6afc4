//go:build !unix

package durable

import "io/fs"

// ours reports true: files have no known owner on this system.
func ours(fs.FileInfo) bool { return true }

func owned(fs.FileInfo) bool { return true }
