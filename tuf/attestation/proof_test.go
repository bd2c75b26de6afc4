package attestation_test

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

func TestReview(t *testing.T) {
	w := newWorld(t, nil)
	for name, edit := range map[string]func(*attestation.Review){
		"full":       func(*attestation.Review) {},
		"normalised": func(r *attestation.Review) { r.Result = attestation.Normalised },
		"no rebuild": func(r *attestation.Review) { r.Result, r.Builder = attestation.NotDone, "" },
		"bare": func(r *attestation.Review) {
			r.Source, r.Policy, r.Reviewer.Name, r.Result, r.Builder = tuf.SourceRef{}, "", "", attestation.NotDone, ""
		},
		"half a source": func(r *attestation.Review) { r.Source.URI = "" },
		"odd letters":   func(r *attestation.Review) { r.Reviewer.Name = "Ünä <b> & \"x\"\n\t\\" },
	} {
		r := w.review()
		edit(&r)
		p := payload(t, r)
		v, err := attestation.Open(w.seal(p, "ra", "rc"), w.root, "review", w.approved, now)
		noErr(t, err)
		if !reflect.DeepEqual(v.Value(), r) {
			t.Errorf("%s: %+v, want %+v", name, v.Value(), r)
		}
		ids := []string{w.id("ra"), w.id("rc")}
		slices.Sort(ids)
		if !slices.Equal(v.KeyIDs(), ids) {
			t.Errorf("%s: %v", name, v.KeyIDs())
		}
		if got := attestation.Kind(w.seal(p)); got != attestation.ReviewType {
			t.Errorf("%s: %s", name, got)
		}
	}
	refusal := w.refusal()
	data := w.seal(payload(t, refusal), "rb", "rc")
	v, err := attestation.OpenRefusal(data, w.root, "review", attestation.SubjectOf(w.approved))
	if err != nil || v.Value() != refusal || len(v.KeyIDs()) != 2 || attestation.Kind(data) != attestation.RefusalType {
		t.Error(v, err)
	}
	var zero *attestation.Verified[attestation.Review]
	if zero.Value() != (attestation.Review{}) || zero.KeyIDs() != nil {
		t.Error("a nil statement has content")
	}
	if got, want := attestation.Name(attestation.SubjectOf(w.approved), "review-agent", 2), "agent/"+w.approved.SHA256()+".agent-11.4.0.tar.gz.reviews/review-agent.2.json"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Payload refuses statements that readers would refuse.
func TestPayloadRefused(t *testing.T) {
	w := newWorld(t, nil)
	for name, edit := range map[string]func(*attestation.Review){
		"no path":              func(r *attestation.Review) { r.Path = "" },
		"long path":            func(r *attestation.Review) { r.Path = strings.Repeat("x", 1025) },
		"negative length":      func(r *attestation.Review) { r.Length = -1 },
		"length beyond JSON":   func(r *attestation.Review) { r.Length = 1 << 53 },
		"no hash":              func(r *attestation.Review) { r.SHA256 = "" },
		"hash in capitals":     func(r *attestation.Review) { r.SHA256 = strings.Repeat("AB", 32) },
		"no repository":        func(r *attestation.Review) { r.RepoID = "" },
		"no party":             func(r *attestation.Review) { r.Reviewer.Party = "" },
		"no role":              func(r *attestation.Review) { r.Reviewer.Role = "" },
		"no result":            func(r *attestation.Review) { r.Result = "" },
		"another result":       func(r *attestation.Review) { r.Result = "Identical" },
		"no builder":           func(r *attestation.Review) { r.Builder = "" },
		"built but not done":   func(r *attestation.Review) { r.Result = attestation.NotDone },
		"policy of 31 bytes":   func(r *attestation.Review) { r.Policy = strings.Repeat("ab", 31) },
		"policy, no hex":       func(r *attestation.Review) { r.Policy = strings.Repeat("xy", 32) },
		"no time":              func(r *attestation.Review) { r.Until = r.From },
		"ends before it began": func(r *attestation.Review) { r.Until = r.From.Add(-time.Second) },
		"year 10000":           func(r *attestation.Review) { r.Until = r.From.AddDate(9000, 0, 0) },
		"long revision":        func(r *attestation.Review) { r.Source.Revision = strings.Repeat("x", 1025) },
	} {
		r := w.review()
		edit(&r)
		if _, err := r.Payload(); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			want(t, err, tuf.ErrMalformed, "statement")
		}
	}
	r := w.refusal()
	r.Reason = ""
	_, err := r.Payload()
	want(t, err, tuf.ErrMalformed, "a text of")
	r.Reason = strings.Repeat("x", 16<<10+1)
	_, err = r.Payload()
	want(t, err, tuf.ErrMalformed, "bytes")
}

