// Package hashivault opens keys in the transit engine of HashiCorp Vault or OpenBao. It
// speaks HTTP with the server and needs no SDK.
//
//	cfg, err := hashivault.FromEnv(os.Getenv)
//	opts := &keys.Options{Openers: map[string]keys.Opener{"hashivault": hashivault.Opener(cfg)}}
//	signer, err := keys.Open(ctx, "hashivault://vendor-root", opts)
//
// # URI
//
// hashivault://KEY?mount=transit&version=3, percent-encoded. KEY is the name of the key,
// mount the path of the engine (default: transit), version the version of the key
// (default: the newest one when the key is opened). The version is pinned: the signer
// continues to sign with it after a rotation of the key. A root names one version's
// public key, so a configuration should name the version too.
//
// # Keys
//
// ed25519, ecdsa-p256 and ecdsa-p384. An ed25519 key signs the payload, which is limited by
// the server's max_request_size (32 MiB by default); of an ECDSA key the server only gets
// the digest. Every signature is verified with the public key before it is returned.
//
// The purpose of a key ([keys.Options].Purpose) is its name.
//
// The token needs a policy with "read" on MOUNT/keys/KEY and "update" on MOUNT/sign/KEY.
//
// # Environment
//
// Opener reads no environment variable and no file by itself. [FromEnv] states which
// variables it reads, and [TokenFile] reads a file before each request, so that a
// renewed token is used. http.DefaultTransport, which is used if [Config].Client is
// nil, reads the proxy from the environment (HTTPS_PROXY, NO_PROXY).
//
// # Limits and errors
//
// Each operation is one request, with a limit of one minute if [Config].Client is nil; it
// is not repeated. A redirection is not followed, because it would send the token to
// another host. An answer is limited to 1 MiB.
//
// Errors wrap [fs.ErrInvalid] for a malformed URI or address, [ErrNoToken],
// [fs.ErrPermission] if the server refuses the token, [fs.ErrNotExist] if it has no such key,
// version or engine, [ErrUnavailable] if it may answer later, [keys.ErrKind] for a key of
// another type, and [keys.ErrPurpose]. They contain the address of the server and its message,
// quoted and cut to 200 characters, and never the token.
package hashivault
