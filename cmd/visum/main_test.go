package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/visum-dev/visum/internal/githost"
	"github.com/visum-dev/visum/internal/kmshost"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"visum": func() { os.Exit(run(clock)) }, "signer": signer, "watcher": watcher, "fetch": fetch})
}

// clock is the system's, moved by the days in TEST_DAYS: scripts go through months.
func clock() time.Time {
	days, _ := strconv.Atoi(os.Getenv("TEST_DAYS"))
	return time.Now().AddDate(0, 0, days)
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

// fetch sends a request and prints the status, some headers and the size of the answer.
func fetch() {
	r, err := http.NewRequestWithContext(context.Background(), os.Args[1], os.Args[2], nil)
	if err == nil && len(os.Args) > 3 {
		r.Header.Set("Range", os.Args[3])
	}
	var resp *http.Response
	if err == nil {
		resp, err = http.DefaultClient.Do(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	fmt.Println(resp.StatusCode, n, err)
	for _, name := range []string{"Cache-Control", "Content-Type", "X-Amz-Meta-Visum-Write"} {
		if v := resp.Header.Get(name); v != "" {
			fmt.Printf("%s: %s\n", name, v)
		}
	}
}

// webServer is for scripts that start nginx: its port, and the page with its
// configuration. The process ends with the script.
func webServer(e *testscript.Env) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return err
	}
	page, err := filepath.Abs("../../docs/operating.md")
	if err != nil {
		return err
	}
	e.Setenv("WEB_PORT", port)
	e.Setenv("OPERATING", page)
	e.Defer(func() {
		data, err := os.ReadFile(filepath.Join(e.WorkDir, "nginx.pid"))
		if err != nil {
			return // it was not started
		}
		if id, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			if p, err := os.FindProcess(id); err == nil {
				_ = p.Signal(os.Interrupt)
			}
		}
	})
	return nil
}

// The scripts read like pages of a manual: each shows commands and what they answer.
func TestScripts(t *testing.T) {
	params := testscript.Params{Dir: "testdata", RequireExplicitExec: true, RequireUniqueNames: true,
		Condition: func(cond string) (bool, error) { return cond == "long" && rawtuf.Long, nil },
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Setenv("XDG_CONFIG_HOME", e.WorkDir+"/config")
			path, err := exec.LookPath("signer")
			if err != nil {
				return err
			}
			slashed := filepath.ToSlash(path)
			e.Setenv("SIGNER", "exec:/"+strings.TrimPrefix(slashed, "/"))
			if err := pages(e); err != nil {
				return err
			}
			if err := webServer(e); err != nil {
				return err
			}
			return errors.Join(bucket(e), gitHost(e))
		}}
	if testing.Short() { // with the race detector, hundreds of processes take minutes
		params.Dir = ""
		for _, name := range []string{"exit-status", "key", "release", "run"} {
			params.Files = append(params.Files, filepath.Join("testdata", name+".txtar"))
		}
	}
	testscript.Run(t, params)
}

// pages serves the folder www of a script, and tells it what go build needs.
func pages(e *testscript.Env) error {
	server := httptest.NewServer(mirror.Handler(storage.Dir(filepath.Join(e.WorkDir, "www"))))
	e.Defer(server.Close)
	e.Setenv("WWW", server.URL)
	e.Setenv("PLATFORM", runtime.GOOS+"/"+runtime.GOARCH)
	for name, args := range map[string][]string{"GOCACHE": {"env", "GOCACHE"}, "GOMODCACHE": {"env", "GOMODCACHE"}, "MODULE": {"list", "-m", "-f", "{{.Dir}}"}} {
		out, err := exec.Command("go", args...).Output()
		if err != nil {
			return err
		}
		e.Setenv(name, strings.TrimSpace(string(out)))
	}
	e.Setenv("GOPROXY", "off")
	e.Setenv("GOFLAGS", "")
	return nil
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
	if err := errors.Join(host.Init("kestrel"), host.Init("roots")); err != nil {
		return err
	}
	server := httptest.NewServer(host)
	e.Defer(server.Close)
	e.Setenv("HOST", root)
	e.Setenv("BRANCH", "git:"+server.URL+"/kestrel.git#gh-pages")
	e.Setenv("PAGES", server.URL+"/pages/kestrel/gh-pages/")
	// Another operator, by the host's name.
	other := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	e.Setenv("BRANCH2", "git:"+other+"/roots.git#kestrel")
	e.Setenv("PAGES2", other+"/pages/roots/kestrel/")
	return nil
}

// bucket starts an object store on this machine, with an empty bucket.
func bucket(e *testscript.Env) error {
	backend := s3mem.New()
	if err := backend.CreateBucket("updates"); err != nil {
		return err
	}
	store := gofakes3.New(backend).Server()
	server := httptest.NewServer(store)
	e.Defer(server.Close)
	// The same bucket, for credentials that may only read.
	reading := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			http.Error(w, r.Method+" is not permitted", http.StatusForbidden)
			return
		}
		store.ServeHTTP(w, r)
	}))
	e.Defer(reading.Close)
	e.Setenv("BUCKET_READ", "s3://updates/kestrel?region=eu-central-1&endpoint="+reading.URL)
	for name, prefix := range map[string]string{"BUCKET": "kestrel", "EXCHANGE": "exchange", "LEDGER": "ledger"} {
		e.Setenv(name, "s3://updates/"+prefix+"?region=eu-central-1&endpoint="+server.URL)
	}
	c := aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "not a secret"}
	e.Setenv("AWS_ACCESS_KEY_ID", c.AccessKeyID)
	e.Setenv("AWS_SECRET_ACCESS_KEY", c.SecretAccessKey)
	return keyService(e, c)
}

// keyService starts a stand-in for AWS KMS with two keys.
func keyService(e *testscript.Env, c aws.Credentials) error {
	host := kmshost.New(c)
	for _, name := range []string{"release", "online"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		if _, err := host.Add(name, "ECC_NIST_P256", key); err != nil {
			return err
		}
		host.Alias("kestrel-"+name, name)
	}
	server := httptest.NewServer(host)
	e.Defer(server.Close)
	e.Setenv("KMS", server.URL)
	return nil
}
