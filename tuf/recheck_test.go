package tuf_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// A decision can be reproduced years later from the files that it names: the same bytes give
// the same decision.
func TestDecisionsCanBeCheckedAgain(t *testing.T) {
	agreed := func() *rawtuf.Repo {
		r := tree(t, "^ > a: x/*", "^ > b: x/*", "^ > c: x/*")
		r.AddTarget("x/1", "the same", nil, "a", "c")
		agree(r, 2, true, "a", "b", "c")
		return r
	}
	below := func() *rawtuf.Repo {
		r := rawtuf.New()
		r.AddTarget("agent/x", "sub", nil, "vendor-agent")
		grow(t, r, "review-agent", "^ > sub: agent/*", "sub = agent/x")
		return r
	}
	for name, tt := range map[string]struct {
		repo  *rawtuf.Repo
		path  string
		roles []string // the expected roles
	}{
		"charter":           {rawtuf.New(), rawtuf.Path, []string{"vendor-agent", "review-agent"}},
		"below a party":     {below(), "agent/x", []string{"vendor-agent", "sub"}},
		"plain":             {rawtuf.NewPlain(), "lib/a.txt", []string{"lib"}},
		"roles that agreed": {agreed(), "x/1", []string{"a", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := tt.repo
			r.NextRoot(func() {})
			c := newClient(t, r)
			snap, err := c.refresh(r)
			if err != nil {
				t.Fatal(err)
			}
			find := func(snap *tuf.Snapshot, get tuf.Fetch) (tuf.Approved, error) {
				if snap.Root().Charter() == nil {
					return snap.UnsafeTarget(tt.path, get)
				}
				return snap.Approve(tt.path, get)
			}
			a, err := find(snap, from(r))
			if err != nil {
				t.Fatal(err)
			}

			// The archive: the client's files by name.
			b := a.Basis()
			archive := map[string][]byte{
				fmt.Sprintf("%d.root.json", b.Root):           c.root.Bytes(),
				fmt.Sprintf("%d.timestamp.json", b.Timestamp): c.ts,
				fmt.Sprintf("%d.snapshot.json", b.Snapshot):   snap.Bytes(),
			}
			for _, role := range snap.Roles() {
				if data := snap.RoleBytes(role); data != nil {
					f, err := snap.RoleFile(role)
					if err != nil {
						t.Fatal(err)
					}
					archive[fmt.Sprintf("%d.%s.json", f.Version, role)] = data
				}
			}
			var roles []string
			for _, s := range a.Signoffs() {
				roles = append(roles, s.Role)
				if archive[fmt.Sprintf("%d.%s.json", s.Version, s.Role)] == nil {
					t.Errorf("nothing is there of %s v%d", s.Role, s.Version)
				}
				if s.Expires.IsZero() || len(s.KeyIDs) == 0 || (s.Party == "") != (c.root.Charter() == nil) {
					t.Errorf("%+v", s)
				}
			}
			if !slices.Equal(roles, tt.roles) || b.RootSHA256 != c.root.SHA256() || !b.Time.Equal(rawtuf.Now) {
				t.Errorf("by %v, from %+v", roles, b)
			}

			again := func(b tuf.Basis, find func(*tuf.Snapshot, tuf.Fetch) (tuf.Approved, error)) (tuf.Approved, error) {
				root, err := tuf.OpenRoot(archive[fmt.Sprintf("%d.root.json", b.Root)], nil)
				if err != nil {
					return tuf.Approved{}, err
				}
				ts, err := root.Timestamp(archive[fmt.Sprintf("%d.timestamp.json", b.Timestamp)], nil, b.Time)
				if err != nil {
					return tuf.Approved{}, err
				}
				snap, err := ts.Snapshot(archive[fmt.Sprintf("%d.snapshot.json", b.Snapshot)], nil)
				if err != nil {
					return tuf.Approved{}, err
				}
				return find(snap, func(f tuf.RoleFile) ([]byte, error) {
					return archive[fmt.Sprintf("%d.%s.json", f.Version, f.Role)], nil
				})
			}
			same, err := again(b, find)
			if err != nil || !reflect.DeepEqual(a, same) || a.String() != same.String() {
				t.Errorf("decided %v, now %v, %v", a, same, err)
			}
			// At a later time the decision differs, and so it does with another file.
			late := b
			late.Time = b.Time.AddDate(3, 0, 0)
			_, err = again(late, find)
			want(t, err, tuf.ErrExpired, "root v2")
			last := a.Signoffs()[len(a.Signoffs())-1]
			name := fmt.Sprintf("%d.%s.json", last.Version, last.Role)
			archive[name] = []byte(strings.Replace(string(archive[name]), "2030-02-15", "2031-02-15", 1))
			_, err = again(b, find)
			want(t, err, tuf.ErrMismatch, last.Role)
		})
	}
}
