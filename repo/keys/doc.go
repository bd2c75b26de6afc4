// Package keys generates and opens the private keys that sign repository metadata: key
// files, keys in an ssh-agent, and keys behind any other interface that the caller
// provides ([Options].Openers), such as a PKCS#11 token or a cloud key service. Packages
// below this one are such openers: exec (any program), pkcs11, hashivault and awskms;
// keystest tests others. docs/keys.md of this module lists all key stores.
//
// A URI identifies a key, so that a configuration can name it. [Open] opens it.
// [Generate] creates a key file that is encrypted with a passphrase and has a label,
// such as "vendor root". If [Options].Purpose is set, a key with another label is
// refused, so that a configuration error cannot make a root key sign timestamps.
//
// Parties exchange public keys in the forms of [WritePublic] and [ParsePublic].
//
// Private keys never leave the process, and no error or log line contains one.
package keys
