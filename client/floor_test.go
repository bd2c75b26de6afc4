package client_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// An attacker with a release key and the online keys inflated the role's version. After
// a rotation of the online keys the role's own floor still prevents a rollback; a new
// release key may start at new numbers.
func TestReleaseRoleWithNewKeys(t *testing.T) {
	for name, tt := range map[string]struct {
		newKey bool
		want   error
	}{"old release key": {false, tuf.ErrRollback}, "new release key": {true, nil}} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t)
			c := w.client()
			w.good(c, 1)
			honest := w.repo.Clone()
			w.repo.Roles["vendor-agent"]["version"] = 1 << 40
			w.repo.Bump("hold")
			w.repo.Publish()
			w.good(c, 1)

			w.repo = honest
			w.repo.NextRoot(func() {
				r := w.repo
				r.AddKeys(r.Root, "ts2", "sn2", "va2")
				roles := rawtuf.At(r.Root, "roles")
				roles["timestamp"], roles["snapshot"] = r.Role(1, "ts2"), r.Role(1, "sn2")
				r.Signers["timestamp"], r.Signers["snapshot"] = []string{"ts2"}, []string{"sn2"}
				charter := r.Charter()
				charter["epoch"] = charter["epoch"].(int) + 1
				if !tt.newKey {
					return
				}
				for _, role := range rawtuf.At(charter["classes"].([]any)[0])["roles"].([]any) {
					if rawtuf.At(role)["role"] == "vendor-agent" {
						rawtuf.At(role)["keyids"] = r.IDs("va2")
					}
				}
				r.Signers["vendor-agent"] = []string{"va2"}
			})
			renew(w.repo)
			view, err := refreshed(t, c)
			if !errors.Is(err, tt.want) || view.Root().Version() != 2 {
				t.Errorf("%v; root v%d", err, view.Root().Version())
			}
			if !tt.newKey {
				return
			}
			// The new key has a floor too, also without the last snapshot.
			w.repo.Bump("vendor-agent")
			w.repo.Publish()
			w.good(c, 2)
			if err := os.Remove(w.state("snapshot.json")); err != nil {
				t.Fatal(err)
			}
			role := w.repo.Roles["vendor-agent"]
			role["version"] = role["version"].(int) - 1
			w.repo.Bump()
			w.repo.Publish()
			w.bad(c, tuf.ErrRollback)
		})
	}
}

// A role that the charter no longer lists has no floor.
func TestRoleThatIsGoneHasNoFloor(t *testing.T) {
	w := newWeb(t)
	c := w.client()
	w.good(c, 1)
	floor := func() bool {
		t.Helper()
		data, err := os.ReadFile(w.state("state.json"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(data), `"hold":{"version"`)
	}
	if !floor() {
		t.Fatal("no floor to begin with")
	}
	w.repo.NextRoot(func() { delete(rawtuf.At(w.repo.Charter()["classes"].([]any)[0]), "hold") })
	renew(w.repo)
	w.good(c, 2)
	if floor() {
		t.Error("its floor is still there")
	}
}

// A snapshot that is fetched again after its loss is checked against the floors too, if
// the timestamp does not determine its bytes.
func TestSnapshotThatIsReadAgain(t *testing.T) {
	w := newWeb(t)
	c := w.client()
	renew(w.repo)
	w.repo.Roles["timestamp"]["meta"] = rawtuf.Doc{"snapshot.json": rawtuf.Doc{"version": 6}}
	w.repo.PublishTimestamp()
	w.good(c, 1)
	view, err := refreshed(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(w.state("snapshot.json")); err != nil {
		t.Fatal(err)
	}
	w.repo.Roles["vendor-agent"]["version"] = 5
	w.repo.Publish()
	if _, err := view.Find(t.Context(), rawtuf.Path); !errors.Is(err, tuf.ErrRollback) {
		t.Error(err)
	}
}
