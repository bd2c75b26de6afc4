// Package store has what the key stores below repo/keys share: the parts of their URIs,
// the digest of a payload, and the form of ECDSA signatures.
package store

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/public"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Split separates the parameters of a URI from what is before them, without its scheme.
// Only the parameters of the names in allowed may occur; those of single at most once.
// rest is still percent-encoded. Errors wrap [fs.ErrInvalid] and do not quote values.
func Split(uri string, single, allowed []string) (rest string, params url.Values, err error) {
	_, rest, _ = strings.Cut(uri, ":")
	rest, query, _ := strings.Cut(rest, "?")
	if strings.Contains(rest+query, "#") {
		return "", nil, fmt.Errorf("%w: # must be percent-encoded", fs.ErrInvalid)
	}
	if params, err = url.ParseQuery(query); err != nil {
		return "", nil, fmt.Errorf("%w: the parameters are not percent-encoded", fs.ErrInvalid)
	}
	for name, values := range params {
		switch {
		case slices.Contains(single, name):
			if len(values) > 1 || values[0] == "" {
				return "", nil, fmt.Errorf("%w: parameter %s must have one value", fs.ErrInvalid, name)
			}
		case !slices.Contains(allowed, name):
			return "", nil, fmt.Errorf("%w: unknown parameter %s", fs.ErrInvalid, text.Quote(name))
		}
	}
	return rest, params, nil
}

// Server parses the address of a server: https, or http to the machine itself, or any
// http if unsafeHTTP is set. It must have neither user nor query. Errors wrap
// [fs.ErrInvalid] and do not contain the address, which may have a password in it.
func Server(address string, unsafeHTTP bool) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, fmt.Errorf("%w: the address of the server is not a URL such as https://host:8200", fs.ErrInvalid)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%w: the address of the server has a user, a query or a fragment", fs.ErrInvalid)
	case u.Scheme == "https" || u.Scheme == "http" && (unsafeHTTP || public.Loopback(u.Hostname())):
		return u, nil
	}
	return nil, fmt.Errorf("%w: the address of the server must begin with https://, or http:// on this machine", fs.ErrInvalid)
}

// Digest returns the hash that the scheme of the key signs, and the digest of payload. It
// is 0 and payload itself for ed25519.
func Digest(key tuf.Key, payload []byte) (crypto.Hash, []byte) {
	hash := crypto.SHA256
	switch key.Scheme {
	case "ed25519":
		return 0, payload
	case "ecdsa-sha2-nistp384":
		hash = crypto.SHA384
	}
	h := hash.New()
	h.Write(payload)
	return hash, h.Sum(nil)
}

// DER converts the signature r || s of an ECDSA key, as JWS and PKCS #11 have it, to the
// DER of metadata. ok is false for keys of another type and for another length.
func DER(key tuf.Key, rs []byte) (sig []byte, ok bool) {
	size := map[string]int{"ecdsa-sha2-nistp256": 32, "ecdsa-sha2-nistp384": 48}[key.Scheme]
	if size == 0 || len(rs) != 2*size {
		return nil, false
	}
	sig, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(rs[:size]), new(big.Int).SetBytes(rs[size:])})
	return sig, err == nil
}

// ErrSignature: the store returned bytes that are no signature of the payload by the key.
var ErrSignature = errors.New("the store returned no valid signature of this key")

// Verified returns sig if it is the key's signature of payload: a store is another
// program, and an invalid signature must not get into a draft.
func Verified(key tuf.Key, payload, sig []byte) ([]byte, error) {
	if !key.Verifies(payload, sig) {
		return nil, ErrSignature
	}
	return sig, nil
}
