// Package bridge lets package tuf/gotuf say which errors of go-tuf mean the same
// as ours, without package tuf linking go-tuf.
package bridge

// Theirs returns go-tuf's error for one of package tuf's sentinels, nil where
// there is none. Set by package tuf/gotuf when the program starts, or never.
var Theirs func(ours error) error
