// Package storage is where the files of a repository are: the interface [Storage] that
// package repo publishes to, its read half [SourceRef], a directory ([Dir]), a read-only
// view ([ReadOnly]), and files in memory over another storage ([Overlay]).
//
// A storage keeps bytes and verifies none of them. Publishing relies on two properties:
// a file that Create made never changes, and Replace is a compare-and-swap. An object
// store with conditional writes has both. Package storagetest checks an implementation.
package storage
