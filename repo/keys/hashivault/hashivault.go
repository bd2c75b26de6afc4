package hashivault

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/internal/store"
	"github.com/visum-dev/visum/tuf"
)

// maxAnswer limits an answer. A key of a thousand versions has some 300 kB.
const maxAnswer = 1 << 20

var (
	keyForm   = regexp.MustCompile(`^\w([\w.-]*\w)?$`) // as the server has it
	mountForm = regexp.MustCompile(`^\w[\w.-]*(/\w[\w.-]*)*$`)
)

// Opener returns the opener of the scheme "hashivault"; see the package comment. It is
// safe for concurrent use.
func Opener(cfg Config) keys.Opener {
	return func(ctx context.Context, uri string, opts *keys.Options) (_ tuf.Signer, err error) {
		defer text.OneLine(&err)
		s, err := parse(uri, cfg)
		if err != nil {
			return nil, err
		}
		if p := opts.Purpose; p != "" && p != s.name {
			return nil, fmt.Errorf("%w: the name of the key is %s, want %s", keys.ErrPurpose, s.name, text.Quote(p))
		}
		if err := s.open(ctx); err != nil {
			return nil, err
		}
		return s, nil
	}
}

// signer is one version of a key.
type signer struct {
	cfg     Config
	client  *http.Client
	server  *url.URL
	mount   string
	name    string
	version int
	key     tuf.Key
}

func parse(uri string, cfg Config) (*signer, error) {
	rest, params, err := store.Split(uri, []string{"mount", "version"}, nil)
	if err != nil {
		return nil, err
	}
	s := &signer{cfg: cfg, mount: "transit", client: &http.Client{Timeout: requestTime}}
	if cfg.Client != nil {
		*s.client = *cfg.Client
	}
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	after, ok := strings.CutPrefix(rest, "//")
	if s.name, err = url.PathUnescape(after); err != nil || !ok || !keyForm.MatchString(s.name) {
		return nil, fmt.Errorf("%w: a key is named as in hashivault://KEY", fs.ErrInvalid)
	}
	if params.Has("mount") {
		if s.mount = params.Get("mount"); !mountForm.MatchString(s.mount) {
			return nil, fmt.Errorf("%w: mount is not the path of an engine", fs.ErrInvalid)
		}
	}
	if params.Has("version") {
		if s.version, err = strconv.Atoi(params.Get("version")); err != nil || s.version < 1 {
			return nil, fmt.Errorf("%w: version is not a number from 1 on", fs.ErrInvalid)
		}
	}
	s.server, err = store.Server(cfg.Address, cfg.UnsafeHTTP)
	return s, err
}

// open reads the public key of the pinned version.
func (s *signer) open(ctx context.Context) error {
	var answer struct {
		Data struct {
			Type    string                     `json:"type"`
			Latest  int                        `json:"latest_version"`
			Derived bool                       `json:"derived"`
			Keys    map[string]json.RawMessage `json:"keys"`
		} `json:"data"`
	}
	if err := s.call(ctx, http.MethodGet, "keys", nil, &answer); err != nil {
		return err
	}
	d := &answer.Data
	switch d.Type {
	case "ed25519", "ecdsa-p256", "ecdsa-p384":
	default:
		return fmt.Errorf("%w: its type is %s, not ed25519, ecdsa-p256 or ecdsa-p384", keys.ErrKind, text.Quote(d.Type))
	}
	if d.Derived {
		return fmt.Errorf("%w: a derived key has another public key for each context", keys.ErrKind)
	}
	if s.version == 0 {
		s.version = d.Latest
	}
	raw, ok := d.Keys[strconv.Itoa(s.version)]
	if !ok {
		return fmt.Errorf("%w: the key has no version %d; the newest is %d", fs.ErrNotExist, s.version, d.Latest)
	}
	var version struct {
		Public string `json:"public_key"`
	}
	err := json.Unmarshal(raw, &version)
	if err == nil {
		s.key, err = publicKey(d.Type, version.Public)
	}
	if err != nil {
		return fmt.Errorf("%w: public key of version %d: %w", keys.ErrKind, s.version, err)
	}
	return nil
}

