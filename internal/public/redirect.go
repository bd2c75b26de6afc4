package public

import (
	"net/netip"
	"net/url"
	"strings"
)

// MaxRedirects is the greatest number of redirects in the download of a target.
const MaxRedirects = 5

// Redirect returns the reason why the download of a target from location must not
// follow a redirect to another URL, or "". With local, which the caller sets for a
// location in a private network, private hosts are allowed. The caller checks whether
// the charter allows the host.
func Redirect(location, to *url.URL, local bool) (fault string) {
	switch {
	case to.User != nil:
		return "with a user name"
	case to.Scheme != "https" && !(to.Scheme == "http" && Loopback(location.Hostname()) && Loopback(to.Hostname())):
		return "that is not https"
	case to.Hostname() == "" || strings.ContainsFunc(to.Host, func(r rune) bool { return r >= 0x80 }):
		return "whose host is not one in ASCII"
	case !local && !Host(HostIn(to)):
		return "in a private network"
	}
	return ""
}

// Loopback reports whether a host name or address is the machine's own.
func Loopback(host string) bool {
	a, _ := netip.ParseAddr(host) // the zero Addr is no loopback
	return host == "localhost" || a.IsLoopback()
}

// HostIn returns a URL's host as charters write it: without the port, in lower case
// and without the final dot.
func HostIn(u *url.URL) string {
	name := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	return name
}

// PlainHost returns a URL with its host as charters write it.
func PlainHost(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base
	}
	port := u.Port()
	if u.Host = HostIn(u); port != "" {
		u.Host += ":" + port
	}
	return u.String()
}
