// Package repo is the authoring side: it makes, signs and publishes a
// repository that two organisations answer for.
//
// A [Repo] is a handle on files in a [Storage] together with the signers that
// are at hand. [Repo.Update] edits, signs and publishes in one step where all
// keys are there. Where they are not, [Repo.Stage] makes a [Draft], which
// travels as bytes; the holders of keys open it with [Repo.OpenDraft] and sign it
// with [Draft.Sign], and [Repo.Publish] puts it into the repository.
//
// What is published was first opened with package tuf, from the trust anchor on,
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
// # Trust anchor and ledger
//
// A signature is only as good as what its signer compared it with. A handle
// trusts neither the storage nor a draft:
//
//   - [Config].Pin is the trust anchor: a pin, or the bytes of a root that is known
//     to be genuine. Every call verifies the chain of roots from it. Without an
//     anchor nothing but the first root of an empty storage can be made (ErrNoPin).
//     Roots before the pin's are believed only backwards, where prev_root_sha256
//     names them; otherwise they are served, and prove nothing.
//   - [Config].Ledger is the signer's own memory, kept where no other party can
//     write: the newest root seen, of each role what was seen published and what was
//     signed, and what was recalled, refused or held. Rules K1 to K5 of [Draft.Sign]
//     compare each request with it and record it, durably, before a signature is
//     made; [Draft.Payload], [Repo.Stage], [Repo.Publish] and [Repo.Renew] run the
//     same rules. Lose a ledger and [Repo.Adopt] fills a new one, with a digest that
//     two people compared. Machines of one party that sign the same roles share one
//     ledger (a mounted folder, a [Storage] of their own); others hand records on
//     with [Repo.ExportLedger] and [Repo.ImportLedger].
//   - [Config].Automation says what a machine may sign without a person. What it
//     signs is compared with its ledger, not with the storage: whatever lies there,
//     it does not carry on what it has not seen.
//
// Where keys of a role are stolen, the draft whose root replaces them names them
// with [Tx.Compromised]: the role goes on from what the ledger knows, and the diff
// names what is left out.
//
// Where two roots of one version were signed by both parties and shown to clients,
// [Tx.Heal] makes the next root one that clients of either follow. A signer whose
// ledger has seen the other one published signs it too: the draft carries that root,
// and the new root is checked as its successor (rule K1).
//
// The first root has nothing before it: a handle signs one that it staged itself,
// and [Draft.SignFirst] one that was staged elsewhere, with its [Draft.Digest].
// [Config].UnsafeTrustStorage is for fixtures of tests.
//
// One version has one content: snapshots list length and sha256 of targets.json,
// of every role that the charter names and of products, the length of hash bins,
// and their sha256 where [Class].HashBins is set. Every role names its repository
// (x-visum-repo) and itself (x-visum-role), and a snapshot the version of the one
// that was published before it (x-visum-follows), by which [Repo.Prune] knows how
// long the older one is needed.
//
// Calls that read many files may run beside publishers, on storages whose listings
// lag too. Each shows one published state. Where that changes while it reads,
// [Repo.Status] and [Repo.Verify] read again; otherwise the error wraps
// [ErrConflict] (of a draft that was passed by, [ErrStale]).
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
// expires on its own day; [Repo.Renew] and [Tx.Renew] renew bins with their
// role, and products that have the same keys.
//
// Classes go their own ways: one may come out weekly, with people's keys, and
// another every few minutes with its own keys and the online keys alone. What has
// become old is removed by [Repo.Prune].
//
// # Releases
//
// The version orders the releases of a product ([tuf.ParseVersion]); versions that
// compare equal are one. Machines that have a version are not offered it again, so
// other bytes for a version, channel and platform that are listed are refused
// ([ErrReleased]). [Tx.Promote] lists the same bytes in another channel, and
// [Tx.SetRollout] says what share of the machines shall have them. Release fields are
// agreed on like bytes: until the other parties approve of either, what changes is
// offered to nobody.
//
// The sequence number is for auditors, who see gaps and repetitions in it: a product
// counts its versions with it. [Tx.Add] gives it. The highest one given stands in the
// list that has the release, which may be a product's ([Tx.Delegate]), in the member
// "x-visum-sequence" of its signed part, and never goes back, also after releases
// were removed. All lists of all roles of the party count together, so a product in
// two classes has one counter; of drafts that were staged at the same time and give one
// number to two versions the second is not published ([ErrStale]). What another party
// lists does not count. Lists from before this member go on from the
// highest number that they list.
//
// # The review centre
//
// A centre works on files that came by any channel, with its own pin, ledger and keys:
// [Repo.Export] made the folder, or [Repo.Clone] the copy. [Repo.Pending] lists
// what waits, also in a draft that nobody has published, with what is new against
// the last release that the centre approved of, and with what the centre recalled or
// refused before; [Repo.OpenPending] has the bytes. In
// [Repo.Stage], or [Repo.StageOn] on top of a draft, it approves ([Tx.Approve]),
// refuses ([Tx.Refuse]), holds ([Tx.Hold], [Tx.HoldRelease]), recalls ([Tx.Recall],
// [Tx.RecallRelease]) and signs its roles again before they expire ([Tx.Renew]).
// A recall names bytes, and so does a refusal: to approve of them again, under
// whatever path, takes a reason ([ReviewRecord].Reinstate). The draft goes back to the vendor,
// whose online keys alone make snapshot and timestamp. How a release was examined,
// or why it was refused, is a statement in the form of package tuf/proof; it is
// published beside the file and read with [Repo.Statements].
//
// # Keys that are lost
//
// A party that has lost too many root keys can't sign a next root. Where the
// charter has a recovery rule, others may name one: [Repo.StageRecovery],
// [Repo.RenewRecovery]. The guide is docs/recovery.md.
//
// # Operation
//
// What expires, expires on a day that is known; what breaks is found by looking.
//
//   - Every few hours, with the online keys, a Pin, a Ledger that outlives the job and
//     Automation{Renew: true}: [Repo.Renew]. Where a party's keys
//     may lie on the machine, as those of an automatic class may, it renews that
//     party's roles too, at half of their time. It ends a publish that was cut off.
//   - Every day, without keys: [Repo.Status]. Sound the alarm at [UrgencyUrgent], and at
//     [UrgencySoon] for what other people's keys must sign: root takes all parties and
//     some weeks. A review centre runs it over [ReadOnly] and stages [Tx.Renew]
//     when its own roles have come to Soon.
//   - Every day: [Repo.Prune], where rules are published every few minutes. It
//     keeps what a client with a timestamp that has not expired may still ask for.
//   - Every week, from outside: [Repo.Verify] with the pin of the oldest product in
//     the field, with each mirror as a [Mirror]. Every finding that is not harmless
//     is an alarm. [FileUntrusted] and [FileStranger] are somebody's hand, or a
//     disk's; [FileAhead] means that clients take another day for the present, see
//     [Tx.Supersede]; [FileMissing] and [FileDamaged] keep clients from a file, and putting
//     back the right bytes from a copy heals them; [FileUnfinished] lasts for a
//     moment during a publish, and is Renew's to end when it stays;
//     [FileDiffers] on a mirror is lag for minutes, and trouble after an hour.
//   - On each mirror, as often as it should follow: [Repo.Clone]. An error that
//     wraps [tuf.ErrRollback] says that the source shows something older than it
//     did; one that wraps [ErrConflict] goes away by itself.
//   - For where no network goes: [Repo.Bundle]. To serve a folder without a web
//     server's configuration: [Handler].
//
// Signers read [Repo.Diff] before they sign, on their own machine, with their own
// pin and ledger; two of them compare [Draft.Digest]. Several sign at once, and [Draft.Merge]
// brings the signatures together.
//
// All of these end with their context and leave the old state or the new one;
// [Config].Progress is told how far they are.
//
// # Keys
//
// [keys.Open] opens a key that a URI names: a file, an ssh-agent, or what the
// caller adds. A key of [keys.Generate] says what it is for, and is opened for
// nothing else; and no root key may stand in another role. Where no [tuf.Signer]
// can be made of a key, [Draft.Payload] gives out what is to be signed and
// [Draft.AddSignature] takes the signature.
package repo
