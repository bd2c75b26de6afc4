package tuf_test

import (
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// openAt opens a root whose first location has that base.
func openAt(base string, opt *tuf.Options) (*tuf.Root, error) {
	r := rawtuf.New()
	rawtuf.At(r.Charter(), "locations", 0)["base"] = base
	r.PublishRoot()
	return tuf.OpenRoot(r.Files["1.root.json"], opt)
}

// H4: hosts in misleading forms.
func TestBases(t *testing.T) {
	for _, base := range []string{
		"https://updates.vendor.example/", "https://updates.vendor.example/a/b_c/", "https://updates.vendor.example:8443/r/",
		"https://xn--bcher-kva.example/r/", "https://9.9.9.9/r/", "https://[2620:fe::9]/r/", "https://[2620:fe::9]:8443/r/", "https://a-1.example/r/",
		"https://" + strings.Repeat("a.", 123) + "example/r/", // 253 bytes
	} {
		t.Run(base, func(t *testing.T) {
			_, err := openAt(base, nil)
			want(t, err, nil, "")
		})
	}
	for _, base := range []string{
		"https://2130706433/r/", "https://0x7f.1/r/", "https://0x7f000001/r/", "https://127.1/r/", "https://127.0.0.1/r/", "https://127.0.0.1:8080/r/",
		"https://0177.0.0.1/r/", "https://1.2.3.08/r/", "https://a.0x10/r/", "https://[::1]/r/", "https://[::ffff:127.0.0.1]/r/", "https://[::ffff:9.9.9.9]/r/", "https://[::]/r/",
		"https://0.0.0.0/r/", "https://10.0.0.1/r/", "https://172.16.0.1/r/", "https://192.168.0.1/r/", "https://100.64.0.1/r/", "https://169.254.1.1/r/",
		"https://224.0.0.1/r/", "https://255.255.255.255/r/", "https://[fe80::1]/r/", "https://[fe80::1%25eth0]/r/", "https://[fd00::1]/r/",
		"https://[2620:FE::9]/r/", "https://[2620:fe:0::9]/r/", "https://localhost/r/", "https://a.localhost/r/", "https://foo.local/r/", "https://router/r/",
		"https://Updates.vendor.example/r/", "https://updates.vendor.example./r/", "https://bücher.example/r/", "https://up_dates.example/r/",
		"https://-a.example/r/", "https://a..example/r/", "https://.example/r/", "https:///r/", "https:/r/", "https:updates.vendor.example/r/",
		"https://user:pw@updates.vendor.example/r/", "https://@updates.vendor.example/r/", "https://updates.vendor.example/r/?q", "https://updates.vendor.example/r/?",
		"https://updates.vendor.example/r/#f", "https://updates.vendor.example/r/#", "https://updates.vendor.example/r", "https://updates.vendor.example",
		"https://updates.vendor.example/%2e%2e/", "https://updates.vendor.example/%61/", "https://updates%2evendor.example/r/", "https://updates.vendor.example/../r/", "https://updates.vendor.example/./",
		"https://updates.vendor.example//r/", `https://updates.vendor.example/\r/`, "https://updates.vendor.example/ r/", "https://updates.vendor.example:/r/",
		"https://updates.vendor.example:0/r/", "https://updates.vendor.example:080/r/", "https://updates.vendor.example:65536/r/", "https://updates.vendor.example:x/r/",
		"http://updates.vendor.example/r/", "ftp://updates.vendor.example/r/", "//updates.vendor.example/r/", "updates.vendor.example/r/", "file:///etc/", "",
		"https://" + strings.Repeat("a.", 123) + "examples/r/",
	} {
		t.Run(base, func(t *testing.T) {
			_, err := openAt(base, nil)
			want(t, err, tuf.ErrCharter, "H4: location main")
		})
	}
}

// UnsafeLoopback accepts loopback addresses and nothing else.
func TestUnsafeLoopback(t *testing.T) {
	opt := &tuf.Options{UnsafeLoopback: true}
	for _, base := range []string{"http://127.0.0.1:8080/r/", "https://localhost:8443/", "http://[::1]:8080/r/", "https://updates.vendor.example/r/"} {
		root, err := openAt(base, opt)
		want(t, err, nil, "")
		if err == nil && !root.Charter().Usable(root.Charter().Locations()[0], rawtuf.Now) {
			t.Errorf("%s is not usable", base)
		}
	}
	for _, base := range []string{"http://192.168.0.1:8080/r/", "https://10.0.0.1/r/", "http://updates.vendor.example/r/", "http://127.0.0.1:8080/../", "http://u@127.0.0.1:1/",
		"ftp://127.0.0.1:8080/r/", "http://127.0.0.1/r/", "https://127.0.0.1/r/"} {
		_, err := openAt(base, opt)
		want(t, err, tuf.ErrCharter, "H4")
	}
	// Locations on one machine differ by port; retiring one does not affect the other.
	r := rawtuf.New()
	rawtuf.At(r.Charter(), "locations", 0)["base"] = "http://127.0.0.1:8081/r/"
	rawtuf.At(r.Charter(), "retired", 0)["hosts"] = []any{"127.0.0.1:8080"}
	r.PublishRoot()
	_, err := tuf.OpenRoot(r.Files["1.root.json"], opt)
	want(t, err, nil, "")
	rawtuf.At(r.Charter(), "locations", 0)["base"] = "http://127.0.0.1:8080/r/"
	r.PublishRoot()
	_, err = tuf.OpenRoot(r.Files["1.root.json"], opt)
	want(t, err, tuf.ErrCharter, "H8")
}

// A base that is no URL has no host.
func TestHostOfNoURL(t *testing.T) {
	for base, want := range map[string]string{":": "", "https://%zz/": "", "https://a.example:444/r/": "a.example", "http://127.0.0.1:80/": "127.0.0.1:80"} {
		if got := (tuf.Location{Base: base}).Host(); got != want {
			t.Errorf("%s: host %q, want %q", base, got, want)
		}
	}
}

// Hosts that only a local network or a special resolver knows are refused, one for each block
// and name of the registries. Their public neighbours are accepted.
func TestSpecialHosts(t *testing.T) {
	for _, host := range []string{
		"0.0.0.1", "10.255.255.255", "100.64.0.1", "127.255.255.254", "169.254.169.254", "172.31.255.255", "192.0.0.9", "192.0.0.170", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1",
		"192.168.255.255", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"[::]", "[::1]", "[::7f00:1]", "[::ffff:127.0.0.1]", "[::ffff:9.9.9.9]", "[::ffff:0:7f00:1]", "[64:ff9b::7f00:1]", "[64:ff9b::909:909]", "[64:ff9b:1::1]", "[100::1]", "[1fff::1]", "[4000::1]", "[5f00::1]",
		"[2001::1]", "[2001:1ff::1]", "[2001:db8::1]", "[2002:7f00:1::1]", "[2002:909:909::1]", "[2620:4f:8000::1]", "[3fff::1]", "[fc00::1]", "[fd00::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]",
		"router.internal", "nas.lan", "x.home.arpa", "10.in-addr.arpa", "host.localdomain", "localhost.localdomain", "x.localhost", "x.local", "x.onion", "x.test", "x.invalid", "x.alt", "x.home", "x.corp", "x.mail",
		"x.intranet", "x.private", "a.b.internal", "localhost", "internal",
	} {
		for _, opt := range []*tuf.Options{nil, {UnsafeLoopback: true}} {
			_, err := openAt("https://"+host+"/r/", opt)
			want(t, err, tuf.ErrCharter, "H4: location main")
		}
		r := rawtuf.New()
		r.Charter()["retired"] = []any{doc{"id": "old", "hosts": []any{host}}}
		r.PublishRoot()
		_, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
		want(t, err, tuf.ErrCharter, "H4: retired host")
	}
	for _, host := range []string{
		"9.9.9.9", "1.0.0.1", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.0.0.1", "128.0.0.1", "169.253.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "192.0.3.1", "192.167.0.1", "192.169.0.1", "198.17.0.1", "198.20.0.1", "223.255.255.1",
		"[2000::1]", "[2001:200::1]", "[2001:db9::1]", "[2003::1]", "[2620:fe::9]", "[3ffe::1]", "internal.example.com", "lan.example.com", "local.ch", "updates.example", "test.com", "myinternal.com", "x.homes", "arpa.org",
	} {
		_, err := openAt("https://"+host+"/r/", nil)
		want(t, err, nil, "")
	}
}
