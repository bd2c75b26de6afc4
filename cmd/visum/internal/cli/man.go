package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
)

// manCommand writes the manual pages, from the same texts as the help.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{Use: "man DIR", Short: "Write a manual page for each command into a directory", Args: cobra.ExactArgs(1),
		Long: "man writes visum.1, visum-add.1 and so on. A shell finds them in a folder man1 of a directory of MANPATH.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := durable.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "visum", Manual: "visum"}, args[0]); err != nil {
				return err
			}
			pages, err := filepath.Glob(filepath.Join(args[0], "visum*.1"))
			if err != nil {
				return err
			}
			for _, p := range pages {
				if err := os.Chmod(p, 0o644); err != nil {
					return err
				}
			}
			return a.print(map[string]any{"directory": args[0], "pages": len(pages)}, fmt.Sprintf("%s has %d pages", text.Name(args[0]), len(pages)))
		}}
}
