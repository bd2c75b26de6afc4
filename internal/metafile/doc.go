// Package metafile has what can be read of a metadata file without a trusted
// delegator: its envelope and the signatures by given keys, the keys of the roles that
// it delegates to, and the targets that it lists. The authoring tools use it for files
// whose delegator is not published, or not known. Everything that decides what clients
// accept is in package tuf.
package metafile
