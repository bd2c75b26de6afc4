package client_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// served are the files of an update, in the order of the requests.
var served = []string{"2.root.json", "3.root.json", "timestamp.json", "6.snapshot.json", "6.vendor-agent.json", "6.review-agent.json", "6.hold.json", targetSuffix}

// junked updates an old client while every location serves data for one file. Whatever
// the result, only the right bytes are saved, and the correct files repair it.
func junked(t *testing.T, served string, data []byte) {
	w := newWeb(t)
	w.good(w.client(), 1)
	w.repo.NextRoot(nothing)
	renew(w.repo)
	c := w.client()
	w.does(func(name string, r *http.Request) (*http.Response, error) {
		if name == "metadata/"+served || served == targetSuffix {
			return body(served, data)(name, r)
		}
		return nil, nil
	}, vendorHost, cdnHost, reviewHost)
	file := filepath.Join(t.TempDir(), "agent")
	err := refreshAndSave(c, file)
	if got, readErr := os.ReadFile(file); readErr == nil && string(got) != "the agent" || readErr != nil && err == nil {
		t.Fatalf("saved %q, %v, %v", got, readErr, err)
	}
	w.does(nil, vendorHost, cdnHost, reviewHost)
	for _, c := range []*client.Client{c, w.client()} {
		if err := refreshAndSave(c, file); err != nil {
			t.Fatal(err)
		}
	}
}

func TestJunk(t *testing.T) {
	t.Parallel()
	random := make([]byte, 3000)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(random)
	good := rawtuf.New()
	junk := map[string][]byte{"nothing": nil, "random": random, "null": []byte("null"), "array": []byte("[]"),
		"no members": []byte("{}"), "signed null": []byte(`{"signed":null,"signatures":null}`),
		"no meta": []byte(`{"signed":{"_type":"timestamp","spec_version":"1.0","version":9,"expires":"2040-01-01T00:00:00Z"},"signatures":[]}`),
		"deep":    []byte(strings.Repeat("[", 100_000)),
	}
	for _, name := range []string{"1.root.json", "timestamp.json", "5.vendor-agent.json"} {
		junk["good "+name] = good.Files[name] // of another role, or an older version
	}
	for i, file := range served {
		for j, name := range slices.Sorted(maps.Keys(junk)) {
			if rawtuf.Long || (i+j)%2 == 0 {
				t.Run(fmt.Sprint(file, " ", name), func(t *testing.T) { junked(t, file, junk[name]) })
			}
		}
	}
}

func FuzzServed(f *testing.F) {
	r := rawtuf.New()
	for i := range served {
		f.Add(uint8(i), r.Files["timestamp.json"])
		f.Add(uint8(i), []byte("{}"))
	}
	f.Fuzz(func(t *testing.T, i uint8, data []byte) { junked(t, served[int(i)%len(served)], data) })
}
