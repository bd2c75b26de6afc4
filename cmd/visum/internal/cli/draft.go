package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/diff"
)

func (a *app) draftCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "draft", Short: "Show, sign, merge and publish drafts"}
	var rest bool
	show := &cobra.Command{Use: "show FILE", Short: "Show what a draft changes, compared with this signer's ledger", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, d, err := a.openDraft(args[0])
			if err != nil {
				return err
			}
			changes, err := s.Diff(a.ctx, d)
			if err != nil {
				return err
			}
			var lines []string
			for _, c := range changes {
				if rest || c.Part != diff.PartRest {
					lines = append(lines, c.String())
				}
			}
			for _, m := range d.Missing() {
				lines = append(lines, "missing: "+m.String())
			}
			return a.print(change{Changes: changes, Missing: d.Missing(), Digest: d.Digest()}, append(lines, "digest "+d.Digest())...)
		}}
	show.Flags().BoolVar(&rest, "all", false, "show every signed member, with its path")
	missing := &cobra.Command{Use: "missing FILE", Short: "List the signatures that a draft lacks; exit status 5 if it lacks any", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := repo.LoadDraft(args[0])
			if err != nil {
				return err
			}
			lines := []string{}
			for _, m := range d.Missing() {
				lines = append(lines, m.String())
			}
			if err := a.print(map[string]any{"missing": append([]repo.Missing{}, d.Missing()...)}, lines...); err != nil || len(lines) == 0 {
				return err
			}
			return fmt.Errorf("%w: %d rules", repo.ErrUnsigned, len(lines))
		}}
	merge := &cobra.Command{Use: "merge FILE OTHER...", Short: "Add the signatures of other copies of a draft to FILE", Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := repo.LoadDraft(args[0])
			if err != nil {
				return err
			}
			for _, path := range args[1:] {
				other, err := repo.LoadDraft(path)
				if err != nil {
					return err
				}
				if err := d.Merge(other); err != nil {
					return fmt.Errorf("%s: %w", text.Name(path), err)
				}
			}
			if err := d.Save(args[0]); err != nil {
				return err
			}
			return a.print(change{Missing: d.Missing(), Draft: args[0], Digest: d.Digest()}, a.afterSigning(d, args[0])...)
		}}
	cmd.AddCommand(show, missing, a.draftSignCommand(), merge, a.draftPublishCommand(), a.draftPayloadCommand(), a.draftAttachCommand(), a.sendCommand(), a.pullCommand())
	return cmd
}

func (a *app) draftSignCommand() *cobra.Command {
	var digest string
	cmd := &cobra.Command{Use: "sign FILE", Short: "Sign a draft with the keys of the identity, after the rules of its ledger", Args: cobra.ExactArgs(1),
		Long: `sign shows what a draft changes and asks. --digest answers the question for exactly the draft with that digest,
which visum draft show prints.`,
		RunE: func(_ *cobra.Command, args []string) error { return a.signDraft(args[0], digest) }}
	cmd.Flags().StringVar(&digest, "digest", "", "digest of the draft that was examined; without it a person is asked")
	return cmd
}

func (a *app) draftPublishCommand() *cobra.Command {
	var move string
	cmd := &cobra.Command{Use: "publish FILE", Short: "Publish a draft that has its signatures", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.openDual(move)
			if err != nil {
				return err
			}
			d, err := s.LoadDraft(args[0])
			if err != nil {
				return err
			}
			return a.finish(s, d, changeFlags{publish: a.yes}, nil)
		}}
	cmd.Flags().BoolVar(&a.yes, "yes", false, "answer the question whether to publish")
	cmd.Flags().BoolVar(&a.dryRun, "dry-run", false, "show the change and write nothing")
	addMoveFlag(cmd, &move)
	return cmd
}

// openDraft opens a draft with the anchor and the ledger of the identity. Nothing is
// written to the storage.
func (a *app) openDraft(path string) (*site, *repo.Draft, error) {
	s, err := a.look()
	if err != nil {
		return nil, nil, err
	}
	d, err := s.LoadDraft(path)
	return s, d, err
}

// signDraft shows a draft, asks, and adds the signatures of the identity's keys to the
// file. Keys that may not sign anything in it are skipped.
func (a *app) signDraft(path, digest string) error {
	s, d, err := a.openDraft(path)
	if err != nil {
		return err
	}
	changes, err := s.Diff(a.ctx, d)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.Part != diff.PartRest {
			a.note("%s", c)
		}
	}
	switch {
	case digest != "" && digest != d.Digest():
		return fmt.Errorf("%s: %w: its digest is %s", text.Name(path), repo.ErrOtherDraft, d.Digest())
	case digest == "" && !a.terminal():
		return usage("sign?: there is no terminal to ask; --digest names the draft that was examined")
	case digest == "":
		if err := a.confirm("sign?"); err != nil {
			return err
		}
	}
	signed, err := s.sign(a.ctx, d)
	if err != nil {
		return err
	}
	if signed == 0 {
		return fmt.Errorf("%w: none of the identity's keys", repo.ErrNoPart)
	}
	if err := d.Save(path); err != nil {
		return err
	}
	return a.print(change{Changes: changes, Missing: d.Missing(), Draft: path, Digest: d.Digest()}, a.afterSigning(d, path)...)
}