// Each fault in a statement signed by enough keys is detected; without it the statement is accepted.
func TestAttackPayload(t *testing.T) {
	w := newWorld(t, nil)
	pred := func(d doc) doc { return d["predicate"].(doc) }
	healthy := payload(t, w.review())
	for _, row := range []struct {
		name   string
		mutate func(d doc)
		want   error
		part   string
	}{
		{"another path", func(d doc) { rawtuf.At(d, "subject", 0)["name"] = "agent/other" }, tuf.ErrMismatch, "agent/other"},
		{"other bytes", func(d doc) { rawtuf.At(d, "subject", 0, "digest")["sha256"] = strings.Repeat("0", 64) }, tuf.ErrMismatch, "0000"},
		{"another length", func(d doc) { pred(d)["length"] = 8 }, tuf.ErrMismatch, "8 bytes"},
		{"another repository", func(d doc) { pred(d)["repo_id"] = strings.Repeat("0", 32) }, tuf.ErrMismatch, "repository"},
		{"another party's", func(d doc) { rawtuf.At(pred(d), "reviewer")["party"] = "vendor" }, tuf.ErrMismatch, "vendor"},
		{"another role's", func(d doc) { rawtuf.At(pred(d), "reviewer")["role"] = "vendor-agent" }, tuf.ErrMismatch, "vendor-agent"},
		{"not yet valid", func(d doc) { pred(d)["from"] = rawtuf.Stamp(now.Add(time.Second)) }, tuf.ErrExpired, "valid from"},
		{"no longer valid", func(d doc) { pred(d)["until"] = rawtuf.Stamp(now) }, tuf.ErrExpired, "now is"},
		{"a refusal", func(d doc) { d["predicateType"] = attestation.RefusalType }, tuf.ErrMalformed, "predicateType"},
		{"another predicate", func(d doc) { d["predicateType"] = "https://slsa.dev/provenance/v1" }, tuf.ErrMalformed, "predicateType"},
		{"a later predicate", func(d doc) { d["predicateType"] = "https://visum.dev/review/v2" }, tuf.ErrMalformed, "predicateType"},
		{"another statement", func(d doc) { d["_type"] = "https://in-toto.io/Statement/v0.1" }, tuf.ErrMalformed, "_type"},
		{"unknown member", func(d doc) { d["x"] = 1 }, tuf.ErrMalformed, "unknown member"},
		{"unknown member of the predicate", func(d doc) { pred(d)["platforms"] = []any{} }, tuf.ErrMalformed, "unknown member"},
		{"unknown member of the subject", func(d doc) { rawtuf.At(d, "subject", 0)["uri"] = "x" }, tuf.ErrMalformed, "unknown member"},
		{"unknown member of the reviewer", func(d doc) { rawtuf.At(pred(d), "reviewer")["x"] = "y" }, tuf.ErrMalformed, "unknown member"},
		{"a second hash", func(d doc) { rawtuf.At(d, "subject", 0, "digest")["sha512"] = strings.Repeat("0", 128) }, tuf.ErrMalformed, "unknown member"},
		{"member in capitals", func(d doc) { pred(d)["Until"] = pred(d)["until"] }, tuf.ErrMalformed, "wrong case"},
		{"two subjects", func(d doc) { d["subject"] = append(d["subject"].([]any), d["subject"].([]any)[0]) }, tuf.ErrMalformed, "one subject"},
		{"no subject", func(d doc) { d["subject"] = []any{} }, tuf.ErrMalformed, "one subject"},
		{"subject of no kind", func(d doc) { d["subject"] = "x" }, tuf.ErrMalformed, "one subject"},
		{"no predicate", func(d doc) { delete(d, "predicate") }, tuf.ErrMalformed, "no predicate"},
		{"predicate of no kind", func(d doc) { d["predicate"] = []any{} }, tuf.ErrMalformed, "object"},
		{"no length", func(d doc) { delete(pred(d), "length") }, tuf.ErrMalformed, "no length"},
		{"length in quotes", func(d doc) { pred(d)["length"] = "9" }, tuf.ErrMalformed, "length"},
		{"no rebuild", func(d doc) { delete(pred(d), "rebuild") }, tuf.ErrMalformed, "no rebuild"},
		{"no until", func(d doc) { delete(pred(d), "until") }, tuf.ErrMalformed, "no until"},
		{"null for until", func(d doc) { pred(d)["until"] = nil }, tuf.ErrMalformed, ""},
		{"until with a zone", func(d doc) { pred(d)["until"] = "2030-01-15T13:00:00+00:00" }, tuf.ErrMalformed, "1 to 20 bytes"},
		{"until with a fraction", func(d doc) { pred(d)["until"] = "2030-01-15T13:00:00.1Z" }, tuf.ErrMalformed, "1 to 20 bytes"},
		{"until with half an hour", func(d doc) { pred(d)["until"] = "2030-01-16T9:00:00Z" }, tuf.ErrMalformed, "not a time"},
		{"until with a comma", func(d doc) { pred(d)["until"] = "2030-01-16T9:00:0,5Z" }, tuf.ErrMalformed, "not a time"},
		{"until on a day there is not", func(d doc) { pred(d)["until"] = "2030-02-30T13:00:00Z" }, tuf.ErrMalformed, "not a time"},
		{"empty name", func(d doc) { rawtuf.At(pred(d), "reviewer")["name"] = "" }, tuf.ErrMalformed, "1 to"},
		{"a rebuild without builder", func(d doc) { delete(rawtuf.At(pred(d), "rebuild"), "builder") }, tuf.ErrMalformed, "builder"},
		{"result of no kind", func(d doc) { rawtuf.At(pred(d), "rebuild")["result"] = true }, tuf.ErrMalformed, "string"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := parse(t, healthy)
			row.mutate(d)
			want(t, w.open(w.seal(rawtuf.Marshal(d), "ra", "rb")), row.want, row.part)
			noErr(t, w.open(w.seal(rawtuf.Marshal(parse(t, healthy)), "ra", "rb")))
		})
	}
	for name, p := range map[string]string{
		"nothing":       "",
		"no JSON":       "x",
		"an array":      "[]",
		"member twice":  strings.Replace(string(healthy), `"subject":`, `"_type":"https://in-toto.io/Statement/v1","subject":`, 1),
		"two documents": string(healthy) + string(healthy),
		"a fraction":    strings.Replace(string(healthy), `"length":9`, `"length":9.0`, 1),
	} {
		if err := w.open(w.seal([]byte(p), "ra", "rb")); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			want(t, err, tuf.ErrMalformed, "")
		}
	}
}

