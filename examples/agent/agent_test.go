package main

import (
	"testing"

	"github.com/visum-dev/visum/client"
)

// The pin that is checked in is a whole one: a product may be built from this
// folder as it is.
func TestPin(t *testing.T) {
	c, err := client.New(pin, &client.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Pin()) != 64 {
		t.Fatalf("fingerprint %q", c.Pin())
	}
	if demo {
		t.Fatal("built for the demonstration")
	}
}
