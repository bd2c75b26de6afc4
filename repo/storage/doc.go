// Package storage holds the files of a repository. It defines the interface [Storage]
// that package repo publishes to and its read-only part [Source], and provides a
// directory ([Dir]), a read-only view ([ReadOnly]), and an in-memory layer over another
// storage ([Overlay]).
//
// A storage keeps bytes and verifies no signatures. Publishing relies on two
// properties: a file made by Create never changes, and Replace is a compare-and-swap. An
// object store with conditional writes has both. Package storagetest tests an
// implementation.
package storage
