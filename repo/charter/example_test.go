package charter_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/charter"
	"github.com/visum-dev/visum/tuf"
)

// A person lowers the interval of root checks in the document. In a program, the root is
// that of repo.Tx.Root, and repo.Tx.SetRoot takes the edited one.
func Example() {
	key := func(name string) []tuf.Key {
		seed := sha256.Sum256([]byte(name))
		s, err := tuf.NewSigner(ed25519.NewKeyFromSeed(seed[:]))
		check(err)
		return []tuf.Key{s.Key()}
	}
	root := repo.Root{RepoID: "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1",
		Parties:   []repo.Party{{Name: "vendor", Keys: key("ann")}},
		Timestamp: repo.Keys{Keys: key("online")}, Snapshot: repo.Keys{Keys: key("online")}, Targets: repo.Keys{Keys: key("online")}}
	data, err := charter.Marshal(root, map[string]string{root.Parties[0].Keys[0].ID(): "ann", root.Targets.Keys[0].ID(): "online"})
	check(err)
	fmt.Print(string(data))

	edited, _, err := charter.Parse([]byte(strings.Replace(string(data), `"every_seconds": 21600`, `"every_seconds": 3600`, 1)))
	check(err)
	fmt.Println(edited.Probe.Every)

	_, _, err = charter.Parse([]byte(strings.Replace(string(data), `"min": 1`, `"minimum": 1`, 1)))
	fmt.Println(err)
	// Output:
	// {
	//   "visum-charter": 1,
	//   "repo_id": "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1",
	//   "keys": {
	//     "ann": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "174254f7fd26df1dbba15f145a458ad44afd90a842a4aa3067ac1489a6e2fa7a"}},
	//     "online": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "4d74ce7b5c9fab054c1c5741e744cc588e1df00bbe02eb910a8abe2654f15aca"}}
	//   },
	//   "parties": [
	//     {
	//       "name": "vendor",
	//       "keys": ["ann"],
	//       "min": 1
	//     }
	//   ],
	//   "roles": {
	//     "timestamp": {
	//       "keys": ["online"],
	//       "threshold": 1
	//     },
	//     "snapshot": {
	//       "keys": ["online"],
	//       "threshold": 1
	//     },
	//     "targets": {
	//       "keys": ["online"],
	//       "threshold": 1
	//     }
	//   },
	//   "classes": [],
	//   "locations": [],
	//   "retired": [],
	//   "probe": {
	//     "min_operators": 2,
	//     "every_seconds": 21600,
	//     "max_age_seconds": 2592000,
	//     "mode": "warn"
	//   }
	// }
	// 1h0m0s
	// charter: line 12: parties[0].minimum: malformed: unknown member
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
