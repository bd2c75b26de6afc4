package tuf

import (
	"strconv"
	"strings"

	"github.com/visum-dev/visum/internal/public"
)

// H4 for hosts: a public name or address, in one form. The rule keeps a location
// from pointing a product at the network that the product happens to run in. It
// reads the charter and resolves nothing: a public DNS name that its owner points
// to a private address passes, and it is TLS that refuses the server there, which
// has no certificate for the name.

// hostOK says whether host may serve a repository: a public name or address in
// its normal form. With UnsafeLoopback, loopback hosts carry their port, so
// that several locations fit on one machine.
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
