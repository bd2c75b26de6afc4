package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/keys"
)

// publicJSON is a public key as in metadata.
type publicJSON struct {
	Type   string            `json:"keytype"`
	Scheme string            `json:"scheme"`
	Value  map[string]string `json:"keyval"`
}

// keyLine is a key of the key ring in the output.
type keyLine struct {
	Label       string `json:"label"`
	URI         string `json:"uri"`
	Party       string `json:"party,omitempty"`
	ID          string `json:"id,omitempty"`          // TUF key id
	Type        string `json:"type,omitempty"`        // scheme
	Fingerprint string `json:"fingerprint,omitempty"` // sha256 of the public key
}

func (k keyLine) String() string {
	return fmt.Sprintf("%s  %s  %.16s  %s  %s", text.Name(k.Label), text.Name(k.Type), k.ID, text.Name(k.Party), text.Quote(k.URI))
}

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Make and list keys"}
	var party string
	fresh := &cobra.Command{Use: "new LABEL", Short: "Make a key file with a passphrase and add it to the key ring", Args: cobra.ExactArgs(1),
		Long: "new makes an ed25519 key in the folder keys next to the identity file, encrypted with a passphrase,\nand adds it to the key ring under LABEL. The label also states the key's purpose, such as \"vendor root\".",
		RunE: func(_ *cobra.Command, args []string) error {
			id, err := a.readIdentity()
			if err != nil {
				return err
			}
			path, _, err := a.identityPath()
			if err != nil {
				return err
			}
			for _, k := range id.Keys {
				if k.Label == args[0] {
					return usage("the key ring has a key %s already: %s", text.Name(args[0]), text.Quote(k.URI))
				}
			}
			pass, err := a.passphrase(a.ctx, args[0])
			if err != nil {
				return err
			}
			line, err := a.newKey(id, args[0], party, pass)
			if err != nil {
				return err
			}
			if err := writeTOML(path, id); err != nil {
				return err
			}
			return a.print(line, line.String())
		}}
	fresh.Flags().StringVar(&party, "party", "", "the party that the key belongs to")
	list := &cobra.Command{Use: "list", Short: "List the keys of the key ring, without opening them", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			id, err := a.readIdentity()
			if err != nil {
				return err
			}
			out, lines := []keyLine{}, []string{}
			for _, k := range id.Keys {
				line, err := a.keyLine(id, k)
				if err != nil {
					return err
				}
				out, lines = append(out, line), append(lines, line.String())
			}
			return a.print(map[string]any{"keys": out}, lines...)
		}}
	pub := &cobra.Command{Use: "pub LABEL", Short: "Print the public key as charter documents have it", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			id, err := a.readIdentity()
			if err != nil {
				return err
			}
			for _, k := range id.Keys {
				if k.Label != args[0] {
					continue
				}
				key, err := a.publicKey(id, k)
				if err != nil {
					return err
				}
				return json.NewEncoder(a.Out).Encode(publicJSON{key.Type, key.Scheme, map[string]string{"public": key.Public}})
			}
			return usage("the key ring has no key %s", text.Name(args[0]))
		}}
	cmd.AddCommand(fresh, list, pub)
	return cmd
}

func (a *app) keyLine(id *identity, k identityKey) (keyLine, error) {
	key, err := a.publicKey(id, k)
	if err != nil {
		return keyLine{}, err
	}
	print, err := key.Fingerprint()
	if err != nil {
		return keyLine{}, fmt.Errorf("key %s: %w", text.Name(k.Label), err)
	}
	return keyLine{k.Label, k.URI, k.Party, key.ID(), key.Scheme, print}, nil
}

// newKey makes a key file next to the identity file and adds it to the key ring, which the
// caller writes. Without a passphrase the file is not encrypted.
func (a *app) newKey(id *identity, label, party string, passphrase []byte) (keyLine, error) {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(label)) + ".key"
	path := filepath.Join("keys", name)
	if err := durable.MkdirAll(id.path("keys"), 0o700); err != nil {
		return keyLine{}, err
	}
	if _, err := os.Lstat(id.path(path)); !errors.Is(err, fs.ErrNotExist) {
		return keyLine{}, fmt.Errorf("%s: %w", text.Name(id.path(path)), fs.ErrExist)
	}
	var err error
	if passphrase == nil {
		_, err = keys.UnsafeGeneratePlain(id.path(path), label)
	} else {
		_, err = keys.Generate(id.path(path), label, passphrase)
	}
	if err != nil {
		return keyLine{}, err
	}
	k := identityKey{Label: label, URI: "file:" + filepath.ToSlash(path), Party: party}
	id.Keys = append(id.Keys, k)
	return a.keyLine(id, k)
}
