// Package awskms opens asymmetric keys in AWS Key Management Service.
//
//	cfg, err := config.LoadDefaultConfig(ctx) // of github.com/aws/aws-sdk-go-v2/config
//	opts := &keys.Options{Openers: map[string]keys.Opener{"awskms": awskms.Opener(cfg)}}
//	signer, err := keys.Open(ctx, "awskms:///alias/vendor-root?region=eu-central-1", opts)
//
// # URI
//
// awskms:///KEY?region=R&endpoint=URL, percent-encoded. KEY is the id of a key, its ARN, or an
// alias with its prefix (alias/NAME). An alias is resolved when the key is opened; the
// signer continues with that key. region is by default that of the ARN, or else that of
// the aws.Config. endpoint is for a private endpoint or a local server, https or http on
// this machine.
//
// # Keys
//
// SIGN_VERIFY keys of ECC_NIST_P256, ECC_NIST_P384, RSA_2048, RSA_3072 and RSA_4096. Only the
// digest of the payload is sent; RSA signs with PSS. ECC_NIST_EDWARDS25519 is refused: the
// service signs at most 4096 bytes with it, and metadata can be longer. Every signature is
// verified with the public key before it is returned.
//
// The purpose of a key ([keys.Options].Purpose) is its description. It is read only if a
// purpose is required.
//
// The account needs kms:GetPublicKey and kms:Sign for the key, and kms:DescribeKey if a
// purpose is required.
//
// # Environment, limits and errors
//
// The package reads no environment variable and no file. Credentials, HTTP client and
// retries are those of the aws.Config; the SDK's default is three attempts. The context is
// the only limit in time.
//
// Errors wrap [fs.ErrInvalid] for a malformed URI, [fs.ErrPermission] if the service denies
// access, [fs.ErrNotExist] if there is no such key, [ErrDisabled], [ErrUnavailable],
// [keys.ErrKind] for a key that can't sign metadata, and [keys.ErrPurpose]; and the errors of
// the SDK. They contain the code and the message of the service, quoted and cut to 200
// characters, without the credentials.
package awskms
