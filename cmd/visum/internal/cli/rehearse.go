package cli

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/drill"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/tuf"
)

func (a *app) movePreflightCommand() *cobra.Command {
	var move string
	var offline bool
	cmd := &cobra.Command{Use: "preflight [DRAFT]", Short: "Check a root and every location before the root is published; exit status 3 if an error is found", Args: cobra.MaximumNArgs(1),
		Long: `preflight checks the root of a draft, or the newest root: which parties can do what, which losses of keys and
locations are survivable, keys, dates, and each location over the network, byte by byte, against the storage.`,
		RunE: func(_ *cobra.Command, args []string) error {
			s, m, d, err := a.moveDraft(move, args)
			if err != nil {
				return err
			}
			p := &relocate.Preflight{Repo: s.Repo, Storage: s.storage, Draft: d, Move: m}
			if !offline {
				p.HTTP = &http.Client{Timeout: 30 * time.Second}
			}
			report, err := p.Run(a.ctx)
			if err != nil {
				return err
			}
			return a.printFound(report.Err() != nil, report, strings.TrimRight(report.String(), "\n"))
		}}
	cmd.Flags().StringVar(&move, "move", "", "description of the move that the root belongs to")
	cmd.Flags().BoolVar(&offline, "offline", false, "contact no location")
	return cmd
}

// moveDraft opens the repository, and the move and the draft if they are named.
func (a *app) moveDraft(move string, args []string) (s *site, m *relocate.Move, d *repo.Draft, err error) {
	if move != "" {
		s, m, err = a.openMove(a.look, move)
	} else {
		s, err = a.look()
	}
	if err == nil && len(args) > 0 {
		d, err = s.LoadDraft(args[0])
	}
	return s, m, d, err
}

func (a *app) moveDrillCommand() *cobra.Command {
	var move string
	var stolen, old []string
	cmd := &cobra.Command{Use: "drill [DRAFT]", Short: "Rehearse a signed draft with a simulated fleet; exit status 3 if an invariant is violated", Args: cobra.MaximumNArgs(1),
		Long: `drill publishes a signed draft in memory and runs clients against it, from every pin that was ever exported,
while the old locations are unreachable, frozen, faulty or compromised. It writes nothing and uses no network.`,
		RunE: func(_ *cobra.Command, args []string) error {
			s, m, d, err := a.moveDraft(move, args)
			if err != nil {
				return err
			}
			run := &drill.Drill{Storage: s.storage, Config: *s.cfg, Draft: d, Old: old}
			if m != nil {
				if run.Config, err = a.drillConfig(s, m); err != nil {
					return err
				}
			}
			for _, label := range stolen {
				i := slices.IndexFunc(s.signers, func(x tuf.Signer) bool { return s.labels[x.Key().ID()] == label })
				if i < 0 {
					return usage("--stolen %s: the key ring has no such key of party %s", text.Name(label), text.Name(s.party))
				}
				run.Stolen = append(run.Stolen, s.signers[i])
			}
			report, err := run.Run(a.ctx)
			if err != nil {
				return err
			}
			return a.printFound(report.Err() != nil, report, strings.TrimRight(report.String(), "\n"))
		}}
	f := cmd.Flags()
	f.StringVar(&move, "move", "", "description of the move that the draft belongs to")
	f.StringSliceVar(&stolen, "stolen", nil, "labels of keys that the attacker of the rehearsal has")
	f.StringSliceVar(&old, "old", nil, "ids of the locations that fail; default: those that the draft demotes or retires")
	return cmd
}

func (a *app) recoverCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "recover", Short: "Replace a root whose keys are lost, with the recovery keys; docs/recovery.md"}
	var reason string
	var after int64
	var flags changeFlags
	stage := &cobra.Command{Use: "stage CHARTER", Short: "Make the draft of a recovery from the charter document of the new root", Args: cobra.ExactArgs(1),
		Long: `stage makes a root that follows the lost one, the content that its keys sign again, and the statement with which
the recovery organisations name this root. visum charter show prints the document to edit: the party that lost its
keys gets others, and the online keys must be new. The draft goes to every recovery organisation and every party.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if reason == "" {
				return usage("--reason is required")
			}
			root, err := readCharter(args[0])
			if err != nil {
				return err
			}
			s, err := a.openFor(flags)
			if err != nil {
				return err
			}
			s.own = true
			d, err := s.unsigned().StageRecovery(a.ctx, repo.RecoveryOptions{Reason: reason, After: after}, func(tx *repo.Tx) error { tx.SetRoot(root); return nil })
			if err != nil {
				return err
			}
			return a.finish(s, d, flags, nil)
		}}
	a.changeFlags(stage, &flags)
	renew := &cobra.Command{Use: "renew", Short: "Make a new statement for a published recovery", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if reason == "" {
				return usage("--reason is required")
			}
			s, err := a.openFor(flags)
			if err != nil {
				return err
			}
			s.own = true
			d, err := s.unsigned().RenewRecovery(a.ctx, repo.RecoveryOptions{Reason: reason, After: after})
			if err != nil {
				return err
			}
			return a.finish(s, d, flags, nil)
		}}
	a.changeFlags(renew, &flags)
	for _, c := range []*cobra.Command{stage, renew} {
		c.Flags().StringVar(&reason, "reason", "", "why no regular root can be signed")
		c.Flags().Int64Var(&after, "after", 0, "version of the root whose keys are lost; 0: the newest root")
	}
	sign := a.draftSignCommand()
	publish := a.draftPublishCommand()
	sign.Short, publish.Short = "As visum draft sign", "As visum draft publish"
	cmd.AddCommand(stage, sign, renew, publish)
	return cmd
}
