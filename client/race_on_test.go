//go:build race

package client_test

// raced tells that the race detector is linked in.
const raced = true
