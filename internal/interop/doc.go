// Package interop holds tests alone: packages client and repo against programs
// of other projects. nginx serves a repository and caches it, tinyproxy stands in
// between, and repositories that go-tuf, before v2 too, python-tuf and tuf-js wrote
// are read.
//
// (Package repo tests what go-tuf and tuf-js find in a repository of visum.)
//
// If a program is missing its tests skip and say what to install, unless
// CI=true. The tests run on Unix only.
package interop
