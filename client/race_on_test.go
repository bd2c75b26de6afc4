//go:build race

package client_test

// raced reports whether the race detector is linked in.
const raced = true
