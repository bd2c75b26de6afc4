package layout

import (
	"errors"
	"io/fs"
	"testing"
)

func TestURLPath(t *testing.T) {
	for name, want := range map[string]string{
		"metadata/1.root.json":                 "1.root.json",
		"metadata/timestamp.json":              "timestamp.json",
		"metadata/7.team/agent.json":           "7.team%2Fagent.json", // one element: a slash in a role's name is no directory
		"metadata/3.a b+c%2F=é.json":           "3.a%20b%2Bc%252F%3D%C3%A9.json",
		"metadata/recovery/1.statement.json":   "recovery/1.statement.json",
		"targets/agent/0a.agent-1.0+42.tar.gz": "agent/0a.agent-1.0%2B42.tar.gz",
	} {
		got, metadata, err := URLPath(name)
		if got != want || err != nil || metadata != (name[0] == 'm') {
			t.Errorf("%s: %q, %t, %v; want %q", name, got, metadata, err, want)
		}
	}
	for _, name := range []string{"metadata/", "metadata/.", "metadata/..", "targets/", "targets/../x", "targets//x", "targets/a/"} {
		if got, _, err := URLPath(name); !errors.Is(err, fs.ErrInvalid) || got != "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// A name of a file is read as it was made.
func TestNames(t *testing.T) {
	for _, role := range []string{"root", "snapshot", "vendor-agent", "a.b", "team/agent"} {
		if got, version := SplitRoleName(RoleName(role, 12)); got != role || version != 12 {
			t.Errorf("%s: %s v%d", role, got, version)
		}
	}
	for _, name := range []string{TimestampName, "metadata/0.root.json", "metadata/01.root.json", "metadata/x.root.json", "targets/1.root.json"} {
		if role, version := SplitRoleName(name); role != "" || version != 0 {
			t.Errorf("%s: %s v%d", name, role, version)
		}
	}
	sum := "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d10f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1"
	if name := TargetName("agent/x/1.0", sum); name != "targets/agent/x/"+sum+".1.0" || !IsTargetName(name) || IsTargetName("targets/agent/x/1.0") {
		t.Error(name)
	}
	if !IsRootName(RootName(3)) || IsRootName(RoleName("roots", 3)) || IsRootName(TimestampName) {
		t.Error("IsRootName")
	}
	for name, want := range map[string]int{"targets/a/" + sum + ".b.reviews/review-agent.2.json": 2, "review.02.json": 0, "review.json": 0, ".1.json": 0} {
		if _, n := SplitStatement(name); n != want {
			t.Errorf("%s: statement %d", name, n)
		}
	}
}
