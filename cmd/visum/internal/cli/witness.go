package cli

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/witness"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

func (a *app) witnessCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "witness", Short: "Cosign public logs as a witness",
		Long: "A witness signs that it has seen a tree of a public log, and no other tree: C2SP tlog-witness. A log whose\nquorum of witnesses is honest can't show one machine what others don't see."}
	var label, name string
	flags := func(c *cobra.Command) {
		c.Flags().StringVar(&label, "key", "", "label of an ed25519 key in the key ring that signs nothing else")
		c.Flags().StringVar(&name, "name", "", "name of the witness, such as witness.example/w1")
	}
	open := func() (tuf.Signer, error) {
		if label == "" || name == "" {
			return nil, usage("--key and --name are required")
		}
		id, err := a.readIdentity()
		if err != nil {
			return nil, err
		}
		k, err := id.labelled(label)
		if err != nil {
			return nil, err
		}
		return a.openKey(id, k)
	}

	key := &cobra.Command{Use: "key", Short: "Print the public key of the witness, as policies name it", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			signer, err := open()
			if err != nil {
				return err
			}
			k, err := witness.Key(name, signer.Key())
			if err != nil {
				return err
			}
			return a.print(map[string]any{"key": k.String()}, k.String())
		}}
	flags(key)

	var listen, uri string
	var logs []string
	serve := &cobra.Command{Use: "serve", Short: "Answer the requests of logs until interrupted", Args: cobra.NoArgs,
		Long:    "serve answers POST /add-checkpoint of the logs that --log names, and serves the newest cosigned checkpoint of\neach. Its state and the evidence of forks are in --storage, which must never be set back to an older copy: a\nwitness that forgets could sign two trees. Place a web server with TLS in front of it.",
		Example: "  visum witness serve --key witness --name witness.example/w1 --storage state \\\n    --log vendor.example/visum/0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1/1+1a2b3c4d+AR...",
		RunE: func(*cobra.Command, []string) error {
			cfg := witness.Config{Name: name, Now: a.Now, Log: slog.New(slog.NewTextHandler(a.Err, nil))}
			if uri == "" || len(logs) == 0 {
				return usage("--storage and --log are required")
			}
			for _, s := range logs {
				k, err := tlog.ParseKey(s)
				if err != nil {
					return usage("--log: %s", text.Line(err.Error()))
				}
				cfg.Logs = append(cfg.Logs, k)
			}
			var err error
			if cfg.Signer, err = open(); err != nil {
				return err
			}
			if cfg.Storage, err = a.openStorage(uri, false); err != nil {
				return err
			}
			w, err := witness.New(cfg)
			if err != nil {
				return err
			}
			a.note("witness %s", w.Key())
			return a.serveHTTP(listen, w)
		}}
	flags(serve)
	serve.Flags().StringVar(&uri, "storage", "", "folder or URI of the state")
	serve.Flags().StringArrayVar(&logs, "log", nil, "key of a log whose trees are signed; may be repeated")
	serve.Flags().StringVar(&listen, "listen", "127.0.0.1:8723", "address of the server")
	cmd.AddCommand(serve, key)
	return cmd
}

func (a *app) tlogCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "tlog", Short: "Examine public logs"}
	var policyFile, entry string
	check := &cobra.Command{Use: "check PROOF", Short: "Verify that a file is an entry of a public log", Args: cobra.ExactArgs(1),
		Long: "check verifies a C2SP tlog-proof of the bytes of --entry under a C2SP tlog-policy: the signature of the log, a\nquorum of cosigners, and the inclusion of the entry. It needs no network.",
		RunE: func(_ *cobra.Command, args []string) error {
			if policyFile == "" || entry == "" {
				return usage("--policy and --entry are required")
			}
			var data [3][]byte
			for i, f := range []struct {
				name string
				most int64
			}{{policyFile, tlog.MaxPolicy}, {entry, tlog.MaxEntry}, {args[0], tlog.MaxProof}} {
				var err error
				if data[i], err = readSmall(f.name, f.most); err != nil {
					return err
				}
			}
			p, err := tlog.ParsePolicy(string(data[0]))
			if err != nil {
				return err
			}
			e, err := p.Verify(data[1], data[2])
			if err != nil {
				return err
			}
			lines := []string{fmt.Sprintf("entry %d of %d in the log %s, seen by a quorum at %s", e.Index, e.Size, text.Name(e.Origin), text.Time(e.Time))}
			for _, c := range e.Cosigners {
				lines = append(lines, fmt.Sprintf("  cosigned by %s at %s", text.Name(c.Name), text.Time(c.Time)))
			}
			return a.print(map[string]any{"origin": e.Origin, "index": e.Index, "size": e.Size, "root": fmt.Sprintf("%x", e.Root), "time": e.Time, "cosigners": e.Cosigners}, lines...)
		}}
	check.Flags().StringVar(&policyFile, "policy", "", "file with the policy")
	check.Flags().StringVar(&entry, "entry", "", "file with the bytes of the entry")
	cmd.AddCommand(check)
	return cmd
}

// readSmall reads a file of limited size.
func readSmall(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, usage("%s has %d bytes, at most %d", text.Name(path), info.Size(), most)
	}
	return os.ReadFile(path)
}
