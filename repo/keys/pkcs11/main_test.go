package pkcs11

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("VISUM_TEST_HELPER"); role != "" {
		runHelper(role)
		return
	}
	var err error
	if tempDir, err = os.MkdirTemp("", "visum-pkcs11-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(tempDir)
	os.Exit(status)
}

// tempDir is for what all tests share.
var tempDir string
