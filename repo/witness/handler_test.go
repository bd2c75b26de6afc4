package witness_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/repo/witness"
	"github.com/visum-dev/visum/tuf/tlog"
)

// Every status of add-checkpoint, in the order of the package comment, with its whole body.
// After each refusal the log is signed as if nothing had been sent.
func TestStatuses(t *testing.T) {
	t.Parallel()
	other := grown("other.example/log", "", 0, 5)
	rotated := rawlog.NewSigner("another seed", tlog.TypeLog)
	rotated.Name = origin // another key under the same name
	own := rawlog.NewSigner("own", tlog.TypeCosigner)
	own.Key = func() tlog.Key { w := newWorld(t); return w.Key() }()
	hash := "z+H8fUpm2kYyPMVNTVy+8OYY9SK8SXuhbbOFMmtFYsY="
	var proof63, proof64 []tlog.Hash
	for range 64 {
		proof63, proof64 = proof64, append(proof64, tlog.Hash{})
	}
	text := log.text(5)
	sig := log.Sign(text, time.Time{})
	forged := text + "\n" + fork.Sign(fork.text(5), time.Time{})
	sized := func(size string) string {
		s := strings.Replace(text, "\n5\n", "\n"+size+"\n", 1)
		return s + "\n" + log.Sign(s, time.Time{})
	}
	extended := text + "an extension\n"
	badEmpty := tlog.CheckpointText(origin, 0, tlog.Hash{1})
	good := log.request(3, 5)
	for _, x := range []struct {
		name   string
		body   string
		status int
		answer string
	}{
		{"empty", "", 400, "witness: request: malformed: the first line is not an old size"},
		{"no old size", log.note(5), 400, "witness: request: malformed: the first line is not an old size"},
		{"a leading zero", strings.Replace(good, "old 3", "old 03", 1), 400, "witness: request: malformed: the first line is not an old size"},
		{"a sign", strings.Replace(good, "old 3", "old +3", 1), 400, "witness: request: malformed: the first line is not an old size"},
		{"a negative size", strings.Replace(good, "old 3", "old -3", 1), 400, "witness: request: malformed: the first line is not an old size"},
		{"a carriage return", strings.Replace(good, "old 3", "old 3\r", 1), 400, "witness: request: malformed: the first line is not an old size"},
		{"a huge old size", strings.Replace(good, "old 3", "old 18446744073709551616", 1), 400, "witness: request: malformed: the first line is not an old size"},
		{"no checkpoint", "old 3\n", 400, "witness: request: malformed: no empty line before the checkpoint"},
		{"no checkpoint after a hash", "old 3\n" + hash + "\n", 400, "witness: request: malformed: no empty line before the checkpoint"},
		{"an empty checkpoint", "old 3\n\n", 400, "witness: request: tlog: malformed: note: no signatures"},
		{"a short hash", "old 3\nAAAA\n\n" + log.note(5), 400, "witness: request: malformed: line 2 is not a hash"},
		{"another encoding", "old 3\n" + strings.Replace(hash, "sY=", "sZ=", 1) + "\n\n" + log.note(5), 400, "witness: request: malformed: line 2 is not a hash"},
		{"64 hashes", body(3, proof64, log.note(5)), 400, "witness: request: malformed: the proof has more than 63 hashes"},
		{"a large body", good + strings.Repeat("x", witness.MaxRequest), 400, "witness: request: malformed: more than 65536 bytes"},
		{"a large checkpoint", body(3, nil, text+"\n"+strings.Repeat(sig, 200)), 400, "witness: request: tlog: malformed: note: 25076 bytes, at most 16384"},
		{"no signature", body(3, nil, text), 400, "witness: request: tlog: malformed: note: no signatures"},
		{"a broken signature line", body(3, nil, text+"\n— x\n"), 400, `witness: request: tlog: malformed: note: signature line "\u2014 x\n"`},
		{"signed twice", body(3, nil, text+"\n"+sig+sig), 400, `witness: request: tlog: malformed: note: 2 signatures of "vendor.example/visum/0f6c/1"`},
		{"extension lines", body(3, nil, extended+"\n"+log.Sign(extended, time.Time{})), 400, `witness: request: tlog: malformed: checkpoint "vendor.example/visum/0f6c/1\n5\nfKo0Xb2JKmZFTWxlEuo8PqPw0+whvj/C4jdXBf049nI=\nan extension\n": want an origin, a size and a hash`},
		{"a huge size", body(3, nil, sized("72057594037927937")), 400, `witness: request: tlog: malformed: checkpoint "vendor.example/visum/0f6c/1\n72057594037927937\nfKo0Xb2JKmZFTWxlEuo8PqPw0+whvj/C4jdXBf049nI=\n": want an origin, a size and a hash`},
		{"an unknown log", other.request(3, 5), 404, `witness: unknown log: "other.example/log"`},
		{"an unknown log with a wrong size", body(9, nil, other.note(5)), 404, `witness: unknown log: "other.example/log"`},
		{"an unknown key", body(3, nil, text+"\n"+other.Sign(text, time.Time{})), 403, "witness: checkpoint: signature not valid: the log has not signed"},
		{"another key of that name", body(3, nil, text+"\n"+rotated.Sign(text, time.Time{})), 403, "witness: checkpoint: signature not valid: the log has not signed"},
		{"a signature of another text", body(3, nil, forged), 403, `witness: request: tlog: note: signature not valid: of "vendor.example/visum/0f6c/1"`},
		{"a forged huge size", body(3, nil, strings.Replace(log.note(5), "\n5\n", "\n9223372036854775807\n", 1)), 403, `witness: request: tlog: note: signature not valid: of "vendor.example/visum/0f6c/1"`},
		{"an old size that is too large", body(6, nil, log.note(5)), 400, "witness: request: malformed: the old size 6 is larger than the size 5 of the checkpoint"},
		{"size 0 with a root", body(0, nil, badEmpty+"\n"+log.Sign(badEmpty, time.Time{})), 422, "witness: request: tlog: checkpoint: not in the tree: a tree of no entries has another root"},
		{"from 0", log.request(0, 5), 409, "3"},
		{"from another size", log.request(2, 5), 409, "3"},
		{"a smaller tree", log.request(2, 2), 409, "3"},
		{"the empty tree", log.request(0, 0), 409, "3"},
		{"no proof", body(3, nil, log.note(5)), 422, "witness: request: tlog: not in the tree: the tree of 3 entries is not the beginning of the one of 5 entries"},
		{"a proof of 63 hashes", body(3, proof63, log.note(5)), 422, "witness: request: tlog: not in the tree: the tree of 3 entries is not the beginning of the one of 5 entries"},
		{"a huge tree", body(3, proof63, sized("72057594037927936")), 422, "witness: request: tlog: not in the tree: the tree of 3 entries is not the beginning of the one of 72057594037927936 entries"},
		{"a proof at the same size", body(3, []tlog.Hash{{}}, log.note(3)), 422, "witness: request: tlog: not in the tree: the tree of 3 entries is not the beginning of the one of 3 entries"},
		{"unknown signatures", body(3, consistency(3, 5), log.note(5)+other.Sign(text, time.Time{})+rotated.Sign(text, time.Time{})), 200, ""},
		{"a wrong signature of an unknown key first", body(3, consistency(3, 5), text+"\n"+other.Sign("x", time.Time{})+rotated.Sign("x", time.Time{})+sig), 200, ""},
		{"a wrong signature of the witness", body(3, consistency(3, 5), log.note(5)+own.Sign(text, time.Unix(start, 0))), 200, ""},
		{"healthy", good, 200, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.signs(log, 0, 3)
			if x.status == 200 {
				status, line := w.post(x.body)
				if status != 200 {
					t.Fatal(status, line)
				}
				w.verifies(log, 5, line)
				if state := string(w.mem.Files[stateFile]); strings.Count(state, "— ") != 3 {
					t.Fatalf("other signatures than those of the log and the witness are kept:\n%s", state)
				}
				return
			}
			w.refuses(x.body, x.status, x.answer+"\n")
			w.signs(log, 3, 5)
		})
	}
}

