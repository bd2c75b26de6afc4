//go:build !linux

package client_test

// citizen belongs to a test that only Linux can run.
func citizen(string) {}