// Trap 7: keys are counted, not ids; the type is signed; an invalid signature does not affect the
// others.
func TestAttackEnvelope(t *testing.T) {
	w := newWorld(t, nil)
	p := payload(t, w.review())
	sig := func(keyid any, sig any) doc { return doc{"keyid": keyid, "sig": sig} }
	one := func(name string) doc { return sig(w.id(name), b64(w.sigs(p, name)[w.id(name)])) }
	env := func(sigs ...any) doc {
		return doc{"payloadType": attestation.PayloadType, "payload": b64(p), "signatures": append([]any{}, sigs...)}
	}
	with := func(d doc, name string, v any) doc { d[name] = v; return d }
	many := func(n int, s doc) (out []any) {
		for range n {
			out = append(out, s)
		}
		return out
	}
	url := func(b []byte) string { return base64.URLEncoding.EncodeToString(b) }
	junk := []any{7, "x", nil, doc{}, sig("", ""), sig(w.id("ra"), "%%%"), sig(w.id("ra"), b64([]byte("short"))), sig(7, 7),
		doc{"KeyID": "x", "sig": "AAAA"}, sig("unknown", b64(make([]byte, 64)))}
	delete(junk[3].(doc), "x")
	junk = slices.DeleteFunc(junk, func(x any) bool { return x == nil }) // null is refused

	for _, row := range []struct {
		name string
		env  doc
		want error // nil: accepted
		part string
	}{
		{"two keys", env(one("ra"), one("rb")), nil, ""},
		{"all keys", env(one("ra"), one("rb"), one("rc")), nil, ""},
		{"without ids", env(sig("", one("ra")["sig"]), doc{"sig": one("rb")["sig"]}), nil, ""},
		{"others' ids", env(sig("SHA256:abc", one("ra")["sig"]), sig("SHA256:def", one("rb")["sig"])), nil, ""},
		{"URL-safe base64", with(env(sig(w.id("ra"), url(w.sigs(p, "ra")[w.id("ra")])), one("rb")), "payload", url(p)), nil, ""},
		{"a broken signature first", env(append(slices.Clone(junk), one("ra"), one("rb"))...), nil, ""},
		{"a broken one under the same id", env(sig(w.id("ra"), b64(make([]byte, 64))), one("ra"), one("rb")), nil, ""},
		{"the vendor signed too", env(one("va"), one("ra"), one("rb")), nil, ""},
		{"more members", with(env(one("ra"), one("rb")), "x", doc{"y": 1}), nil, ""},

		{"no signature", env(), tuf.ErrThreshold, "0 of 2"},
		{"one key", env(one("ra")), tuf.ErrThreshold, "1 of 2"},
		{"one key twice", env(one("ra"), one("ra")), tuf.ErrThreshold, "1 of 2"},
		{"one key under another's id", env(one("ra"), sig(w.id("rb"), one("ra")["sig"])), tuf.ErrThreshold, "1 of 2"},
		{"one key under unknown ids", env(sig("", one("ra")["sig"]), sig("x", one("ra")["sig"])), tuf.ErrThreshold, "1 of 2"},
		{"only junk", env(junk...), tuf.ErrThreshold, "0 of 2"},
		{"the vendor instead of a reviewer", env(one("va"), one("ra")), tuf.ErrThreshold, "1 of 2"},
		{"root keys of the reviewer", env(one("review1"), one("review2")), tuf.ErrThreshold, "0 of 2"},
		{"of another payload", with(env(one("ra"), one("rb")), "payload", b64(append(slices.Clone(p), ' '))), tuf.ErrThreshold, "0 of 2"},
		{"of the bare payload", env(sig(w.id("ra"), b64(bare(w, p, "ra"))), sig(w.id("rb"), b64(bare(w, p, "rb")))), tuf.ErrThreshold, "0 of 2"},
		{"another payloadType", with(env(one("ra"), one("rb")), "payloadType", "text/plain"), tuf.ErrMalformed, "payloadType"},
		{"payloadType in capitals", with(env(one("ra"), one("rb")), "payloadType", strings.ToUpper(attestation.PayloadType)), tuf.ErrMalformed, "payloadType"},
		{"no payloadType", doc{"payload": b64(p), "signatures": []any{one("ra"), one("rb")}}, tuf.ErrMalformed, "payloadType"},
		{"payload no base64", with(env(one("ra"), one("rb")), "payload", "%"), tuf.ErrMalformed, "base64"},
		{"payload without padding", with(env(), "payload", "YQ"), tuf.ErrMalformed, "base64"},
		{"payload in both alphabets", with(env(), "payload", "-+-+"), tuf.ErrMalformed, "base64"},
		{"payload of no kind", with(env(one("ra")), "payload", 7), tuf.ErrMalformed, "payload"},
		{"signatures of no kind", with(env(), "signatures", doc{}), tuf.ErrMalformed, "array"},
		{"no signatures", doc{"payloadType": attestation.PayloadType, "payload": b64(p)}, tuf.ErrMalformed, "array"},
		{"33 signatures", env(append(many(31, one("rc")), one("ra"), one("rb"))...), tuf.ErrTooLarge, "32"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := w.open(rawtuf.Marshal(row.env))
			if row.want == nil {
				noErr(t, err)
				return
			}
			want(t, err, row.want, row.part)
			if row.want == tuf.ErrThreshold {
				if e := err.(*tuf.Error); e.Want != 2 || len(e.Evidence) == 0 || len(e.KeyIDs) != e.Have {
					t.Errorf("%+v", e)
				}
			}
		})
	}
	good := rawtuf.Marshal(env(one("ra"), one("rb")))
	want(t, w.open(append(good, make([]byte, attestation.MaxSize)...)), tuf.ErrTooLarge, "bytes")
	want(t, w.open([]byte(strings.Replace(string(good), `{"pay`, `{"payload":"","pay`, 1))), tuf.ErrMalformed, "")
	for _, data := range []string{"", "[]", "x", "null"} {
		want(t, w.open([]byte(data)), tuf.ErrMalformed, "")
		if attestation.Kind([]byte(data)) != "" {
			t.Errorf("%q has a kind", data)
		}
	}
}

