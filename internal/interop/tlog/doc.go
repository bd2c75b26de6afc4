// Package tlog holds tests alone: package tuf/tlog against other implementations of the
// C2SP formats. It is a module of its own, so that they are no dependencies of visum.
//
// The libraries merkle, formats and tessera of transparency-dev check proofs, policies,
// notes and tiles. The programs fsck (of tessera), litewitness and omniwitness check and
// cosign logs; install.sh builds them. If a program is missing its tests skip and say what
// to install, unless CI=true.
package tlog
