package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"testing"

	"github.com/visum-dev/visum/repo/drill"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/relocate"
)

// Every report has one shape: Err states in one line whether the check failed, String
// is human-readable, and JSON has members in lower case.
func TestReports(t *testing.T) {
	type report interface {
		fmt.Stringer
		Err() error
	}
	for _, row := range []struct {
		good, bad report
		want      error
	}{
		{&mirror.Report{Findings: []mirror.Finding{{Kind: mirror.FileOrphan}}}, &mirror.Report{Findings: []mirror.Finding{{Kind: mirror.FileOrphan}, {Kind: mirror.FileDamaged}}}, mirror.ErrVerify},
		{&relocate.Report{Findings: []relocate.Finding{{Level: relocate.LevelNote}}}, &relocate.Report{Findings: []relocate.Finding{{Level: relocate.LevelNote}, {Level: relocate.LevelError}}}, relocate.ErrPreflight},
		{&drill.Report{Outcomes: []drill.Outcome{{}}}, &drill.Report{Outcomes: []drill.Outcome{{}, {Violations: []drill.Violation{{}}}}}, drill.ErrDrill},
	} {
		if err := row.good.Err(); err != nil {
			t.Errorf("%T: %v", row.good, err)
		}
		if err := row.bad.Err(); !errors.Is(err, row.want) {
			t.Errorf("%T: %v, want %v", row.bad, err, row.want)
		}
		data, err := json.Marshal(row.bad)
		if upper := regexp.MustCompile(`"[^"]*[A-Z][^"]*":`).Find(data); err != nil || upper != nil {
			t.Errorf("%T: %v, member %s", row.bad, err, upper)
		}
	}
}