// bare signs without the pre-authentication encoding.
func bare(w *world, p []byte, name string) []byte {
	s, err := tuf.NewSigner(w.repo.Key(name))
	noErr(w.t, err)
	sig, err := s.Sign(w.t.Context(), p)
	noErr(w.t, err)
	return sig
}

// The other arguments must be valid too.
func TestAsked(t *testing.T) {
	w := newWorld(t, nil)
	data := w.seal(payload(t, w.review()), "ra", "rb")
	refusal := w.seal(payload(t, w.refusal()), "ra", "rb")
	s := attestation.SubjectOf(w.approved)
	plain, err := tuf.OpenRoot(rawtuf.NewPlain().Files["1.root.json"], nil)
	noErr(t, err)
	other := newWorld(t, func(r *rawtuf.Repo) { r.Charter()["repo_id"] = strings.Repeat("1", 32) })

	_, err = attestation.Open(data, w.root, "review", tuf.Approved{}, now)
	want(t, err, tuf.ErrUntrusted, "zero Approved")
	_, err = attestation.Open(data, nil, "review", w.approved, now)
	want(t, err, tuf.ErrUntrusted, "zero Root")
	_, err = attestation.OpenListed(data, nil, "review", s, now)
	want(t, err, tuf.ErrUntrusted, "zero Root")
	_, err = attestation.OpenListed(data, plain, "review", s, now)
	want(t, err, tuf.ErrUntrusted, "charter")
	_, err = attestation.Open(data, plain, "review", w.approved, now)
	want(t, err, tuf.ErrMismatch, "another repository")
	_, err = attestation.Open(data, other.root, "review", w.approved, now)
	want(t, err, tuf.ErrMismatch, "another repository")
	_, err = attestation.OpenListed(data, other.root, "review", s, now)
	want(t, err, tuf.ErrMismatch, "repository")
	_, err = attestation.Open(data, w.root, "vendor", w.approved, now)
	want(t, err, tuf.ErrThreshold, "vendor-agent")
	for _, party := range []string{"", "nobody", "Review"} {
		_, err = attestation.Open(data, w.root, party, w.approved, now)
		want(t, err, tuf.ErrUntrusted, "no class")
	}
	s.Path = "elsewhere/x"
	_, err = attestation.OpenListed(data, w.root, "review", s, now)
	want(t, err, tuf.ErrUntrusted, "no class")

	s = attestation.SubjectOf(w.approved)
	_, err = attestation.Open(refusal, w.root, "review", w.approved, now)
	want(t, err, tuf.ErrMalformed, "predicateType")
	_, err = attestation.OpenRefusal(data, w.root, "review", s)
	want(t, err, tuf.ErrMalformed, "predicateType")
	_, err = attestation.OpenRefusal(refusal, w.root, "vendor", s)
	want(t, err, tuf.ErrThreshold, "")
	for _, edit := range []func(*attestation.Subject){func(s *attestation.Subject) { s.Path += "x" }, func(s *attestation.Subject) { s.Length++ }, func(s *attestation.Subject) { s.SHA256 = "" }} {
		x := s
		edit(&x)
		_, err = attestation.OpenRefusal(refusal, w.root, "review", x)
		want(t, err, tuf.ErrMismatch, "")
		_, err = attestation.OpenListed(data, w.root, "review", x, now)
		want(t, err, tuf.ErrMismatch, "")
	}
}

