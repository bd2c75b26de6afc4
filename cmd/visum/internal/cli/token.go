package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/pkcs11"
	"github.com/visum-dev/visum/tuf"
)

// tokenConfig is how the tool uses PKCS #11 tokens. A tool that was built without cgo
// starts the program visum-pkcs11 from its own folder, and from no other place.
func (a *app) tokenConfig() (pkcs11.Config, error) {
	cfg := pkcs11.Config{Module: a.Getenv("VISUM_PKCS11_MODULE"), PIN: a.tokenPIN, Env: a.Environ()}
	if pkcs11.Linked {
		return cfg, nil
	}
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return cfg, fmt.Errorf("the folder of visum-pkcs11: %w", err)
	}
	cfg.Helper = filepath.Join(filepath.Dir(self), "visum-pkcs11")
	if runtime.GOOS == "windows" {
		cfg.Helper += ".exe"
	}
	return cfg, nil
}

// tokenStore opens keys of tokens. All keys of a command share it, and thereby one question
// for the PIN of a token.
type tokenStore struct {
	once sync.Once
	open keys.Opener
	err  error
}

func (a *app) openToken(ctx context.Context, uri string, opts *keys.Options) (tuf.Signer, error) {
	s := a.tokens
	s.once.Do(func() {
		var cfg pkcs11.Config
		if cfg, s.err = a.tokenConfig(); s.err == nil {
			s.open = pkcs11.Opener(cfg)
		}
	})
	if s.err != nil {
		return nil, s.err
	}
	return s.open(ctx, uri, opts)
}

// tokenPIN asks for the PIN of a token on the terminal. The file with the passphrase of
// key files is not used, since a wrong PIN is counted.
func (a *app) tokenPIN(_ context.Context, t pkcs11.Token) ([]byte, error) {
	if !a.terminal() {
		return nil, usage("token %s: there is no terminal to ask for the token PIN; pin-source=file:PATH in the URI of the key names a PIN file", text.Quote(t.Label))
	}
	warning := ""
	switch {
	case t.PINFinalTry:
		warning = " (one try left)"
	case t.PINCountLow:
		warning = " (the last one was wrong)"
	}
	return a.secret(fmt.Sprintf("token PIN of %s, serial %s%s: ", text.Quote(t.Label), text.Name(t.Serial), warning))
}

// tokenLine is a token in the output.
type tokenLine struct {
	Label        string         `json:"label"`
	Serial       string         `json:"serial"`
	Manufacturer string         `json:"manufacturer"`
	Model        string         `json:"model"`
	Module       string         `json:"module"`
	PINCountLow  bool           `json:"pin_count_low"` // a wrong PIN was presented since the last correct one
	PINFinalTry  bool           `json:"pin_final_try"`
	PINLocked    bool           `json:"pin_locked"`
	Keys         []tokenKeyLine `json:"keys"`
}

// tokenKeyLine is a key of a token in the output.
type tokenKeyLine struct {
	Label string `json:"label"`
	ID    string `json:"id"` // CKA_ID in hex
	Kind  string `json:"kind"`
	Use   string `json:"pin,omitempty"` // "once" or "each signature"; "": the token does not show it
	KeyID string `json:"key_id,omitempty"`
	URI   string `json:"uri"`
}

// bareStore reports whether a URI names a store whose keys can be listed, and no key.
func bareStore(uri string) bool {
	_, rest, _ := strings.Cut(uri, ":")
	path, _, _ := strings.Cut(rest, "?")
	return path == "" && (isStore(uri, "pkcs11") || isStore(uri, "ssh-agent"))
}

func isStore(uri, scheme string) bool {
	have, _, ok := strings.Cut(uri, ":")
	return ok && strings.EqualFold(have, scheme)
}

// listStore returns what a store has, as lines too, and the URIs of the keys that can sign
// metadata.
func (a *app) listStore(uri string) (out map[string]any, lines []string, usable []string, err error) {
	switch {
	case isStore(uri, "pkcs11"):
		tokens, lines, usable, err := a.listTokens(uri)
		return map[string]any{"tokens": tokens}, lines, usable, err
	case isStore(uri, "ssh-agent") && bareStore(uri):
		held, lines, usable, err := a.listAgent()
		return map[string]any{"agent": held}, lines, usable, err
	}
	return nil, nil, nil, usage("%s: only pkcs11: and ssh-agent: can be listed", text.Quote(keys.Redact(uri)))
}

