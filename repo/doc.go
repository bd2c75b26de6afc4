// Package repo contains the authoring tools: it creates, signs and publishes a TUF
// repository whose releases are signed by two organisations.
//
// A [Repo] is a handle on the files in a [Storage] and on the available signers.
// [Repo.Update] edits, signs and publishes in one step if all keys are available.
// Otherwise [Repo.Stage] makes a [Draft], which is transferred as bytes. The key
// holders open it with [Repo.OpenDraft] and sign it with [Draft.Sign], and
// [Repo.Publish] writes it to the repository.
//
// Before it publishes, the package verifies the result with package tuf as a client
// would, starting at the trust anchor. It writes target files first, then immutable
// metadata, then a new root, and timestamp.json last, by compare-and-swap. An
// interrupted publish leaves the old repository valid. If two publishers run at the
// same time, one of them gets [ErrConflict].
//
// The package computes error-prone values: the root threshold that requires
// signatures of every party (rule Q), the charter's seq, epoch and version floors,
// version numbers, and the delegations in targets.json through which standard TUF
// clients see only reviewed releases.
//
// # Trust anchor and ledger
//
// A signer must compare each request with data that it already trusts. A handle
// trusts neither the storage nor a draft. It relies on three settings:
//
//   - [Config].Pin is the trust anchor: a pin, or the bytes of a root that is known
//     to be genuine. Every call verifies the root chain from it. Without an anchor
//     the only permitted operation is the first root of an empty storage (ErrNoPin).
//     Roots older than the pin's are trusted only if prev_root_sha256 of a trusted
//     root names them. All other older roots are served but not trusted.
//   - [Config].Ledger is the signer's own record, stored where no other party can
//     write: the newest root seen, the published and the signed content of each role,
//     and the targets that were recalled, refused or held. Rules K1 to K5 of
//     [Draft.Sign] compare each request with it, and record the request durably
//     before a signature is made. [Draft.Payload], [Repo.Stage], [Repo.Publish] and
//     [Repo.Renew] apply the same rules. After the loss of a ledger, [Repo.Adopt]
//     fills a new one, given a digest that two people have compared. Machines of one
//     party that sign the same roles share one ledger (a mounted directory, or a
//     separate [Storage]), or transfer records with [Repo.ExportLedger] and
//     [Repo.ImportLedger].
//   - [Config].Automation lists the changes that a machine may sign without a person.
//     Each change is compared with the machine's ledger, not with the storage, so
//     unknown content in the storage is never carried into a new signature.
//
// If keys of a role are compromised, the draft whose root replaces the keys lists
// them with [Tx.Compromised]. The role then continues from the content that the
// ledger records, and the diff lists the content that is left out.
//
// If both parties signed two roots with the same version and both were served to
// clients (a fork), [Tx.Heal] makes the next root a valid successor of both. Signers
// whose ledgers have seen the unpublished branch can sign it too, because the draft
// carries that branch and rule K1 checks the new root as its successor.
//
// The first root has no predecessor. A handle signs a first root that it staged
// itself. [Draft.SignFirst] signs a first root that was staged elsewhere, given its
// [Draft.Digest]. [Config].UnsafeTrustStorage is for test fixtures.
//
// Each version of a role has exactly one content. Snapshots list length and sha256 of
// targets.json, of every role that the charter names, and of products. They list the
// length of hash bins, and also the sha256 if [Class].HashBins is set. Every role
// states its repository (x-visum-repo) and its own name (x-visum-role). A snapshot
// states the version of its published predecessor (x-visum-follows), from which
// [Repo.Prune] computes how long the predecessor is needed.
//
// Calls that read many files may run concurrently with publishers, also on storages
// with delayed listings. Each call returns one published state. If that state changes
// during the call, [Repo.Status] and [mirror.Verify] read again. Other calls return an
// error that wraps [ErrConflict], or [ErrStale] for a draft that is out of date.
//
// # Many files
//
// A party's role lists its releases and its targets without release data. Part of a
// class can be a product with its own keys ([Tx.Delegate]). If one list has more than
// 512 targets without release data, they are distributed over hash bins (TAP 15); the
// number of bins is the smallest power of two with at most 256 files per bin on
// average. They are distributed again, in the same step, if an edited bin has more
// than 512 or fewer than 16 files. The other parties of a class adopt the number of
// bins of its first party when they next sign. A change then reads, verifies, signs
// and writes one bin of the party, the snapshot and the timestamp, independent of the
// number of files.
//
// Releases are not stored in bins, because clients that search for the newest release
// would not find them there. Keep their number small with [Tx.Remove]. Delegated roles
// have their own expiry. [Repo.Renew] and [Tx.Renew] renew bins with their role, and
// also products that have the same keys.
//
// Classes are independent: one may be released weekly with keys held by people, and
// another every few minutes with its own keys and the online keys only. [Repo.Prune]
// removes obsolete files.
//
// # Releases
//
// The version orders the releases of a product ([tuf.ParseVersion]). Two versions that
// compare equal are the same version. A version is never offered again to a machine
// that has it, so other bytes for a listed version, channel and platform are refused
// ([ErrReleased]). [Tx.Promote] lists the same bytes in another channel, and
// [Tx.SetRollout] sets the share of machines that receive them. Parties must agree on
// release fields as they do on bytes: a change of either is offered to no client until
// the other parties approve it.
//
// The sequence number is for auditors, who can detect gaps and repetitions in it: it
// counts the versions of a product. [Tx.Add] assigns it. The highest assigned number is
// stored in the list that contains the release, which may be a product's list
// ([Tx.Delegate]), in the member "x-visum-sequence" of its signed part. It never
// decreases, even after releases are removed. All lists of all roles of a party are
// counted together, so a product in two classes has one counter. If drafts that were
// staged at the same time assign one number to two versions, only the first of them can
// be published; the second gets [ErrStale]. Lists of other parties do not count. A list
// without this member continues from the highest number that it lists.
//
// # The review centre
//
// The review centre works on a copy of the repository and needs only its own pin,
// ledger and keys. The copy is a directory made by [Repo.Export] or [mirror.Clone].
// [Repo.Pending] lists the targets that wait for approval, also those in an unpublished
// draft, with the differences from the last approved release and with earlier recalls
// and refusals. [Repo.OpenPending] opens their bytes. In [Repo.Stage], or in
// [Repo.StageOn] on top of a draft, the centre approves ([Tx.Approve]), refuses
// ([Tx.Refuse]), holds ([Tx.Hold], [Tx.HoldRelease]), recalls ([Tx.Recall],
// [Tx.RecallRelease]) and renews its roles before they expire ([Tx.Renew]). Recalls and
// refusals identify bytes: approving the same bytes again, under any path, requires a
// reason ([ReviewRecord].Reinstate). The draft returns to the vendor, whose online keys
// sign snapshot and timestamp. A statement in the form of package tuf/attestation records how
// a release was examined, or why it was refused. It is published next to the file and
// read with [Repo.Statements].
//
// # Lost keys
//
// If a party loses too many root keys, the root threshold can no longer be met. If the
// charter has a recovery rule, the recovery organisations can name a next root:
// [Repo.StageRecovery], [Repo.RenewRecovery]. The guide is docs/recovery.md.
//
// # Operation
//
// Recommended schedule:
//
//   - Every few hours, with the online keys, a Pin, a persistent Ledger and
//     Automation{Renew: true}: [Repo.Renew]. It also renews the roles of a party whose
//     keys are on that machine, as the keys of an automatic class may be, after half of
//     their validity. It completes an interrupted publish.
//   - Every day, without keys: [Repo.Status]. Raise an alarm at [UrgencyUrgent], and at
//     [UrgencySoon] for roles that keys of other people must sign: a root needs all
//     parties and some weeks. A review centre runs it over [storage.ReadOnly] and
//     stages [Tx.Renew] when its own roles have reached Soon.
//   - Every day, if a class is published every few minutes: [Repo.Prune]. It keeps
//     every file that a client with an unexpired timestamp may still request.
//   - Every week, from outside: [mirror.Verify] with the pin of the oldest product in
//     use, and with each mirror. Every finding that is not harmless is an alarm; see
//     [mirror.FindingKind].
//   - On each mirror, as often as it should be updated: [mirror.Clone].
//   - For machines without a network: [mirror.Bundle]. To serve a directory without
//     configuring a web server: [mirror.Handler].
//
// Signers read [Repo.Diff] before they sign, on their own machine, with their own pin
// and ledger, and two of them compare [Draft.Digest]. If several people sign copies at
// the same time, [Draft.Merge] combines the signatures.
//
// All of these calls stop when their context ends, and leave either the old or the new
// state. [Config].Progress receives their progress.
//
// # Keys
//
// [keys.Open] opens a key that a URI names: a file, a key in an ssh-agent, or a key of
// a scheme that the caller adds. A key of [keys.Generate] has a label that states its
// purpose, and can be opened for that purpose only. No root key may have another role.
// If no [tuf.Signer] can be made for a key, [Draft.Payload] returns the bytes to sign
// and [Draft.AddSignature] adds the signature.
package repo
