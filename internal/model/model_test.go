// Package model checks models of the client and of the public log with spin; see README.md.
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
	"log.pml": {"RECORD_LATE", "UNRECORDED", "ANY_PENDING", "BLIND", "NO_BARRIER", "CHECKPOINT_BLIND", "NO_REREAD", "NO_AFTER",
		"STATE_LATE", "NO_SWAP", "NO_CONSISTENCY", "NO_OVERLAP", "NO_PRIOR",
		"ANY_ROOT", "LATE_START", "ONE_PROOF", "BACK_DATED", "KEEP_CHANGE", "MORE_BY_STANDBY", "RECOVERY_OF_ANY",
		"NOT_LAST", "NO_AGE", "HEAD_NO_ROOT", "NO_STANDBY", "FROM_PREDECESSOR", "NO_STATEMENT"},
}

// always are the rules that are switched off without VISUM_LONG too, of those whose search
// ends at once: one of a cosigner, one of a client.
var always = map[string]bool{"STATE_LATE": true, "HEAD_NO_ROOT": true}

// larger are defines for a larger state space, with VISUM_LONG=1.
var larger = map[string][]string{"log.pml": {"TOTAL=4", "KILLS=2", "END=4"}}

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
	optimize := "-O1"
	if len(defines) > 0 && !rawtuf.Long {
		optimize = "-O0" // to compile takes longer than to search
	}
	run("gcc", optimize, "-w", "-DSAFETY", "-DNOCLAIM", "-o", "pan", "pan.c")
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
			var defines []string
			if rawtuf.Long {
				defines = larger[model]
			}
			if out := check(t, model, defines...); !strings.Contains(out, "errors: 0") {
				t.Errorf("an assertion fails:\n%s", out)
			}
		})
	}
}

// Without any one of the rules an assertion fails: each rule is needed, and the models
// can detect its absence.
func TestEveryRuleIsNeeded(t *testing.T) {
	needsSpin(t)
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for model, all := range rules {
		for _, rule := range all {
			t.Run(rule, func(t *testing.T) {
				if !rawtuf.Long && !always[rule] {
					t.Skip("compiles and runs a model checker; set VISUM_LONG=1")
				}
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
