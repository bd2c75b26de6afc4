package pkcs11

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/visum-dev/visum/internal/text"
)

// keyURI is a parsed PKCS #11 URI (RFC 7512). Nil attributes match every value.
type keyURI struct {
	label, serial, manufacturer, model *string // of the token
	object                             *string
	id                                 []byte
	module                             string // "": that of Config
	pinSource                          string // path of a file; "": none
	pinValue                           *string
}

// Characters that may be in a value without percent-encoding, besides letters and digits.
const (
	unreserved = "-._~"
	inPath     = unreserved + ":[]@!$'()*+,=&"
	inQuery    = unreserved + ":[]@!$'()*+,=/?|"
)

// parseURI parses strictly: what RFC 7512 does not allow is an error, and so is an
// attribute that this package does not use. Errors contain no value, since a PIN may be
// in one.
func parseURI(uri string) (*keyURI, error) {
	scheme, rest, _ := strings.Cut(uri, ":")
	if !strings.EqualFold(scheme, "pkcs11") {
		return nil, fmt.Errorf("%w: not a pkcs11 URI", fs.ErrInvalid)
	}
	if len(rest) > 4096 {
		return nil, fmt.Errorf("%w: a URI of more than 4096 bytes", fs.ErrInvalid)
	}
	path, query, _ := strings.Cut(rest, "?")
	u := &keyURI{}
	seen := map[string]bool{}
	each := func(part, separator, allowed string, set func(name, value string) error) error {
		if part == "" {
			return nil
		}
		for attribute := range strings.SplitSeq(part, separator) {
			name, raw, ok := strings.Cut(attribute, "=")
			if !ok || seen[name] {
				return fmt.Errorf("%w: want NAME=VALUE, each name once, between %q", fs.ErrInvalid, separator)
			}
			seen[name] = true
			value, err := decode(raw, allowed)
			if err == nil && name != "id" && (!utf8.ValidString(value) || strings.Contains(value, "\x00")) {
				err = fmt.Errorf("%w: not UTF-8", fs.ErrInvalid)
			}
			if err == nil {
				err = set(name, value)
			}
			if err != nil {
				return u.naming(uri, name, err)
			}
		}
		return nil
	}
	if err := each(path, ";", inPath, u.setPath); err != nil {
		return nil, err
	}
	if err := each(query, "&", inQuery, u.setQuery); err != nil {
		return nil, err
	}
	if u.pinValue != nil && u.pinSource != "" {
		return nil, fmt.Errorf("%w: pin-source and pin-value", fs.ErrInvalid)
	}
	return u, nil
}

// naming adds the name of an attribute to an error. In a URI with a PIN a name may be a
// part of it, since & separates attributes.
func (*keyURI) naming(uri, name string, err error) error {
	if strings.Contains(strings.ToLower(uri), "pin-value") {
		return err
	}
	return fmt.Errorf("%s: %w", text.Name(name), err)
}

func (u *keyURI) setPath(name, value string) error {
	texts := map[string]**string{"token": &u.label, "serial": &u.serial, "manufacturer": &u.manufacturer, "model": &u.model, "object": &u.object}
	switch at := texts[name]; {
	case at != nil:
		*at = &value
	case name == "id":
		u.id = []byte(value)
	case name == "type":
		if value != "private" {
			return fmt.Errorf("%w: the only type is private", fs.ErrInvalid)
		}
	case name == "module-path" || name == "pin-source" || name == "pin-value":
		return fmt.Errorf("%w: it belongs behind the question mark", fs.ErrInvalid)
	default:
		return fmt.Errorf("%w: unknown attribute; known are token, serial, manufacturer, model, object, id and type", fs.ErrInvalid)
	}
	return nil
}

func (u *keyURI) setQuery(name, value string) error {
	switch name {
	case "module-path":
		if !filepath.IsAbs(value) {
			return fmt.Errorf("%w: want an absolute path", fs.ErrInvalid)
		}
		u.module = value
	case "pin-source":
		path := strings.TrimPrefix(value, "file:")
		if after, ok := strings.CutPrefix(path, "//"); ok {
			path = after
		}
		if path == value || !filepath.IsAbs(path) {
			return fmt.Errorf("%w: want file: and an absolute path", fs.ErrInvalid)
		}
		u.pinSource = path
	case "pin-value":
		u.pinValue = &value
	default:
		return fmt.Errorf("%w: unknown attribute; known are module-path, pin-source and pin-value", fs.ErrInvalid)
	}
	return nil
}

// decode decodes percent-encoding. allowed are characters that stand for themselves,
// besides letters and digits.
func decode(raw, allowed string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '%':
			if i+3 > len(raw) {
				return "", fmt.Errorf("%w: %% without two hex digits", fs.ErrInvalid)
			}
			b, err := hex.DecodeString(raw[i+1 : i+3])
			if err != nil {
				return "", fmt.Errorf("%w: %% without two hex digits", fs.ErrInvalid)
			}
			out.Write(b)
			i += 2
		case alphanumeric(c) || strings.IndexByte(allowed, c) >= 0:
			out.WriteByte(c)
		default:
			return "", fmt.Errorf("%w: a character that must be percent-encoded", fs.ErrInvalid)
		}
	}
	return out.String(), nil
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// encode is the inverse of decode. It encodes all that is not unreserved, and every byte
// of an id, as other programs do. keep are characters that it leaves as they are.
func encode(value string, everything bool, keep string) string {
	var out strings.Builder
	for i := range len(value) {
		if c := value[i]; !everything && (alphanumeric(c) || strings.IndexByte(unreserved+keep, c) >= 0) {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

// uriOf returns the URI that selects a key of a token.
func uriOf(t tokenID, label string, id []byte, module string) string {
	var parts []string
	add := func(name, value string, everything bool) {
		if value != "" {
			parts = append(parts, name+"="+encode(value, everything, ""))
		}
	}
	add("token", t.label, false)
	add("serial", t.serial, false)
	if len(id) > 0 {
		add("id", string(id), true)
	} else {
		add("object", label, false)
	}
	return "pkcs11:" + strings.Join(parts, ";") + "?module-path=" + encode(filepath.ToSlash(module), false, "/:")
}

// matches reports whether the URI names the token.
func (u *keyURI) matches(t tokenID) bool {
	is := func(want *string, got string) bool { return want == nil || *want == got }
	return is(u.label, t.label) && is(u.serial, t.serial) && is(u.manufacturer, t.manufacturer) && is(u.model, t.model)
}

func (t tokenID) String() string {
	return text.Quote(t.label) + " (serial " + text.Name(t.serial) + ")"
}
