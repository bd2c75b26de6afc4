// Package exec opens keys that another program signs with: the command line of a cloud
// key service, a company's signing service, or a ceremony with a computer that has no
// network. docs/keys.md has three such programs of a few lines.
//
//	opts := &keys.Options{Openers: map[string]keys.Opener{"exec": exec.Opener(exec.Config{Env: os.Environ()})}}
//	signer, err := keys.Open(ctx, "exec:/etc/visum/sign-root?arg=root-2026", opts)
//
// A URI of this scheme runs a program. So it works only in programs that register the
// opener, and a configuration with such URIs must be as trusted as the program itself.
//
// # URI
//
// exec:/PATH?arg=A&arg=B, percent-encoded, also exec:///PATH. A relative path must contain
// a slash (exec:./sign); the directories of PATH are never searched. There is no shell in
// between. Arguments are visible to other users of the machine, so neither the URI
// nor an argument may contain a secret.
//
// # Protocol
//
//   - PROGRAM A B --public-key prints the public key, in a form that [keys.ParsePublic]
//     reads, and exits with status 0. Its standard input is empty. It is called once for
//     each Open.
//   - PROGRAM A B reads the payload from standard input until its end, prints the signature
//     and exits with status 0. It is called once for each signature, also concurrently.
//
// The payload is the canonical form of the signed part of metadata, as [tuf.Signer] gets
// it. The signature is that of the key's scheme: ed25519 of the payload; ECDSA with SHA-256
// (P-256) or SHA-384 (P-384); or RSA-PSS with SHA-256. An ECDSA signature may be DER or the
// numbers r and s one after the other. It is printed as bytes, in hex, or in base64 with
// either alphabet, the last two with any white space. Every signature is verified with the
// public key before it is returned.
//
// A key has a purpose ([keys.Options].Purpose) if the program states it: as the comment of
// an OpenSSH key, or as a line "label: TEXT" before a PEM block. The program is trusted
// with that.
//
// # Environment
//
// The program gets the environment of [Config].Env and nothing else; its working directory
// is that of this process. Its file descriptors are standard input, output and error only.
//
// # Limits and errors
//
// A program may take any time. When the context ends, it is killed, with all processes of
// its process group on Unix, and without them on other systems. The output is limited to 64 KiB.
//
// Errors contain the first and the last line of what the program wrote to standard error,
// quoted and cut to 200 characters each, so a program must not print secrets there. They
// wrap [fs.ErrInvalid] for a malformed URI, [fs.ErrNotExist] if there is no such program,
// [keys.ErrFile] if it prints no public key, and [keys.ErrPurpose].
package exec
