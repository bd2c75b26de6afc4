package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/text"
)

// Main runs one command and returns its exit status. It prints an error as one line.
func Main(ctx context.Context, p *Process) int {
	if p.Now == nil {
		p.Now = time.Now
	}
	a := &app{Process: p, ctx: ctx, tokens: &tokenStore{}}
	root := a.root()
	root.SetArgs(p.Args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	cmd, err := root.ExecuteContextC(ctx)
	a.bar.clear()
	if err != nil && !errors.Is(err, errFound) {
		fmt.Fprintf(p.Err, "visum: %s\n", text.Line(strings.TrimPrefix(err.Error(), "visum: ")))
		if next := nextStep(err); next != "" {
			fmt.Fprintf(p.Err, "%s\n", next)
		}
		if statusOf(err) == statusUsage && cmd != nil {
			fmt.Fprintf(p.Err, "see: %s --help\n", cmd.CommandPath())
		}
	}
	return statusOf(err)
}

// version is what the build recorded: the version of the module, the revision if there is
// one, and the version of Go.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "of an unknown build"
	}
	out := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			out += " " + s.Value
		}
	}
	return out + " " + info.GoVersion
}

// root is the command tree.
func (a *app) root() *cobra.Command {
	cmd := &cobra.Command{Use: "visum", Short: "Repositories of signed software updates", SilenceErrors: true, SilenceUsage: true, SuggestionsMinimumDistance: 2, Version: version(),
		Long: "visum makes, signs, approves, publishes and verifies releases of a repository of signed\nsoftware updates. docs/tool.md explains the configuration and the first steps."}
	cmd.SetVersionTemplate("visum {{.Version}}\n")
	f := cmd.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "print one JSON object instead of text")
	f.StringVar(&a.identity, "identity", "", "identity file (default: visum/identity.toml in the user's configuration folder, or VISUM_IDENTITY)")
	f.StringVarP(&a.folder, "directory", "C", ".", "folder with visum.toml")
	f.StringVar(&a.as, "as", "", "the party that acts, if the identity has keys of several")
	f.StringVar(&a.passFile, "passphrase-file", "", "file with the passphrase of key files (or VISUM_PASSPHRASE_FILE)")
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"start", "Start:", []*cobra.Command{a.initCommand(), a.joinCommand(), a.devCommand(), a.embedCommand(), a.pinCommand(), a.configCommand()}},
		{"release", "Releases:", []*cobra.Command{a.addCommand(), a.promoteCommand(), a.rolloutCommand(), a.removeCommand(), a.syncCommand(), a.holdCommand(), a.unholdCommand(), a.recallCommand(), a.draftCommand()}},
		{"review", "Review:", []*cobra.Command{a.reviewCommand()}},
		{"audit", "Audit:", []*cobra.Command{a.verifyCommand(), a.receiptCommand(), a.historyCommand(), a.tlogCommand(), a.getCommand()}},
		{"operate", "Operation:", []*cobra.Command{a.statusCommand(), a.renewCommand(), a.fsckCommand(), a.pruneCommand(), a.cloneCommand(), a.bundleCommand(), a.serveCommand(), a.runCommand(), a.keyCommand(), a.partyCommand(), a.charterCommand(), a.ledgerCommand(), a.ciCommand(), a.locationCommand(), a.moveCommand(), a.witnessCommand()}},
		{"emergency", "Emergency:", []*cobra.Command{a.recoverCommand()}},
	} {
		cmd.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			cmd.AddCommand(c)
		}
	}
	cmd.AddCommand(a.manCommand())
	cmd.AddCommand(topics()...)
	walk(cmd)
	return cmd
}

// walk makes wrong arguments usage errors in the whole tree.
func walk(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return &usageError{err}
			}
			return nil
		}
	} else if cmd.HasSubCommands() {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				err := fmt.Errorf("unknown command %q", args[0])
				if near := c.SuggestionsFor(args[0]); len(near) > 0 {
					err = fmt.Errorf("%w, did you mean %s?", err, strings.Join(near, " or "))
				}
				return &usageError{err}
			}
			return nil
		}
		if cmd.RunE == nil && cmd.Run == nil {
			cmd.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		}
	}
	for _, c := range cmd.Commands() {
		walk(c)
	}
}

// WriteHelp writes the help of every command, in the order of the tree.
func WriteHelp(w io.Writer) error {
	a := &app{Process: &Process{Out: w, Err: w, Getenv: func(string) string { return "" }}}
	var write func(cmd *cobra.Command) error
	write = func(cmd *cobra.Command) error {
		if cmd.Name() == "completion" { // cobra's own
			return nil
		}
		if _, err := fmt.Fprintf(w, "$ %s --help\n", cmd.CommandPath()); err != nil {
			return err
		}
		cmd.SetOut(w)
		cmd.InitDefaultHelpFlag()
		if err := cmd.Help(); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		for _, c := range cmd.Commands() {
			if err := write(c); err != nil {
				return err
			}
		}
		return nil
	}
	return write(a.root())
}

// Commands returns the path of every command that prints a result, such as "draft sign".
// Pages of help, completion and what prints files are not among them.
func Commands() (paths []string) {
	a := &app{Process: &Process{Getenv: func(string) string { return "" }}}
	var visit func(cmd *cobra.Command, path []string)
	visit = func(cmd *cobra.Command, path []string) {
		if !cmd.HasSubCommands() && cmd.RunE != nil && !cmd.IsAdditionalHelpTopicCommand() {
			paths = append(paths, strings.Join(path, " "))
		}
		for _, c := range cmd.Commands() {
			visit(c, append(slices.Clone(path), c.Name()))
		}
	}
	visit(a.root(), nil)
	return paths
}