func consistency(old, size int64) []tlog.Hash {
	proof, err := log.trees[size].Consistency(old)
	if err != nil {
		panic(err)
	}
	return proof
}

// The first tree needs no proof, and may be empty.
func TestFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refuses(body(0, []tlog.Hash{{}}, log.note(3)), 422, "witness: request: tlog: not in the tree: the tree of 0 entries is not the beginning of the one of 3 entries\n")
	w.refuses(log.request(2, 3), 409, "0\n")
	w.signs(log, 0, 0)
	w.refuses(body(0, []tlog.Hash{{}}, log.note(0)), 422, "witness: request: tlog: not in the tree: the tree of 0 entries is not the beginning of the one of 0 entries\n")
	w.signs(log, 0, 0)
	w.signs(log, 0, 3)
	w.refuses(log.request(0, 0), 409, "3\n")
	w.signs(log, 3, 9)
	w.key.intact(t, log)
	if found, err := w.Evidence(t.Context(), origin); err != nil || len(found) > 0 {
		t.Fatal(found, err)
	}
}

// Headers, methods and paths.
func TestHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/" + hashOf(origin) + "/checkpoint"
	do := func(method, path, body string, status int, answer string, headers ...string) {
		t.Helper()
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, httptest.NewRequest(method, path, strings.NewReader(body)))
		if rec.Code != status || rec.Body.String() != answer {
			t.Fatalf("%s %s: %d %q, want %d %q", method, path, rec.Code, rec.Body, status, answer)
		}
		for i := 0; i < len(headers); i += 2 {
			if got := rec.Header().Get(headers[i]); got != headers[i+1] {
				t.Fatalf("%s %s: %s is %q, want %q", method, path, headers[i], got, headers[i+1])
			}
		}
	}
	do("GET", path, "", 404, "witness: checkpoint of \"vendor.example/visum/0f6c/1\": file does not exist\n", "Content-Type", "text/plain; charset=utf-8")
	w.signs(log, 0, 3)
	note, err := w.Checkpoint(t.Context(), origin)
	noErr(t, err)
	w.verifies(log, 3, strings.TrimPrefix(string(note), log.note(3)))
	do("GET", path, "", 200, string(note), "Content-Type", "text/plain; charset=utf-8", "Cache-Control", "no-store", "X-Content-Type-Options", "nosniff")
	do("POST", "/add-checkpoint", log.request(3, 3), 200, strings.TrimPrefix(string(note), log.note(3)), "Content-Type", "text/plain; charset=utf-8")
	do("POST", "/add-checkpoint", log.request(0, 5), 409, "3\n", "Content-Type", "text/x.tlog.size")
	do("GET", "/add-checkpoint", "", 405, "witness: want the method POST\n", "Allow", "POST")
	do("POST", path, "", 405, "witness: want the method GET, HEAD\n", "Allow", "GET, HEAD")
	for _, path := range []string{"/", "/add-checkpoint/", "/x/add-checkpoint", "/" + hashOf("x") + "/checkpoint", strings.ToUpper(path), path + "/", "/" + hashOf(origin), "//checkpoint"} {
		do("GET", path, "", 404, "witness: not found\n")
	}
	// A real server, below another path.
	server := httptest.NewServer(http.StripPrefix("/w", w))
	defer server.Close()
	head, err := server.Client().Head(server.URL + "/w" + path)
	noErr(t, err)
	defer head.Body.Close()
	if head.StatusCode != 200 || head.ContentLength != int64(len(note)) {
		t.Fatal(head.Status, head.ContentLength)
	}
	cut, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/w/add-checkpoint", readerFunc(func([]byte) (int, error) { return 0, errFault }))
	noErr(t, err)
	if _, err := server.Client().Do(cut); err == nil {
		t.Fatal("a body that ends early was answered")
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest("POST", "/add-checkpoint", readerFunc(func([]byte) (int, error) { return 0, errFault })))
	if rec.Code != 400 || rec.Body.String() != "witness: request: malformed: the body ends early\n" {
		t.Fatal(rec.Code, rec.Body)
	}
	read := 0 // of a body that does not end before 1 MiB
	rec = httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest("POST", "/add-checkpoint", readerFunc(func(p []byte) (int, error) {
		if read += len(p); read > 1<<20 {
			return 0, io.EOF
		}
		return len(p), nil
	})))
	if rec.Code != 400 || rec.Body.String() != "witness: request: malformed: more than 65536 bytes\n" || read > 2*witness.MaxRequest {
		t.Fatal(rec.Code, rec.Body, read)
	}
	_, err = w.Checkpoint(t.Context(), "other.example")
	is(t, err, witness.ErrUnknownLog, `witness: unknown log: "other.example"`)
	_, err = w.Evidence(t.Context(), "other.example")
	is(t, err, witness.ErrUnknownLog, `witness: unknown log: "other.example"`)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The errors of AddCheckpoint are those that its comment names.
func TestErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signs(log, 0, 3)
	for _, x := range []struct {
		body string
		want error
	}{
		{"", tlog.ErrMalformed},
		{grown("other.example/log", "", 0, 1).request(0, 1), witness.ErrUnknownLog},
		{body(3, nil, log.text(5)+"\n"+fork.Sign(fork.text(5), time.Time{})), tlog.ErrSignature},
		{body(3, nil, log.note(5)), tlog.ErrInclusion},
	} {
		if _, err := w.AddCheckpoint(t.Context(), []byte(x.body)); !errors.Is(err, x.want) {
			t.Errorf("%v, want %v", err, x.want)
		}
	}
	_, err := w.AddCheckpoint(t.Context(), []byte(log.request(2, 5)))
	if size, ok := errors.AsType[*witness.SizeError](err); !ok || *size != (witness.SizeError{Size: 3, Old: 2}) || err.Error() != "witness: the newest signed tree has 3 entries, the proof is from 2" {
		t.Error(err)
	}
	_, err = w.AddCheckpoint(t.Context(), make([]byte, witness.MaxRequest+1))
	is(t, err, tlog.ErrMalformed, "witness: request: malformed: more than 65536 bytes")
}

// The check sees a verified growth before the key signs. Its error is the answer, and the
// state stays, whatever the error wraps.
func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var seen []witness.Growth
	w.check = func(_ context.Context, g witness.Growth) error {
		seen = append(seen, g)
		return nil
	}
	w.signs(log, 0, 3)
	w.refuses(body(3, nil, log.note(5)), 422, "witness: request: tlog: not in the tree: the tree of 3 entries is not the beginning of the one of 5 entries\n")
	w.signs(log, 3, 5)
	w.now++
	w.signs(log, 5, 5)
	var got []int64
	for _, g := range seen {
		got = append(got, g.Old.Size, g.New.Size)
		if g.Old.Root != log.trees[g.Old.Size].Root || g.New.Root != log.trees[g.New.Size].Root || g.Old.Origin != origin || g.New.Origin != origin || string(g.Note) != log.note(g.New.Size) {
			t.Errorf("%+v", g)
		}
	}
	if want := []int64{0, 3, 3, 5, 5, 5}; len(got) != len(want) || [6]int64(got) != [6]int64(want) {
		t.Fatalf("checked %d", got)
	}
	for _, err := range []error{errFault, witness.ErrState, &witness.SizeError{Size: 9}, tlog.ErrSignature, context.Canceled} {
		w.check = func(context.Context, witness.Growth) error { return err }
		signed := len(w.key.signed)
		w.refuses(log.request(5, 9), 503, "witness: not signed now: "+err.Error()+"\n")
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, httptest.NewRequest("POST", "/add-checkpoint", strings.NewReader(log.request(5, 9))))
		if rec.Header().Get("Retry-After") != "5" || len(w.key.signed) != signed {
			t.Fatalf("Retry-After is %q, and %d were signed", rec.Header(), len(w.key.signed)-signed)
		}
		_, got := w.AddCheckpoint(t.Context(), []byte(log.request(5, 9)))
		is(t, got, witness.ErrCheck, "")
		is(t, got, err, "")
	}
	// A check can change what it was given, and nothing else.
	w.check = func(_ context.Context, g witness.Growth) error {
		clear(g.Note)
		return nil
	}
	w.signs(log, 5, 9)
	w.key.intact(t, log)
}