// A statement from before a rotation of keys still verifies under the root of its date, and the
// result reports the rotation. A statement dated after the rotation is refused, and only the keys
// of its time count.
func TestBeforeRotation(t *testing.T) {
	w := newWorld(t, nil)
	roots := []*tuf.Root{w.root}
	next := func(signedAt time.Time, keys ...string) {
		w.repo.NextRoot(func() {
			w.repo.AddKeys(w.repo.Root, keys...)
			rawtuf.At(w.repo.Charter(), "classes", 0, "roles", 1)["keyids"] = w.repo.IDs(keys...)
			w.repo.Charter()["signed_at"] = rawtuf.Stamp(signedAt)
			w.repo.Charter()["prev_root_sha256"] = roots[0].SHA256()
		})
		r, err := roots[0].Next(w.repo.Files[fmt.Sprintf("%v.root.json", w.repo.Root["version"])])
		noErr(t, err)
		roots = append([]*tuf.Root{r}, roots...)
	}
	next(now.Add(-3*time.Hour), "ra", "rb", "rc") // nothing changes
	next(now.Add(-time.Hour), "rc", "rd", "re")   // 3
	next(now.Add(-time.Minute), "rd", "re", "rf") // 4
	made := func(at time.Time, keys ...string) (review, refusal []byte) {
		r, f := w.review(), w.refusal()
		r.From, f.At = at, at
		return w.seal(payload(t, r), keys...), w.seal(payload(t, f), keys...)
	}
	newest, older := roots[0], roots[1:]
	shuffled := []*tuf.Root{older[2], nil, newest, older[0], older[1]}
	for name, x := range map[string]struct {
		at    time.Time
		keys  []string
		under int64 // the root whose keys count; 0: refused
	}{
		"now":                                 {now, []string{"rd", "re"}, 4},
		"first keys":                          {now.Add(-2 * time.Hour), []string{"ra", "rb"}, 2},
		"as they were rotated":                {now.Add(-time.Hour), []string{"ra", "rb"}, 2},
		"first keys, dated after":             {now.Add(-time.Hour + time.Second), []string{"ra", "rb"}, 0},
		"second keys":                         {now.Add(-30 * time.Minute), []string{"rc", "rd"}, 3},
		"second keys, dated after":            {now, []string{"rc", "rd"}, 0},
		"keys that never stood in one root":   {now.Add(-2 * time.Hour), []string{"ra", "rd"}, 0},
		"too few keys under any of the roots": {now.Add(-2 * time.Hour), []string{"ra"}, 0},
	} {
		review, refusal := made(x.at, x.keys...)
		for _, list := range [][]*tuf.Root{older, shuffled} {
			v, err := attestation.Open(review, newest, "review", w.approved, now, list...)
			f, err2 := attestation.OpenRefusal(refusal, newest, "review", attestation.SubjectOf(w.approved), list...)
			if x.under == 0 {
				want(t, err, tuf.ErrThreshold, "")
				want(t, err2, tuf.ErrThreshold, "")
				continue
			}
			if err != nil || err2 != nil || v.Root() != x.under || f.Root() != x.under || v.Rotated() != (x.under < 4) || f.Rotated() != v.Rotated() || len(v.KeyIDs()) != 2 {
				t.Errorf("%s: root %d, rotated %v, %v, %v", name, v.Root(), v.Rotated(), err, err2)
			}
		}
		if _, err := attestation.Open(review, newest, "review", w.approved, now); (err == nil) != (x.under == 4) {
			t.Errorf("%s, without the roots before: %v", name, err)
		}
	}
	// Roots of another repository and newer roots are ignored.
	review, _ := made(now.Add(-2*time.Hour), "ra", "rb")
	other := newWorld(t, func(r *rawtuf.Repo) { r.Charter()["repo_id"] = strings.Repeat("1", 32) })
	_, err := attestation.Open(review, newest, "review", w.approved, now, other.root)
	want(t, err, tuf.ErrThreshold, "")
	second, _ := made(now, "rd", "re")
	_, err = attestation.Open(second, older[2], "review", w.approved, now, newest)
	want(t, err, tuf.ErrThreshold, "")
}

// Keys that root no longer names do not count.
func TestAfterRotation(t *testing.T) {
	w := newWorld(t, nil)
	data := w.seal(payload(t, w.review()), "ra", "rb")
	noErr(t, w.open(data))
	w = newWorld(t, func(r *rawtuf.Repo) {
		r.AddKeys(r.Root, "rd")
		rawtuf.At(r.Charter(), "classes", 0, "roles", 1)["keyids"] = r.IDs("rb", "rc", "rd")
		r.Signers["review-agent"] = []string{"rb", "rc", "rd"}
	})
	want(t, w.open(data), tuf.ErrThreshold, fmt.Sprintf("%d of 2", 1))
}
