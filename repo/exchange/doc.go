// Package exchange passes drafts between the parties of a repository through a storage
// that they share: a directory, or a bucket.
//
// The storage is untrusted. A draft that comes from it is opened by a handle
// ([repo.Repo.OpenDraft]), whose trust anchor and ledger decide what may be signed. The
// name of a file must be that of its draft, signatures that do not verify are dropped,
// and the number and the size of files are bounded. A file that is not usable is
// reported and skipped; it ends no call. An attacker who can write to the storage can
// delay drafts and remove them, and nothing else.
//
// The files of a repository are below its id:
//
//	REPO_ID/drafts/DIGEST.draft    a draft, named by its Draft.Digest
//	REPO_ID/drafts/DIGEST-N.draft  a copy of it that could not be merged, N from 2 to 8
//	REPO_ID/targets/...            target files of drafts, as in the repository's storage
//
// Copies of one draft with different signatures are merged, when they are sent, by
// compare-and-swap, and when they are listed.
package exchange
