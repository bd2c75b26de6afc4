package attestation_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// members calls fn for each member and element below v, with functions to set and rename it.
func members(v any, fn func(value any, set func(any), rename func(string))) {
	switch v := v.(type) {
	case doc:
		for name, x := range v {
			fn(x, func(y any) { v[name] = y }, func(to string) { delete(v, name); v[to] = x })
			members(x, fn)
		}
	case []any:
		for i, x := range v {
			fn(x, func(y any) { v[i] = y }, nil)
			members(x, fn)
		}
	}
}

// lawful checks that an error is one line of printable ASCII with foreign words in quotes, before
// text.Line changes it.
func lawful(t *testing.T, what string, err error) {
	t.Helper()
	var e *tuf.Error
	if err == nil {
		return
	}
	if !errors.As(err, &e) || rawtuf.BadText(err.Error()) != "" || rawtuf.BadText(e.Detail) != "" {
		t.Errorf("%s: %.200q", what, err.Error())
	}
}

// Hostile strings anywhere in a statement, signed or not, give one lawful line.
func TestTextsOfHostileStatements(t *testing.T) {
	w := newWorld(t, nil)
	open := func(what string, data []byte) {
		t.Helper()
		lawful(t, what, w.open(data))
		for _, party := range []string{"review", rawtuf.Words, "x\n" + rawtuf.Words} {
			for _, path := range []string{rawtuf.Path, "agent/" + rawtuf.Words, "agent/\x1b" + rawtuf.Words} {
				s := attestation.SubjectOf(w.approved)
				s.Path = path
				_, err := attestation.OpenListed(data, w.root, party, s, now)
				lawful(t, what, err)
				_, err = attestation.OpenRefusal(data, w.root, party, s)
				lawful(t, what, err)
			}
		}
	}
	for kind, healthy := range map[string][]byte{"review": payload(t, w.review()), "refusal": payload(t, w.refusal())} {
		spots := 0
		members(parse(t, healthy), func(any, func(any), func(string)) { spots++ })
		for i := range spots {
			for j, evil := range rawtuf.Hostile {
				for way := range 2 {
					d, n := parse(t, healthy), 0
					var change func()
					members(d, func(_ any, set func(any), rename func(string)) {
						if n == i && way == 0 {
							change = func() { set(evil) }
						} else if n == i && rename != nil {
							change = func() { rename(evil) }
						}
						n++
					})
					if change == nil {
						continue
					}
					change()
					open(fmt.Sprintf("%s, text %d, way %d", kind, j, way), w.seal(rawtuf.Marshal(d), "ra", "rb"))
				}
			}
		}
	}
	for _, evil := range rawtuf.Hostile {
		for _, env := range []doc{
			{"payloadType": evil}, {evil: 1}, {"payloadType": attestation.PayloadType, "payload": evil}, {"payloadType": attestation.PayloadType, "payload": "", "signatures": evil},
			{"payloadType": attestation.PayloadType, "payload": "", "signatures": []any{doc{"keyid": evil, "sig": evil}}},
		} {
			open("envelope", rawtuf.Marshal(env))
		}
		open("no JSON", []byte(evil))
		r, f := w.review(), w.refusal()
		r.Builder, r.Reviewer.Party, r.Path, f.Reason, f.RepoID = evil, evil, evil, evil, evil
		_, err := r.Payload()
		lawful(t, "review", err)
		_, err = f.Payload()
		lawful(t, "refusal", err)
	}
}
