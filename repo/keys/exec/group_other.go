//go:build !unix

package exec

import "os/exec"

// ownGroup does nothing: the context kills the program alone.
func ownGroup(*exec.Cmd) {}

func killGroup(*exec.Cmd) error { return nil }
