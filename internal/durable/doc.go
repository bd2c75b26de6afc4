// Package durable writes files that are either there, whole and on the disk, or
// not there at all, and locks folders across processes.
//
// # Promises
//
// A file gets its final name only when all its bytes have been written and
// flushed. A process killed at any step, or a machine that loses power, leaves
// under the final name what was there before or the new content: never a part,
// never a mixture. When a function returns nil the change outlives a power cut,
// as far as disk and file system keep their word about flushing.
//
// When a function returns an error before the final name was taken, nothing has
// changed and the temporary file is gone, but for a part that could not get its name.
// Errors name the file that is written, not the temporary one. One error can come later: flushing
// the folder. Then the new content is in place for every process, and may or
// may not survive a power cut. Doing the same again is always right.
//
// # How
//
// A temporary file in the same folder (so on the same file system), flush,
// rename or link, flush of the folder. The temporary file's name is ".visum-",
// 16 hex digits, ".tmp"; a killed process leaves it behind and [RemoveTemp]
// takes it away. A part, which a later process may go on with, ends in ".part".
// How much of it was on the disk when the power went nobody knows: its content
// is to be checked before the commit.
//
// # Limits
//
// Windows can't flush a folder, and some network and FUSE file systems refuse
// to; there the name itself may be lost with the power, not the rule that it
// shows whole content. On Windows a file that another process holds open can't
// be replaced; such a step is tried again for two seconds (see [Retry]).
//
// Where the system refuses to set permissions (sandboxes, network mounts, file systems
// without any), a file keeps those that it was made with. A folder that may be
// written to but not opened is not flushed.
//
// Owner, extended attributes and hard links of a replaced file are not kept: it
// is a new file. A symbolic link is replaced, not followed.
//
// Names given to the functions ending in In are relative to an [os.Root] and
// can't lead out of it, whatever symbolic links stand inside. The root stays
// the caller's, who closes it, after the last use of a [RootFile] made in it.
package durable
