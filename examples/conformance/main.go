// Command conformance is the adapter that black-box suites for TUF clients
// run, such as the tuf-conformance suite:
//
//	conformance --metadata-dir MD init TRUSTED_ROOT
//	conformance --metadata-url URL --metadata-dir MD refresh
//	conformance --metadata-url URL --metadata-dir MD --target-name NAME --target-dir TD --target-base-url URL download
//
// It is package client in its plain TUF mode, with its own Store that lays
// the trusted metadata out as suites expect it. The exit code is 0 or 1.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/durable"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Getenv("FAKETIME"), time.Now()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// options are the flags, named as the suites name them.
type options struct {
	metadataURL, metadataDir string
	targetNames              []string
	targetDir, targetBaseURL string
	command, trustedRoot     string
}

func run(ctx context.Context, args []string, faketime string, now time.Time) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if faketime != "" {
		// A Go program makes no call that an interposed clock could intercept.
		offset, err := strconv.ParseFloat(faketime, 64)
		if err != nil || !(math.Abs(offset) < 9e9) { // the range of a time.Duration
			return fmt.Errorf("FAKETIME is no offset in seconds: %.40q", faketime)
		}
		now = now.Add(time.Duration(offset * float64(time.Second)))
	}
	switch o.command {
	case "init":
		return start(o)
	case "refresh":
		_, _, err := refresh(ctx, o, now)
		return err
	case "download":
		return download(ctx, o, now)
	}
	return fmt.Errorf("unknown command %q: one of init, refresh, download", o.command)
}

func parse(args []string) (o options, err error) {
	fs := flag.NewFlagSet("conformance", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // its errors are returned
	fs.StringVar(&o.metadataURL, "metadata-url", "", "")
	fs.StringVar(&o.metadataDir, "metadata-dir", "", "")
	fs.StringVar(&o.targetDir, "target-dir", "", "")
	fs.StringVar(&o.targetBaseURL, "target-base-url", "", "")
	fs.Func("target-name", "", func(s string) error { o.targetNames = append(o.targetNames, s); return nil })
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.command, o.trustedRoot = fs.Arg(0), fs.Arg(1)
	if o.metadataDir == "" {
		return o, errors.New("--metadata-dir is required")
	}
	return o, nil
}

// start takes the root that is the trust anchor.
func start(o options) error {
	root, err := os.ReadFile(o.trustedRoot)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Join(o.metadataDir, own), 0o700); err != nil {
		return err
	}
	for _, name := range []string{own + "/pin", "root.json"} {
		if err := durable.WriteFile(filepath.Join(o.metadataDir, filepath.FromSlash(name)), root, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func refresh(ctx context.Context, o options, now time.Time) (*client.Client, *client.View, error) {
	pin, err := os.ReadFile(filepath.Join(o.metadataDir, own, "pin"))
	if err != nil {
		return nil, nil, err
	}
	c, err := client.New(pin, &client.Config{
		Store:          newStore(o.metadataDir),
		Sources:        []client.Source{client.HTTPSource(o.metadataURL, o.targetBaseURL)},
		UnsafeNoReview: true,
		Retries:        -1, // suites count requests
		Now:            func() time.Time { return now },
	})
	if err != nil {
		return nil, nil, err
	}
	view, err := c.Refresh(ctx)
	return c, view, err
}

func download(ctx context.Context, o options, now time.Time) error {
	if o.targetDir == "" || o.targetBaseURL == "" || len(o.targetNames) == 0 {
		return errors.New("download needs --target-name, --target-dir and --target-base-url")
	}
	c, view, err := refresh(ctx, o, now)
	if err != nil {
		return err
	}
	for _, name := range o.targetNames {
		a, err := view.Find(ctx, name)
		if err != nil {
			return err
		}
		if err := c.Save(ctx, a, filepath.Join(o.targetDir, fileName(name))); err != nil {
			return err
		}
	}
	return nil
}

// fileName is deterministic and injective. A name from metadata is not a path: it is
// escaped to one element, with a length that file systems accept.
func fileName(target string) string {
	name := "target-" + url.QueryEscape(target)
	if len(name) > 200 {
		name = fmt.Sprintf("%s.%x", name[:100], sha256.Sum256([]byte(target)))
	}
	return name
}
