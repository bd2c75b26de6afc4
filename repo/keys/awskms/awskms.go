package awskms

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/internal/store"
	"github.com/visum-dev/visum/tuf"
)

// Errors of the service, to be tested with errors.Is.
var (
	// ErrDisabled: the key is disabled, pending deletion, or otherwise in a state in
	// which it does not sign.
	ErrDisabled = errors.New("the key is disabled")
	// ErrUnavailable: the service is overloaded, or failed internally. The same request may
	// succeed later.
	ErrUnavailable = errors.New("the service can't answer now")
)

var keyForm = regexp.MustCompile(`^[A-Za-z0-9:/_-]+$`) // as the service has it; it limits the length too

// Opener returns the opener of the scheme "awskms"; see the package comment. It is safe
// for concurrent use. cfg must not be changed afterwards; it needs credentials.
func Opener(cfg aws.Config) keys.Opener {
	return func(ctx context.Context, uri string, opts *keys.Options) (_ tuf.Signer, err error) {
		defer text.OneLine(&err)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := parse(uri, cfg)
		if err != nil {
			return nil, err
		}
		if err := s.open(ctx, opts.Purpose); err != nil {
			return nil, err
		}
		return s, nil
	}
}

type signer struct {
	client    *kms.Client
	creds     aws.CredentialsProvider
	name      string // as in the URI
	arn       string
	key       tuf.Key
	algorithm types.SigningAlgorithmSpec
}

func parse(uri string, cfg aws.Config) (*signer, error) {
	rest, params, err := store.Split(uri, []string{"region", "endpoint"}, nil)
	if err != nil {
		return nil, err
	}
	after, ok := strings.CutPrefix(rest, "///")
	name, err := url.PathUnescape(after)
	if err != nil || !ok || !keyForm.MatchString(name) {
		return nil, fmt.Errorf("%w: a key is named as in awskms:///KEY", fs.ErrInvalid)
	}
	region := params.Get("region")
	if part := strings.Split(name, ":"); part[0] == "arn" {
		if len(part) != 6 || region != "" && region != part[3] {
			return nil, fmt.Errorf("%w: not an ARN, or one of another region than the parameter", fs.ErrInvalid)
		}
		region = part[3]
	}
	if region == "" {
		region = cfg.Region
	}
	if region == "" {
		return nil, fmt.Errorf("%w: no region", fs.ErrInvalid)
	}
	var endpoint *string
	if e := params.Get("endpoint"); e != "" {
		u, err := store.Server(e, false)
		if err != nil {
			return nil, err
		}
		endpoint = aws.String(u.String())
	}
	client := kms.NewFromConfig(cfg, func(o *kms.Options) {
		o.Region = region
		if endpoint != nil {
			o.BaseEndpoint = endpoint
		}
	})
	return &signer{client: client, creds: cfg.Credentials, name: name}, nil
}

