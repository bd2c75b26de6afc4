//go:build !unix

package client_test

import "testing"

func prepareChild(string) error { return nil }

func readOnly(t *testing.T) string {
	t.Helper()
	t.Skip("no folder is read-only here")
	return ""
}

func mountReadOnly(t *testing.T, _ string) {
	t.Helper()
	t.Skip("no folder is read-only here")
}
