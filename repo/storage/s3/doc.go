// Package s3 keeps a repository in a bucket of Amazon S3 or of a compatible object
// store. [Open] returns a [Bucket], which implements the contract of [storage.Storage]
// and the optional interfaces [storage.Source], [storage.Lister], [storage.Remover],
// [storage.Copier] and [storage.Cleaner].
//
// # What the store must support
//
//   - Strong consistency: a read and a listing after a write see the write.
//   - PutObject with If-None-Match: * and with If-Match. Open checks both on the object
//     ".visum/probe" and refuses a store that ignores them, because two publishers could
//     overwrite each other's files there. See [Options].UnsafeNoConditions.
//   - A clock that is right within 15 minutes, as request signatures need it.
//
// CompleteMultipartUpload with the same conditions is used where the store honours them,
// which the first large Create or Copy of a handle finds out. On other stores a large
// file is written to a temporary file first and sent as one conditional PutObject.
//
// Create is PutObject or CompleteMultipartUpload with If-None-Match: *. Replace is
// GetObject, then PutObject with If-Match and the ETag of what was read. A lost race is
// the answer 412, 409, or 404 to If-Match; the error wraps [storage.ErrConflict]. Each
// write has a random number in its metadata (x-amz-meta-visum-write). If the answer to a
// write is lost, the retry finds out by this number whether the write took effect. If it
// can't be found out, because the file has been replaced again, the error does not wrap
// ErrConflict.
//
// A Create of an existing file counts as a write of it: the object is written or copied
// onto itself, unless another process has just done so. Remove sets a mark (".visum/removing/" and the sha256 of the name) before
// it looks at the time of the last write; Create looks for the mark after its write, and
// returns ErrConflict if it finds one. So no file is removed that Create relies on. A
// mark of a process that died is ignored after 30 minutes.
// Remove also sends If-Match. On a store that ignores this in DeleteObject, Remove must
// not run at the same time as a Replace of the same file; no file that package repo
// replaces is ever pruned.
//
// # Objects
//
// The key of an object is the prefix of the URI, a slash, and the name of the file. Keys
// that begin with ".visum/" after the prefix are those of this package; a web server
// should not serve them. Cache-Control and Content-Type are those that mirror.Handler
// sends: timestamp.json and other files whose name has no version may be cached for a
// minute, all others for ever. Every upload carries its sha256 (x-amz-checksum-sha256),
// which the store compares. The bucket may have versions and default encryption.
//
// # Limits
//
// A file has at most [MaxSize] bytes; Read and Replace have the limit [storage.MaxRead].
// A key has at most 1024 bytes, the prefix included. Create uses as much memory as the
// file has bytes, and at most 8 MiB times Options.Parallel + 2 (48 MiB by default). A request is sent at
// most 5 times, with waits of at most 5 seconds between. An attempt ends after two
// minutes and a second for each 64 KiB it sends; the content of a file, after a minute
// without a byte. Every call ends when its context does.
//
// # Errors
//
// Errors have the form "s3: name: operation: reason". The error wraps [fs.ErrNotExist]
// only after the answer 404 NoSuchKey. A missing bucket or a refused request (403) is not
// the absence of a file: the credentials need s3:ListBucket, without which S3 answers 403
// for a missing file. Messages of the store are quoted. No error contains credentials.
//
// # Leftovers and the lifecycle rule
//
// A failed upload is aborted. The parts of an upload whose process died stay in the
// bucket, invisible and charged. [Bucket.Clean] removes them, which [repo.Repo.Prune]
// calls. The bucket should also have a
// lifecycle rule that does so:
//
//	{"Rules": [{"ID": "uploads", "Status": "Enabled", "Filter": {"Prefix": ""},
//	  "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}]}
//
// No rule may expire objects: [repo.Repo.Prune] knows which files clients may request.
//
// # Permissions
//
// Publishers need s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket,
// s3:AbortMultipartUpload and s3:ListBucketMultipartUploads. Readers (Options.ReadOnly)
// need s3:GetObject and s3:ListBucket.
//
// [repo.Repo.Prune]: https://pkg.go.dev/github.com/visum-dev/visum/repo#Repo.Prune
package s3
