package tuf_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/visum-dev/visum/tuf"
)

// A vector is a test case for any TUF client. It is a txtar archive that begins with lines
// "key: value" (a line that begins with two spaces continues the previous one):
//
//	name:     the file's name
//	about:    the fault in another implementation, and the required behaviour
//	now:      the time of the update
//	find:     the requested target path
//	expect:   ok, or the name of the sentinel
//	contains: a part of the message (optional)
//	role:     the role that must have listed the target (optional)
//
// The files follow in the order in which a client reads them: the trusted file (1.root.json, or
// pin.json with a charter), the priors (prior/timestamp.json, prior/snapshot.json), and the served
// files. A file is everything between two marks, with its last newline. Role names are escaped in
// file names as in a URL.
type vector struct {
	name, about, find, expect, contains, role string

	now   time.Time
	files map[string][]byte
	order []string // of files
}

var sentinels = map[string]error{
	"ErrMalformed": tuf.ErrMalformed, "ErrTooLarge": tuf.ErrTooLarge, "ErrThreshold": tuf.ErrThreshold, "ErrRollback": tuf.ErrRollback,
	"ErrMismatch": tuf.ErrMismatch, "ErrCharter": tuf.ErrCharter, "ErrNotApproved": tuf.ErrNotApproved, "ErrExpired": tuf.ErrExpired,
	"ErrNoTarget": tuf.ErrNoTarget, "ErrHeld": tuf.ErrHeld, "ErrWaiting": tuf.ErrWaiting,
}

var vectorFile = regexp.MustCompile(`^(pin|timestamp|prior/timestamp|prior/snapshot|[1-9][0-9]*\.[^/]+)\.json$`)

func parseVector(data []byte) (*vector, error) {
	a := txtar.Parse(data)
	v := &vector{files: map[string][]byte{}}
	var now string
	keys := map[string]*string{"name": &v.name, "about": &v.about, "now": &now, "find": &v.find, "expect": &v.expect, "contains": &v.contains, "role": &v.role}
	var last *string
	for line := range strings.Lines(string(a.Comment)) {
		line = strings.TrimSuffix(line, "\n")
		if more, ok := strings.CutPrefix(line, "  "); ok && last != nil {
			*last += " " + more
			continue
		}
		key, value, _ := strings.Cut(line, ": ")
		if last = keys[key]; last == nil {
			return nil, fmt.Errorf("unknown header line %q, or it is there twice", line)
		}
		delete(keys, key)
		*last = value
	}
	for key, to := range keys {
		if key != "contains" && key != "role" && *to == "" {
			return nil, fmt.Errorf("no header %s", key)
		}
	}
	var err error
	if v.now, err = time.Parse(time.RFC3339, now); err != nil {
		return nil, err
	}
	if v.expect != "ok" && sentinels[v.expect] == nil {
		return nil, fmt.Errorf("expects %q, which is no sentinel", v.expect)
	}
	for _, f := range a.Files {
		if !vectorFile.MatchString(f.Name) || v.files[f.Name] != nil {
			return nil, fmt.Errorf("file %q is unexpected or there twice", f.Name)
		}
		v.files[f.Name] = f.Data
		v.order = append(v.order, f.Name)
	}
	if len(v.order) == 0 || v.order[0] != "pin.json" && v.order[0] != "1.root.json" {
		return nil, errors.New("it does not begin with what is trusted")
	}
	return v, nil
}

func (v *vector) served(name string) ([]byte, error) {
	if data, ok := v.files[name]; ok {
		return data, nil
	}
	return nil, fmt.Errorf("%s: %w", name, errNotServed)
}

func (v *vector) fetch(f tuf.RoleFile) ([]byte, error) {
	return v.served(fmt.Sprintf("%d.%s.json", f.Version, url.PathEscape(f.Role)))
}

// verdict verifies from the trusted file to the target, with this package only.
func (v *vector) verdict() (tuf.Approved, error) {
	var root *tuf.Root
	var err error
	if data, ok := v.files["pin.json"]; ok {
		p, err := tuf.OpenPin(data, nil)
		if err != nil {
			return tuf.Approved{}, err
		}
		root = p.Root()
	} else if root, err = tuf.OpenRoot(v.files["1.root.json"], nil); err != nil {
		return tuf.Approved{}, err
	}
	for {
		data, ok := v.files[fmt.Sprintf("%d.root.json", root.Version()+1)]
		if !ok {
			break
		}
		if root, err = root.Next(data); err != nil {
			return tuf.Approved{}, err
		}
	}
	data, err := v.served("timestamp.json")
	if err != nil {
		return tuf.Approved{}, err
	}
	ts, err := root.Timestamp(data, v.files["prior/timestamp.json"], v.now)
	if err != nil {
		return tuf.Approved{}, err
	}
	if data, err = v.fetch(ts.SnapshotFile()); err != nil {
		return tuf.Approved{}, err
	}
	snap, err := ts.Snapshot(data, v.files["prior/snapshot.json"])
	if err != nil {
		return tuf.Approved{}, err
	}
	if root.Charter() != nil {
		return snap.Approve(v.find, v.fetch)
	}
	return snap.UnsafeTarget(v.find, v.fetch)
}

