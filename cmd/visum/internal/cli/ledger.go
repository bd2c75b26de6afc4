package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
)

func (a *app) ledgerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ledger", Short: "Adopt a repository into this signer's ledger, export and import records"}
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
	cmd.AddCommand(adopt, export, imp)
	return cmd
}
