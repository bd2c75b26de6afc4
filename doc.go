// Package visum is the front page of three packages that fetch and publish
// software updates which an independent reviewer has signed too, from a
// repository that can move. It holds no code.
//
//   - [github.com/visum-dev/visum/client]: the hand. Products embed it: refresh,
//     find, save.
//   - [github.com/visum-dev/visum/repo]: the pen. Release engineers and reviewers
//     script it: edit, sign apart, publish, move.
//   - [github.com/visum-dev/visum/tuf]: the judge. Bytes in, verified values out;
//     the other two stand on it.
//
// # In one page
//
// A repository is files on any web server, laid out as The Update Framework
// (TUF) has it; stock TUF clients read it. Its root carries a charter: which
// parties there are (a vendor, a review centre), which keys each holds, how many
// must sign, and at which places the repository lives. A product embeds a pin:
// one file with a root and the review centre's keys.
//
//	pin -> root -> root ... -> timestamp -> snapshot -> one role of each party -> tuf.Approved -> a file
//
// Every new root needs both parties, so a vendor whose keys are all stolen can
// change nothing. Every release needs both parties to list the same bytes, so
// neither can ship anything alone. A move to another host, owner or country is
// one more root in the chain, which a client that slept for two years walks.
//
// # Dependencies
//
// Each is here for a reason. Client links flock and x/sys, no more.
//
//   - github.com/theupdateframework/go-tuf/v2/metadata: the vocabulary of TUF, for
//     authoring in repo and for tuf/gotuf, which shows verified values as its
//     types. Its updater and fetcher are used in tests only.
//   - github.com/secure-systems-lab/go-securesystemslib: encrypted key files, and
//     the canonical form that ours is fuzzed against.
//   - golang.org/x/crypto: OpenSSH keys, in files and in agents.
//   - golang.org/x/sys, github.com/gofrs/flock: locks between processes and
//     error codes of Windows.
//   - github.com/sigstore/sigstore, google.golang.org/protobuf: used by go-tuf, and
//     by us in a test that signs as go-tuf does; pinned to versions that refuse
//     malformed ed25519 keys, build with Go 1.26 and stay small.
//   - golang.org/x/tools/txtar, golang.org/x/mod/semver: the form of the test
//     vectors, and what the order of versions is compared with, in tests only.
package visum
