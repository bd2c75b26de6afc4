package tuf_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// stock is go-tuf's metadata of any type.
type stock struct {
	meta    any
	verify  func(role string, of any) error // nil if the type has no delegations
	version int64
	signed  any
}

// recovered turns a panic into an error.
func recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return f()
}

func stockOpen(kind string, data []byte) (s stock, err error) {
	err = recovered(func() error {
		switch kind {
		case "root", "next":
			m, err := metadata.Root().FromBytes(data)
			if err == nil {
				s = stock{m, m.VerifyDelegate, m.Signed.Version, m.Signed}
			}
			return err
		case "timestamp":
			m, err := metadata.Timestamp().FromBytes(data)
			if err == nil {
				s = stock{m, nil, m.Signed.Version, m.Signed}
			}
			return err
		case "snapshot":
			m, err := metadata.Snapshot().FromBytes(data)
			if err == nil {
				s = stock{m, nil, m.Signed.Version, m.Signed}
			}
			return err
		}
		m, err := metadata.Targets().FromBytes(data)
		if err == nil {
			s = stock{m, m.VerifyDelegate, m.Signed.Version, m.Signed}
		}
		return err
	})
	return s, err
}

// stockPayload is the signed payload as go-tuf computes it.
func stockPayload(kind string, data []byte) (payload []byte, err error) {
	s, err := stockOpen(kind, data)
	if err != nil {
		return nil, err
	}
	err = recovered(func() error { payload, err = cjson.EncodeCanonical(s.signed); return err })
	return payload, err
}

// stockJudge verifies the file for its delegator with go-tuf.
func stockJudge(kind string, delegator []byte, role string, file []byte) error {
	by, err := stockOpen(map[bool]string{true: "targets", false: "root"}[kind == "delegated"], delegator)
	if err != nil {
		return fmt.Errorf("delegator: %w", err)
	}
	of, err := stockOpen(kind, file)
	if err != nil {
		return err
	}
	return recovered(func() error {
		if err := by.verify(role, of.meta); err != nil {
			return err
		}
		if kind != "next" {
			return nil
		}
		if of.version != by.version+1 {
			return errors.New("not the next version")
		}
		return of.verify(role, of.meta)
	})
}

// bench is a healthy repository in which one file after the other is replaced. Its snapshot
// and timestamp list only versions, so that only the file itself decides.
type bench struct {
	*rawtuf.Repo
	root *tuf.Root
}

func newBench(t testing.TB, r *rawtuf.Repo) *bench {
	root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{r, root}
}

// early is before every expiry: VerifyDelegate does not check expiry.
var early time.Time

func versionOf(file []byte) int64 {
	var env struct {
		Signed struct{ Version json.Number }
	}
	if json.Unmarshal(file, &env) != nil {
		return 5
	}
	n, err := env.Signed.Version.Int64()
	if err != nil || n < 1 {
		return 5
	}
	return n
}

