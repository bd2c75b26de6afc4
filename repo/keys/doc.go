// Package keys makes and opens the private keys that sign metadata of a repository:
// files, keys in an ssh-agent, and keys behind any other interface by way of the
// caller ([Options].Openers), such as a PKCS#11 token or a cloud's key service.
//
// A key is named by a URI, as configuration has it, and opened with [Open]. [Generate]
// makes a file that is encrypted with a passphrase and has a label, such as "vendor
// root". Where [Options].Purpose is set, a key with another label is refused, so that
// a configuration error cannot make a root key sign timestamps.
//
// Private keys never leave the process, and no error or log line contains one.
package keys
