package pkcs11

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
)

func TestURI(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"pkcs12:", "pkcs11:token", "pkcs11:token=a;token=b", "pkcs11:token=a;", "pkcs11:;token=a", "pkcs11:token=%", "pkcs11:token=%4", "pkcs11:token=%zz", "pkcs11:token=%4 ",
		"pkcs11:token=a b", "pkcs11:token=a/b", "pkcs11:token=a#b", "pkcs11:token=\xff", "pkcs11:token=%ff", "pkcs11:token=a%00", "pkcs11:token=a\"b", "pkcs11:Token=a", "pkcs11:to%6ben=a",
		"pkcs11:slot-id=1", "pkcs11:library-version=1", "pkcs11:x-vendor=1", "pkcs11:type=cert", "pkcs11:type=public", "pkcs11:module-path=/x.so", "pkcs11:pin-value=1234", "pkcs11:pin-source=file:/x",
		"pkcs11:?module-path=x.so", "pkcs11:?module-name=x", "pkcs11:?module-path=/x;token=a", "pkcs11:?pin-source=/x", "pkcs11:?pin-source=file:x", "pkcs11:?pin-source=file://host/x",
		"pkcs11:?pin-source=%7C/bin/sh", "pkcs11:?pin-value=1&pin-source=file:/x", "pkcs11:?pin-value=12&34", "pkcs11:?pin-value=12&345=4", "pkcs11:?token=a", "pkcs11:?&", "pkcs11:token=" + strings.Repeat("a", 5000),
		"pkcs11://host/token=a",
	} {
		_, err := parseURI(bad)
		if !errors.Is(err, fs.ErrInvalid) || strings.Contains(err.Error(), "34") {
			t.Errorf("%.60s: %v", bad, err)
		}
	}
	_, err := parseURI("PKCS11:token=My%20t%c3%B6ken&1;serial=:[]@!$'()*+,=-._~;manufacturer=m;model=;object=a%3bb%25;id=%00%FFa;type=private?module-path=/usr/lib/a%20b.so&pin-value=%26|?/&")
	if err == nil {
		t.Error("an empty attribute")
	}
	u, err := parseURI("PKCS11:token=My%20t%c3%B6ken&1;serial=:[]@!$'()*+,=-._~;manufacturer=m;model=;object=a%3bb%25;id=%00%FFa;type=private?module-path=/usr/lib/a%20b.so&pin-value=%26|?/")
	rawtuf.NoErr(t, err)
	for got, want := range map[string]string{
		*u.label: "My töken&1", *u.serial: ":[]@!$'()*+,=-._~", *u.manufacturer: "m", *u.model: "", *u.object: "a;b%", string(u.id): "\x00\xffa", u.module: "/usr/lib/a b.so", *u.pinValue: "&|?/",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for uri, source := range map[string]string{"pkcs11:": "", "pkcs11:?pin-source=file:/etc/pin": "/etc/pin", "pkcs11:?pin-source=file:///etc/a%20b": "/etc/a b"} {
		u, err := parseURI(uri)
		if err != nil || u.pinSource != source || u.label != nil || u.id != nil {
			t.Errorf("%s: %+v, %v", uri, u, err)
		}
	}
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{"token=a;id=%01?module-path=/x", "serial=%20?pin-value=%26", "object=a&b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseURI("pkcs11:" + s)
		if err != nil {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Error(err)
			}
			return
		}
		if u.label == nil || u.serial == nil || u.object == nil || *u.label == "" || *u.serial == "" || *u.object == "" || u.module == "" {
			return
		}
		// What is printed for a key selects the same one.
		again, err := parseURI(uriOf(tokenID{label: *u.label, serial: *u.serial}, *u.object, u.id, u.module))
		if err != nil || *again.label != *u.label || *again.serial != *u.serial || string(again.id) != string(u.id) || len(u.id) == 0 && *again.object != *u.object || again.module != u.module {
			t.Errorf("%q: %+v, %v", s, again, err)
		}
	})
}

func TestPublicKeys(t *testing.T) {
	t.Parallel()
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		rawtuf.NoErr(t, err)
		return b
	}
	const (
		ed    = "33fdc2c074218cf291ae1e62c30e31fde575864601d377c0714e89f87ba976ac"
		p256  = "042bc9ee264e17ee6f52a97815b7c062403760d537a6af2d559eae6f92584950853bc88c914152ada27048a824c5f20109f2335028cf799e8d6364fe0e0c9b556b"
		oid   = "06032b6570"
		named = "130c656477617264733235353139" // PrintableString edwards25519
		nist  = "06082a8648ce3d030107"
	)
	n256, n25519 := ulong(ckkEC), ulong(ckkECEdwards)
	for name, x := range map[string]struct {
		kind          []byte
		params, point string
		scheme        string // "": an error
	}{
		"octets, oid": {n25519, oid, "0420" + ed, "ed25519"}, "octets, name": {n25519, named, "0420" + ed, "ed25519"}, "bare, oid": {n25519, oid, ed, "ed25519"}, "bare, name": {n25519, named, ed, "ed25519"},
		"as EC":  {n256, oid, "0420" + ed, "ed25519"},
		"octets": {n256, nist, "0441" + p256, "ecdsa-sha2-nistp256"}, "bare": {n256, nist, p256, "ecdsa-sha2-nistp256"}, "32-bit": {unhex("03000000"), nist, p256, "ecdsa-sha2-nistp256"},
		"no type": {nil, nist, p256, ""}, "other type": {ulong(2), nist, p256, ""}, "no curve": {n256, "", p256, ""}, "other curve": {n256, "06052b81040023", p256, ""}, "other name": {n25519, "1308656477617264343438", ed, ""},
		"two curves": {n256, nist + nist, p256, ""}, "cut": {n256, nist, p256[:128], ""}, "two points": {n256, nist, "0441" + p256 + "00", ""}, "not on the curve": {n256, nist, p256[:128] + "00", ""},
		"compressed": {n256, nist, "02" + p256[2:66], ""}, "no point": {n25519, oid, "", ""}, "long": {n25519, oid, "0421" + ed + "00", ""}, "explicit curve": {n256, "3003020101", p256, ""},
	} {
		key, kind, err := publicKey(func(a uint) []byte {
			return map[uint][]byte{ckaKeyType: x.kind, ckaECParams: unhex(x.params), ckaECPoint: unhex(x.point)}[a]
		})
		if x.scheme == "" && !errors.Is(err, keys.ErrKind) || x.scheme != "" && err != nil || key.Scheme != x.scheme || kind == "" {
			t.Errorf("%s: %s %q %v", name, key.Scheme, kind, err)
		}
	}
	for name, x := range map[string]struct{ modulus, exponent []byte }{
		"none": {nil, nil}, "no exponent": {append([]byte{0x80}, make([]byte, 255)...), nil}, "huge exponent": {append([]byte{0x80}, make([]byte, 255)...), make([]byte, 9)}, "1024": {append([]byte{0x80}, make([]byte, 127)...), []byte{1, 0, 1}},
	} {
		_, kind, err := publicKey(func(a uint) []byte {
			return map[uint][]byte{ckaKeyType: ulong(ckkRSA), ckaModulus: x.modulus, ckaPublicExponent: x.exponent}[a]
		})
		if !errors.Is(err, keys.ErrKind) || !strings.HasPrefix(kind, "RSA") {
			t.Errorf("%s: %q %v", name, kind, err)
		}
	}
	if der, _ := asn1.Marshal(oidEd25519); hex.EncodeToString(der) != oid {
		t.Error("ed25519 has another identifier")
	}
}
