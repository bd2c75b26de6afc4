package tlog_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/big"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/tuf/tlog"
)

// cosigned is a proof of the last of five entries by the log, a stranger and two of the
// cosigners of twoOfThree, and its leaf.
func cosigned() (proof, entry []byte) {
	l := rawlog.NewLog(origin)
	for i := range 5 {
		l.Append(leaf(i))
	}
	at := time.Date(2026, 3, 14, 9, 12, 0, 0, time.UTC)
	by := func(name string) *rawlog.Signer { return rawlog.NewSigner(name, tlog.TypeCosigner) }
	return l.Proof(4, l.Note(at, by("third.example"), by("stranger.example"), by("cert.example"))), leaf(4)
}

// A changed byte of an accepted proof is refused, unless it is in the line of a stranger,
// which is ignored.
func TestChangedBytes(t *testing.T) {
	p := parsed(t, twoOfThree())
	proof, entry := cosigned()
	if _, err := p.Verify(entry, proof); err != nil {
		t.Fatal(err)
	}
	from := bytes.Index(proof, []byte("\n— stranger.example ")) + 1
	to := from + bytes.IndexByte(proof[from:], '\n')
	ignored := 0
	for i := range proof {
		for _, bit := range []byte{0x01, 0x20} {
			bad := bytes.Clone(proof)
			bad[i] ^= bit
			_, err := p.Verify(entry, bad)
			if err == nil && from <= i && i < to {
				ignored++
			} else if err == nil {
				t.Errorf("byte %d, %q for %q: accepted", i, bad[i], proof[i])
			}
		}
	}
	if ignored < 50 {
		t.Errorf("only %d changes of the stranger's line are ignored", ignored)
	}
}

// Neither a byte nor a line too many or too few is accepted in another place than among the
// signatures of strangers.
func TestInsertedAndRemovedBytes(t *testing.T) {
	p := parsed(t, twoOfThree())
	proof, entry := cosigned()
	from := bytes.Index(proof, []byte("\n— stranger.example ")) + 1
	to := from + bytes.IndexByte(proof[from:], '\n')
	for i := range len(proof) + 1 {
		for _, c := range []string{"\n", "\r", " ", "=", "\x00", "\ufeff"} {
			bad := slices.Concat(proof[:i], []byte(c), proof[i:])
			if _, err := p.Verify(entry, bad); err == nil && (i <= from || i > to) {
				t.Errorf("%q before byte %d: accepted", c, i)
			}
		}
	}
	lines := strings.SplitAfter(string(proof), "\n")
	for i, line := range lines {
		bad := strings.Join(slices.Concat(lines[:i], lines[i+1:]), "")
		if _, err := p.Verify(entry, []byte(bad)); (err == nil) != (line == "" || strings.HasPrefix(line, "— stranger")) {
			t.Errorf("without line %d %q: %v", i, line, err)
		}
		bad = strings.Join(slices.Concat(lines[:i], []string{line}, lines[i:]), "")
		if _, err := p.Verify(entry, []byte(bad)); (err == nil) != (line == "" || strings.HasPrefix(line, "— stranger")) {
			t.Errorf("line %d twice %q: %v", i, line, err)
		}
	}
}

// Ed25519 signatures with the scalar s + L, which some verifiers accept, are refused, for
// the log and for cosigners.
func TestSignaturesAreNotMalleable(t *testing.T) {
	p := parsed(t, twoOfThree())
	proof, entry := cosigned()
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	found := 0
	for line := range strings.Lines(string(proof)) {
		name, ok := strings.CutPrefix(line, "— ")
		if !ok || strings.HasPrefix(name, "stranger") {
			continue
		}
		name, b64, _ := strings.Cut(strings.TrimSuffix(name, "\n"), " ")
		raw, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			t.Fatal(err)
		}
		scalar := raw[len(raw)-32:] // little-endian
		slices.Reverse(scalar)
		new(big.Int).Add(new(big.Int).SetBytes(scalar), order).FillBytes(scalar)
		slices.Reverse(scalar)
		bad := strings.Replace(string(proof), line, "— "+name+" "+base64.StdEncoding.EncodeToString(raw)+"\n", 1)
		if _, err := p.Verify(entry, []byte(bad)); !errors.Is(err, tlog.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
		found++
	}
	if found != 3 {
		t.Errorf("%d signatures", found)
	}
}

