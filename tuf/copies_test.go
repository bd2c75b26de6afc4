package tuf_test

import (
	"reflect"
	"testing"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/gotuf"
)

// spoil overwrites everything reachable from v.
func spoil(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			spoil(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			spoil(v.Index(i))
			v.Index(i).SetZero()
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			spoil(v.MapIndex(k))
			v.SetMapIndex(k, reflect.Value{})
		}
	case reflect.Struct:
		for i := range v.NumField() {
			spoil(v.Field(i))
		}
		if v.CanSet() {
			v.SetZero()
		}
	}
}

// The caller may change all parts of the results of verified values: the next call returns
// the same again.
func TestAccessorsReturnCopies(t *testing.T) {
	r := recoverable()
	rawtuf.At(r.Roles["vendor-agent"], "targets", rawtuf.Path, "custom", "visum")["rollout"] = doc{"percent": 25}
	rawtuf.At(r.Roles["review-agent"], "targets", rawtuf.Path, "custom", "visum")["rollout"] = doc{"percent": 25}
	r.Roles["review-agent"][layout.RecallMember] = []any{doc{"path": "agent/bad", "sha256": "00", "reason": "bad", "at": "2026-01-02T03:04:05Z"}}
	rawtuf.At(r.Roles["review-agent"], layout.RecallMember, 0)["sha256"] = rawtuf.At(rawtuf.FileOf(nil), "hashes")["sha256"]
	r.Publish()
	pin, err := tuf.OpenPin(rawtuf.Marshal(r.Pin()), nil)
	if err != nil {
		t.Fatal(err)
	}
	root := pin.Root()
	charter := root.Charter()
	ts, err := root.Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := ts.Snapshot(r.Files["5.snapshot.json"], nil)
	if err != nil {
		t.Fatal(err)
	}
	targets, err := snap.Targets(r.Files["5.targets.json"])
	if err != nil {
		t.Fatal(err)
	}
	a, err := snap.Approve(rawtuf.Path, from(r))
	if err != nil {
		t.Fatal(err)
	}
	r.Recover(nothing, "bank1", "university")
	statement, next := root.RecoveryFiles()
	rec, err := root.Recovery(r.Files[statement], r.Files[next], rawtuf.Now)
	if err != nil {
		t.Fatal(err)
	}
	must := func(v any, err error) any {
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for name, get := range map[string]func() any{
		"Pin.Locations":       func() any { return pin.Locations() },
		"Root.Bytes":          func() any { return root.Bytes() },
		"Root.Keys":           func() any { return root.Keys(charter.Parties()[0].KeyIDs) },
		"Root.RoleKeys":       func() any { ids, _ := root.RoleKeys("root"); return ids },
		"Charter.Parties":     func() any { return charter.Parties() },
		"Charter.Classes":     func() any { return charter.Classes() },
		"Charter.Locations":   func() any { return charter.Locations() },
		"Charter.Retired":     func() any { return charter.Retired() },
		"Charter.Recovery":    func() any { return charter.Recovery() },
		"Timestamp.Bytes":     func() any { return ts.Bytes() },
		"Snapshot.Bytes":      func() any { return snap.Bytes() },
		"Snapshot.Roles":      func() any { return snap.Roles() },
		"Snapshot.RoleBytes":  func() any { return snap.RoleBytes("targets") },
		"Snapshot.Recalls":    func() any { return must(snap.Recalls(from(r))) },
		"Snapshot.Candidates": func() any { return must(snap.Candidates(t.Context(), nil, nil)).([]tuf.Candidate)[0].Claim },
		"Targets.Bytes":       func() any { return targets.Bytes() },
		"Approved.By":         func() any { return a.Signoffs() },
		"Approved.Release":    func() any { rel, _ := a.Release(); return rel },
		"Recovery.Rule":       func() any { return rec.Rule() },
		"Recovery.Bytes":      func() any { s, next := rec.Bytes(); return [][]byte{s, next} },
		"gotuf.Root":          func() any { return must(gotuf.Root(root)) },
		"gotuf.Timestamp":     func() any { return must(gotuf.Timestamp(ts)) },
		"gotuf.Snapshot":      func() any { return must(gotuf.Snapshot(snap)) },
		"gotuf.Targets":       func() any { return must(gotuf.Targets(targets)) },
	} {
		t.Run(name, func(t *testing.T) {
			mine := get()
			before := string(rawtuf.Marshal(mine)) // text: what is shared changes with it
			if before == "null" || before == "[]" || before == "{}" {
				t.Fatal("nothing to change")
			}
			p := reflect.New(reflect.TypeOf(mine)) // what an interface holds can't be set, what it points to can
			p.Elem().Set(reflect.ValueOf(mine))
			spoil(p)
			if after := string(rawtuf.Marshal(get())); before != after {
				t.Errorf("was %s\nis  %s", before, after)
			}
		})
	}
	if root.Keys([]string{"unknown"})["unknown"] != (tuf.Key{}) {
		t.Error("a key for an unknown id")
	}
}
