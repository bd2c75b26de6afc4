package repo

import (
	"fmt"
	"regexp"

	"github.com/visum-dev/visum/internal/text"
)

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// whoText formats the required signer of a rule. Text in a draft that this package
// would not produce is quoted.
func whoText(who string) string {
	if len(who) < 200 && ownWho.MatchString(who) {
		return who
	}
	return text.Quote(who)
}

// ownWho matches the descriptions of signers that this package produces. Counted
// repetitions would make the start of each program slow.
var ownWho = regexp.MustCompile(`^(?:[a-z0-9._-]+(?: \([a-z0-9._-]+\))?|the hold of [a-z0-9._-]+|` +
	`(?:party [a-z0-9._-]+|all parties) of the (?:root|present root|forked root|new root)|the recovery (?:keys|organisations))$`)