// open reads the public key, and its purpose if one is required.
func (s *signer) open(ctx context.Context, purpose string) error {
	out, err := s.client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &s.name})
	if err != nil {
		return s.failure(ctx, err)
	}
	// An alias may lead to another key later.
	if s.arn = aws.ToString(out.KeyId); s.arn == "" {
		return errors.New("the service answers without the id of the key")
	}
	switch out.KeySpec {
	case types.KeySpecEccNistP256:
		s.algorithm = types.SigningAlgorithmSpecEcdsaSha256
	case types.KeySpecEccNistP384:
		s.algorithm = types.SigningAlgorithmSpecEcdsaSha384
	case types.KeySpecRsa2048, types.KeySpecRsa3072, types.KeySpecRsa4096:
		s.algorithm = types.SigningAlgorithmSpecRsassaPssSha256
	case types.KeySpecEccNistEdwards25519:
		return fmt.Errorf("%w: the service signs at most 4096 bytes with ed25519; use ECC_NIST_P256", keys.ErrKind)
	default:
		return fmt.Errorf("%w: its specification is %s; use ECC_NIST_P256", keys.ErrKind, text.Quote(string(out.KeySpec)))
	}
	if out.KeyUsage != types.KeyUsageTypeSignVerify || !slices.Contains(out.SigningAlgorithms, s.algorithm) {
		return fmt.Errorf("%w: its usage is %s, without %s", keys.ErrKind, text.Quote(string(out.KeyUsage)), s.algorithm)
	}
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err == nil {
		s.key, err = tuf.NewKey(public)
	}
	if err != nil {
		return fmt.Errorf("%w: public key: %w", keys.ErrKind, err)
	}
	// The scheme follows the public key. One that does not fit the specification would never verify.
	want := map[types.SigningAlgorithmSpec]string{
		types.SigningAlgorithmSpecEcdsaSha256: "ecdsa-sha2-nistp256", types.SigningAlgorithmSpecEcdsaSha384: "ecdsa-sha2-nistp384",
		types.SigningAlgorithmSpecRsassaPssSha256: "rsassa-pss-sha256",
	}[s.algorithm]
	if s.key.Scheme != want {
		return fmt.Errorf("%w: the public key is not of the specification %s", keys.ErrKind, out.KeySpec)
	}
	if purpose == "" {
		return nil
	}
	about, err := s.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &s.arn})
	if err != nil {
		return s.failure(ctx, err)
	}
	if about.KeyMetadata == nil || aws.ToString(about.KeyMetadata.Arn) != s.arn {
		return errors.New("the service describes another key")
	}
	if got := aws.ToString(about.KeyMetadata.Description); got != purpose {
		return fmt.Errorf("%w: the description of the key is %s, want %s", keys.ErrPurpose, text.Quote(got), text.Quote(purpose))
	}
	return nil
}

func (s *signer) Key() tuf.Key { return s.key }

func (s *signer) Sign(ctx context.Context, payload []byte) (sig []byte, err error) {
	defer text.OneLine(&err)
	if sig, err = s.sign(ctx, payload); err != nil {
		return nil, fmt.Errorf("keys: awskms %s: %w", text.Name(s.name), err)
	}
	return sig, nil
}

func (s *signer) sign(ctx context.Context, payload []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	_, digest := store.Digest(s.key, payload)
	out, err := s.client.Sign(ctx, &kms.SignInput{
		KeyId: &s.arn, Message: digest, MessageType: types.MessageTypeDigest, SigningAlgorithm: s.algorithm,
	})
	if err != nil {
		return nil, s.failure(ctx, err)
	}
	return store.Verified(s.key, payload, out.Signature)
}

// failure is an error of the SDK with a shorter text.
type failure struct {
	text string
	errs []error
}

func (f *failure) Error() string   { return f.text }
func (f *failure) Unwrap() []error { return f.errs }

// failure classifies an error of the SDK. Its text is shortened to what the service said,
// without the session token, which the service repeats if a signature does not match.
func (s *signer) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // not "request canceled", after a number of attempts
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return &failure{s.redact(ctx, err.Error()), []error{err}}
	}
	f := &failure{errs: []error{err}}
	switch code := api.ErrorCode(); code {
	case "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "IncompleteSignatureException", "ExpiredTokenException":
		f.errs = append(f.errs, fs.ErrPermission)
	case "NotFoundException":
		f.errs = append(f.errs, fs.ErrNotExist)
	case "DisabledException", "KMSInvalidStateException":
		f.errs = append(f.errs, ErrDisabled)
	case "ThrottlingException", "DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException", "LimitExceededException", "ServiceUnavailableException", "InternalFailure":
		f.errs = append(f.errs, ErrUnavailable)
	}
	f.text = fmt.Sprintf("%s: %s", text.Name(api.ErrorCode()), text.Quote(s.redact(ctx, api.ErrorMessage())))
	if len(f.errs) > 1 {
		f.text = f.errs[1].Error() + ": " + f.text
	}
	return f
}

// redact removes the credentials from a text. The provider of an aws.Config caches them.
func (s *signer) redact(ctx context.Context, said string) string {
	if s.creds == nil {
		return said
	}
	c, err := s.creds.Retrieve(ctx)
	if err != nil {
		return said
	}
	for _, secret := range []string{c.SessionToken, c.SecretAccessKey} {
		if secret != "" {
			said = strings.ReplaceAll(said, secret, "[secret]")
		}
	}
	return said
}
