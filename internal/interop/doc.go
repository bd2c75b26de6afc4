// Package interop holds tests alone: packages client and repo against programs
// that others wrote. nginx serves a repository and caches it, tinyproxy stands in
// between, and repositories that go-tuf, before v2 too, python-tuf and tuf-js wrote
// are read.
//
// (What go-tuf and tuf-js find in a repository of ours is tested in package repo.)
//
// Where a program is missing its tests skip and say what to install, except where
// CI=true. On systems that are no Unix there are none.
package interop
