package tlog_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/tuf/tlog"
)

const fuzzed = 7 // cosigners of the policies of FuzzOverlap and FuzzQuorumTime

// group is a cosigner (k is 0) or a group of a random tree.
type group struct {
	cosigner, k int
	members     []*group
}

// met reports whether a set of cosigners, a bit for each, is a quorum.
func (g *group) met(set uint) bool {
	if g.k == 0 {
		return set>>g.cosigner&1 == 1
	}
	n := 0
	for _, m := range g.members {
		if m.met(set) {
			n++
		}
	}
	return n >= g.k
}

// randomPolicy makes a tree of groups from any bytes: each takes some of the cosigners and
// groups that are a member of none yet. Cosigners in the set unknown have keys of a type
// that can't be verified.
func randomPolicy(data []byte) (text string, quorum *group, unknown uint) {
	next := func() int {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return int(b)
	}
	unknown = uint(next())
	unknown &= uint(next()) & (1<<fuzzed - 1)
	var b strings.Builder
	fmt.Fprintf(&b, "log %s\n", key(origin))
	var free []*group
	names := map[*group]string{}
	for i := range fuzzed {
		g := &group{cosigner: i}
		names[g], free = fmt.Sprint("c", i), append(free, g)
		k := rawlog.NewSigner(names[g], tlog.TypeCosigner).Key
		if unknown>>i&1 == 1 {
			k.Type = 6
		}
		fmt.Fprintf(&b, "witness %s %s\n", names[g], k)
	}
	quorum = free[0]
	for i := 0; len(data) > 0 && i < 32; i++ {
		g := &group{k: 1}
		for range 1 + next()%len(free) {
			at := next() % len(free)
			g.members = append(g.members, free[at])
			free = slices.Delete(free, at, at+1)
		}
		g.k += next() % len(g.members)
		names[g] = fmt.Sprint("g", i)
		fmt.Fprintf(&b, "group %s %d", names[g], g.k)
		for _, m := range g.members {
			b.WriteString(" " + names[m])
		}
		b.WriteString("\n")
		quorum = g
		free = append(free, g)
	}
	return b.String() + "quorum " + names[quorum] + "\n", quorum, unknown
}

func addPolicies(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x03")) // 4 of 7
	f.Add([]byte("\x41\x7f\x06\x00\x00\x00\x00\x00\x00\x00\x03")) // two of them unknown
	f.Add([]byte("\x00\x00\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01"))
	f.Add([]byte("\x01\x01\x02\x00\x00\x00\x01\x01\x00\x00\x00\x02\x00\x00\x00\x02"))
	f.Add([]byte("\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x01"))
}

// FuzzOverlap checks Overlap and Spare by their definitions: the fewest cosigners that two
// quorums have in common, and the most that may be missing, whichever they are. Keys that
// can't be verified count for the first as if they could be, and for the second as missing.
func FuzzOverlap(f *testing.F) {
	addPolicies(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		text, quorum, unknown := randomPolicy(data)
		p := parsed(t, text)
		if p.String() != text {
			t.Fatalf("%s\nis printed as\n%s", text, p)
		}
		const all = uint(1)<<fuzzed - 1
		var smallest []uint // no quorum is a part of them
		for set := range all + 1 {
			if quorum.met(set) && !slices.ContainsFunc(smallest, func(s uint) bool { return s&set == s }) {
				smallest = append(smallest, set)
			}
		}
		overlap := fuzzed
		for _, a := range smallest {
			for _, b := range smallest {
				overlap = min(overlap, bits.OnesCount(a&b))
			}
		}
		spare := fuzzed
		for set := range all + 1 {
			if !quorum.met(all &^ set &^ unknown) {
				spare = min(spare, bits.OnesCount(set)-1)
			}
		}
		if p.Overlap() != overlap || p.Spare() != spare {
			t.Errorf("overlap %d, want %d; spare %d, want %d:\n%s", p.Overlap(), overlap, p.Spare(), spare, text)
		}
	})
}

