package keys_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
)

func TestFileURI(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"k", "a b", "per%20cent", "ü?#", "x:y", "+", "a;b&c=d"} {
		path := filepath.Join(dir, name)
		_, err := keys.UnsafeGeneratePlain(path, "x")
		rawtuf.NoErr(t, err)
		if uri := keys.FileURI(path); strings.ContainsAny(uri, " ?#") || !strings.HasPrefix(uri, "file:///") {
			t.Errorf("%s: %s", path, uri)
		}
		if _, err := keys.Open(t.Context(), keys.FileURI(path), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Chdir(dir)
	for _, uri := range []string{"file:k", "FILE:k", "file:a%20b", "file:./k", keys.FileURI("k"), keys.FileURI("x:y"),
		"file:" + filepath.ToSlash(filepath.Join(dir, "k")), "file://localhost" + filepath.ToSlash(filepath.Join(dir, "k"))} {
		if _, err := keys.Open(t.Context(), uri, nil); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
	for _, uri := range []string{"file:", "file://host/k", "file://k", "file:k?x", "file:k#x", "file:%zz", "file:k%00"} {
		if _, err := keys.Open(t.Context(), uri, nil); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", uri, err)
		}
	}
	for _, uri := range []string{"", "k", "/k", `C:\k`, "C:/k", ":k", "pkcs11:token=x", "ssh:x", "1x:y"} {
		if _, err := keys.Open(t.Context(), uri, nil); !errors.Is(err, keys.ErrNoScheme) {
			t.Errorf("%s: %v", uri, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := keys.Open(ctx, "file:k", nil)
	wantErr(t, err, context.Canceled)
}

// A PIN in a URI is in no error, however the URI is written.
func TestRedact(t *testing.T) {
	for uri, want := range map[string]string{
		"file:k": "file:k", "pkcs11:token=a?module-path=/m.so": "pkcs11:token=a?module-path=/m.so",
		"pkcs11:token=a?pin-value=271828": "pkcs11:token=a?pin-value=[secret]", "PKCS11:?PIN-VALUE=27&18&28": "PKCS11:?PIN-VALUE=[secret]", "pkcs11:pin_value%3d=271828;x": "pkcs11:pin_value%3d=[secret]",
	} {
		if got := keys.Redact(uri); got != want {
			t.Errorf("%s: %s", uri, got)
		}
		_, err := keys.Open(t.Context(), uri, &keys.Options{Openers: map[string]keys.Opener{"pkcs11": func(context.Context, string, *keys.Options) (tuf.Signer, error) { return nil, fs.ErrInvalid }}})
		for _, err := range []error{err, func() error { _, err := keys.Open(t.Context(), uri, nil); return err }()} {
			if err == nil || strings.Contains(err.Error(), "28") {
				t.Errorf("%s: %v", uri, err)
			}
		}
	}
}

// Without an opener, these schemes lead to the recipe. A caller can still add one.
func TestCloudSchemes(t *testing.T) {
	for _, uri := range []string{"gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k/versions/1", "AzureKMS://vault/key"} {
		_, err := keys.Open(t.Context(), uri, nil)
		wantErr(t, err, keys.ErrNoScheme)
		if !strings.Contains(err.Error(), "exec:") || !strings.Contains(err.Error(), "docs/keys.md") {
			t.Errorf("%s: %v", uri, err)
		}
		own := errors.New("own opener")
		open := func(context.Context, string, *keys.Options) (tuf.Signer, error) { return nil, own }
		_, err = keys.Open(t.Context(), uri, &keys.Options{Openers: map[string]keys.Opener{"gcpkms": open, "azurekms": open}})
		wantErr(t, err, own)
	}
	page, err := os.ReadFile("../../docs/keys.md")
	rawtuf.NoErr(t, err)
	for _, heading := range []string{"### Google Cloud KMS\n", "### Azure Key Vault\n"} {
		if !strings.Contains(string(page), heading) {
			t.Errorf("docs/keys.md has no %q", heading)
		}
	}
}

// The caller adds further schemes: there is no global registry.
func TestOpeners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	made, err := keys.UnsafeGeneratePlain(path, "timestamp")
	rawtuf.NoErr(t, err)
	broken, none := errors.New("no token"), false
	opts := &keys.Options{Purpose: "timestamp", Openers: map[string]keys.Opener{
		"pkcs11": func(ctx context.Context, uri string, o *keys.Options) (tuf.Signer, error) {
			if none {
				return nil, nil
			}
			if uri != "PKCS11:token=visum" || o.Purpose != "timestamp" {
				return nil, broken
			}
			return made, nil
		},
		"file": func(context.Context, string, *keys.Options) (tuf.Signer, error) { return nil, broken },
	}}
	s, err := keys.Open(t.Context(), "PKCS11:token=visum", opts)
	rawtuf.NoErr(t, err)
	sameKey(t, made, s)
	_, err = keys.Open(t.Context(), "pkcs11:other", opts)
	wantErr(t, err, broken)
	none = true
	if _, err = keys.Open(t.Context(), "pkcs11:other", opts); err == nil {
		t.Error("no signer, no error")
	}
	_, err = keys.Open(t.Context(), keys.FileURI(path), opts) // ours, not the caller's
	rawtuf.NoErr(t, err)
	rawtuf.NoErr(t, os.Remove(path))
	_, err = keys.Open(t.Context(), keys.FileURI(path), opts)
	wantErr(t, err, fs.ErrNotExist)
}
