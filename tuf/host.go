package tuf

import (
	"strconv"
	"strings"

	"github.com/visum-dev/visum/internal/public"
)

// Rule H4 for hosts: a public name or address in its normal form. The rule
// prevents a location from directing a product to servers of the product's own
// network. It resolves no names: a public DNS name that resolves to a private
// address passes, but the server there has no certificate for the name, so TLS
// refuses it.

// hostOK reports whether host may serve a repository: a public name or address in
// its normal form. With UnsafeLoopback, loopback hosts include their port, so
// that one machine can serve several locations.
func (o *Options) hostOK(host string) bool {
	if o.UnsafeLoopback {
		if name, port, ok := strings.Cut(host, ":"); ok && public.Loopback(name) && portOK(port) {
			return true
		}
	}
	return public.Host(host)
}

func portOK(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == port
}