// A log can't sign a text that is the message of a cosignature as well, whatever its name.
func TestOriginLikeACosignature(t *testing.T) {
	l := rawlog.NewLog("cosignature/v1")
	l.Append(leaf(0))
	message := string(tlog.CosignatureMessage(time.Unix(1, 0), l.Text()))
	if _, _, _, err := tlog.ParseCheckpointText(message); !errors.Is(err, tlog.ErrMalformed) {
		t.Error(err)
	}
	p := parsed(t, "log "+l.String()+"\nwitness a "+key("a")+"\nquorum a\n")
	if _, err := p.Checkpoint([]byte(message + "\n" + l.Sign(message, time.Time{}))); !errors.Is(err, tlog.ErrMalformed) {
		t.Error(err)
	}
	if _, err := p.Checkpoint(l.Note(time.Unix(1, 0))); err != nil {
		t.Error(err)
	}
}

// tlog-policy allows no control characters but tab and line feed, also in comments and
// URLs, which are shown and requested.
func TestControlCharactersInPolicies(t *testing.T) {
	for what, with := range map[string]func(c byte) string{
		"the URL of the log": func(c byte) string {
			return strings.Replace(twoOfThree(), key(origin), key(origin)+" https://log.example/"+string([]byte{c})+"x", 1)
		},
		"the URL of a cosigner": func(c byte) string {
			return strings.Replace(twoOfThree(), key("cert.example"), key("cert.example")+" https://"+string([]byte{c}), 1)
		},
		"a comment": func(c byte) string { return "# x" + string([]byte{c}) + "\n" + twoOfThree() },
	} {
		var accepted, refused []byte
		for i := range 256 {
			c := byte(i)
			_, err := tlog.ParsePolicy(with(c))
			switch control := c < ' ' && c != '\t' && c != '\n' || c == 0x7f; {
			case control && !errors.Is(err, tlog.ErrMalformed):
				accepted = append(accepted, c)
			case c > ' ' && !control && err != nil:
				refused = append(refused, c)
			}
		}
		if len(accepted)+len(refused) > 0 {
			t.Errorf("%s: accepted with %q, refused with %q", what, accepted, refused)
		}
	}
}

// The zero value has no quorum, and nothing is valid under it.
func TestZeroPolicy(t *testing.T) {
	proof, entry := cosigned()
	note := proof[bytes.Index(proof, []byte("\n\n"))+2:]
	for what, f := range map[string]func(*tlog.Policy) bool{
		"Verify":     func(p *tlog.Policy) bool { _, err := p.Verify(entry, proof); return err != nil },
		"Checkpoint": func(p *tlog.Policy) bool { _, err := p.Checkpoint(note); return err != nil },
		"no name": func(p *tlog.Policy) bool {
			line := tlog.Key{}.SignatureLine(make([]byte, ed25519.SignatureSize))
			_, err := p.Checkpoint([]byte("\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n" + line))
			return err != nil
		},
		"Overlap": func(p *tlog.Policy) bool { return p.Overlap() == 0 },
		"Spare":   func(p *tlog.Policy) bool { return p.Spare() < 0 },
		"String":  func(p *tlog.Policy) bool { _, err := tlog.ParsePolicy(p.String()); return err != nil },
	} {
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("%s: panic: %v", what, r)
				}
			}()
			if !f(new(tlog.Policy)) {
				t.Errorf("%s is not refused", what)
			}
		}()
	}
}