// check compares the result with the expected one; nil if they agree.
func (v *vector) check() error {
	a, err := v.verdict()
	var e *tuf.Error
	switch {
	case err != nil && !errors.As(err, &e):
		return fmt.Errorf("no verdict was reached: %w", err)
	case v.expect != "ok" && !errors.Is(err, sentinels[v.expect]):
		return fmt.Errorf("expected %s, got %v", v.expect, err)
	case v.expect != "ok":
		if !strings.Contains(err.Error(), v.contains) {
			return fmt.Errorf("expected %q in: %v", v.contains, err)
		}
		return nil
	case err != nil:
		return err
	case a.IsZero() || a.Path() != v.find:
		return fmt.Errorf("approved %q", a.Path())
	case v.role != "" && !slices.ContainsFunc(a.Signoffs(), func(s tuf.Signoff) bool { return s.Role == v.role }):
		return fmt.Errorf("listed by %v, expected %s", a.Signoffs(), v.role)
	}
	return nil
}

// loadVectors reads the vectors of a folder; an empty folder is an error.
func loadVectors(fsys fstest.MapFS) ([]*vector, error) {
	var out []*vector
	for name, f := range fsys {
		v, err := parseVector(f.Data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if v.name+".txtar" != name {
			return nil, fmt.Errorf("%s is named %s", name, v.name)
		}
		out = append(out, v)
	}
	if len(out) == 0 {
		return nil, errors.New("no vectors")
	}
	slices.SortFunc(out, func(a, b *vector) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

const vectorDir = "testdata/vectors"

// vectorFS is the folder of vectors. It has no other files.
func vectorFS(t testing.TB) fstest.MapFS {
	t.Helper()
	entries, err := os.ReadDir(vectorDir)
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(vectorDir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fsys[e.Name()] = &fstest.MapFile{Data: data}
	}
	return fsys
}

func vectors(t testing.TB) []*vector {
	t.Helper()
	list, err := loadVectors(vectorFS(t))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			if err := v.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A malformed vector must not pass.
func TestMalformedVectors(t *testing.T) {
	const header = "name: x\nabout: a\n  story\nnow: 2030-01-15T12:00:00Z\nfind: top.txt\nexpect: ok\n"
	if _, err := loadVectors(fstest.MapFS{}); err == nil {
		t.Error("an empty folder")
	}
	good := string(vectorFS(t)["CVE-2025-2885-healthy.txtar"].Data)
	cut := func(from string) string { return good[:strings.Index(good, "-- "+from)] }
	for _, tt := range []struct{ name, data, want string }{
		{"empty", "", "no header"},
		{"no files", header, "begin with what is trusted"},
		{"unknown header", "color: blue\n" + good, "unknown header"},
		{"a header twice", "name: x\n" + good, "twice"},
		{"no expectation", strings.Replace(good, "expect: ok\n", "", 1), "no header expect"},
		{"expects what there is not", strings.Replace(good, "expect: ok", "expect: ErrUntrusted", 1), "no sentinel"},
		{"a file of no use", good + "-- notes.txt --\n", "is unexpected"},
		{"a file twice", good + "-- timestamp.json --\n", "twice"},
		{"not what is trusted first", cut("1.root.json") + "-- timestamp.json --\n", "begin with"},
	} {
		if _, err := parseVector([]byte(tt.data)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, tt := range []struct{ name, data, want string }{
		{"served nothing", cut("timestamp.json"), "no verdict was reached"},
		{"no snapshot", cut("5.snapshot.json"), "no verdict was reached"},
		{"no targets", cut("5.targets.json"), "no verdict was reached"},
		{"nor where a refusal is expected", strings.Replace(cut("timestamp.json"), "expect: ok", "expect: ErrNoTarget", 1), "no verdict was reached"},
		{"another verdict", strings.Replace(good, "expect: ok", "expect: ErrExpired", 1), "expected ErrExpired, got <nil>"},
		{"refused", strings.Replace(good, "now: 2030", "now: 2040", 1), "expired"},
		{"refused for another reason", strings.Replace(strings.Replace(good, "now: 2030", "now: 2040", 1), "expect: ok", "expect: ErrExpired\ncontains: rain", 1), `expected "rain" in`},
		{"another role", strings.Replace(good, "expect: ok", "expect: ok\nrole: lib", 1), "expected lib"},
	} {
		v, err := parseVector([]byte(tt.data))
		if err == nil {
			err = v.check()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if v, err := parseVector([]byte(header + cut("timestamp.json")[strings.Index(good, "-- "):])); err != nil || v.about != "a story" {
		t.Error(v, err)
	}
}
