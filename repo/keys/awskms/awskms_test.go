package awskms_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/visum-dev/visum/internal/kmshost"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/awskms"
	"github.com/visum-dev/visum/repo/keys/keystest"
	"github.com/visum-dev/visum/tuf"
)

const (
	region  = kmshost.Region
	account = kmshost.Account
)

func credentials() aws.Credentials {
	return aws.Credentials{AccessKeyID: "AKIDOFTHETEST", SecretAccessKey: "wJalrXUtnFEMI/secret-of-the-test", SessionToken: "session-token-of-the-test"}
}

// service is a stand-in for the key service behind a web server.
type service struct {
	*kmshost.Host
	*httptest.Server
	t *testing.T
}

func newService(t *testing.T) *service {
	s := &service{t: t, Host: kmshost.New(credentials())}
	s.Server = httptest.NewServer(s.Host)
	t.Cleanup(s.Close)
	return s
}

func (s *service) add(id, spec string, private crypto.Signer) *kmshost.Key {
	s.t.Helper()
	k, err := s.Add(id, spec, private)
	rawtuf.NoErr(s.t, err)
	return k
}

// config has no retries, which would wait.
func config(c aws.Credentials) aws.Config {
	return aws.Config{
		Region:      region,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil }),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	}
}

func (s *service) open(ctx context.Context, key, purpose string, cfg aws.Config) (tuf.Signer, error) {
	sep := "?"
	if strings.Contains(key, "?") {
		sep = "&"
	}
	uri := "awskms:///" + key + sep + "endpoint=" + url.QueryEscape(s.URL)
	return keys.Open(ctx, uri, &keys.Options{Purpose: purpose, Openers: map[string]keys.Opener{"awskms": awskms.Opener(cfg)}})
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func newPrivate(t *testing.T, spec string) (private crypto.Signer) {
	t.Helper()
	var err error
	switch spec {
	case "ECC_NIST_P256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECC_NIST_P384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECC_NIST_P521":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ECC_NIST_EDWARDS25519":
		_, private, err = ed25519.GenerateKey(nil)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	rawtuf.NoErr(t, err)
	return private
}

func TestService(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"ECC_NIST_P256", "ECC_NIST_P384", "RSA_2048"} {
		t.Run(spec, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.add("1234abcd", spec, newPrivate(t, spec))
			wrong := credentials()
			wrong.SecretAccessKey = "another-secret"
			failures := map[string]func(*testing.T) error{
				"wrong secret": func(t *testing.T) error {
					_, err := s.open(t.Context(), "1234abcd", "", config(wrong))
					wantErr(t, err, fs.ErrPermission)
					if !strings.Contains(err.Error(), "[secret]") {
						t.Errorf("the stand-in did not repeat the token: %v", err)
					}
					return err
				},
			}
			for fault, want := range map[string]error{
				"ThrottlingException": awskms.ErrUnavailable, "KeyUnavailableException": awskms.ErrUnavailable, "DisabledException": awskms.ErrDisabled,
				"KMSInvalidStateException": awskms.ErrDisabled, "NotFoundException": fs.ErrNotExist, "AccessDeniedException": fs.ErrPermission,
				"not JSON": nil, "empty": nil, "gateway": nil, "wrong signature": nil,
			} {
				failures[fault] = func(t *testing.T) error {
					signer, err := s.open(t.Context(), "1234abcd", "", config(credentials()))
					rawtuf.NoErr(t, err)
					s.SetFault(fault)
					defer s.SetFault("")
					sig, err := signer.Sign(t.Context(), []byte("payload"))
					if sig != nil {
						t.Errorf("%s: a signature", fault)
					}
					if want != nil {
						wantErr(t, err, want)
					}
					if !strings.HasPrefix(err.Error(), "keys: awskms 1234abcd: ") || strings.HasSuffix(fault, "Exception") && !strings.Contains(err.Error(), fault+`: "`) {
						t.Error(err)
					}
					if disabled, ok := errors.AsType[*types.DisabledException](err); ok != (fault == "DisabledException") {
						t.Errorf("%s: the error of the SDK is %v", fault, disabled)
					}
					return err
				}
			}
			keystest.Run(t, keystest.Store{
				Open: func(ctx context.Context) (tuf.Signer, error) {
					return s.open(ctx, "1234abcd", "", config(credentials()))
				},
				Secrets: []string{credentials().SecretAccessKey, credentials().SessionToken, wrong.SecretAccessKey},
				Block: func(*testing.T) (<-chan struct{}, func()) {
					s.SetFault("hang")
					return s.Reached, func() { s.SetFault("") }
				},
				Failures: failures,
			})
		})
	}
}