// A note that SplitNote reads is one for x/mod as well: what one of them refuses must not be
// stored or passed on by the other.
func TestSplitNoteIsAsStrictAsOpen(t *testing.T) {
	const text = "a.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
	line := func(name string) string { return tlog.Key{Name: name, Type: 1}.SignatureLine(make([]byte, 64)) }
	for what, data := range map[string]string{
		"healthy":                    text + "\n" + line("a"),
		"a name in Unicode":          text + "\n" + line("é"),
		"no name":                    text + "\n" + line(""),
		"a name with +":              text + "\n" + line("a+b"),
		"a name with a tab":          text + "\n" + line("a\tb"),
		"a name with ESC":            text + "\n" + line("a\x1b[2Jb"),
		"a name with a hard space":   text + "\n" + line("a\u00a0b"),
		"a name that is not UTF-8":   text + "\n" + line("a\xff"),
		"a control in the text":      "a\x00" + text + "\n" + line("a"),
		"the text is not UTF-8":      "a\xff" + text + "\n" + line("a"),
		"100 signatures":             text + "\n" + strings.Repeat(line("a"), 100),
		"101 signatures":             text + "\n" + strings.Repeat(line("a"), 101),
		"an empty line at the end":   text + "\n" + line("a") + "\n",
		"two empty lines":            text + "\n\n" + line("a"),
		"no line break at the end":   text + "\n" + strings.TrimSpace(line("a")),
		"a line break before a line": text + "\n" + line("a") + "\n" + line("b"),
		"another dash":               text + "\n" + strings.Replace(line("a"), "—", "-", 1),
	} {
		_, lines, err := tlog.SplitNote([]byte(data))
		n, open := note.Open([]byte(data), nil)
		var unverified *note.UnverifiedNoteError
		if ok := errors.As(open, &unverified); ok {
			n = unverified.Note
		}
		if err == nil && n == nil {
			t.Errorf("%s: SplitNote reads %d lines, note.Open: %v", what, len(lines), open)
		} else if err != nil && (n != nil || !errors.Is(err, tlog.ErrMalformed)) {
			t.Errorf("%s: %v, note.Open reads it", what, err)
		}
	}
}

// A width that no bundle has is refused.
func TestWidthsOfBundles(t *testing.T) {
	for _, width := range []int{-1, math.MinInt, 257, math.MaxInt} {
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("%d: panic: %v", width, r)
				}
			}()
			if got, err := tlog.ParseBundle(make([]byte, 512), width); !errors.Is(err, tlog.ErrMalformed) {
				t.Errorf("%d: %d entries, %v", width, len(got), err)
			}
		}()
	}
}

// same is a log of equal entries at any size. Its tiles are computed.
func same(size int64) *tlog.Tree {
	entry := []byte("same")
	var level [65]tlog.Hash
	level[0] = tlog.LeafHash(entry)
	for i := 1; i < len(level); i++ {
		level[i] = nodeHash(level[i-1], level[i-1])
	}
	root := tlog.EmptyRoot
	for i, first := 0, true; i < 64; i++ {
		if size>>i&1 == 0 {
			continue
		}
		if first {
			root, first = level[i], false
		} else {
			root = nodeHash(level[i], root)
		}
	}
	return &tlog.Tree{Size: size, Root: root, Read: func(path string) ([]byte, error) {
		tile, err := tlog.ParseTilePath(path)
		if err != nil {
			return nil, err
		}
		if tile.Level >= 0 {
			if tile.N<<8+int64(tile.Width) > size>>(8*tile.Level) {
				return nil, fs.ErrNotExist
			}
			return bytes.Repeat(level[8*tile.Level][:], tile.Width), nil
		}
		if tile.N<<8+int64(tile.Width) > size {
			return nil, fs.ErrNotExist
		}
		return bytes.Repeat(append(binary.BigEndian.AppendUint16(nil, uint16(len(entry))), entry...), tile.Width), nil
	}}
}

func nodeHash(a, b tlog.Hash) tlog.Hash {
	return sha256.Sum256(slices.Concat([]byte{1}, a[:], b[:]))
}

