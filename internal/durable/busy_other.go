//go:build !windows && !unix

package durable

func busy(error) bool { return false }
