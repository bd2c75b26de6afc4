package attestation_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// Read returns the content of a payload and is as strict as Open.
func TestRead(t *testing.T) {
	w := newWorld(t, nil)
	review, refusal := payload(t, w.review()), payload(t, w.refusal())
	c, err := attestation.Read(review)
	noErr(t, err)
	if c.Kind != attestation.ReviewType || c.Review == nil || *c.Review != w.review() || c.Refusal != nil || c.Subject != w.review().Subject || c.Reviewer != w.review().Reviewer {
		t.Errorf("%+v", c)
	}
	c, err = attestation.Read(refusal)
	noErr(t, err)
	if c.Kind != attestation.RefusalType || c.Refusal == nil || *c.Refusal != w.refusal() || c.Review != nil || c.Subject != w.refusal().Subject || c.Reviewer != w.refusal().Reviewer {
		t.Errorf("%+v", c)
	}
	replace := func(p []byte, old, new string) []byte {
		if !bytes.Contains(p, []byte(old)) {
			t.Fatalf("no %s in %s", old, p)
		}
		return bytes.ReplaceAll(p, []byte(old), []byte(new))
	}
	for name, x := range map[string]struct {
		payload []byte
		want    error
	}{
		"nothing":        {nil, tuf.ErrMalformed},
		"no object":      {[]byte("[]"), tuf.ErrMalformed},
		"unknown kind":   {replace(review, "review/v1", "review/v2"), tuf.ErrMalformed},
		"another kind":   {replace(review, "review/v1", "refusal/v1"), tuf.ErrMalformed},
		"wrong case":     {replace(review, `"predicateType"`, `"PredicateType"`), tuf.ErrMalformed},
		"unknown member": {replace(refusal, `"reason":`, `"x":1,"reason":`), tuf.ErrMalformed},
		"spaces":         {replace(review, `":`, `": `), tuf.ErrMalformed},
		"a line after":   {append(bytes.Clone(review), '\n'), tuf.ErrMalformed},
		"too large":      {append(bytes.Clone(review), bytes.Repeat([]byte{' '}, attestation.MaxSize)...), tuf.ErrTooLarge},
	} {
		if c, err := attestation.Read(x.payload); !errors.Is(err, x.want) || c != (attestation.Claim{}) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}
