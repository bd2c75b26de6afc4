package tlog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/tuf/tlog"
)

// many is a policy with n cosigners of which two thirds are a quorum, and a proof of the
// last of 100,000 entries that all have signed.
func many(t testing.TB, n int) (p *tlog.Policy, entry, proof []byte) {
	l := rawlog.NewLog("updates.vendor.example/visum/0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1/1")
	var batch [][]byte
	for i := range 100_000 {
		batch = append(batch, leaf(i))
	}
	l.Append(batch...)
	s, group := "log "+l.Key.String()+"\n", fmt.Sprintf("group q %d", n*2/3+1)
	var by []*rawlog.Signer
	for i := range n {
		c := rawlog.NewSigner(fmt.Sprintf("witness-%d.example/w1", i), tlog.TypeCosigner)
		by = append(by, c)
		s += fmt.Sprintf("witness w%d %s\n", i, c)
		group += fmt.Sprintf(" w%d", i)
	}
	return parsed(t, s+group+"\nquorum q\n"), leaf(99_999), l.Proof(99_999, l.Note(time.Date(2026, 3, 14, 9, 12, 0, 0, time.UTC), by...))
}

// A proof with ten cosigners is a file of at most 3 KB.
func TestSizeOfAProof(t *testing.T) {
	for n, most := range map[int]int{3: 1200, 5: 1500, 7: 1800, 10: 3000} {
		p, entry, proof := many(t, n)
		if _, err := p.Verify(entry, proof); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d cosigners: %d bytes", n, len(proof))
		if len(proof) > most {
			t.Errorf("%d cosigners: %d bytes, at most %d", n, len(proof), most)
		}
	}
}

// One signature for each cosigner and for the log.
func BenchmarkVerify(b *testing.B) {
	for _, n := range []int{3, 5, 10} {
		p, entry, proof := many(b, n)
		b.Run(fmt.Sprintf("cosigners=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := p.Verify(entry, proof); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