// FuzzQuorumTime checks the quorum time by its definition, and that a further cosignature,
// of any time, never makes a quorum none or its time an earlier one.
func FuzzQuorumTime(f *testing.F) {
	addPolicies(f)
	f.Add([]byte("\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x03\x07\x06\x05\x04\x03\x02\x01"))
	l := rawlog.NewLog(origin)
	l.Append(leaf(0))
	const last = 5
	var lines [fuzzed][last + 1]string // by cosigner and time
	for i := range lines {
		for at := 1; at <= last; at++ {
			lines[i][at] = rawlog.NewSigner(fmt.Sprint("c", i), tlog.TypeCosigner).Sign(l.Text(), time.Unix(int64(at), 0))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		policy, quorum, unknown := randomPolicy(data)
		p := parsed(t, policy)
		var times [fuzzed]int // 0: not signed
		for i := range times {
			if len(data) > i && unknown>>i&1 == 0 {
				times[i] = int(data[len(data)-1-i]) % (last + 1)
			}
		}
		want := func() (at int) {
			for at = last; at > 0; at-- {
				var set uint
				for i, x := range times {
					if x >= at {
						set |= 1 << i
					}
				}
				if quorum.met(set) {
					break
				}
			}
			return at
		}
		note := string(l.Note(time.Time{}))
		signed := 0
		check := func() *tlog.Checkpoint {
			c, err := p.Checkpoint([]byte(note))
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			if !c.Time.IsZero() {
				got = int(c.Time.Unix())
			}
			if got != want() || len(c.Cosigners) != signed {
				t.Fatalf("time %d, want %d, %d cosigners, want %d, times %v:\n%s", got, want(), len(c.Cosigners), signed, times, policy)
			}
			if _, err := p.Verify(leaf(0), l.Proof(0, []byte(note))); (got > 0) != (err == nil) || err != nil && !errors.Is(err, tlog.ErrQuorum) {
				t.Fatalf("time %d: %v", got, err)
			}
			return c
		}
		all := times
		times = [fuzzed]int{}
		before := check()
		for i, at := range all {
			if at == 0 {
				continue
			}
			times[i] = at
			note += lines[i][at]
			signed++
			c := check()
			if c.Time.Before(before.Time) {
				t.Fatalf("from %s to %s", before.Time, c.Time)
			}
			before = c
		}
	})
}

// FuzzPolicy checks that an accepted policy prints as a text that is the same policy.
func FuzzPolicy(f *testing.F) {
	f.Add(twoOfThree())
	f.Add("# x\n\n log\t" + key(origin) + " https://log.example/\nwitness all " + key("a") + " https://a.example/#x\nwitness #b " + key("b") + "\ngroup any all all #b\n\tgroup g any any\nquorum g\nwitness late " + key("late"))
	f.Add("log " + key(origin) + "\nwitness a " + tlog.Key{Name: "a", Type: 6, Public: make([]byte, 1312)}.String() + "\nquorum a\n")
	f.Add("log " + key(origin) + "\r\nwitness a " + key("a") + "\nquorum a\n")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := tlog.ParsePolicy(s)
		if err != nil {
			if !errors.Is(err, tlog.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		text := p.String()
		q, err := tlog.ParsePolicy(text)
		if err != nil || q.String() != text {
			t.Fatalf("%q\nis printed as %q: %v", s, text, err)
		}
		same := slices.EqualFunc(p.Cosigners(), q.Cosigners(), func(a, b tlog.PolicyCosigner) bool {
			return a.Name == b.Name && a.Key.String() == b.Key.String() && b.URL == ""
		})
		if !same || p.Log().String() != q.Log().String() || p.Overlap() != q.Overlap() || p.Spare() != q.Spare() || p.Overlap() > len(p.Cosigners()) || p.Spare() >= len(p.Cosigners()) {
			t.Fatalf("%q\nis not %q", s, text)
		}
	})
}

// FuzzProof checks that each accepted proof is a known one with fewer cosignatures, in any
// order, with any lines of strangers. An accepted proof marshals to its own bytes.
func FuzzProof(f *testing.F) {
	proof, entry := cosigned()
	p := parsed(f, twoOfThree())
	head, sigs, _ := strings.Cut(string(proof), "\n\n— ")
	known := map[string]bool{}
	for line := range strings.Lines("— " + sigs) {
		known[line] = !strings.HasPrefix(line, "— stranger.example ")
		f.Add([]byte(strings.Replace(string(proof), line, "", 1)))
		f.Add([]byte(string(proof) + line))
	}
	f.Add(proof)
	f.Add(bytes.Replace(proof, []byte("index 4"), []byte("index 3"), 1))
	f.Add(bytes.Replace(proof, []byte("index 4"), []byte("index 04"), 1))
	f.Add(bytes.Replace(proof, []byte("\n"), []byte("\nextra AA==\n"), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := tlog.ParseProof(data)
		if err == nil && !bytes.Equal(parsed.Marshal(), data) {
			t.Fatalf("%q is marshalled as %q", data, parsed.Marshal())
		}
		e, verr := p.Verify(entry, data)
		if verr != nil {
			if e != nil || err != nil && !errors.Is(verr, tlog.ErrMalformed) {
				t.Fatalf("%+v, %v, %v", e, verr, err)
			}
			return
		}
		if e.Index != 4 || e.Size != 5 || e.Origin != origin || len(e.Cosigners) != 2 || e.Time.IsZero() {
			t.Fatalf("%+v", e)
		}
		rest, ok := strings.CutPrefix(string(data), head+"\n\n")
		if !ok {
			t.Fatalf("another text: %q", data)
		}
		n := 0
		for line := range strings.Lines(rest) {
			if known[line] {
				n++
			} else {
				for good, is := range known {
					name, _, _ := strings.Cut(good, " A")
					if is && strings.HasPrefix(line, name+" ") && line[:len(name)+7] == good[:len(name)+7] {
						t.Fatalf("another signature: %q", line)
					}
				}
			}
		}
		if n != 3 {
			t.Fatalf("%d signatures: %q", n, rest)
		}
	})
}

