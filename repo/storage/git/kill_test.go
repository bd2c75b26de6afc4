package git

import "testing"

func killAt(t *testing.T, b *Branch, what, n string) {}
