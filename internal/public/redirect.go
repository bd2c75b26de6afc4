package public

import (
	"net/netip"
	"net/url"
	"strings"
)

// MaxRedirects is how many redirects the download of a target follows.
const MaxRedirects = 5

// Redirect says why the download of a target from location does not follow a redirect
// to another URL, "" where it does. With local set a host of a private network is
// allowed, because the location is in one. Whether the charter allows the host is the
// caller's question.
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

// HostIn is a URL's host without the port, as charters write it: DNS tells neither
// capitals nor the final dot apart.
func HostIn(u *url.URL) string {
	name := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	return name
}

// PlainHost is a URL with its host as charters write it.
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
