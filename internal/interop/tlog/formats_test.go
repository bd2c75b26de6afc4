package tlog_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	formats "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	fproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/formats/witness"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

func cosigner(name string) *rawlog.Signer { return rawlog.NewSigner(name, tlog.TypeCosigner) }

// twoOfTwo is a policy, and the checkpoint of a log with both cosignatures.
func twoOfTwo(t testing.TB, l *rawlog.Log) (*tlog.Policy, []byte) {
	t.Helper()
	a, b := cosigner("a.example"), cosigner("b.example")
	p, err := tlog.ParsePolicy(fmt.Sprintf("log %s\nwitness a %s\nwitness b %s\ngroup q all a b\nquorum q\n", l, a, b))
	rawtuf.NoErr(t, err)
	return p, l.Note(time.Unix(1773479520, 0), a, b)
}

// formats opens the checkpoints of this module with their cosignatures, and reads the same
// times; package tlog verifies the cosignatures that formats makes.
func TestCheckpointsOfFormats(t *testing.T) {
	l := rawlog.NewLog(origin)
	l.Append(leaves(0, 5)...)
	p, signed := twoOfTwo(t, l)
	logKey, err := note.NewVerifier(l.String())
	rawtuf.NoErr(t, err)
	cosigners := []note.Verifier{}
	for _, c := range p.Cosigners() {
		v, err := fnote.NewVerifierForCosignatureV1(c.Key.String())
		rawtuf.NoErr(t, err)
		if v.Name() != c.Key.Name || v.KeyHash() != c.Key.ID() {
			t.Fatalf("%s: other id", c.Name)
		}
		cosigners = append(cosigners, v)
	}
	c, rest, n, err := formats.ParseCheckpoint(signed, origin, logKey, cosigners...)
	if err != nil || len(rest) > 0 || len(n.Sigs) != 3 || c.Size != 5 || !bytes.Equal(c.Hash, l.Tree.Root[:]) || string(c.Marshal()) != l.Text() {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, s := range n.Sigs[1:] {
		if at, err := fnote.CoSigV1Timestamp(s); err != nil || at.Unix() != 1773479520 {
			t.Fatalf("%s, %v", at, err)
		}
	}

	signers := []note.Signer{}
	text := fmt.Sprintf("log %s\n", l)
	for i, name := range []string{"a.example", "c.example"} {
		skey, vkey, err := note.GenerateKey(nil, name)
		rawtuf.NoErr(t, err)
		s, err := fnote.NewSignerForCosignatureV1(skey)
		rawtuf.NoErr(t, err)
		signers = append(signers, s)
		k, err := fnote.VKeyToCosignatureV1(vkey)
		rawtuf.NoErr(t, err)
		if parsed, err := tlog.ParseKey(k); err != nil || parsed.ID() != s.KeyHash() {
			t.Fatalf("%s: %+v, %v", k, parsed, err)
		}
		text += fmt.Sprintf("witness w%d %s\n", i, k)
	}
	theirs, err := note.Sign(n, signers...)
	rawtuf.NoErr(t, err)
	mixed, err := tlog.ParsePolicy(text + "group q all w0 w1\nquorum q\n")
	rawtuf.NoErr(t, err)
	got, err := mixed.Verify(leaf(4), l.Proof(4, theirs))
	if err != nil || len(got.Cosigners) != 2 || got.Time.Before(time.Now().Add(-time.Hour)) {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := mixed.Verify(leaf(4), l.Proof(4, signed)); err == nil {
		t.Fatal("the cosignatures of others are accepted")
	}
}

// What one parser of checkpoints accepts and the other does not: formats allows extension
// lines, numbers and hashes in other encodings, and origins with spaces.
func TestDifferencesOfCheckpoints(t *testing.T) {
	l := rawlog.NewLog(origin)
	l.Append(leaves(0, 5)...)
	spaced := rawlog.NewLog("go.sum database tree")
	p, _ := twoOfTwo(t, l)
	logKey, err := note.NewVerifier(l.String())
	rawtuf.NoErr(t, err)
	root := base64.StdEncoding.EncodeToString(l.Tree.Root[:])
	for what, row := range map[string]struct {
		text          string
		ours, formats bool
	}{
		"healthy":           {l.Text(), true, true},
		"an extension":      {l.Text() + "x\n", false, true},
		"size 05":           {origin + "\n05\n" + root + "\n", false, true},
		"size 1<<57":        {tlog.CheckpointText(origin, 1<<57, l.Tree.Root), false, true},
		"size 1<<63":        {origin + "\n9223372036854775808\n" + root + "\n", false, true},
		"base64 of 31":      {origin + "\n5\n" + base64.StdEncoding.EncodeToString(l.Tree.Root[1:]) + "\n", false, true},
		"size +5":           {origin + "\n+5\n" + root + "\n", false, false},
		"size -5":           {origin + "\n-5\n" + root + "\n", false, false},
		"no root":           {origin + "\n5\n", false, false},
		"no origin":         {"\n5\n" + root + "\n", false, false},
		"another origin":    {"x\n5\n" + root + "\n", false, false},
		"origin, a space":   {spaced.Text(), false, false},
		"a carriage":        {origin + "\r\n5\n" + root + "\n", false, false},
		"base64, raw":       {origin + "\n5\n" + strings.TrimRight(root, "=") + "\n", false, false},
		"base64, spare bit": {origin + "\n5\n" + strings.TrimSuffix(root, root[42:]) + loose(root[42]) + "=\n", false, true},
	} {
		data := []byte(row.text + "\n" + l.Sign(row.text, time.Time{}))
		_, ours := p.Checkpoint(data)
		_, _, _, theirs := formats.ParseCheckpoint(data, origin, logKey)
		if (ours == nil) != row.ours || (theirs == nil) != row.formats {
			t.Errorf("%s: %v and %v", what, ours, theirs)
		}
	}
}

// loose is a character of base64 that differs in bits which a last character does not use.
func loose(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return string(alphabet[strings.IndexByte(alphabet, c)|1])
}

// FuzzProofs checks that a proof which package tlog reads is the same one for formats, and
// that one which it verifies is verified by merkle with the checkpoint that formats opens,
// and satisfies the policy of formats.
func FuzzProofs(f *testing.F) {
	l := rawlog.NewLog(origin)
	l.Append(leaves(0, 5)...)
	p, signed := twoOfTwo(f, l)
	logKey, err := note.NewVerifier(l.String())
	rawtuf.NoErr(f, err)
	policy, err := witness.ParsePolicy([]byte(withURLs(p)))
	rawtuf.NoErr(f, err)
	good := l.Proof(4, signed)
	f.Add(good)
	f.Add(l.Proof(3, signed))
	f.Add(append(bytes.Clone(good), cosigner("stranger.example").Sign(l.Text(), time.Unix(1, 0))...))
	f.Add(l.Proof(4, l.Note(time.Unix(1, 0), cosigner("a.example"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := tlog.ParseProof(data)
		if err != nil {
			if _, err := p.Verify(leaf(4), data); err == nil {
				t.Fatal("verified, but not parsed")
			}
			return
		}
		var theirs fproof.TLogProof
		if err := theirs.Unmarshal(data); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		// formats adds a line feed at the end, and takes carriage returns away; no checkpoint
		// has such an end.
		if theirs.Index != uint64(parsed.Index) || !slices.Equal(theirs.Hashes, parsed.Hashes) || theirs.ExtraData != nil || fitLines(parsed.Checkpoint) && !bytes.Equal(theirs.Checkpoint, parsed.Checkpoint) {
			t.Fatalf("%q: %+v", data, theirs)
		}
		if _, err := p.Verify(leaf(4), data); err != nil {
			return
		}
		c, _, _, err := formats.ParseCheckpoint(theirs.Checkpoint, origin, logKey)
		if err != nil || !policy.Satisfied(theirs.Checkpoint) || !bytes.Equal(theirs.Marshal(), data) {
			t.Fatalf("%q: %v", data, err)
		}
		rawtuf.NoErr(t, included(leaf(4), theirs, c))
	})
}

func included(entry []byte, p fproof.TLogProof, c *formats.Checkpoint) error {
	h := tlog.LeafHash(entry)
	return proof.VerifyInclusion(rfc6962.DefaultHasher, p.Index, c.Size, h[:], slicesOf(p.Hashes), c.Hash)
}

func fitLines(data []byte) bool {
	return !bytes.ContainsRune(data, '\r') && (len(data) == 0 || data[len(data)-1] == '\n')
}

// What formats accepts as a proof and package tlog does not.
func TestDifferencesOfProofs(t *testing.T) {
	l := rawlog.NewLog(origin)
	l.Append(leaves(0, 5)...)
	p, signed := twoOfTwo(t, l)
	good := string(l.Proof(4, signed))
	hash := strings.SplitAfter(good, "\n")[2]
	replace := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	if _, err := p.Verify(leaf(4), []byte(good)); err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string]string{
		"extra data":            replace("index", "extra AA==\nindex"),
		"index 04":              replace("index 4", "index 04"),
		"index beyond 63 bits":  replace("index 4", "index 9223372036854775808"),
		"carriage returns":      replace("index 4\n", "index 4\r\n"),
		"no line feed at all":   replace("@v1\nindex 4\n"+hash+"\n"+string(signed), "@v1\nindex 4"),
		"no checkpoint":         replace("\n\n"+string(signed), "\n"),
		"64 hashes":             replace("index 4\n", "index 4\n"+strings.Repeat(hash, 63)),
		"base64 with spare bit": replace(hash, hash[:42]+loose(hash[42])+"=\n"),
		"more than 16 KiB":      good + strings.Repeat("— x "+strings.Repeat("A", 4000)+"\n", 5),
	} {
		var theirs fproof.TLogProof
		_, ours := tlog.ParseProof([]byte(data))
		if err := theirs.Unmarshal([]byte(data)); ours == nil || err != nil {
			t.Errorf("%s: %v and %v", what, ours, err)
		}
	}
}
