// Package visum documents the module; it contains no code. The module has three
// packages for software updates that an independent review centre must sign too, from
// a repository that can move.
//
//   - [github.com/visum-dev/visum/client]: the client library. Products embed it to
//     refresh, find and download updates.
//   - [github.com/visum-dev/visum/repo]: the authoring tools. Vendors and review
//     centres use them to edit, sign, publish and move a repository.
//   - [github.com/visum-dev/visum/tuf]: the verification of metadata, on which the
//     other two are built: bytes in, verified values out.
//
// # Overview
//
// A repository is a set of files on any web server, in the layout of The Update
// Framework (TUF); standard TUF clients can read it. Its root carries a charter, which
// names the parties (a vendor, a review centre), the keys of each party, how many of
// them must sign, and the locations of the repository. A product embeds a pin: one file
// with a root and the keys of the review centre.
//
//	pin -> root -> root ... -> timestamp -> snapshot -> one role of each party -> tuf.Approved -> a file
//
// Every new root needs signatures of both parties, so an attacker with every key of the
// vendor cannot change it. Every release needs both parties to list the same bytes, so
// neither party can ship anything alone. A move to another host, owner or country adds
// roots to the chain, which a client follows even after years offline.
//
// The files in docs specify the format, the rules of clients and the threat model.
//
// # Dependencies
//
// Each dependency has a reason. Package client links flock, x/sys and x/mod only.
//
//   - github.com/theupdateframework/go-tuf/v2/metadata: the data types of TUF, for
//     authoring in repo and for tuf/gotuf, which returns verified values as these
//     types. Its updater and fetcher are used in tests only.
//   - github.com/secure-systems-lab/go-securesystemslib: encrypted key files, and the
//     canonical JSON with which ours is compared by fuzzing.
//   - golang.org/x/crypto: OpenSSH keys, in files and in agents.
//   - golang.org/x/sys, github.com/gofrs/flock: locks between processes, and error
//     codes of Windows.
//   - github.com/aws/aws-sdk-go-v2 (service/s3, service/kms, config, credentials) and
//     github.com/aws/smithy-go: repo/storage/s3 and repo/keys/awskms only, which no other
//     package but the tool imports. github.com/johannesboyne/gofakes3 is the object
//     store of their tests.
//   - github.com/miekg/pkcs11: repo/keys/pkcs11 only, and only in builds with cgo. It calls
//     the C functions of the standard, for which there is no other maintained binding.
//   - The program git, 2.32 or newer: repo/storage/git only, which no other package but the
//     tool imports.
//   - github.com/sigstore/sigstore, google.golang.org/protobuf: used by go-tuf, and by
//     a test that signs as go-tuf does. The versions are pinned: they refuse malformed
//     ed25519 keys, build with Go 1.26 and have few dependencies.
//   - github.com/spf13/cobra, github.com/BurntSushi/toml, golang.org/x/term: the command
//     tree, the configuration and the passphrases of cmd/visum.
//   - github.com/rogpeppe/go-internal: in tests only, the scripts that run cmd/visum.
//   - golang.org/x/mod: sumdb/note and sumdb/tlog are the notes and the Merkle arithmetic
//     of tuf/tlog. In tests, semver is compared with the order of versions.
//   - golang.org/x/tools/txtar: in tests only, for the format of the test vectors.
package visum
