//go:build !cgo

package pkcs11

// Linked reports whether this program was built with cgo, so that it can load modules
// into its own process.
const Linked = false

func loadDriver(string) (driver, error) { return nil, ErrNotLinked }