// afterSigning says what a draft still lacks, and the next step.
func (a *app) afterSigning(d *repo.Draft, path string) []string {
	missing := d.Missing()
	if len(missing) == 0 {
		return []string{fmt.Sprintf("%s is complete. Next, at the operator: visum draft publish %s", text.Name(path), path)}
	}
	var lines []string
	for _, m := range missing {
		lines = append(lines, "missing: "+m.String())
	}
	return append(lines, "next, at the other signers: visum draft sign "+path)
}

func (a *app) pinCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "pin", Short: "Show the pin that products embed, and its fingerprint"}
	var out string
	show := &cobra.Command{Use: "show", Short: "Print the pin of the newest root", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.look()
			if err != nil {
				return err
			}
			pin, err := s.Pin(a.ctx)
			if err != nil {
				return err
			}
			if out != "" {
				return os.WriteFile(out, pin, 0o644)
			}
			_, err = a.Out.Write(pin)
			return err
		}}
	show.Flags().StringVarP(&out, "out", "o", "", "file for the pin, instead of standard output")
	fingerprint := &cobra.Command{Use: "fingerprint [FILE]", Short: "Print the sha256 of a pin file, which people compare", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var pin []byte
			var err error
			if len(args) > 0 {
				pin, err = os.ReadFile(args[0])
			} else if s, openErr := a.look(); openErr != nil {
				err = openErr
			} else {
				pin, err = s.Repo.Pin(a.ctx)
			}
			if err != nil {
				return err
			}
			print, err := pinFingerprint(pin)
			if err != nil {
				return err
			}
			return a.print(map[string]any{"fingerprint": print}, print)
		}}
	cmd.AddCommand(show, fingerprint)
	return cmd
}

func (a *app) draftPayloadCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{Use: "payload FILE ROLE", Short: "Write the bytes that a key of another tool signs", Args: cobra.ExactArgs(2),
		Long: `payload writes the signed part of one file of a draft, for a key that no key store of visum opens. ROLE is as
visum draft missing lists it. The rules are those of sign, and the ledger records the file as signed. Sign the bytes
with any tool: 64 bytes for ed25519, ASN.1 DER over the sha256 for P-256 or the sha384 for P-384, PSS with sha256 for
RSA. visum draft attach adds the signature.`,
		Example: "  visum draft payload emergency.draft root -o root.bin\n  openssl pkeyutl -sign -inkey root.pem -rawin -in root.bin -out root.sig\n  visum draft attach emergency.draft root --key 'vendor root' --signature root.sig",
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return usage("--out is required: the file for the bytes")
			}
			_, d, err := a.openDraft(args[0])
			if err != nil {
				return err
			}
			data, err := d.Payload(args[1])
			if err != nil {
				return err
			}
			if err := durable.WriteFile(out, data, 0o644); err != nil {
				return err
			}
			return a.print(map[string]any{"file": out, "bytes": len(data), "digest": d.Digest()}, fmt.Sprintf("%s: %d bytes of %s", text.Name(out), len(data), text.Name(args[1])))
		}}
	cmd.Flags().StringVarP(&out, "out", "o", "", "file for the bytes")
	return cmd
}

func (a *app) draftAttachCommand() *cobra.Command {
	var key, signature string
	cmd := &cobra.Command{Use: "attach FILE ROLE", Short: "Add a signature that another tool made", Args: cobra.ExactArgs(2),
		Long: "attach adds a signature to a draft, if it verifies. --key is a label of the key ring or a TUF key id.",
		RunE: func(_ *cobra.Command, args []string) error {
			if key == "" || signature == "" {
				return usage("--key and --signature are required")
			}
			s, d, err := a.openDraft(args[0])
			if err != nil {
				return err
			}
			id := key
			for keyID, label := range s.labels {
				if label == key {
					id = keyID
				}
			}
			sig, err := os.ReadFile(signature)
			if err != nil {
				return err
			}
			if err := d.AddSignature(args[1], id, sig); err != nil {
				return err
			}
			if err := d.Save(args[0]); err != nil {
				return err
			}
			return a.print(change{Missing: d.Missing(), Draft: args[0], Digest: d.Digest()}, a.afterSigning(d, args[0])...)
		}}
	cmd.Flags().StringVar(&key, "key", "", "label of the key, or its TUF key id")
	cmd.Flags().StringVar(&signature, "signature", "", "file with the signature")
	return cmd
}
