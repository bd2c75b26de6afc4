package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/repo"
)

// writeTextfile writes a status in the text format of Prometheus, for the textfile
// collector of its node exporter. The file is replaced atomically.
func writeTextfile(path, repoID string, st *repo.Status, now time.Time) error {
	var b strings.Builder
	gauge := func(name, help string) { fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name) }
	gauge("visum_role_expires_timestamp_seconds", "Expiry of the published version of a role.")
	for _, d := range st.Due {
		fmt.Fprintf(&b, "visum_role_expires_timestamp_seconds{repo_id=%s,role=%s,party=%s} %d\n", label(repoID), label(d.Role), label(d.Party), d.Expires.Unix())
	}
	gauge("visum_role_urgency", "0 fine, 1 soon, 2 urgent, 3 expired.")
	for _, d := range st.Due {
		fmt.Fprintf(&b, "visum_role_urgency{repo_id=%s,role=%s,party=%s} %d\n", label(repoID), label(d.Role), label(d.Party), d.Urgency)
	}
	gauge("visum_urgency", "Highest urgency of all roles.")
	fmt.Fprintf(&b, "visum_urgency{repo_id=%s} %d\n", label(repoID), st.Urgency())
	gauge("visum_foreign_signatures", "Published roles that keys of the party signed without its shared ledger: a key is compromised.")
	fmt.Fprintf(&b, "visum_foreign_signatures{repo_id=%s} %d\n", label(repoID), len(st.Alarms))
	gauge("visum_publish_unfinished", "1 if an interrupted publish left the newest root without content.")
	fmt.Fprintf(&b, "visum_publish_unfinished{repo_id=%s} %d\n", label(repoID), map[bool]int{true: 1}[st.Unfinished])
	gauge("visum_root_ahead_seconds", "How far signed_at of the newest root is ahead of this machine's clock.")
	fmt.Fprintf(&b, "visum_root_ahead_seconds{repo_id=%s} %d\n", label(repoID), int64(st.Ahead/time.Second))
	gauge("visum_status_timestamp_seconds", "When this status was made.")
	fmt.Fprintf(&b, "visum_status_timestamp_seconds{repo_id=%s} %d\n", label(repoID), now.Unix())
	return durable.WriteFile(path, []byte(b.String()), 0o644)
}

// label quotes the value of a label: backslash, quote and line feed are escaped.
func label(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// stopLine says when clients stop updating if nothing is signed.
func stopLine(st *repo.Status) string {
	if len(st.Due) == 0 {
		return ""
	}
	first := st.Due[0]
	for _, d := range st.Due {
		if d.Role != "targets" && (first.Role == "targets" || d.Expires.Before(first.Expires)) { // only standard TUF clients read targets.json
			first = d
		}
	}
	var who []string
	for _, n := range first.Needs {
		who = append(who, fmt.Sprintf("%d of %d keys of %s", n.Want, len(n.KeyIDs), n.Who))
	}
	return fmt.Sprintf("without a signature clients stop updating on %s: %s, which takes %s", first.Expires.UTC().Format(time.RFC3339), first.Role, strings.Join(who, " and "))
}
