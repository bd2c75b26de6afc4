package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
)

// keyLine is a key of the key ring in the output.
type keyLine struct {
	Label       string `json:"label"`
	URI         string `json:"uri"`
	Party       string `json:"party,omitempty"`
	Purpose     string `json:"purpose,omitempty"`     // such as root or release
	ID          string `json:"id,omitempty"`          // TUF key id
	Type        string `json:"type,omitempty"`        // scheme
	Fingerprint string `json:"fingerprint,omitempty"` // sha256 of the public key
}

func (k keyLine) String() string {
	return fmt.Sprintf("%s  %s  %.16s  %s  %s", text.Name(k.Label), text.Name(k.Type), k.ID, text.Line(strings.TrimSpace(k.Party+" "+k.Purpose)), text.Quote(k.URI))
}

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Make and list keys"}
	var use string
	var plain bool
	fresh := &cobra.Command{Use: "new LABEL", Short: "Make a key file with a passphrase and add it to the key ring", Args: cobra.ExactArgs(1),
		Long:    "new makes an ed25519 key in the folder keys next to the identity file, encrypted with a passphrase,\nand adds it to the key ring under LABEL. --for states the party and what it uses the key for: root,\nrelease, online (timestamp, snapshot and targets), hold or recovery. visum init chooses keys by it.",
		Example: "  visum key new vendor-root --for 'vendor root'",
		RunE: func(_ *cobra.Command, args []string) error {
			return a.editRing(func(id *identity) (keyLine, error) {
				if err := id.newLabel(args[0]); err != nil {
					return keyLine{}, err
				}
				var pass []byte
				if !plain {
					var err error
					if pass, err = a.newPassphrase(args[0]); err != nil {
						return keyLine{}, err
					}
				}
				if _, err := a.newKey(id, args[0], use, pass); err != nil {
					return keyLine{}, err
				}
				return a.keyLine(id, id.Keys[len(id.Keys)-1])
			})
		}}
	fresh.Flags().BoolVar(&plain, "unsafe-plain", false, "do not encrypt the file: everyone who reads it can sign")
	fresh.Flags().StringVar(&use, "for", "", "the party and the purpose of the key, such as 'vendor root'")
	list := &cobra.Command{Use: "list [pkcs11:|ssh-agent:]", Short: "List the keys of the key ring, without opening them, or those of tokens or an agent", Args: cobra.MaximumNArgs(1),
		Long: "list prints the keys of the key ring. With a pkcs11: URI it prints the tokens that are present, and their keys\nthat are visible without a PIN; with ssh-agent: the keys of the agent at SSH_AUTH_SOCK.",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				out, lines, _, err := a.listStore(args[0])
				if err != nil {
					return err
				}
				return a.print(out, lines...)
			}
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
	var form string
	var ofParty string
	pub := &cobra.Command{Use: "pub LABEL|--party PARTY", Short: "Print a public key, or those of a party as a document for the other party", Args: cobra.MaximumNArgs(1),
		Long: "pub prints the public key: as charter documents and metadata have it (tuf), as openssl and cloud key\nservices write it (pem), or as a line of an OpenSSH .pub file (openssh).\n\nWith --party it prints all public keys of that party with labels and purposes, as one document that the\nother party's visum init and visum party replace read.",
		RunE: func(_ *cobra.Command, args []string) error {
			forms := map[string]keys.Form{"tuf": keys.FormTUF, "pem": keys.FormPEM, "openssh": keys.FormOpenSSH}
			if forms[form] == 0 {
				return usage("--form %s: want tuf, pem or openssh", text.Quote(form))
			}
			if (ofParty == "") == (len(args) == 0) {
				return usage("name a key, or a party with --party")
			}
			id, err := a.readIdentity()
			if err != nil {
				return err
			}
			if ofParty != "" {
				ring, err := a.publicRing(id, ofParty)
				if err != nil {
					return err
				}
				e := json.NewEncoder(a.Out)
				e.SetIndent("", "  ")
				return e.Encode(ring)
			}
			k, err := id.labelled(args[0])
			if err != nil {
				return err
			}
			key, err := a.publicKey(id, k)
			if err != nil {
				return err
			}
			data, err := keys.WritePublic(key, forms[form])
			if err != nil {
				return err
			}
			_, err = a.Out.Write(data)
			return err
		}}
	pub.Flags().StringVar(&form, "form", "tuf", "of one key: tuf, pem or openssh")
	pub.Flags().StringVar(&ofParty, "party", "", "print all public keys of this party")
	cmd.AddCommand(fresh, a.keyAddCommand(), a.keyRemoveCommand(), a.keyRotateCommand(), a.keyCompromisedCommand(), list, pub)
	return cmd
}