// agentLine is a key of an ssh-agent in the output.
type agentLine struct {
	Fingerprint string `json:"fingerprint"`
	Comment     string `json:"comment"`
	Format      string `json:"format"`
	KeyID       string `json:"key_id,omitempty"`
	URI         string `json:"uri"`
}

func (a *app) listAgent() (out []agentLine, lines []string, usable []string, err error) {
	held, err := keys.ListAgent(a.ctx, a.Getenv("SSH_AUTH_SOCK"))
	if err != nil {
		return nil, nil, nil, err
	}
	out = []agentLine{}
	for _, k := range held {
		line := agentLine{Fingerprint: k.Fingerprint, Comment: k.Comment, Format: k.Format, URI: k.URI}
		says := fmt.Sprintf("%s: %s", text.Quote(k.Comment), text.Name(k.Format))
		if k.Err != nil {
			lines = append(lines, says+", can't sign metadata")
		} else {
			line.KeyID = k.Key.ID()
			usable = append(usable, k.URI)
			lines = append(lines, says, "  "+text.Line(k.URI))
		}
		out = append(out, line)
	}
	return out, lines, usable, nil
}

// listTokens returns the tokens that are present with their keys, as lines too, and the
// keys that can sign metadata.
func (a *app) listTokens(uri string) (out []tokenLine, lines []string, usable []string, err error) {
	cfg, err := a.tokenConfig()
	if err != nil {
		return nil, nil, nil, err
	}
	tokens, err := pkcs11.List(a.ctx, uri, cfg)
	if err != nil {
		return nil, nil, nil, err
	}
	out = []tokenLine{}
	for _, t := range tokens {
		line := tokenLine{t.Label, t.Serial, t.Manufacturer, t.Model, t.Module, t.PINCountLow, t.PINFinalTry, t.PINLocked, []tokenKeyLine{}}
		name := fmt.Sprintf("%s #%s, module %s", text.Quote(t.Label), text.Name(t.Serial), text.Name(filepath.Base(t.Module)))
		state := map[bool]string{true: ", the last PIN was wrong"}[t.PINCountLow]
		switch {
		case t.PINLocked:
			state = ", its PIN is locked"
		case t.PINFinalTry:
			state = ", one try left for its PIN"
		}
		if len(t.Keys) == 0 {
			lines = append(lines, name+state+": no key is visible without its PIN")
		}
		for _, k := range t.Keys {
			entry := tokenKeyLine{Label: k.Label, ID: fmt.Sprintf("%x", k.ID), Kind: k.Kind, Use: string(k.PIN), URI: k.URI}
			says := fmt.Sprintf("%s%s: %s, id %x, label %s", name, state, text.Line(k.Kind), k.ID, text.Quote(k.Label))
			switch {
			case k.Key == (tuf.Key{}):
				says += ", can't sign metadata"
			case k.PIN == pkcs11.PINEach:
				says += ", asks for its PIN before each signature"
			}
			lines = append(lines, says)
			if k.Key != (tuf.Key{}) {
				entry.KeyID = k.Key.ID()
				usable = append(usable, k.URI)
				lines = append(lines, "  "+text.Line(k.URI))
			}
			line.Keys = append(line.Keys, entry)
		}
		out = append(out, line)
	}
	return out, lines, usable, nil
}

// chooseKey lists the keys of a store for a URI that selects none. If there is one key
// only, and a terminal, it asks whether to use it and returns its URI. --yes does not
// answer that.
func (a *app) chooseKey(uri string) (string, error) {
	out, lines, usable, err := a.listStore(uri)
	if err != nil {
		return "", err
	}
	if len(usable) == 0 {
		none := "the agent has no key that can sign metadata"
		if isStore(uri, "pkcs11") {
			none = "no token with a key that can sign metadata is present"
		}
		return "", errors.New(strings.Join(append([]string{none}, lines...), "; "))
	}
	if len(usable) == 1 && a.terminal() && !a.json {
		return usable[0], a.agree(strings.Join(lines, "\n") + "\nUse it?")
	}
	if err := a.print(out, lines...); err != nil {
		return "", err
	}
	a.note("choose one: visum key add LABEL 'URI'")
	return "", errFound
}
