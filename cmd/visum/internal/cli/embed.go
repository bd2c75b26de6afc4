package cli

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
)

//go:embed update.go.tmpl
var updateTemplate string

func (a *app) embedCommand() *cobra.Command {
	var product, channel, pin string
	var loopback, force bool
	cmd := &cobra.Command{Use: "embed DIR", Short: "Write pin.json and update.go into a Go program, which then updates itself", Args: cobra.ExactArgs(1),
		Long: `embed writes two files into the folder of a main package: pin.json, the trust anchor, and update.go, with the
function selfUpdate, which saves the newest approved release of the product and replaces the running program by it.
The file is yours to edit. Call selfUpdate at the start of main, with the version of the program.`,
		Example: "  visum embed ./cmd/kestrel && go get github.com/visum-dev/visum/client",
		RunE: func(_ *cobra.Command, args []string) error {
			name, err := packageIn(args[0])
			if err != nil {
				return err
			}
			for _, file := range []string{"pin.json", "update.go"} {
				if _, err := os.Lstat(filepath.Join(args[0], file)); err == nil && !force {
					return usage("%s exists already; --force replaces it", text.Name(filepath.Join(args[0], file)))
				}
			}
			data, of, err := a.embeddedPin(pin)
			if err != nil {
				return err
			}
			if product == "" {
				product = of
			}
			if !productName.MatchString(product) {
				return usage("--product is required: the name of the product")
			}
			print, err := pinFingerprint(data)
			if err != nil {
				return err
			}
			var b bytes.Buffer
			t := template.Must(template.New("update.go").Parse(updateTemplate))
			if err := t.Execute(&b, map[string]any{"Package": name, "Product": product, "Channel": channel, "Loopback": loopback}); err != nil {
				return err
			}
			source, err := format.Source(b.Bytes())
			if err != nil {
				return err
			}
			if err := errors.Join(durable.WriteFile(filepath.Join(args[0], "pin.json"), data, 0o644), durable.WriteFile(filepath.Join(args[0], "update.go"), source, 0o644)); err != nil {
				return err
			}
			return a.print(map[string]any{"directory": args[0], "package": name, "product": product, "fingerprint": print},
				fmt.Sprintf("wrote pin.json (fingerprint %s) and update.go (package %s)", print, name),
				"next: go get github.com/visum-dev/visum/client, and at the start of main: selfUpdate(ctx, version)")
		}}
	f := cmd.Flags()
	f.StringVar(&product, "product", "", "name of the product; default: the only class of the newest root")
	f.StringVar(&channel, "channel", "stable", "channel that the program follows")
	f.StringVar(&pin, "pin", "", "file with the pin; default: that of the newest root")
	f.BoolVar(&force, "force", false, "replace files that exist")
	f.BoolVar(&loopback, "unsafe-loopback", false, "permit http: locations on this machine, for development")
	return cmd
}

// embeddedPin returns the pin to embed, and the product if there is only one.
func (a *app) embeddedPin(path string) (pin []byte, product string, err error) {
	if path != "" {
		pin, err := os.ReadFile(path)
		return pin, "", err
	}
	s, err := a.look()
	if err != nil {
		return nil, "", err
	}
	if err := s.checkReview(a.ctx); err != nil {
		return nil, "", err
	}
	if pin, err = s.Repo.Pin(a.ctx); err != nil {
		return nil, "", err
	}
	chain, err := s.Chain(a.ctx)
	if err != nil {
		return nil, "", err
	}
	if classes := chain[len(chain)-1].Charter().Classes(); len(classes) == 1 {
		product = classes[0].Name
	}
	return pin, product, nil
}

// packageIn returns the name of the package in a folder.
func packageIn(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") || filepath.Base(f) == "update.go" {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.PackageClauseOnly)
		if err != nil {
			return "", usage("%s", text.Line(err.Error()))
		}
		return parsed.Name.Name, nil
	}
	return "", usage("%s has no Go files: name the folder of the program's main package", text.Name(dir))
}
