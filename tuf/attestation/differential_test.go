package attestation_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// theirs is one of our keys in the form of go-securesystemslib, and so of in-toto and cosign.
type theirs struct {
	tuf.Signer
	public crypto.PublicKey
	id     string
}

func (k theirs) Public() crypto.PublicKey { return k.public }
func (k theirs) KeyID() (string, error)   { return k.id, nil }
func (k theirs) Verify(_ context.Context, data, sig []byte) error {
	if !k.Key().Verifies(data, sig) {
		return errors.New("no")
	}
	return nil
}

func (w *world) theirs(name, id string) theirs {
	s, err := tuf.NewSigner(w.repo.Key(name))
	noErr(w.t, err)
	return theirs{s, w.repo.Key(name).Public(), id}
}

// everyKind returns a world whose reviewers have a key of each kind.
func everyKind(t testing.TB) *world {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	noErr(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	noErr(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	noErr(t, err)
	return newWorld(t, func(r *rawtuf.Repo) {
		_, ed, _ := ed25519.GenerateKey(nil)
		r.Keys["ra"], r.Keys["rb"], r.Keys["rc"], r.Keys["rd"] = ed, p256, p384, rsaKey
		r.Root["keys"] = doc{}
		r.AddKeys(r.Root, "root", "timestamp", "snapshot", "targets", "vendor1", "vendor2", "review1", "review2", "va", "ra", "rb", "rc", "rd")
		rawtuf.At(r.Charter(), "classes", 0, "roles", 1)["keyids"] = r.IDs("ra", "rb", "rc", "rd")
		rawtuf.At(r.Charter(), "classes", 0, "hold")["keyids"] = r.IDs("ra")
		r.Signers["review-agent"] = []string{"ra", "rb", "rc", "rd"}
	})
}

// Open accepts envelopes of go-securesystemslib, and the other way round.
func TestSecuresystemslib(t *testing.T) {
	w := everyKind(t)
	p := payload(t, w.review())
	names := []string{"ra", "rb", "rc", "rd"}
	for _, a := range names {
		for _, b := range names {
			if a == b {
				continue
			}
			for _, ids := range [][2]string{{w.id(a), w.id(b)}, {"", ""}, {"SHA256:x", "SHA256:y"}} {
				signer, err := dsse.NewEnvelopeSigner(w.theirs(a, ids[0]), w.theirs(b, ids[1]))
				noErr(t, err)
				env, err := signer.SignPayload(t.Context(), attestation.PayloadType, p)
				noErr(t, err)
				noErr(t, w.open(rawtuf.Marshal(env)))
			}
			var env dsse.Envelope
			noErr(t, json.Unmarshal(w.seal(p, a, b), &env))
			verifier, err := dsse.NewMultiEnvelopeVerifier(2, w.theirs(a, w.id(a)), w.theirs(b, w.id(b)))
			noErr(t, err)
			_, body, err := verifier.VerifyAndDecode(t.Context(), &env)
			if err != nil || string(body) != string(p) {
				t.Fatal(err)
			}
		}
	}
	if string(attestation.PAE(p)) != string(dsse.PAE(attestation.PayloadType, p)) {
		t.Error("what is signed differs")
	}
}

// FuzzOpen's invariants: no panic; the content of an accepted statement is accepted again, and
// go-securesystemslib accepts its envelope too. The input is used as an envelope and, signed by
// enough reviewers, as a payload.
func FuzzOpen(f *testing.F) {
	w := newWorld(f, nil)
	review, refusal := payload(f, w.review()), payload(f, w.refusal())
	for _, p := range [][]byte{review, refusal} {
		f.Add(p)
		f.Add(w.seal(p, "ra", "rb"))
		f.Add([]byte(base64.StdEncoding.EncodeToString(p)))
	}
	verifier, err := dsse.NewMultiEnvelopeVerifier(2, w.theirs("ra", w.id("ra")), w.theirs("rb", w.id("rb")), w.theirs("rc", w.id("rc")))
	noErr(f, err)
	healthy := w
	f.Fuzz(func(t *testing.T, data []byte) {
		own := *healthy
		w := &own
		w.t = t
		for _, file := range [][]byte{data, w.seal(data, "ra", "rb")} {
			var again []byte
			if v, err := attestation.Open(file, w.root, "review", w.approved, now); err == nil {
				again = payload(t, v.Value())
				if attestation.Kind(file) != attestation.ReviewType || len(v.KeyIDs()) < 2 {
					t.Fatal(attestation.Kind(file), v.KeyIDs())
				}
				noErr(t, w.open(w.seal(again, "ra", "rb")))
			} else if v, err := attestation.OpenRefusal(file, w.root, "review", attestation.SubjectOf(w.approved)); err == nil {
				again = payload(t, v.Value())
				_, err := attestation.OpenRefusal(w.seal(again, "rc", "rb"), w.root, "review", attestation.SubjectOf(w.approved))
				noErr(t, err)
			} else {
				var e *tuf.Error
				if !errors.As(err, &e) {
					t.Fatalf("%T: %v", err, err)
				}
				continue
			}
			var env dsse.Envelope
			noErr(t, json.Unmarshal(file, &env))
			if _, err := verifier.Verify(t.Context(), &env); err != nil && string(file) != string(data) {
				t.Fatalf("accepted here only: %v\n%s", err, file)
			}
		}
	})
}