// A signer continues with the key that its alias named, by the ARN of the key.
func TestAlias(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.add("old", "ECC_NIST_P256", newPrivate(t, "ECC_NIST_P256"))
	s.add("new", "ECC_NIST_P256", newPrivate(t, "ECC_NIST_P256"))
	s.Alias("vendor-root", "old")
	signer, err := s.open(t.Context(), "alias/vendor-root", "", config(credentials()))
	rawtuf.NoErr(t, err)
	s.Alias("vendor-root", "new")
	sig, err := signer.Sign(t.Context(), []byte("x"))
	if err != nil || !signer.Key().Verifies([]byte("x"), sig) {
		t.Error(err)
	}
	if want := []string{"GetPublicKey alias/vendor-root", "Sign " + account + "key/old"}; !slices.Equal(s.Calls(), want) {
		t.Errorf("calls %q, want %q", s.Calls(), want)
	}
	for _, name := range []string{"old", account + "key/old", url.PathEscape(account + "key/old"), "old?region=" + region, account + "key/old?region=" + region} {
		again, err := s.open(t.Context(), name, "", config(credentials()))
		if err != nil || again.Key() != signer.Key() {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := config(credentials())
	cfg.Region = ""
	if _, err = s.open(t.Context(), account+"key/old", "", cfg); err != nil {
		t.Errorf("the region of the ARN is not used: %v", err)
	}
	_, err = s.open(t.Context(), "old", "", cfg)
	wantErr(t, err, fs.ErrInvalid)
	_, err = s.open(t.Context(), "old?region=us-east-1", "", cfg) // the stand-in is in another region
	wantErr(t, err, fs.ErrPermission)
	_, err = s.open(t.Context(), "none", "", config(credentials()))
	wantErr(t, err, fs.ErrNotExist)
}

func TestKeysThatCannotSign(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.add("p521", "ECC_NIST_P521", newPrivate(t, "ECC_NIST_P521"))
	s.add("ed25519", "ECC_NIST_EDWARDS25519", newPrivate(t, "ECC_NIST_EDWARDS25519"))
	s.add("decrypts", "RSA_2048", newPrivate(t, "RSA_2048")).Usage = "ENCRYPT_DECRYPT"
	noPSS := s.add("no-pss", "RSA_2048", newPrivate(t, "RSA_2048"))
	noPSS.Algorithms = []string{"RSASSA_PKCS1_V1_5_SHA_256"}
	s.add("mixed", "ECC_NIST_P256", newPrivate(t, "ECC_NIST_P384"))
	s.add("broken", "ECC_NIST_P256", newPrivate(t, "ECC_NIST_P256")).Public = []byte("x")
	for _, name := range []string{"p521", "ed25519", "decrypts", "no-pss", "mixed", "broken"} {
		_, err := s.open(t.Context(), name, "", config(credentials()))
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		wantErr(t, err, keys.ErrKind)
		if name == "ed25519" && !strings.Contains(err.Error(), "4096") {
			t.Error(err)
		}
	}
}

func TestPurpose(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.add("k", "ECC_NIST_P256", newPrivate(t, "ECC_NIST_P256")).Description = "vendor root"
	_, err := s.open(t.Context(), "k", "vendor root", config(credentials()))
	rawtuf.NoErr(t, err)
	_, err = s.open(t.Context(), "k", "timestamp", config(credentials()))
	wantErr(t, err, keys.ErrPurpose)
}

func TestURI(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"awskms:k", "awskms://host/k", "awskms:///", "awskms:///k%20", "awskms:///k?region=", "awskms:///k?secret=x", "awskms:///k#x", "awskms:///arn:aws:kms:x", "awskms:///" + account + "key/k?region=us-east-1",
		"awskms:///k?endpoint=http://kms.example", "awskms:///k?endpoint=kms.example", "awskms:///k?endpoint=https://ann:hunter2@kms.example"} {
		_, err := keys.Open(t.Context(), bad, &keys.Options{Openers: map[string]keys.Opener{"awskms": awskms.Opener(config(credentials()))}})
		if err == nil {
			t.Errorf("%s: no error", bad)
		}
		wantErr(t, err, fs.ErrInvalid)
	}
}

// The limit of the HTTP client ends a request too.
func TestTimeout(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.SetFault("hang")
	cfg := config(credentials())
	cfg.HTTPClient = &http.Client{Timeout: 20 * time.Millisecond}
	_, err := s.open(t.Context(), "k", "", cfg)
	wantErr(t, err, context.DeadlineExceeded)
}
