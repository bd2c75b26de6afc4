package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/visum-dev/visum/internal/githost"
	"github.com/visum-dev/visum/repo/keys"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"visum": func() { os.Exit(run()) }, "signer": signer})
}

// signer is a program for exec: keys. It signs with the key file of its first argument.
func signer() {
	s, err := keys.Open(context.Background(), keys.FileURI(os.Args[1]), nil)
	var out []byte
	if err == nil {
		if len(os.Args) > 2 {
			out, err = keys.WritePublic(s.Key(), keys.FormPEM)
		} else if out, err = io.ReadAll(os.Stdin); err == nil {
			out, err = s.Sign(context.Background(), out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(out)
}

// The scripts read like pages of a manual: each shows commands and what they answer.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_CONFIG_HOME", e.WorkDir+"/config")
			path, err := exec.LookPath("signer")
			if err != nil {
				return err
			}
			slashed := filepath.ToSlash(path)
			e.Setenv("SIGNER", "exec:/"+strings.TrimPrefix(slashed, "/"))
			return errors.Join(bucket(e), gitHost(e))
		}})
}

// gitHost starts a git host on this machine, with an empty repository and its pages.
func gitHost(e *testscript.Env) error {
	git, err := exec.LookPath("git")
	if err != nil {
		return nil // the scripts that need it are skipped
	}
	root, err := os.MkdirTemp("", "visum-host-")
	if err != nil {
		return err
	}
	e.Defer(func() { os.RemoveAll(root) })
	host, err := githost.New(git, root)
	if err != nil {
		return err
	}
	if err := host.Init("kestrel"); err != nil {
		return err
	}
	server := httptest.NewServer(host)
	e.Defer(server.Close)
	e.Setenv("HOST", root)
	e.Setenv("BRANCH", "git:"+server.URL+"/kestrel.git#gh-pages")
	e.Setenv("PAGES", server.URL+"/pages/kestrel/gh-pages/")
	return nil
}

// bucket starts an object store on this machine, with an empty bucket.
func bucket(e *testscript.Env) error {
	backend := s3mem.New()
	if err := backend.CreateBucket("updates"); err != nil {
		return err
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	e.Defer(server.Close)
	e.Setenv("BUCKET", "s3://updates/kestrel?region=eu-central-1&endpoint="+server.URL)
	e.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	e.Setenv("AWS_SECRET_ACCESS_KEY", "not a secret")
	return nil
}