// Trees of all orders of magnitude, up to the greatest, give proofs that verify, and grow.
func TestHugeTrees(t *testing.T) {
	const most int64 = 1 << 56
	at := time.Date(2026, 3, 14, 9, 12, 0, 0, time.UTC)
	l := rawlog.NewLog(origin)
	third, cert := rawlog.NewSigner("third.example", tlog.TypeCosigner), rawlog.NewSigner("cert.example", tlog.TypeCosigner)
	p := parsed(t, twoOfThree())
	for shift := 1; shift <= 56; shift++ {
		for _, size := range []int64{1<<shift - 1, 1 << shift, min(int64(1)<<shift+1, most), min(int64(1)<<shift+300, most)} {
			tree := same(size)
			l.Tree = tree
			for _, i := range []int64{0, size / 3, size - 1} {
				hashes, err := tree.Inclusion(i)
				if err != nil || len(hashes) > bits.Len64(uint64(size)) {
					t.Fatalf("entry %d of %d: %d hashes, %v", i, size, len(hashes), err)
				}
				if shift%8 > 1 {
					continue // the signatures cost more than the proof
				}
				if e, err := p.Verify([]byte("same"), l.Proof(i, l.Note(at, third, cert))); err != nil || e.Index != i || e.Size != size {
					t.Fatalf("entry %d of %d: %+v, %v", i, size, e, err)
				}
			}
			for _, old := range []int64{1, size / 2, size - 1} {
				proof, err := tree.Consistency(old)
				if err != nil {
					t.Fatal(err)
				}
				if err := tlog.CheckConsistency(proof, old, same(old).Root, size, tree.Root); err != nil {
					t.Fatalf("%d in %d: %v", old, size, err)
				}
				if old > 1 && tlog.CheckConsistency(proof, old, same(old-1).Root, size, tree.Root) == nil {
					t.Fatalf("%d in %d: another tree is its beginning", old, size)
				}
			}
			if list, err := tree.Bundle((size - 1) / tlog.TileWidth); err != nil || len(list) != int((size-1)%tlog.TileWidth)+1 {
				t.Fatalf("the last bundle of %d: %d entries, %v", size, len(list), err)
			}
			next, files, err := tree.Append([][]byte{[]byte("same"), []byte("same"), []byte("same")})
			if size+3 > most {
				if !errors.Is(err, tlog.ErrMalformed) {
					t.Fatalf("%d entries grow: %v", size, err)
				}
				continue
			}
			if err != nil || next.Root != same(size+3).Root || len(files) > 18 {
				t.Fatalf("%d entries grow: %d files, %v", size, len(files), err)
			}
			for _, f := range files {
				if want, err := same(size + 3).Read(f.Path); err != nil || !bytes.Equal(f.Data, want) {
					t.Fatalf("%d entries grow: %s: %v", size, f.Path, err)
				}
			}
		}
	}
}

// No method works on a tree of a size that no log has: index arithmetic overflows there. (At
// 1<<62, x/mod does not end.) Nor is anything read for it.
func TestSizesThatNoLogHas(t *testing.T) {
	for _, size := range []int64{-1, -2, math.MinInt64, 1<<56 + 1, 1 << 61, 1 << 62, math.MaxInt64} {
		tree := &tlog.Tree{Size: size, Read: func(path string) ([]byte, error) {
			t.Errorf("%d entries: %s is read", size, path)
			return nil, fs.ErrNotExist
		}}
		for what, f := range map[string]func() error{
			"Inclusion":   func() error { _, err := tree.Inclusion(0); return err },
			"Consistency": func() error { _, err := tree.Consistency(1); return err },
			"Bundle":      func() error { _, err := tree.Bundle(0); return err },
			"Append":      func() error { _, _, err := tree.Append([][]byte{leaf(0)}); return err },
		} {
			func() {
				defer func() {
					if r := recover(); r != nil {
						t.Errorf("%s of %d entries: panic: %v", what, size, r)
					}
				}()
				if err := f(); !errors.Is(err, tlog.ErrInclusion) && !errors.Is(err, tlog.ErrMalformed) {
					t.Errorf("%s of %d entries: %v", what, size, err)
				}
			}()
		}
		if t.Failed() {
			return // the next ones would not end
		}
	}
}

// The tree without entries has one root.
func TestRootOfTheEmptyTree(t *testing.T) {
	l := rawlog.NewLog("a.example/log")
	wrong := tlog.Tree{Root: tlog.LeafHash(nil), Read: l.Read}
	if next, _, err := wrong.Append([][]byte{leaf(0)}); !errors.Is(err, tlog.ErrInclusion) {
		t.Errorf("a tree of no entries with another root grows to %+v, %v", next, err)
	}
	p := parsed(t, "log "+l.String()+"\nwitness a "+key("a")+"\nquorum a\n")
	if c, err := p.Checkpoint(signedText(l, tlog.CheckpointText(l.Name, 0, wrong.Root), time.Time{})); !errors.Is(err, tlog.ErrInclusion) {
		t.Errorf("a checkpoint of no entries with another root: %+v, %v", c, err)
	}
	if _, err := p.Checkpoint(l.Note(time.Time{})); err != nil {
		t.Error(err)
	}
	if err := tlog.CheckConsistency(nil, 0, tlog.LeafHash(nil), 5, tlog.Hash{}); !errors.Is(err, tlog.ErrInclusion) {
		t.Error(err)
	}
}

