// Command visum-pkcs11 uses PKCS #11 modules for programs that are built without cgo, such
// as the static visum, which starts it from its own folder. It takes no arguments: it
// answers requests on standard input, one JSON object in each line, and asks there for
// PINs. It is not used directly.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/visum-dev/visum/repo/keys/pkcs11"
)

func main() {
	var err error
	if len(os.Args) > 1 {
		err = errors.New("visum-pkcs11 takes no arguments; visum starts it")
	} else {
		err = pkcs11.Serve(context.Background(), os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