// FuzzTexts checks that accepted texts are the only ones of what they mean: checkpoints,
// keys, paths of tiles, and notes, which x/mod reads in the same way.
func FuzzTexts(f *testing.F) {
	proof, _ := cosigned()
	_, n, _ := strings.Cut(string(proof), "\n\n")
	f.Add(n)
	text, _, _ := strings.Cut(n, "\n\n")
	f.Add(text + "\n")
	f.Add(key(origin))
	f.Add(key("third.example"))
	f.Add("tile/0/x001/234.p/7")
	f.Add("tile/entries/x281/x474/x976/x710/655")
	f.Add(text + "\n\n\n— x AAAAAAA=\n")
	f.Add("x\n\n— x AAAAAAB=\n") // other bits that base64 ignores
	f.Add("x\n\nx AAAAAAA=\n")
	f.Add(strings.Replace(text, "\n5\n", "\n05\n", 1) + "\n")
	f.Add(strings.Replace(key("third.example"), "+", "+0", 1))
	f.Add("tile/0/0")
	f.Fuzz(func(t *testing.T, s string) {
		if origin, size, root, err := tlog.ParseCheckpointText(s); err == nil && tlog.CheckpointText(origin, size, root) != s {
			t.Fatalf("checkpoint %q", s)
		}
		if k, err := tlog.ParseKey(s); err == nil && k.String() != s {
			t.Fatalf("key %q", s)
		}
		if tile, err := tlog.ParseTilePath(s); err == nil && (tile.Path() != s || tile.N < 0 || tile.Width < 1 || tile.Width > tlog.TileWidth || tile.Level < -1 || tile.Level > 7) {
			t.Fatalf("tile %q: %+v", s, tile)
		}
		text, lines, err := tlog.SplitNote([]byte(s))
		if err != nil {
			return
		}
		joined := text + "\n"
		var verifiers []note.Verifier
		for _, l := range lines {
			joined += l.Line
			if want := "— " + l.Name + " " + base64.StdEncoding.EncodeToString(append(binary.BigEndian.AppendUint32(nil, l.ID), l.Sig...)) + "\n"; l.Line != want {
				t.Fatalf("line %q, want %q", l.Line, want)
			}
			if again, list, err := tlog.SplitNote([]byte("x\n\n" + l.Line)); err != nil || again != "x\n" || len(list) != 1 || list[0].Name != l.Name || list[0].ID != l.ID || !bytes.Equal(list[0].Sig, l.Sig) {
				t.Fatalf("line %q of %q: %v", l.Line, s, err)
			}
			verifiers = append(verifiers, accepts{l})
		}
		if joined != s {
			t.Fatalf("note %q is %q", s, joined)
		}
		// A note that is accepted by x/mod has the same text and signatures there.
		if n, err := note.Open([]byte(s), note.VerifierList(unique(verifiers)...)); err == nil && (n.Text != text || len(n.Sigs) > len(lines) || len(n.UnverifiedSigs) > 0) {
			t.Fatalf("note %q: x/mod reads %+v", s, n)
		}
	})
}

// accepts is a verifier that accepts all signatures with the name and id of a line.
type accepts struct{ line tlog.SignatureLine }

func (a accepts) Name() string            { return a.line.Name }
func (a accepts) KeyHash() uint32         { return a.line.ID }
func (a accepts) Verify(_, _ []byte) bool { return true }

func unique(list []note.Verifier) (out []note.Verifier) {
	for _, v := range list {
		if !slices.ContainsFunc(out, func(o note.Verifier) bool { return o.Name() == v.Name() && o.KeyHash() == v.KeyHash() }) {
			out = append(out, v)
		}
	}
	return out
}

// FuzzBundle checks that the entries of an accepted bundle, one after the other, are its
// bytes, and that each smaller width gives the first of them.
func FuzzBundle(f *testing.F) {
	var data []byte
	for _, entry := range []string{"", "a", strings.Repeat("b", 300)} {
		data, _ = tlog.AppendEntry(data, []byte(entry))
	}
	for width := range 5 {
		f.Add(data, width)
	}
	f.Add(make([]byte, 512), 256)
	f.Add(make([]byte, 514), 256)
	f.Add([]byte{}, 257)
	f.Fuzz(func(t *testing.T, data []byte, width int) {
		if width < 0 || width > 1000 {
			return // TestWidthsOfBundles
		}
		list, err := tlog.ParseBundle(data, width)
		if err != nil {
			if !errors.Is(err, tlog.ErrMalformed) || list != nil {
				t.Fatal(list, err)
			}
			return
		}
		if len(list) != width {
			t.Fatalf("%d entries, want %d", len(list), width)
		}
		var again []byte
		for _, entry := range list {
			if again, err = tlog.AppendEntry(again, entry); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(data, again) {
			t.Fatalf("%x are the entries of %x", again, data)
		}
		more, err := tlog.ParseBundle(data, width+1)
		if (err == nil) == (len(again) == len(data)) {
			t.Fatalf("%d of %d bytes are %d entries, and %d: %v", len(again), len(data), width, len(more), err)
		}
		if err == nil && !slices.EqualFunc(more[:width], list, bytes.Equal) {
			t.Fatal("a smaller width gives other entries")
		}
	})
}
