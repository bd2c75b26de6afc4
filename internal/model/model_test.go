// Package model checks two models of the client with spin; see README.md.
package model

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// rules are the defines that switch off a rule, by model; README.md describes the rules.
// Two defines in one entry: either rule suffices.
var rules = map[string][]string{
	"move.pml": {"FORGET", "NO_PROBE", "COUNT_PLACES", "ABORT_ON_BAD", "NO_PARTY", "NO_RETIRED", "NO_UNTIL", "NO_EARLY", "OVERLAP", "NO_FLOOR",
		"KEEP_FLOORS", "EXPIRY_STOP", "PARTIAL_OK", "NO_STALE", "NO_BEHIND", "NO_KNOWN_TIME", "NO_EVERYONE", "NO_TURN", "NO_SEARCH"},
	"recovery.pml": {"NO_HOLD", "WALL_CLOCK", "NO_VETO", "SHOWN_BY_ONE", "UNBOUND", "ONE_SEARCHED ASK_ANYBODY"},
}

// check searches all states of a model and returns pan's output.
func check(t *testing.T, model string, defines ...string) string {
	t.Helper()
	src, err := filepath.Abs(model)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var args []string
	for _, d := range defines {
		args = append(args, "-D"+d)
	}
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	run("spin", append(append([]string{"-a"}, args...), src)...)
	run("gcc", "-O1", "-w", "-DSAFETY", "-DNOCLAIM", "-DCOLLAPSE", "-o", "pan", "pan.c")
	out := run(filepath.Join(dir, "pan"), "-m2000000")
	if strings.Contains(out, "max search depth too small") || strings.Contains(out, "Search not completed") && !strings.Contains(out, "assertion violated") {
		t.Fatalf("the search of %s is incomplete:\n%s", model, out)
	}
	return out
}

func needsSpin(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles and runs model checkers; not with -short")
	}
	for _, tool := range []string{"spin", "gcc"} {
		rawtuf.Program(t, tool, "Debian's spin, gcc and libc6-dev")
	}
}

// With all rules the assertions hold in every reachable state.
func TestModels(t *testing.T) {
	needsSpin(t)
	for model := range rules {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			if out := check(t, model); !strings.Contains(out, "errors: 0") {
				t.Errorf("an assertion fails:\n%s", out)
			}
		})
	}
}

// Without any one of the rules an assertion fails: each rule is needed, and the models
// can detect its absence.
func TestEveryRuleIsNeeded(t *testing.T) {
	if !rawtuf.Long {
		t.Skip("compiles and runs some 25 model checkers; set VISUM_LONG=1")
	}
	needsSpin(t)
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for model, all := range rules {
		for _, rule := range all {
			t.Run(rule, func(t *testing.T) {
				t.Parallel()
				defines := strings.Fields(rule)
				if out := check(t, model, defines...); !strings.Contains(out, "assertion violated") {
					t.Errorf("no assertion fails without it:\n%s", out)
				}
				src, err := os.ReadFile(model)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range defines {
					if !strings.Contains(string(src), "def "+d+"\n") || !strings.Contains(string(page), "`"+d+"`") {
						t.Errorf("%s must be in the model and in README.md", d)
					}
				}
			})
		}
	}
}
