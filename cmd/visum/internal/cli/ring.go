package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
)

// partyKeys is the document with which a party gives its public keys to the others:
// what visum key pub --for PARTY prints and visum init and party replace read.
type partyKeys struct {
	Version int        `json:"visum-keys"` // 1
	Party   string     `json:"party"`
	Keys    []partyKey `json:"keys"`
}

// partyKey is one public key with its label and purpose.
type partyKey struct {
	Label   string          `json:"label"`
	Purpose string          `json:"for"`
	Key     json.RawMessage `json:"key"` // the key object of TUF, or a text that keys.ParsePublic reads

	parsed tuf.Key
}

var (
	purposeName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)
	partyName   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,30}$`)
)

// setUse sets party and purpose from the value of --for: "PARTY PURPOSE", or a party
// alone.
func (k *identityKey) setUse(use string) error {
	party, purpose, _ := strings.Cut(use, " ")
	if use != "" && (!partyName.MatchString(party) || purpose != "" && !purposeName.MatchString(purpose) || strings.HasSuffix(use, " ")) {
		return usage("--for %s: want a party and a purpose, such as 'vendor release'", text.Quote(use))
	}
	k.Party, k.Purpose = party, purpose
	return nil
}

// publicRing returns the public keys of a party in the key ring.
func (a *app) publicRing(id *identity, party string) (*partyKeys, error) {
	out := &partyKeys{Version: 1, Party: party}
	for _, k := range id.Keys {
		if k.Party != party {
			continue
		}
		if k.Purpose == "" {
			return nil, usage("key %s has no purpose: remove it from the key ring and add it again with --for '%s PURPOSE'", text.Name(k.Label), party)
		}
		key, err := a.publicKey(id, k)
		if err != nil {
			return nil, err
		}
		data, err := keys.WritePublic(key, keys.FormTUF)
		if err != nil {
			return nil, err
		}
		out.Keys = append(out.Keys, partyKey{Label: k.Label, Purpose: k.Purpose, Key: bytes.TrimSpace(data), parsed: key})
	}
	if len(out.Keys) == 0 {
		return nil, usage("the key ring has no key of party %s: make one with visum key new LABEL --for '%s root'", text.Name(party), party)
	}
	return out, nil
}

// readPartyKeys reads the document of another party.
func readPartyKeys(path string) (*partyKeys, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) error {
		return usage("%s: %s", text.Name(path), fmt.Sprintf(format, args...))
	}
	if len(data) > 1<<20 {
		return nil, bad("larger than 1 MiB")
	}
	out := &partyKeys{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return nil, bad("want the document that visum key pub --party prints: %s", text.Line(err.Error()))
	}
	if d.More() || out.Version != 1 || !partyName.MatchString(out.Party) || len(out.Keys) == 0 || len(out.Keys) > 64 {
		return nil, bad("want the document that visum key pub --party prints, with a party and 1 to 64 keys")
	}
	labels, ids := map[string]bool{}, map[string]bool{}
	for i := range out.Keys {
		k := &out.Keys[i]
		raw := []byte(k.Key)
		var asText string
		if json.Unmarshal(raw, &asText) == nil {
			raw = []byte(asText)
		}
		if k.parsed, _, err = keys.ParsePublic(raw); err != nil {
			return nil, bad("key %s: %s", text.Name(k.Label), text.Line(err.Error()))
		}
		if k.Label == "" || labels[k.Label] || ids[k.parsed.ID()] || !purposeName.MatchString(k.Purpose) {
			return nil, bad("key %s: each key needs a label of its own and a purpose, and stands once", text.Name(k.Label))
		}
		labels[k.Label], ids[k.parsed.ID()] = true, true
	}
	return out, nil
}

// of returns the keys with one of the purposes.
func (p *partyKeys) of(purposes ...string) (out []tuf.Key) {
	for _, k := range p.Keys {
		for _, want := range purposes {
			if k.Purpose == want {
				out = append(out, k.parsed)
			}
		}
	}
	return out
}