// verdict is our result for a file of the kind, and the content that we read, as lines of
// text.
func (b *bench) verdict(kind, role string, file []byte) (read string, err error) {
	switch kind {
	case "root", "next":
		open := b.root.Next
		if kind == "root" {
			open = func(data []byte) (*tuf.Root, error) { return tuf.OpenRoot(data, nil) }
		}
		root, err := open(file)
		if err != nil {
			return "", err
		}
		read = common(root.Version(), root.Expires())
		for _, role := range []string{"root", "snapshot", "targets", "timestamp"} {
			ids, threshold := root.RoleKeys(role)
			read += fmt.Sprintln(role, threshold, ids)
		}
		return read, nil
	case "timestamp":
		ts, err := b.root.Timestamp(file, nil, early)
		if err != nil {
			return "", err
		}
		return common(ts.Version(), ts.Expires()) + fmt.Sprintln("snapshot", ts.SnapshotFile().Version), nil
	}
	snapVersion, snapFile := int64(5), file
	if kind != "snapshot" {
		meta := doc{"targets.json": doc{"version": 5}}
		meta[role+".json"] = doc{"version": versionOf(file)}
		signed := rawtuf.Signed("snapshot", 5)
		signed["meta"] = meta
		snapFile = b.Sign(signed, "snapshot")
	} else {
		snapVersion = versionOf(file)
	}
	signed := rawtuf.Signed("timestamp", 5)
	signed["meta"] = doc{"snapshot.json": doc{"version": snapVersion}}
	ts, err := b.root.Timestamp(b.Sign(signed, "timestamp"), nil, early)
	if err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	snap, err := ts.Snapshot(snapFile, nil)
	if err != nil {
		return "", err
	}
	if kind == "snapshot" {
		read = common(snap.Version(), snap.Expires())
		for _, role := range snap.Roles() {
			if f, err := snap.RoleFile(role); err == nil {
				read += fmt.Sprintln(role, f.Version)
			}
		}
		return read, nil
	}
	get := func(f tuf.RoleFile) ([]byte, error) {
		if f.Role == role {
			return file, nil
		}
		return b.Files["5."+f.Role+".json"], nil
	}
	// All entries are looked up, because they are parsed on demand.
	paths := append(listedPaths(file), map[string]string{"targets": "nothing", "delegated": "lib/nothing"}[kind])
	for _, path := range paths {
		if kind == "delegated" && !strings.HasPrefix(path, "lib/") {
			continue
		}
		a, err := snap.UnsafeTarget(path, get)
		if errors.Is(err, tuf.ErrNoTarget) {
			continue
		}
		if err != nil {
			return "", err
		}
		if by := a.Signoffs()[0]; by.Role == role {
			read += common(by.Version, by.Expires) + fmt.Sprintln(path, a.Length(), a.SHA256())
		}
	}
	return read, nil
}

// sameReading compares the read contents. For a snapshot it compares the entries that we
// can read: the others are refused on demand.
func sameReading(kind, ours, theirs string) bool {
	if kind != "snapshot" {
		return ours == theirs
	}
	for line := range strings.Lines(ours) {
		if !strings.Contains("\n"+theirs, "\n"+line) {
			return false
		}
	}
	return true
}

func common(version int64, expires time.Time) string {
	return fmt.Sprintln("version", version, "expires", expires.UTC())
}

// stockRead is the content as go-tuf reads it.
func stockRead(kind string, file []byte) (read string, err error) {
	s, err := stockOpen(kind, file)
	if err != nil {
		return "", err
	}
	switch m := s.signed.(type) {
	case metadata.RootType:
		read = common(m.Version, m.Expires)
		for _, role := range []string{"root", "snapshot", "targets", "timestamp"} {
			read += fmt.Sprintln(role, m.Roles[role].Threshold, m.Roles[role].KeyIDs)
		}
	case metadata.TimestampType:
		read = common(m.Version, m.Expires) + fmt.Sprintln("snapshot", m.Meta["snapshot.json"].Version)
	case metadata.SnapshotType:
		read = common(m.Version, m.Expires)
		for _, name := range slices.Sorted(maps.Keys(m.Meta)) {
			read += fmt.Sprintln(strings.TrimSuffix(name, ".json"), m.Meta[name].Version)
		}
	case metadata.TargetsType:
		for _, path := range slices.Sorted(maps.Keys(m.Targets)) {
			f := m.Targets[path]
			if kind == "targets" || strings.HasPrefix(path, "lib/") {
				read += common(m.Version, m.Expires) + fmt.Sprintln(path, f.Length, f.Hashes["sha256"])
			}
		}
	}
	return read, nil
}

func listedPaths(file []byte) []string {
	var env struct {
		Signed struct{ Targets map[string]json.RawMessage }
	}
	if json.Unmarshal(file, &env) != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(env.Signed.Targets))
}
