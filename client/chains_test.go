package client_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// holders are the root keys of a random root, by name.
type holders struct {
	keys      map[string][]string // by party
	min       map[string]int
	threshold int
}

// enough is the oracle: it counts names of keys, and is independent of the verifier, of
// JSON, key ids and signatures.
func (h holders) enough(signed map[string]bool) bool {
	total := 0
	for party, keys := range h.keys {
		n := 0
		for _, k := range keys {
			if signed[k] {
				n++
			}
		}
		if n < h.min[party] {
			return false
		}
		total += n
	}
	return total >= h.threshold
}

// drawHolders draws parties that satisfy rule Q. Some keys remain the same.
func drawHolders(rng *rand.Rand, before *holders, root int) holders {
	h := holders{keys: map[string][]string{}, min: map[string]int{}}
	all := 0
	for _, party := range []string{"vendor", "review"} {
		for i := range 1 + rng.IntN(4) {
			name := fmt.Sprintf("%s-%d-of-%d", party, i, root)
			if before != nil && i < len(before.keys[party]) && rng.IntN(3) > 0 {
				name = before.keys[party][i]
			}
			h.keys[party] = append(h.keys[party], name)
		}
		h.min[party] = 1 + rng.IntN(len(h.keys[party]))
		all += len(h.keys[party])
	}
	for party, keys := range h.keys {
		h.threshold = max(h.threshold, all-len(keys)+h.min[party])
	}
	h.threshold += rng.IntN(all - h.threshold + 1)
	return h
}

func (h holders) write(r *rawtuf.Repo) {
	keys := append(append([]string{}, h.keys["vendor"]...), h.keys["review"]...)
	r.AddKeys(r.Root, keys...)
	rawtuf.At(r.Root, "roles")["root"] = r.Role(h.threshold, keys...)
	var parties []any
	for _, p := range []string{"vendor", "review"} {
		parties = append(parties, rawtuf.Doc{"name": p, "keyids": r.IDs(h.keys[p]...), "min": h.min[p]})
	}
	r.Charter()["parties"] = parties
}

// Random chains with random signers: a root is accepted if and only if the oracle
// counts enough signatures for the root before and for itself.
func TestRandomChains(t *testing.T) {
	t.Parallel()
	seed, chains := seedOf(t), uint64(60)
	if rawtuf.Long {
		chains = 5_000
	}
	taken, refused := 0, 0
	for n := range chains {
		rng := rand.New(rand.NewPCG(seed, n))
		r := rawtuf.New()
		h := drawHolders(rng, nil, 0)
		h.write(r)
		everyone := append(append([]string{}, h.keys["vendor"]...), h.keys["review"]...)
		trusted, err := tuf.OpenRoot(r.Sign(r.Root, everyone...), nil)
		if err != nil {
			t.Fatalf("seed %d/%d: %v", seed, n, err)
		}
		for k := 1; k <= 5; k++ {
			next := drawHolders(rng, &h, k)
			r.NextRoot(func() { next.write(r) })
			// All keys of both roots but a few, and an unknown key.
			signed := map[string]bool{}
			var names []string
			missing := rng.IntN(4)
			for _, name := range append(append(append(append([]string{"unknown"}, h.keys["vendor"]...), h.keys["review"]...), next.keys["vendor"]...), next.keys["review"]...) {
				if signed[name] || rng.IntN(10) < missing {
					continue
				}
				signed[name] = true
				names = append(names, name)
			}
			// Duplicate signatures of a key do not count, and invalidate nothing.
			twice := len(names) > 0 && rng.IntN(6) == 0
			if twice {
				names = append(names, names[rng.IntN(len(names))])
			}
			rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			got, err := trusted.Next(r.Sign(r.Root, names...))
			if want := h.enough(signed) && next.enough(signed) && !twice; want != (err == nil) {
				t.Fatalf("seed %d/%d, root %d signed by %q: the oracle returns %v, %v\nbefore %+v\nnow %+v", seed, n, k+1, names, want, err, h, next)
			}
			if err != nil {
				refused++
				break
			}
			taken++
			trusted, h = got, next
		}
	}
	if taken < 20 || refused < 20 {
		t.Errorf("%d accepted, %d refused: the chains are too similar", taken, refused)
	}
	t.Logf("%d roots accepted, %d refused", taken, refused)
}