// Arithmetic with the number of an accepted tile does not overflow.
func TestNumbersOfTiles(t *testing.T) {
	last := tlog.Tile{Level: 0, N: 1<<48 - 1, Width: tlog.TileWidth}
	if got, err := tlog.ParseTilePath(last.Path()); err != nil || got != last {
		t.Errorf("the last full tile of the greatest tree: %+v, %v", got, err)
	}
	for _, n := range []int64{1 << 48, 1 << 55, 1 << 56} {
		for _, level := range []int{-1, 0} {
			path := tlog.Tile{Level: level, N: n, Width: tlog.TileWidth}.Path()
			if got, err := tlog.ParseTilePath(path); !errors.Is(err, tlog.ErrMalformed) {
				t.Errorf("%s: entries from %d, %v", path, got.N*tlog.TileWidth, err)
			}
		}
	}
}

// A place that changes its files between two reads, at any moment, gives an error or what
// belongs to the tree.
func TestFilesThatChangeBetweenReads(t *testing.T) {
	good, bad := rawlog.NewLog("a.example/log"), rawlog.NewLog("a.example/log")
	var batch, other [][]byte
	for i := range 300 {
		batch, other = append(batch, leaf(i)), append(other, leaf(i+1))
	}
	good.Append(batch...)
	bad.Append(other...)
	wantRoot, _ := plain(t, 303)
	var wantProof []tlog.Hash
	failed := 0
	for after := range 40 {
		reads := 0
		tree := tlog.Tree{Size: 300, Root: good.Tree.Root, Read: func(path string) ([]byte, error) {
			if reads++; reads > after {
				return bad.Read(path)
			}
			return good.Read(path)
		}}
		next, files, err := tree.Append([][]byte{leaf(300), leaf(301), leaf(302)})
		if err != nil {
			failed++
			if !errors.Is(err, tlog.ErrInclusion) {
				t.Fatal(err)
			}
		} else {
			if next.Root != tlog.Hash(wantRoot) {
				t.Fatalf("%d reads: another root", after)
			}
			for _, f := range files {
				if strings.Contains(f.Path, "entries") && !bytes.HasPrefix(f.Data, good.Files["tile/entries/001.p/44"]) {
					t.Fatalf("%d reads: another bundle", after)
				}
			}
		}
		reads = 0
		if list, err := tree.Bundle(1); err == nil && !bytes.Equal(list[0], leaf(256)) {
			t.Fatalf("%d reads: other entries", after)
		}
		reads = 0
		if proof, err := tree.Inclusion(7); err == nil {
			if wantProof == nil {
				wantProof, _ = good.Tree.Inclusion(7)
			}
			if !slices.Equal(proof, wantProof) {
				t.Fatalf("%d reads: another proof", after)
			}
		}
	}
	if failed == 0 || failed == 40 {
		t.Errorf("%d of 40 fail", failed)
	}
}

// The cost of the checks before a signature grows linearly with the note: lines that name
// each of 33 keys of one name cost no hash of a key each.
func TestCostOfManyLines(t *testing.T) {
	s := "log " + rawlog.NewSigner("a", tlog.TypeLog).String() + "\n"
	for i := range 32 {
		k := rawlog.NewSigner(fmt.Sprint(i), tlog.TypeCosigner).Key
		k.Name = "a"
		s += fmt.Sprintf("witness w%d %s\n", i, k)
	}
	p := parsed(t, s+"quorum w0\n")
	const text = "a\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n"
	data := []byte(text)
	n := 0
	for line := "— a AAAAAAA=\n"; len(data)+len(line) <= tlog.MaxNote; n++ {
		data = append(data, line...)
	}
	allocs := testing.AllocsPerRun(1, func() {
		if _, err := p.Checkpoint(data); !errors.Is(err, tlog.ErrSignature) && !errors.Is(err, tlog.ErrMalformed) {
			t.Error(err)
		}
	})
	if most := float64(20 * (n + 33)); allocs > most {
		t.Errorf("%d lines and 33 keys: %.0f allocations, want at most %.0f", n, allocs, most)
	}
}
