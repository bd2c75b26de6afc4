// Package tiles keeps a public log ([repo.Log]) in a [storage.Storage], in the form of C2SP
// tlog-tiles. [Open] reads such a log from any source.
//
// A log with the origin DOMAIN/visum/REPO_ID/N has these files:
//
//	log/N/checkpoint                the newest tree head with the log's signature; replaced
//	log/N/tile/LEVEL/NUMBER[.p/W]   hashes
//	log/N/tile/entries/NUMBER[.p/W] entries
//	private/log-pending/N           the batch in progress, or the last one; replaced
//
// Locations serve log/ and must not serve private/. Files in tile/ never change, because
// the names of partial ones contain their width.
//
// # Order of an append
//
//  1. The ledger records the sha256 of the batch.
//  2. pending gets the base size and the leaves (compare-and-swap).
//  3. The files of the new tree are created, read back from the storage, and verified: each
//     bundle has its leaves, the last leaf is included in the new tree, and the new tree
//     begins with the last one.
//  4. The ledger records size and root of the new tree.
//  5. The signer signs it.
//  6. checkpoint is replaced (compare-and-swap).
//
// After a crash at any point the next call, by any handle, completes what pending holds.
// All that follows from pending is computed from it, so several processes that complete it
// at the same time write the same files and sign the same text.
//
// # The ledger
//
// All holders of the log's key must share one ledger: a document of a [signing.Ledger]
// whose id is derived from the origin (rule K6 of package signing). A call compares the
// storage with it. It refuses, with an error that wraps [repo.ErrFork], a checkpoint that
// is older than the last one that was recorded before it was signed, or that differs from
// it or was never recorded; a batch in pending that was not recorded; and tiles that do
// not hash to the checkpoint. So a storage that was restored from a backup, or that
// another party has written to, appends nothing. What has to be restored is the storage,
// not the ledger. An empty ledger is refused where the storage has a log; see [Log.Adopt].
package tiles
