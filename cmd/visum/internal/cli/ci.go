package cli

import "github.com/spf13/cobra"

func (a *app) ciCommand() *cobra.Command { return &cobra.Command{Use: "ci"} }