// What a witness needs is demanded when it is made.
func TestConfig(t *testing.T) {
	t.Parallel()
	good := func() witness.Config {
		return witness.Config{Name: name, Signer: newKey(), Logs: []tlog.Key{log.Key}, Storage: newWorld(t).mem}
	}
	ecdsa := newKey()
	ecdsa.Signer = otherScheme{ecdsa.Signer}
	for _, x := range []struct {
		change func(*witness.Config)
		text   string
	}{
		{func(c *witness.Config) { c.Signer = nil }, "witness: invalid configuration: want a signer, a storage and a log"},
		{func(c *witness.Config) { c.Storage = nil }, "witness: invalid configuration: want a signer, a storage and a log"},
		{func(c *witness.Config) { c.Logs = nil }, "witness: invalid configuration: want a signer, a storage and a log"},
		{func(c *witness.Config) { c.RetryAfter = -1 }, "witness: invalid configuration: RetryAfter is negative"},
		{func(c *witness.Config) { c.Signer = ecdsa }, "witness: invalid configuration: the signer has a key of type ecdsa, want ed25519"},
		{func(c *witness.Config) { c.Name = "two words" }, ""},
		{func(c *witness.Config) { c.Name = "" }, ""},
		{func(c *witness.Config) { c.Name = "x\nquorum self" }, ""},
		{func(c *witness.Config) { c.Logs = []tlog.Key{log.Key, log.Key} }, `witness: invalid configuration: log "vendor.example/visum/0f6c/1" has two keys`},
		{func(c *witness.Config) { c.Logs = []tlog.Key{rawlog.NewSigner("x", tlog.TypeCosigner).Key} }, ""},
		{func(c *witness.Config) {
			c.Logs = []tlog.Key{{Name: "x", Type: tlog.TypeLog, Public: make([]byte, 32)}}
		}, ""},
		{func(c *witness.Config) {
			c.Logs = []tlog.Key{{Name: "x", Type: tlog.TypeLog, Public: newWorld(t).Key().Public}}
		}, ""}, // the key of the witness
	} {
		c := good()
		x.change(&c)
		_, err := witness.New(c)
		is(t, err, witness.ErrConfig, x.text)
	}
	c := good()
	c.RetryAfter = 1500 * time.Millisecond
	c.Check = func(context.Context, witness.Growth) error { return errFault }
	w, err := witness.New(c)
	noErr(t, err)
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest("POST", "/add-checkpoint", strings.NewReader(log.request(0, 5))))
	if rec.Code != 503 || rec.Header().Get("Retry-After") != "2" {
		t.Fatal(rec.Code, rec.Header())
	}
	c.Check = nil
	w, err = witness.New(c)
	noErr(t, err)
	if _, err = w.AddCheckpoint(t.Context(), []byte(log.request(0, 5))); err != nil { // without a check, by the clock of the machine
		t.Fatal(err)
	}
}
