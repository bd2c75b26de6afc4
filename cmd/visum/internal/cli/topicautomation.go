package cli

import "github.com/spf13/cobra"

// automationTopic explains the member automation of the identity file.
func automationTopic() *cobra.Command {
	return &cobra.Command{Use: "automation", Short: "What is signed without a person", Long: `The member automation of a repository in the identity file lists the kinds of changes that are signed when no person
is at a terminal, as in CI, in cron jobs and in visum run:

  automation = ["renew", "release:kestrel/", "files:rules/"]

  renew            new versions that differ only in version and expiry
  release:PREFIX/  targets with release data below the prefix are added and changed, with their review statements
  files:PREFIX/    targets without release data below the prefix are added, changed and removed
  transport        patches and compressed copies of listed targets

Timestamp and snapshot may always be signed. Roots, recoveries, recalls, refusals and holds need a person, and so does
every change that the ledger has not seen. Without the member the other commands have no limit, and visum run refuses
to start. No flag adds a kind: --yes answers whether to publish, and nothing else. visum.toml can't have the member.

shared_ledger = true declares that every machine that signs the same roles uses the ledger of the identity file. A
machine that does not hold every key of a role signs it without a person only then.`}
}
