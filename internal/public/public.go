// Package public distinguishes host names and addresses of the public internet from
// those of local networks.
package public

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var hostForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Host reports whether host is a public name or address in its normal form, an IPv6
// address in brackets. It resolves no names: a name that resolves to a private
// address passes.
func Host(host string) bool {
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return Addr(a) && hostOf(a) == host
	}
	// Only local networks resolve a name without a dot.
	dot := strings.LastIndexByte(host, '.')
	if dot < 0 || len(host) > 253 || !hostForm.MatchString(host) || specialName(host) {
		return false
	}
	// "ends in a number": some resolvers read 0x7f.1 and 2130706433 as addresses.
	last := host[dot+1:]
	_, err := strconv.ParseUint(last, 0, 64)
	return err != nil && strings.Trim(last, "0123456789") != ""
}

// Addr reports whether an address belongs to the public internet. For IPv6 the
// allowed addresses are listed, because further special blocks will be assigned: the
// global unicast space without the special-purpose blocks of IANA in it. Addresses
// that embed an IPv4 address (mapped, 64:ff9b::/96, 6to4, Teredo) are never public.
func Addr(a netip.Addr) bool {
	if a.Zone() != "" || a.Is6() && !globalUnicast.Contains(a) {
		return false
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

var globalUnicast = netip.MustParsePrefix("2000::/3")

// special are the blocks of the IANA special-purpose address registries (RFC 6890 and
// later) and multicast; for IPv6 only those within globalUnicast.
var special = prefixes(
	"0.0.0.0/8",         // this network
	"10.0.0.0/8",        // private
	"100.64.0.0/10",     // shared by carriers, private too
	"127.0.0.0/8",       // loopback
	"169.254.0.0/16",    // link-local, and the metadata services of clouds
	"172.16.0.0/12",     // private
	"192.0.0.0/24",      // protocol assignments
	"192.0.2.0/24",      // documentation
	"192.31.196.0/24",   // AS112
	"192.52.193.0/24",   // AMT
	"192.88.99.0/24",    // 6to4 relays
	"192.168.0.0/16",    // private
	"192.175.48.0/24",   // AS112
	"198.18.0.0/15",     // benchmarking
	"198.51.100.0/24",   // documentation
	"203.0.113.0/24",    // documentation
	"224.0.0.0/4",       // multicast
	"240.0.0.0/4",       // reserved, and broadcast
	"2001::/23",         // protocol assignments, Teredo among them
	"2001:db8::/32",     // documentation
	"2002::/16",         // 6to4
	"2620:4f:8000::/48", // AS112
	"3fff::/20",         // documentation
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// specialName reports whether the public DNS does not have a name that a local
// network, resolver or other naming system may resolve: the special-use names of RFC
// 6761 and later, and names that ICANN reserves for private use or does not delegate
// because home networks use them.
//
// Of the special-use names, example and the names below it (RFC 2606) are allowed: no
// network resolves them, and documentation and tests need names without an owner.
func specialName(host string) bool {
	return slices.ContainsFunc(specialNames, func(name string) bool { return strings.HasSuffix(host, "."+name) })
}

var specialNames = []string{
	"local", "localhost", "localdomain", "invalid", "test", "onion", "alt", "arpa", // arpa: home.arpa, and what is no host
	"internal", "intranet", "private", "home", "corp", "mail", "lan",
}

func hostOf(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}
