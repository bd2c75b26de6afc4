// Package kmshost stands in for AWS KMS in tests: it checks the signature of every request
// with the SDK's own signer, and the members of requests as the documentation has them.
package kmshost

import (
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
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Region is the region of all keys, and Account begins their ARNs.
const (
	Region  = "eu-central-1"
	Account = "arn:aws:kms:" + Region + ":111122223333:"
)

// Host is a key service.
type Host struct {
	credentials aws.Credentials

	mu      sync.Mutex
	keys    map[string]*Key   // by id
	aliases map[string]string // "alias/NAME" to an id
	fault   string            // how the next answers are wrong
	calls   []string

	// Reached receives once for each request that hangs.
	Reached chan struct{}
}

// Key is a key of the service.
type Key struct {
	Usage, Description string
	Algorithms         []string
	Public             []byte // DER

	spec    string
	private crypto.Signer
}

// New returns a service without keys. Requests must be signed with the credentials.
func New(c aws.Credentials) *Host {
	return &Host{credentials: c, keys: map[string]*Key{}, aliases: map[string]string{}, Reached: make(chan struct{}, 1)}
}

// Add adds a key, whose members can be changed before the next request.
func (h *Host) Add(id, spec string, private crypto.Signer) (*Key, error) {
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	algorithms := map[string][]string{
		"ECC_NIST_P256": {"ECDSA_SHA_256"}, "ECC_NIST_P384": {"ECDSA_SHA_384"}, "ECC_NIST_P521": {"ECDSA_SHA_512"},
		"RSA_2048":              {"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384"},
		"ECC_NIST_EDWARDS25519": {"ED25519_SHA_512", "ED25519_PH_SHA_512"},
	}[spec]
	k := &Key{spec: spec, Usage: "SIGN_VERIFY", Algorithms: algorithms, private: private, Public: der}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[id] = k
	return k, nil
}

// Alias makes "alias/NAME" name a key.
func (h *Host) Alias(name, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.aliases["alias/"+name] = id
}

// SetFault makes the next answers wrong: a name of an exception of the service, "hang",
// "not JSON", "empty", "gateway" or "wrong signature"; "" for right ones.
func (h *Host) SetFault(fault string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = fault
}

// Calls returns the operations and keys of all requests.
func (h *Host) Calls() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", "11111111-2222-3333-4444-555555555555")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}

// authentic reports what is wrong with the signature of a request: it signs the same
// request again, with those headers that the request names as signed.
func (h *Host) authentic(r *http.Request, body []byte) error {
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
		if !signed[name] && (name != "x-amz-security-token" || h.credentials.SessionToken != "") {
			return fmt.Errorf("%s is not signed", name)
		}
	}
	if r.Header.Get("X-Amz-Security-Token") != h.credentials.SessionToken {
		return errors.New("another session token")
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(r.Context(), h.credentials, again, fmt.Sprintf("%x", sum), "kms", Region, at); err != nil {
		return err
	}
	if want := again.Header.Get("Authorization"); want != authorization {
		return fmt.Errorf("signature does not match; the canonical request has x-amz-security-token:%s", r.Header.Get("X-Amz-Security-Token"))
	}
	return nil
}

func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	h.mu.Lock()
	fault := h.fault
	h.mu.Unlock()
	switch fault {
	case "hang":
		h.Reached <- struct{}{}
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
	if err := h.authentic(r, body); err != nil {
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
	h.mu.Lock()
	defer h.mu.Unlock()
	operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	h.calls = append(h.calls, operation+" "+in.KeyID)
	id := strings.TrimPrefix(in.KeyID, Account)
	if to := h.aliases[id]; to != "" {
		id = "key/" + to
	}
	id = strings.TrimPrefix(id, "key/")
	key := h.keys[id]
	if key == nil {
		refuse(w, 400, "NotFoundException", "Key '"+Account+"key/"+id+"' does not exist")
		return
	}
	arn := Account + "key/" + id
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	switch operation {
	case "GetPublicKey":
		json.NewEncoder(w).Encode(map[string]any{"KeyId": arn, "KeySpec": key.spec, "KeyUsage": key.Usage, "SigningAlgorithms": key.Algorithms, "PublicKey": key.Public})
	case "DescribeKey":
		json.NewEncoder(w).Encode(map[string]any{"KeyMetadata": map[string]any{"Arn": arn, "KeyId": id, "Description": key.Description, "Enabled": true}})
	case "Sign":
		hash := map[string]crypto.Hash{"ECDSA_SHA_256": crypto.SHA256, "ECDSA_SHA_384": crypto.SHA384, "RSASSA_PSS_SHA_256": crypto.SHA256}[in.Algorithm]
		if hash == 0 || in.MessageType != "DIGEST" || len(in.Message) != hash.Size() || !slices.Contains(key.Algorithms, in.Algorithm) {
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
			refuse(w, 500, "KMSInternalException", err.Error())
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"KeyId": arn, "Signature": sig, "SigningAlgorithm": in.Algorithm})
	default:
		refuse(w, 400, "UnknownOperationException", operation)
	}
}