// publicKey reads a public key, which the service writes in base64 for ed25519 and as
// PEM for other types.
func publicKey(kind, public string) (tuf.Key, error) {
	if kind == "ed25519" {
		raw, err := base64.StdEncoding.DecodeString(public)
		if err != nil {
			return tuf.Key{}, err
		}
		return tuf.NewKey(ed25519.PublicKey(raw))
	}
	block, _ := pem.Decode([]byte(public))
	if block == nil {
		return tuf.Key{}, errors.New("not PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return tuf.Key{}, err
	}
	return tuf.NewKey(key)
}

func (s *signer) Key() tuf.Key { return s.key }

// request is what the server gets to sign. The last three members are for ECDSA.
type request struct {
	Input      string `json:"input"`
	Version    int    `json:"key_version"`
	Hash       string `json:"hash_algorithm,omitempty"`
	Prehashed  bool   `json:"prehashed,omitempty"`
	Marshaling string `json:"marshaling_algorithm,omitempty"`
}

func (s *signer) Sign(ctx context.Context, payload []byte) (sig []byte, err error) {
	defer text.OneLine(&err)
	if sig, err = s.sign(ctx, payload); err != nil {
		return nil, fmt.Errorf("keys: hashivault %s: %w", s.name, err)
	}
	return sig, nil
}

func (s *signer) sign(ctx context.Context, payload []byte) ([]byte, error) {
	hash, input := store.Digest(s.key, payload)
	r := request{Input: base64.StdEncoding.EncodeToString(input), Version: s.version}
	if hash != 0 {
		r.Hash, r.Prehashed, r.Marshaling = fmt.Sprintf("sha2-%d", 8*hash.Size()), true, "asn1"
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Signature string `json:"signature"`
		} `json:"data"`
	}
	if err := s.call(ctx, http.MethodPost, "sign", body, &answer); err != nil {
		return nil, err
	}
	encoded, ok := strings.CutPrefix(answer.Data.Signature, fmt.Sprintf("vault:v%d:", s.version))
	if !ok {
		return nil, fmt.Errorf("%w: no signature of version %d", store.ErrSignature, s.version)
	}
	sig, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrSignature, err)
	}
	return store.Verified(s.key, payload, sig)
}

// call makes one request for the key and decodes the answer.
func (s *signer) call(ctx context.Context, method, operation string, body []byte, answer any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	token, err := s.cfg.token(ctx)
	if err != nil {
		return err
	}
	address := s.server.JoinPath("v1", s.mount, operation, s.name)
	req, err := http.NewRequestWithContext(ctx, method, address.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", token)
	req.Header.Set("X-Vault-Request", "true") // required by a local agent, against requests that a browser is made to send
	if s.cfg.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", s.cfg.Namespace)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	data, status, err := s.do(req)
	switch {
	case err != nil:
		return fmt.Errorf("server %s: %w", text.Name(s.server.Host), err)
	case status != http.StatusOK:
		return fmt.Errorf("server %s: %w", text.Name(s.server.Host), refusal(status, data, token))
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("server %s: the answer is not JSON of the transit engine", text.Name(s.server.Host))
	}
	return nil
}

func (s *signer) do(req *http.Request) (data []byte, status int, err error) {
	resp, err := s.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL
		}
		return nil, 0, err
	}
	defer resp.Body.Close()
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(data) > maxAnswer {
		err = fmt.Errorf("the answer is larger than %d KiB", maxAnswer>>10)
	}
	return data, resp.StatusCode, err
}

// refusal is the error of an answer other than 200. The text may come from a proxy that
// repeats the request, so the token is removed.
func refusal(status int, data []byte, token string) error {
	said := strings.TrimSpace(string(data))
	var answer struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(data, &answer) == nil {
		said = strings.Join(answer.Errors, "; ")
	}
	err := fmt.Errorf("status %d", status)
	switch {
	case status >= 300 && status < 400:
		return fmt.Errorf("%w: a redirection is not followed; use the address of the active node", err)
	case status == http.StatusForbidden:
		err = fmt.Errorf("%w: %w", err, fs.ErrPermission)
	case status == http.StatusNotFound || status == http.StatusBadRequest && strings.Contains(said, "key not found"):
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	case status == http.StatusPreconditionFailed || status == http.StatusTooManyRequests || status >= 500:
		err = fmt.Errorf("%w: %w", err, ErrUnavailable)
	}
	if said = strings.ReplaceAll(said, token, "[token]"); said != "" {
		err = fmt.Errorf("%w: %s", err, text.Quote(said))
	}
	return err
}
