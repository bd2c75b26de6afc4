// Package repo is the authoring side: it makes, signs and publishes a
// repository that two organisations answer for.
//
// A [Repo] is a handle on files in a [Storage] together with the signers that
// are at hand. [Repo.Update] edits, signs and publishes in one step where all
// keys are there. Where they are not, [Repo.Stage] makes a [Draft], which
// travels as bytes; whoever holds keys signs it with [Draft.Sign], and
// [Repo.Publish] puts it into the repository.
//
// What is published was first opened with package tuf, from the first root on,
// as a client would. Order of writing: targets, then metadata that never
// changes, then a new root, and timestamp.json last, by compare-and-swap: a
// publish that is killed leaves the old repository valid, and of two publishers
// at once one gets [ErrConflict].
//
// The tool computes what people get wrong: the root threshold that gives every
// party its say (rule Q), the charter's seq, epoch and floors, version numbers,
// and the delegations in targets.json by which stock TUF clients see reviewed
// releases only.
//
// # Many files
//
// A party's role lists its releases and plain files. A part of a class can be a
// product with keys of its own ([Tx.Delegate]). More than 512 plain files in one
// list are dealt out to hash bins (TAP 15): as many, a power of two, as leave 256
// or fewer in each, on average. They are dealt out anew, in the same step, once a
// bin that is edited comes to more than 512 or to fewer than 16. The parties after
// the first of a class take the first one's number when they next sign. A change
// then reads, verifies, signs and writes one bin of the party, the snapshot and
// the timestamp, however many files there are.
//
// Releases stay out of bins, where clients that look for the latest would not
// find them: keep their number small with [Tx.Remove]. What a role has handed on
// expires on its own day; [Repo.Refresh] and [Tx.Resign] renew bins with their
// role, and products that have the same keys.
//
// Classes go their own ways: one may come out weekly, with people's keys, and
// another every few minutes with its own keys and the online keys alone. What has
// become old is removed by [Repo.Prune].
//
// # The review centre
//
// A centre works on files that came by any way, with no key but its own:
// [Repo.Export] made the folder, or [Repo.Clone] the copy. [Repo.Pending] lists
// what waits, also in a draft that nobody has published, with what is new against
// the last release that the centre approved of; [Repo.Open] has the bytes. In
// [Repo.Stage], or [Repo.StageOn] on top of a draft, it approves ([Tx.Approve]),
// refuses ([Tx.Refuse]), holds ([Tx.Hold]), recalls ([Tx.Recall]) and signs its
// roles again before they expire ([Tx.Resign]). The draft goes back to the vendor,
// whose online keys alone make snapshot and timestamp. How a release was examined,
// or why it was refused, is a statement in the form of package tuf/proof; it is
// published beside the file and read with [Repo.Statements].
//
// # Keys that are lost
//
// A party that has lost too many root keys can't sign a next root. Where the
// charter has a recovery rule, others may name one: [Repo.StageRecovery],
// [Repo.RenewRecovery]. The guide is internal/doc/recovery.md.
//
// # Operation
//
// What expires, expires on a day that is known; what breaks is found by looking.
//
//   - Every few hours, with the online keys: [Repo.Refresh]. Where a party's keys
//     may lie on the machine, as those of an automatic class may, it renews that
//     party's roles too, at half of their time. It ends a publish that was cut off.
//   - Every day, without keys: [Repo.Status]. Sound the alarm at [Urgent], and at
//     [Soon] for what other people's keys must sign: root takes all parties and
//     some weeks. A review centre runs it over [ReadOnly] and stages [Tx.Resign]
//     when its own roles have come to Soon.
//   - Every day: [Repo.Prune], where rules are published every few minutes. It
//     keeps what a client with a timestamp that has not expired may still ask for.
//   - Every week, from outside: [Repo.Verify] with the pin of the oldest product in
//     the field, with each mirror as a [Copy]. Every finding that is not harmless
//     is an alarm. [FileUntrusted] and [FileStranger] are somebody's hand, or a
//     disk's; [FileMissing] and [FileDamaged] keep clients from a file, and putting
//     back the right bytes from a copy heals them; [FileUnfinished] lasts for a
//     moment during a publish, and is Refresh's to end when it stays;
//     [FileDiffers] on a mirror is lag for minutes, and trouble after an hour.
//   - On each mirror, as often as it should follow: [Repo.Clone]. An error that
//     wraps [tuf.ErrRollback] says that the source shows something older than it
//     did; one that wraps [ErrConflict] goes away by itself.
//   - For where no network goes: [Repo.Bundle]. To serve a folder without a web
//     server's configuration: [Handler].
//
// Signers read [Repo.Diff] before they sign, on their own machine, from a copy of
// the repository that they verified; several sign at once, and [Draft.Merge]
// brings the signatures together. By [Draft.Digest] people in different places
// compare what they are about to sign.
//
// All of these end with their context and leave the old state or the new one;
// [Config].Progress is told how far they are.
//
// # Keys
//
// [OpenSigner] opens a key that a URI names: a file, an ssh-agent, or what the
// caller adds. A key of [GenerateKey] says what it is for, and is opened for
// nothing else; and no root key may stand in another role. Where no [tuf.Signer]
// can be made of a key, [Draft.Payload] gives out what is to be signed and
// [Draft.AddSignature] takes the signature.
package repo
