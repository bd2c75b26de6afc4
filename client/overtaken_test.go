package client_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// rotateTo publishes a root with other online keys, the n-th.
func rotateTo(r *rawtuf.Repo, n string) {
	r.NextRoot(func() {
		r.Signers["timestamp"], r.Signers["snapshot"] = []string{"ts" + n}, []string{"sn" + n}
		r.AddKeys(r.Root, "ts"+n, "sn"+n)
		roles := r.Root["roles"].(rawtuf.Doc)
		roles["timestamp"], roles["snapshot"] = r.Role(1, "ts"+n), r.Role(1, "sn"+n)
		r.Charter()["epoch"] = r.Charter()["epoch"].(int) + 1
	})
	r.Bump()
	r.Publish()
}

// A root that is published between a client's requests for it ("not found") and for the
// timestamp is followed in the same refresh: the timestamp, which the keys of the root
// before did not sign, is no evidence. The same holds for two roots in a row.
func TestRootPublishedInTheMiddleOfARefresh(t *testing.T) {
	for _, rotations := range []string{"2", "23"} {
		for _, name := range []string{"everywhere", "at the first location"} {
			t.Run(rotations+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWeb(t)
				w.good(w.client(), 1)
				old := w.repo.Clone()
				var mu sync.Mutex
				left := rotations
				asked := make(chan struct{})
				once := sync.OnceFunc(func() { close(asked) })
				c := w.client(func(cfg *client.Config) {
					cfg.HTTP = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
						if r.URL.Host != vendorHost {
							if name != "everywhere" { // it does not have the root yet
								if data, ok := fileOf(old, strings.TrimPrefix(r.URL.Path, "/r/")); ok {
									return respond(r, 200, readerOf(data)), nil
								}
								return respond(r, 404, http.NoBody), nil
							}
							return w.RoundTrip(r)
						}
						if strings.HasSuffix(r.URL.Path, "timestamp.json") {
							<-asked // the answer for the root is on its way
						}
						resp, err := w.RoundTrip(r)
						mu.Lock()
						defer mu.Unlock()
						if strings.HasSuffix(r.URL.Path, ".root.json") && resp.StatusCode == 404 && left != "" {
							w.mu.Lock()
							rotateTo(w.repo, left[:1])
							w.mu.Unlock()
							left = left[1:]
							once()
						}
						return resp, err
					})}
				})
				view := w.good(c, int64(1+len(rotations)))
				if len(view.Evidence()) > 0 {
					t.Errorf("evidence %q", view.Evidence())
				}
			})
		}
	}
}

// A timestamp that no root explains is evidence as before, after one more request.
func TestTimestampThatNoRootExplains(t *testing.T) {
	w := newWeb(t)
	w.good(w.client(), 1)
	attacker := w.repo.Clone()
	attacker.Signers["timestamp"] = []string{"attacker"}
	attacker.Publish()
	w.does(body("timestamp.json", attacker.Files["timestamp.json"]), vendorHost)
	w.asked("")
	view := w.good(w.client(), 1)
	if view.Location() != "cdn" || len(view.Evidence()) != 1 {
		t.Errorf("served by %s, evidence %q", view.Location(), view.Evidence())
	}
	n := 0
	for _, name := range w.asked(vendorHost) {
		if name == "metadata/2.root.json" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("asked %d times for the root", n)
	}
	// The location is asked last from then on.
	w.asked("")
	w.good(w.client(), 1)
	if got := w.asked(vendorHost); len(got) > 1 {
		t.Errorf("asked %q", got)
	}
	w.does(body("timestamp.json", attacker.Files["timestamp.json"]), cdnHost)
	w.bad(w.client(), tuf.ErrThreshold)
	w.does(nil, vendorHost, cdnHost)
	w.good(w.client(), 1)
}
