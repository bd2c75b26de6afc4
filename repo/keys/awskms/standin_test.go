package awskms_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	region  = "eu-central-1"
	account = "arn:aws:kms:" + region + ":111122223333:"
)

func credentials() aws.Credentials {
	return aws.Credentials{AccessKeyID: "AKIDOFTHETEST", SecretAccessKey: "wJalrXUtnFEMI/secret-of-the-test", SessionToken: "session-token-of-the-test"}
}

// service stands in for the key service: it checks the signature of every request with
// the SDK's own signer, and its members as the documentation has them.
type service struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	keys    map[string]*serviceKey // by id
	aliases map[string]string
	fault   string // how the next answers are wrong
	calls   []string
	reached chan struct{} // receives once for each request that hangs
}

type serviceKey struct {
	spec, usage, description string
	algorithms               []string
	private                  crypto.Signer
	public                   []byte
}

func newService(t *testing.T) *service {
	s := &service{t: t, keys: map[string]*serviceKey{}, aliases: map[string]string{}, reached: make(chan struct{}, 1)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) add(id, spec string, private crypto.Signer) *serviceKey {
	s.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		s.t.Fatal(err)
	}
	algorithms := map[string][]string{
		"ECC_NIST_P256": {"ECDSA_SHA_256"}, "ECC_NIST_P384": {"ECDSA_SHA_384"}, "ECC_NIST_P521": {"ECDSA_SHA_512"},
		"RSA_2048":              {"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384"},
		"ECC_NIST_EDWARDS25519": {"ED25519_SHA_512", "ED25519_PH_SHA_512"},
	}[spec]
	k := &serviceKey{spec: spec, usage: "SIGN_VERIFY", algorithms: algorithms, private: private, public: der}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[id] = k
	return k
}

func (s *service) setFault(fault string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", "11111111-2222-3333-4444-555555555555")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}

// authentic reports what is wrong with the signature of a request: it signs the same
// request again, with those headers that the request names as signed.
func authentic(r *http.Request, body []byte) error {
	authorization := r.Header.Get("Authorization")
	_, list, ok := strings.Cut(authorization, "SignedHeaders=")
	list, _, ok2 := strings.Cut(list, ",")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if !ok || !ok2 || err != nil {
		return errors.New("no signature of version 4")
	}
	if age := time.Since(at); age > time.Hour || age < -time.Hour {
		return errors.New("signature expired")
	}
	again, err := http.NewRequest(r.Method, "http://"+r.Host+r.URL.RequestURI(), strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	signed := map[string]bool{}
	for _, name := range strings.Split(list, ";") {
		signed[name] = true
		if v := r.Header.Values(name); name != "host" && name != "content-length" && len(v) > 0 {
			again.Header[http.CanonicalHeaderKey(name)] = v
		}
	}
	for _, name := range []string{"host", "x-amz-date", "x-amz-security-token", "x-amz-target", "content-type"} {
		if !signed[name] {
			return fmt.Errorf("%s is not signed", name)
		}
	}
	if r.Header.Get("X-Amz-Security-Token") != credentials().SessionToken {
		return errors.New("another session token")
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(context.Background(), credentials(), again, fmt.Sprintf("%x", sum), "kms", region, at); err != nil {
		return err
	}
	if want := again.Header.Get("Authorization"); want != authorization {
		return fmt.Errorf("signature does not match; the canonical request has x-amz-security-token:%s", r.Header.Get("X-Amz-Security-Token"))
	}
	return nil
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	switch fault {
	case "hang":
		s.reached <- struct{}{}
		<-r.Context().Done()
		return
	case "ThrottlingException", "DisabledException", "NotFoundException", "KMSInvalidStateException", "KeyUnavailableException":
		status := http.StatusBadRequest
		if fault == "KeyUnavailableException" {
			status = http.StatusInternalServerError
		}
		refuse(w, status, fault, "You have exceeded the rate, or\nthe key is not \x1b[1mright.")
		return
	case "AccessDeniedException":
		refuse(w, 400, fault, "User: arn:aws:iam::111122223333:user/ann is not authorized to perform: kms:Sign")
		return
	case "not JSON":
		fmt.Fprintf(w, "<html>%s", r.Header.Get("X-Amz-Security-Token"))
		return
	case "empty":
		fmt.Fprint(w, "{}")
		return
	case "gateway":
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprintf(w, "<html>%s", r.Header.Get("X-Amz-Security-Token"))
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		refuse(w, 400, "SerializationException", "not a request of the protocol")
		return
	}
	if err := authentic(r, body); err != nil {
		refuse(w, 400, "InvalidSignatureException", err.Error())
		return
	}
	var in struct {
		KeyID       string `json:"KeyId"`
		Message     []byte
		MessageType string
		Algorithm   string `json:"SigningAlgorithm"`
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		refuse(w, 400, "SerializationException", err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	s.calls = append(s.calls, operation+" "+in.KeyID)
	id := strings.TrimPrefix(in.KeyID, account)
	if to := s.aliases[id]; to != "" {
		id = "key/" + to
	}
	id = strings.TrimPrefix(id, "key/")
	key := s.keys[id]
	if key == nil {
		refuse(w, 400, "NotFoundException", "Key '"+account+"key/"+id+"' does not exist")
		return
	}
	arn := account + "key/" + id
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	switch operation {
	case "GetPublicKey":
		json.NewEncoder(w).Encode(map[string]any{"KeyId": arn, "KeySpec": key.spec, "KeyUsage": key.usage, "SigningAlgorithms": key.algorithms, "PublicKey": key.public})
	case "DescribeKey":
		json.NewEncoder(w).Encode(map[string]any{"KeyMetadata": map[string]any{"Arn": arn, "KeyId": id, "Description": key.description, "Enabled": true}})
	case "Sign":
		hash := map[string]crypto.Hash{"ECDSA_SHA_256": crypto.SHA256, "ECDSA_SHA_384": crypto.SHA384, "RSASSA_PSS_SHA_256": crypto.SHA256}[in.Algorithm]
		if hash == 0 || in.MessageType != "DIGEST" || len(in.Message) != hash.Size() || !slices.Contains(key.algorithms, in.Algorithm) {
			refuse(w, 400, "ValidationException", fmt.Sprintf("Digest is invalid length for algorithm %s: %d bytes, type %s", in.Algorithm, len(in.Message), in.MessageType))
			return
		}
		var opts crypto.SignerOpts = hash
		if strings.HasPrefix(in.Algorithm, "RSASSA_PSS") {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		}
		if fault == "wrong signature" {
			in.Message[0]++
		}
		sig, err := key.private.Sign(rand.Reader, in.Message, opts)
		if err != nil {
			s.t.Error(err)
		}
		json.NewEncoder(w).Encode(map[string]any{"KeyId": arn, "Signature": sig, "SigningAlgorithm": in.Algorithm})
	default:
		refuse(w, 400, "UnknownOperationException", operation)
	}
}
