package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
)

func (a *app) ledgerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ledger", Short: "Show this signer's ledger, adopt a repository into it, export and import records"}
	var digest string
	adopt := &cobra.Command{Use: "adopt", Short: "Fill an empty ledger with the published metadata", Args: cobra.NoArgs,
		Long: `adopt makes the published metadata this signer's record. Without --digest it prints the digest of what is
published, which two people compare on two machines; with it, it adopts exactly that.`,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.look()
			if err != nil {
				return err
			}
			have, err := s.AdoptDigest(a.ctx)
			if err != nil {
				return err
			}
			if digest == "" {
				return a.print(map[string]any{"digest": have, "adopted": false}, "digest "+have, "nothing was adopted: compare the digest with another machine, then run the command with --digest")
			}
			if err := s.Adopt(a.ctx, digest); err != nil {
				return err
			}
			return a.print(map[string]any{"digest": have, "adopted": true}, "adopted")
		}}
	adopt.Flags().StringVar(&digest, "digest", "", "digest of the published metadata, as another machine shows it")
	export := &cobra.Command{Use: "export FILE", Short: "Write the records of this ledger to a file", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.look()
			if err != nil {
				return err
			}
			data, err := s.ExportLedger(a.ctx)
			if err != nil {
				return err
			}
			if err := durable.WriteFile(args[0], data, 0o600); err != nil {
				return err
			}
			return a.print(map[string]any{"file": args[0], "bytes": len(data)}, fmt.Sprintf("%s: %d bytes", text.Name(args[0]), len(data)))
		}}
	imp := &cobra.Command{Use: "import FILE", Short: "Add the records of another signer of the same party", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.look()
			if err != nil {
				return err
			}
			data, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			if err := s.ImportLedger(a.ctx, data); err != nil {
				return err
			}
			return a.print(map[string]any{"imported": args[0]}, "imported")
		}}
	cmd.AddCommand(a.ledgerShowCommand(), adopt, export, imp)
	return cmd
}

func (a *app) ledgerShowCommand() *cobra.Command {
	return &cobra.Command{Use: "show", Short: "Print what this signer has seen published and has signed", Args: cobra.NoArgs,
		Long: `show prints the newest root and roles that the ledger has seen published, the last signature of each role, and the
recalls, refusals and holds that are in force. --json has all recorded signatures. The digest at the end is that of
the published metadata, which another machine compares before it runs visum ledger adopt.`,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.look()
			if err != nil {
				return err
			}
			x, err := s.LedgerInfo(a.ctx)
			if err != nil {
				return err
			}
			return a.print(x, ledgerLines(x, s.labels)...)
		}}
}

func ledgerLines(x *repo.LedgerInfo, labels map[string]string) []string {
	lines := []string{fmt.Sprintf("root v%d, sha256 %s, seen published", x.Root.Version, x.Root.SHA256)}
	if x.First {
		lines[0] = fmt.Sprintf("root v%d, sha256 %s, signed here", x.Root.Version, x.Root.SHA256)
	}
	for _, r := range x.Roles {
		line := text.Name(r.Role) + ":"
		switch {
		case r.High.Version == 0:
			line += " not seen published"
		case r.High != r.Seen && r.Seen.Version > 0:
			line += fmt.Sprintf(" seen v%d, and v%d since", r.Seen.Version, r.High.Version)
		default:
			line += fmt.Sprintf(" seen v%d", r.High.Version)
		}
		if n := len(r.Signed); n > 0 {
			last := r.Signed[n-1]
			line += fmt.Sprintf("; signed here %d times, last v%d on %s", n, last.Version, text.Time(last.At))
			for _, id := range last.KeyIDs {
				if label := labels[id]; label != "" {
					line += " with " + text.Name(label)
				}
			}
			if last.Draft != "" {
				line += ", draft " + text.Name(last.Draft)
			}
		}
		lines = append(lines, line)
	}
	for _, t := range x.TakenBack {
		line := fmt.Sprintf("%s of %s by %s, sha256 %s", t.Kind, text.Name(t.Path), text.Name(t.Role), text.Name(t.SHA256))
		if !t.Until.IsZero() {
			line += ", until " + text.Time(t.Until)
		}
		if t.Reason != "" {
			line += ": " + text.Quote(t.Reason)
		}
		lines = append(lines, line)
	}
	last := "; some of it is newer than the last signature of this ledger, which has not signed it"
	if x.Current {
		last = ", all of it signed here or seen at a signature"
	}
	return append(lines, "digest "+x.Digest+" of the published metadata"+last)
}
