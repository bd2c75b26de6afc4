package tlog_test

import (
	"fmt"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

const origin = "vendor.example/visum/0f6c/1"

func leaf(i int) []byte { return fmt.Appendf(nil, "entry %d", i) }

func leaves(from, to int) (out [][]byte) {
	for i := from; i < to; i++ {
		out = append(out, leaf(i))
	}
	return out
}

func slicesOf(hashes []tlog.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

func arraysOf(hashes [][]byte) (out []tlog.Hash) {
	for _, h := range hashes {
		out = append(out, tlog.Hash(h))
	}
	return out
}

// sizes are those at which the logs of these tests have checkpoints: on both sides of the
// borders of tiles.
var sizes = []int{1, 2, 3, 5, 8, 255, 256, 257, 305, 307, 511, 512, 513, 700}

// merkle verifies the proofs made from tiles, and makes the same ones; its trees have the
// same roots. Each proof is refused for another entry, another root, and with another hash.
func TestMerkle(t *testing.T) {
	l := rawlog.NewLog(origin)
	tree := testonly.New(rfc6962.DefaultHasher)
	if string(tree.Hash()) != string(l.Tree.Root[:]) {
		t.Fatal("the empty trees differ")
	}
	var roots []tlog.Hash // by index in sizes
	for at, size := range sizes {
		batch := leaves(len(l.Leaves), size)
		l.Append(batch...)
		tree.AppendData(batch...)
		if string(tree.Hash()) != string(l.Tree.Root[:]) {
			t.Fatalf("%d entries: other roots", size)
		}
		roots = append(roots, l.Tree.Root)
		indexes := []int{0, 1, size / 3, 254, 255, 256, size - 2, size - 1}
		if size < 16 || rawtuf.Long {
			indexes = indexes[:0]
			for i := range size {
				indexes = append(indexes, i)
			}
		}
		for _, i := range indexes {
			if i < 0 || i >= size {
				continue
			}
			hashes, err := l.Tree.Inclusion(int64(i))
			rawtuf.NoErr(t, err)
			theirs, err := tree.InclusionProof(uint64(i), uint64(size))
			rawtuf.NoErr(t, err)
			if fmt.Sprint(slicesOf(hashes)) != fmt.Sprint(theirs) {
				t.Fatalf("entry %d of %d: another proof", i, size)
			}
			verify := func(entry int, hashes []tlog.Hash, root tlog.Hash) error {
				h := tlog.LeafHash(leaf(entry))
				return proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), uint64(size), h[:], slicesOf(hashes), root[:])
			}
			rawtuf.NoErr(t, verify(i, hashes, l.Tree.Root))
			if verify(i+1, hashes, l.Tree.Root) == nil || verify(i, append(hashes, tlog.Hash{}), l.Tree.Root) == nil || verify(i, hashes, tlog.Hash{}) == nil {
				t.Fatalf("entry %d of %d: a wrong proof is accepted", i, size)
			}
		}
		for b, old := range sizes[:at+1] {
			hashes, err := l.Tree.Consistency(int64(old))
			rawtuf.NoErr(t, err)
			theirs, err := tree.ConsistencyProof(uint64(old), uint64(size))
			rawtuf.NoErr(t, err)
			if fmt.Sprint(slicesOf(hashes)) != fmt.Sprint(theirs) {
				t.Fatalf("%d in %d: another proof", old, size)
			}
			// The two verifiers agree on proofs that are good, too short, too long and changed.
			for what, bad := range map[string][]tlog.Hash{
				"good":   hashes,
				"longer": append(hashes[:len(hashes):len(hashes)], tlog.Hash{}),
				"wrong":  append([]tlog.Hash{{1}}, hashes...)[:max(len(hashes), 1)],
				"none":   nil,
			} {
				ours := tlog.CheckConsistency(bad, int64(old), roots[b], int64(size), l.Tree.Root)
				theirs := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old), uint64(size), slicesOf(bad), roots[b][:], l.Tree.Root[:])
				if (ours == nil) != (theirs == nil) || what == "good" && ours != nil || what == "longer" && ours == nil {
					t.Fatalf("%d in %d, %s: %v and %v", old, size, what, ours, theirs)
				}
			}
		}
	}
}

// Package tlog accepts merkle's proofs, in a proof file.
func TestProofsOfMerkle(t *testing.T) {
	l := rawlog.NewLog(origin)
	l.Append(leaves(0, 307)...)
	tree := testonly.New(rfc6962.DefaultHasher)
	tree.AppendData(l.Leaves...)
	p, note := twoOfTwo(t, l)
	for _, i := range []int{0, 255, 256, 306} {
		hashes, err := tree.InclusionProof(uint64(i), 307)
		rawtuf.NoErr(t, err)
		made := tlog.Proof{Index: int64(i), Hashes: arraysOf(hashes), Checkpoint: note}
		if _, err := p.Verify(leaf(i), made.Marshal()); err != nil {
			t.Fatal(err)
		}
		made.Hashes[0][0] ^= 1
		if _, err := p.Verify(leaf(i), made.Marshal()); err == nil {
			t.Fatal("a changed hash is accepted")
		}
	}
}
