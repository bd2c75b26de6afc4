package hashivault_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

const (
	goodToken = "hvs.CAESIJtoken-of-the-test"
	namespace = "team/a"
)

// transit stands in for the transit engine: it checks every request as the documentation
// of the service has it, and answers in its forms.
type transit struct {
	*httptest.Server
	t     *testing.T
	mount string

	mu      sync.Mutex
	keys    map[string]*transitKey
	fault   string        // how the next answers are wrong
	reached chan struct{} // receives once for each request that hangs
}

type transitKey struct {
	kind     string
	derived  bool
	versions []crypto.Signer // version 1 first
}

func newTransit(t *testing.T, mount string) *transit {
	v := &transit{t: t, mount: mount, keys: map[string]*transitKey{}, reached: make(chan struct{}, 1)}
	v.Server = httptest.NewServer(v)
	t.Cleanup(v.Close)
	return v
}

// add adds a version to a key.
func (v *transit) add(name, kind string) {
	v.t.Helper()
	var private crypto.Signer
	var err error
	switch kind {
	case "ed25519":
		_, private, err = ed25519.GenerateKey(nil)
	case "ecdsa-p256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa-p384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	}
	rawtuf.NoErr(v.t, err)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys[name] == nil {
		v.keys[name] = &transitKey{kind: kind}
	}
	v.keys[name].versions = append(v.keys[name].versions, private)
}

func (v *transit) setFault(fault string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fault = fault
}

func refuse(w http.ResponseWriter, status int, errors ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if errors == nil {
		errors = []string{}
	}
	json.NewEncoder(w).Encode(map[string]any{"errors": errors})
}

func (v *transit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	fault := v.fault
	v.mu.Unlock()
	switch fault {
	case "hang":
		io.Copy(io.Discard, r.Body) // a server sees the end of a connection only after the body
		v.reached <- struct{}{}
		<-r.Context().Done()
		return
	case "denied":
		refuse(w, http.StatusForbidden, "permission denied")
		return
	case "overloaded":
		refuse(w, http.StatusTooManyRequests, `request path "transit/sign/k": rate limit quota exceeded`)
		return
	case "sealed":
		refuse(w, http.StatusServiceUnavailable, "Vault is sealed")
		return
	case "stale":
		refuse(w, http.StatusPreconditionFailed, "required index state not present")
		return
	case "proxy":
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprintf(w, "<html>\n\x1b[31m%s %s: X-Vault-Token: %s", r.Method, r.URL, r.Header.Get("X-Vault-Token"))
		return
	case "redirect":
		http.Redirect(w, r, "http://127.0.0.1:1/elsewhere", http.StatusTemporaryRedirect)
		return
	case "not JSON":
		fmt.Fprintf(w, "token %s", r.Header.Get("X-Vault-Token"))
		return
	case "large":
		w.Write(bytes.Repeat([]byte(" "), 2<<20))
		return
	case "cut":
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, `{"data":`)
		return
	}
	if r.Header.Get("X-Vault-Request") != "true" || r.Header.Get("X-Vault-Namespace") != namespace {
		refuse(w, http.StatusBadRequest, "missing required header")
		return
	}
	if r.Header.Get("X-Vault-Token") != goodToken || len(r.Header.Values("X-Vault-Token")) != 1 {
		refuse(w, http.StatusForbidden, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
		return
	}
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), "/v1/"+v.mount+"/")
	operation, name, _ := strings.Cut(path, "/")
	v.mu.Lock()
	defer v.mu.Unlock()
	key := v.keys[name]
	switch {
	case !ok || r.URL.RawQuery != "":
		refuse(w, http.StatusNotFound, fmt.Sprintf("no handler for route %q. route entry not found.", r.URL.Path))
	case operation == "keys" && r.Method == http.MethodGet && key == nil:
		refuse(w, http.StatusNotFound)
	case operation == "keys" && r.Method == http.MethodGet:
		v.describe(w, name, key)
	case operation == "sign" && r.Method == http.MethodPost && key == nil:
		refuse(w, http.StatusBadRequest, "signing key not found")
	case operation == "sign" && r.Method == http.MethodPost:
		v.sign(w, r, key, fault)
	default:
		refuse(w, http.StatusMethodNotAllowed, "unsupported operation")
	}
}

func (v *transit) describe(w http.ResponseWriter, name string, key *transitKey) {
	versions := map[string]any{}
	for i, private := range key.versions {
		public := ""
		if ed, ok := private.Public().(ed25519.PublicKey); ok {
			public = base64.StdEncoding.EncodeToString(ed)
		} else {
			der, err := x509.MarshalPKIXPublicKey(private.Public())
			if err != nil {
				v.t.Error(err)
			}
			public = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		}
		versions[fmt.Sprint(i+1)] = map[string]any{"creation_time": "2026-01-02T03:04:05.123456789Z", "name": key.kind, "public_key": public}
	}
	if !strings.HasPrefix(key.kind, "e") { // of a symmetric key only times are shown
		versions = map[string]any{"1": 1442851412}
	}
	json.NewEncoder(w).Encode(map[string]any{"request_id": "x", "data": map[string]any{
		"type": key.kind, "name": name, "derived": key.derived, "latest_version": len(key.versions), "min_decryption_version": 1,
		"supports_signing": true, "exportable": false, "keys": versions,
	}})
}

// sign refuses what the service would sign in another way than the client expects.
func (v *transit) sign(w http.ResponseWriter, r *http.Request, key *transitKey, fault string) {
	var in struct {
		Input      *string `json:"input"`
		Version    int     `json:"key_version"`
		Hash       string  `json:"hash_algorithm"`
		Prehashed  bool    `json:"prehashed"`
		Marshaling string  `json:"marshaling_algorithm"`
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil || in.Input == nil || d.More() || r.Header.Get("Content-Type") != "application/json" {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("failed to parse JSON input: %v", err))
		return
	}
	input, err := base64.StdEncoding.Strict().DecodeString(*in.Input)
	if err != nil || in.Version < 1 || in.Version > len(key.versions) {
		refuse(w, http.StatusBadRequest, "unable to decode input as base64, or no such version")
		return
	}
	private := key.versions[in.Version-1]
	var opts crypto.SignerOpts = crypto.Hash(0)
	want := map[string]struct {
		name string
		hash crypto.Hash
	}{"ecdsa-p256": {"sha2-256", crypto.SHA256}, "ecdsa-p384": {"sha2-384", crypto.SHA384}}[key.kind]
	if want.hash != 0 {
		opts = want.hash
	}
	if in.Hash != want.name || in.Prehashed != (want.hash != 0) || want.hash != 0 && len(input) != want.hash.Size() || (in.Marshaling == "asn1") != (want.hash != 0) {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("hash %q, prehashed %v, marshaling %q, %d bytes for a key of type %s", in.Hash, in.Prehashed, in.Marshaling, len(input), key.kind))
		return
	}
	if fault == "wrong signature" {
		input = append([]byte("x"), input[1:]...)
	}
	sig, err := private.Sign(rand.Reader, input, opts)
	if err != nil {
		v.t.Error(err)
	}
	version := in.Version
	if fault == "other version" {
		version++
	}
	encoded := base64.StdEncoding.EncodeToString(sig)
	if fault == "not base64" {
		encoded = "%" + encoded
	}
	json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"signature": fmt.Sprintf("vault:v%d:%s", version, encoded), "key_version": in.Version}})
}
