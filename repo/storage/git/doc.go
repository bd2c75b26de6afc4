// Package git keeps a repository in a branch of a git repository, for example the branch
// that a git host publishes as pages ([Open]). It uses the program git, version 2.32 or
// newer. [Branch] implements the contract of [storage.Storage] and all optional interfaces.
//
// # Commits
//
// The branch holds the published files as a web server sends them. It is one commit
// without a parent at any time, so that the repository at the host does not grow with the
// number of publications. A change is a new commit, pushed with --force-with-lease: the
// host accepts it only if the branch still has the commit on which it is based, and that
// push is when the change becomes visible, as a whole. If another publisher was faster,
// the changes are applied to the new commit if their conditions hold there; otherwise the
// error wraps [storage.ErrConflict]. After a lost answer the branch is read again: each
// commit names the last 32 commits before it, which shows whether a push took effect. If it
// can't be found out, the error says so and does not wrap ErrConflict.
//
// Create, Replace, Remove and Copy are one push each. [Branch.Batch] collects changes: one
// question to the host at its begin, and one push at its end. Packages repo and mirror use
// it for each call. Files are streamed through a file on disk.
//
// A person may push to the branch too, for example a CNAME file; other files are kept, but
// the history is not. A branch that exists without the index (below) is never written: the
// error wraps [ErrForeignBranch]. Symbolic links and submodules are not read.
//
// # Files of the branch
//
// ".nojekyll" at the top makes GitHub Pages serve files as they are. ".visum/index" in the
// folder of the repository has a line for each file with its object, size and time of the
// last write, which Remove compares; git has no such times. They are those of the clocks of
// the publishers: a file of a publisher whose clock is behind can be removed earlier. Hosts
// of pages serve both files too; they have nothing that is not public. Files are compared
// by their git object names (SHA-1); what clients accept is decided by the sha256 in the
// metadata.
//
// # Reading
//
// Read, Open, List and Size ask the host for the commit of the branch first, and fetch it
// if it is new. Files of more than 1 MiB are fetched when they are read, if the host
// supports partial clones. The contents are kept in Options.CacheDir.
//
// # Programs, credentials and configuration
//
// git reads none of the user's configuration files, so that neither hooks nor address
// rewriting nor other programs in them have an effect, with one exception: settings
// below credential. and http. are passed on, without http.sslVerify. So git asks the
// credential helpers of the user for passwords and tokens, as in a shell. There is no
// prompt. ssh is started in batch mode, with the agent and the configuration of ssh; the
// variables GIT_SSH_COMMAND, GIT_SSH and GIT_ASKPASS of the environment have their usual
// meaning, other GIT_ variables have none, except GIT_SSL_CAINFO, GIT_SSL_CAPATH, and the
// names and addresses of author and committer. Transports other than https and ssh are refused.
//
// # Limits
//
// A file has at most Options.MaxFile bytes, 100 MiB by default, the limit of GitHub. Read
// and Replace have the limit [storage.MaxRead]. Hosts limit whole branches too: see
// [Branch.Size]. Names that git can't hold on every system, with an element ".git" or
// "git~1", are refused. Repositories with SHA-256 object names are not supported. A
// connection over which nothing comes for five minutes ends; every call ends with its
// context. If other publishers are faster 100 times, the error wraps ErrConflict.
//
// # Errors
//
// Errors have the form "git: name: operation of branch B of REMOTE: reason", with messages
// of git and of the host. [ErrRefused] is a push that the host refused. No error contains
// credentials.
package git
