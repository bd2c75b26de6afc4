// Package durable writes files atomically and durably, and locks folders across
// processes.
//
// # Guarantees
//
// A file gets its final name only after all its bytes have been written and
// flushed. If a process is killed or a machine loses power at any step, the final
// name has the previous or the new content: never a part, never a mixture. After a
// function has returned nil, the change survives a power cut, provided that disk
// and file system flush as they report.
//
// If a function returns an error before the final name was set, nothing has changed
// and the temporary file is removed, except for a part that could not be renamed.
// Errors name the written file, not the temporary one. One error can occur later:
// flushing the folder. Then every process sees the new content, but it may not
// survive a power cut. Repeating the operation is always safe.
//
// # Implementation
//
// A write creates a temporary file in the same folder, and so on the same file
// system, flushes it, renames or links it, and flushes the folder. The name of a
// temporary file is ".visum-", 16 hex digits, ".tmp". A killed process leaves it
// behind; [RemoveTemp] removes it. The name of a part, which a later process may
// continue, ends in ".part". After a power cut its content is unknown and must be
// verified before the commit.
//
// # Limits
//
// Windows can't flush a folder, and some network and FUSE file systems refuse it.
// There a power cut may lose the name, but a name still has whole content only. On
// Windows a file that another process holds open can't be replaced; such a step is
// retried for two seconds (see [Retry]).
//
// If the system refuses to set permissions (sandboxes, network mounts, file systems
// without permissions), a file keeps those of its creation. A folder that may be
// written to but not opened is not flushed.
//
// Owner, extended attributes and hard links of a replaced file are lost: the result
// is a new file. A symbolic link is replaced, not followed.
//
// Names passed to the functions ending in In are relative to an [os.Root] and can't
// lead out of it through symbolic links. The caller owns the root and closes it after
// the last use of a [File] created in it.
package durable
