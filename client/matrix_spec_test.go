package client_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// faultMatrix is the fault matrix from the design of the move, line by line, with the
// proofs of each: rows of the table above, or entire tests.
var faultMatrix = []struct {
	fault, expected string
	proof           []string
}{
	{"no fault, client two years offline, intermediate roots expired", "converges", []string{"no fault; two years offline"}},
	{"old host gone (name does not resolve)", "converges by rendezvous", []string{"old location gone"}},
	{"old host frozen before the move, still in date", "converges by the second operator", []string{"old location frozen"}},
	{"old host frozen and rendezvous unreachable, move was announced", "converges over the new location", []string{"old location frozen, rendezvous unreachable, announced"}},
	{"everything but the frozen host blocked", "keeps its state; event when the probe is too old; STALE after the root expires",
		[]string{"only the frozen location is reachable", "only the frozen location is reachable, for a long time", "TestProbeAge"}},
	{"total outage", "UNREACHABLE, state kept", []string{"total outage"}},
	{"old host, old online keys and old targets keys compromised, malicious content", "converges, malicious content is never accepted; a client that has moved never contacts the old host",
		[]string{"old location and its keys compromised", "old location compromised, product has moved", "one root for the entire move"}},
	{"all old vendor root keys compromised, root forked", "refused, evidence kept, converges", []string{"all old vendor root keys compromised"}},
	{"same plus one review key of two required", "refused", []string{"and of one review key"}},
	{"fork that adds two parties of the attacker", "refused", []string{"attacker adds two parties of their own"}},
	{"all review keys, no vendor key; or plus one vendor key", "refused", []string{"only all review keys", "all review keys and one vendor key of two"}},
	{"one key signing four times; one public key under two ids", "refused", []string{"one key signs four times", "one key under two ids"}},
	{"root of another product signed by the same parties", "refused (H1)", []string{"root of another product"}},
	{"charter stripped; http://; LAN address; .. in paths; seq back; online keys overlapping at an epoch; no open-ended location; threshold lowered; retired host listed or dropped; floor lowered; schema 2",
		"each refused, state kept", []string{"charter stripped", "http", "LAN address", "dots in paths", "seq back", "online keys overlap at an epoch",
			"no open-ended location", "threshold lowered", "retired host is listed", "retired host is dropped", "floor lowered", "schema 2"}},
	{"302 to elsewhere; captive portal (200 html); 451; 500; 1 MiB root; root 3 as 2.root.json; one byte a second", "next source",
		[]string{"302", "captive portal", "captive portal everywhere", "451", "500", "1 MiB root", "root 3 as 2.root.json",
			"one byte a second", "one byte a second, everywhere but at one location"}},
	{"403 or 410 for a missing root", "means none", []string{"403 means none", "410 means none"}},
	{"product update has a newer pin than the cache; or an older one", "converges; is never rolled back",
		[]string{"product update has a newer pin", "product update has the last pin", "product update has an older pin",
			"product update has an older pin, and all locations are frozen", "TestOtherPins"}},
	{"new location serves a lower snapshot with the right keys; an expired timestamp", "refused; NOCONTENT, recovers",
		[]string{"new location serves a lower snapshot", "new location serves an expired timestamp"}},
	{"mirror serves wrong target bytes", "refused, other location", []string{"mirror serves wrong bytes", "old location serves wrong bytes"}},
	{"clock two years behind; clock far ahead", "known_time holds; STALE, not persisted, recovers", []string{"clock two years behind", "clock far ahead", "TestClockBehind"}},
	{"outage of the new location during dual serve", "legacy location used; after the sunset not even contacted, although the pin lists it",
		[]string{"new location is unreachable while both serve", "new location is unreachable after the sunset", "TestUseUntil"}},
	{"old location becomes unreachable before use_from", "new location at once", []string{"old location becomes unreachable before use_from", "TestUseFrom"}},
	{"fast-forward attack with compromised online keys before the move", "repaired by the epoch", []string{"versions were inflated before the move"}},
	{"root cache lost while the old chain is served", "ROLLBACK, fail closed", []string{"roots are lost and the old chain is served"}},
	{"forged root in the cache", "discarded, fetched again", []string{"forged root in the cache", "TestForgedRootInTheCache"}},
	{"a move of 300 roots", "MORE ROOTS without content, then OK", []string{"three hundred roots", "TestThreeHundredRoots", "TestRequestsOfThreeHundredRoots"}},
	{"two valid N+1 served at two locations", "keeps the first, evidence, N+2 repairs", []string{"two valid next roots", "TestTwoValidNextRoots"}},
	{"cut-over root published before content", "NOCONTENT, recovers", []string{"cut over before the content"}},
	{"kill at every write; disk full; read-only; two processes", "old state or new state",
		[]string{"TestMatrix", "TestKilled", "TestFullDisk", "TestFilesThatCantGrow", "TestFaultAtEveryCallOfTheStore", "TestManyProcesses"}},
	{"bundle forged, foreign, older, huge", "refused, refused, no-op, cut",
		[]string{"forged bundle", "bundle of another product", "older bundle", "bundle with a huge root", "bundle with a huge timestamp", "TestBadBundles"}},
	{"every name resolves to 0.0.0.0 (malware wrote the hosts file)", "UNREACHABLE; bundle import converges", []string{"every name resolves to nothing", "bundle", "TestBundleImport", "TestNames"}},
	// Further promises of the design.
	{"a move is cancelled", "rolled forward: the old location again", []string{"a move is cancelled", "a move is cancelled, product was offline"}},
	{"a retired host, in the pin's list too", "no packet, no DNS query", []string{"retired host, in the pin's list", "TestRetiredHost", "TestNames"}},
}

// Every line of the matrix has a proof, and every proof exists.
func TestEveryFaultHasItsTest(t *testing.T) {
	tests := map[string]bool{}
	files, err := filepath.Glob("*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	form := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range form.FindAllStringSubmatch(string(src), -1) {
			tests[m[1]] = true
		}
	}
	rows := map[string]bool{}
	for _, r := range matrix {
		if rows[r.name] {
			t.Errorf("two rows are called %q", r.name)
		}
		rows[r.name] = true
	}
	var named []string
	for _, f := range faultMatrix {
		if len(f.proof) == 0 || f.expected == "" {
			t.Errorf("%q has no proof", f.fault)
		}
		for _, p := range f.proof {
			if !rows[p] && !tests[p] {
				t.Errorf("%q: there is no row or test %q", f.fault, p)
			}
			named = append(named, p)
		}
		if strings.Count(f.fault, ";") >= len(f.proof) {
			t.Errorf("%q names more faults than the %d proofs", f.fault, len(f.proof))
		}
	}
	for name := range rows {
		if !slices.Contains(named, name) {
			t.Errorf("row %q proves no line of the matrix", name)
		}
	}
}