func (a *app) keyAddCommand() *cobra.Command {
	var use string
	cmd := &cobra.Command{Use: "add LABEL URI", Short: "Add a key of a file, an agent or a key store to the key ring", Args: cobra.ExactArgs(2),
		Long: `add opens a key and adds it to the key ring under LABEL, with its public key: later commands open the key
at its first signature only, and refuse it if its public key has changed. URI is file:PATH, ssh-agent:COMMENT,
pkcs11:token=T;object=O, hashivault://KEY, awskms:///KEY, or exec:/PROGRAM?arg=A, a program that signs;
docs/keys.md describes them. Paths are absolute. pkcs11: alone lists the keys of the
tokens that are present, and ssh-agent: alone those of the agent.`,
		Example: "  visum key add 'vendor root' 'ssh-agent:vendor%20root' --for 'vendor root'\n  visum key add release 'exec:/usr/local/bin/sign-with-kms?arg=alias/release' --for 'vendor release'",
		RunE: func(_ *cobra.Command, args []string) error {
			if keys.Redact(args[1]) != args[1] {
				return usage("%s: an argument is visible to other users of the machine: pin-source=file:PATH names a PIN file; without it, visum asks for the token PIN", text.Quote(keys.Redact(args[1])))
			}
			scheme, rest, ok := strings.Cut(args[1], ":")
			rest = strings.TrimPrefix(rest, "//")
			if !ok || (scheme == "file" || scheme == "exec") && !strings.HasPrefix(rest, "/") && !filepath.IsAbs(rest) {
				return usage("%s: want SCHEME:..., with an absolute path", text.Quote(args[1]))
			}
			return a.editRing(func(id *identity) (keyLine, error) {
				if err := id.newLabel(args[0]); err != nil {
					return keyLine{}, err
				}
				k := identityKey{Label: args[0], URI: args[1]}
				if err := k.setUse(use); err != nil {
					return keyLine{}, err
				}
				if bareStore(k.URI) {
					var err error
					if k.URI, err = a.chooseKey(k.URI); err != nil {
						return keyLine{}, err
					}
				}
				s, err := a.openKey(id, k)
				if err != nil {
					return keyLine{}, err
				}
				data, err := keys.WritePublic(s.Key(), keys.FormTUF)
				if err != nil {
					return keyLine{}, err
				}
				k.Public = strings.TrimSpace(string(data))
				id.Keys = append(id.Keys, k)
				return a.keyLine(id, k)
			})
		}}
	cmd.Flags().StringVar(&use, "for", "", "the party and the purpose of the key, such as 'vendor release'")
	return cmd
}

func (a *app) keyRemoveCommand() *cobra.Command {
	return &cobra.Command{Use: "remove LABEL", Short: "Take a key out of the key ring; its file stays", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.editRing(func(id *identity) (keyLine, error) {
				i := slices.IndexFunc(id.Keys, func(k identityKey) bool { return k.Label == args[0] })
				if i < 0 {
					return keyLine{}, id.noLabel(args[0])
				}
				line, err := a.keyLine(id, id.Keys[i])
				if err != nil { // its file is gone
					line = keyLine{Label: id.Keys[i].Label, URI: keys.Redact(id.Keys[i].URI), Party: id.Keys[i].Party}
				}
				id.Keys = slices.Delete(id.Keys, i, i+1)
				return line, nil
			})
		}}
}

// editRing changes the key ring, and prints the key that was added or removed.
func (a *app) editRing(edit func(id *identity) (keyLine, error)) error {
	id, err := a.readIdentity()
	if err != nil {
		return err
	}
	path, _, err := a.identityPath()
	if err != nil {
		return err
	}
	line, err := edit(id)
	if err != nil {
		return err
	}
	if err := writeTOML(path, id); err != nil {
		return err
	}
	return a.print(line, line.String())
}

// labelled returns the key of the ring with a label.
func (id *identity) labelled(label string) (identityKey, error) {
	for _, k := range id.Keys {
		if k.Label == label {
			return k, nil
		}
	}
	return identityKey{}, id.noLabel(label)
}

func (id *identity) noLabel(label string) error {
	var have []string
	for _, k := range id.Keys {
		have = append(have, text.Name(k.Label))
	}
	return usage("the key ring has no key %s; it has: %s", text.Name(label), strings.Join(have, ", "))
}

// newLabel refuses a label that the key ring has.
func (id *identity) newLabel(label string) error {
	for _, k := range id.Keys {
		if k.Label == label {
			return usage("the key ring has a key %s already: %s", text.Name(label), text.Quote(keys.Redact(k.URI)))
		}
	}
	return nil
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
	return keyLine{k.Label, keys.Redact(k.URI), k.Party, k.Purpose, key.ID(), key.Scheme, print}, nil
}

// newKey makes a key file next to the identity file and adds it to the key ring, which the
// caller writes. Without a passphrase the file is not encrypted.
func (a *app) newKey(id *identity, label, use string, passphrase []byte) (tuf.Signer, error) {
	k := identityKey{Label: label}
	if err := k.setUse(use); err != nil {
		return nil, err
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(label)) + ".key"
	path := filepath.Join("keys", name)
	if err := durable.MkdirAll(id.path("keys"), 0o700); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(id.path(path)); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", text.Name(id.path(path)), fs.ErrExist)
	}
	var s tuf.Signer
	var err error
	if passphrase == nil {
		s, err = keys.UnsafeGeneratePlain(id.path(path), label)
	} else {
		s, err = keys.Generate(id.path(path), label, passphrase)
	}
	if err != nil {
		return nil, err
	}
	k.URI = "file:" + filepath.ToSlash(path)
	id.Keys = append(id.Keys, k)
	return s, nil
}
