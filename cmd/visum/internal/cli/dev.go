package cli

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

var productName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,30}$`)

// devCommand makes a repository of two parties on this machine.
func (a *app) devCommand() *cobra.Command {
	var product, listen string
	var serve bool
	cmd := &cobra.Command{Use: "dev [DIR]", Short: "Make and serve a repository of two parties on this machine, for development", Args: cobra.MaximumNArgs(1),
		Long: `dev makes a repository with a vendor and a review centre in DIR (default: visum-dev), with the keys
of both, and serves it on loopback. The keys have no passphrase, and the locations use http: for
development only. If DIR has a repository already, dev only serves it.`,
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "visum-dev"
			if len(args) > 0 {
				dir = args[0]
			}
			if !productName.MatchString(product) {
				return usage("--product %s: 1 to 31 lower-case letters, digits, dots, underscores and hyphens", text.Quote(product))
			}
			host, _, err := net.SplitHostPort(listen)
			if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
				return usage("--listen %s: want a loopback address with a port, such as 127.0.0.1:8722", text.Quote(listen))
			}
			_, err = os.Stat(filepath.Join(dir, folderFile))
			fresh := errors.Is(err, os.ErrNotExist)
			if err != nil && !fresh {
				return err
			}
			if fresh {
				if err := a.makeDev(dir, product, "http://"+listen+"/"); err != nil {
					return err
				}
			}
			identity := filepath.Join(dir, "identity.toml")
			result := map[string]any{"directory": dir, "identity": identity, "pin": filepath.Join(dir, "pin.json"), "url": "http://" + listen + "/"}
			if err := a.print(result,
				fmt.Sprintf("repository of vendor and review in %s; pin for the product: %s", text.Name(dir), text.Name(filepath.Join(dir, "pin.json"))),
				fmt.Sprintf("next: export VISUM_IDENTITY=%s; visum -C %s --as vendor add FILE --product %s --version 1.0.0 --publish", identity, dir, product)); err != nil || !serve {
				return err
			}
			return a.serveHTTP(listen, mirror.Handler(storage.Dir(filepath.Join(dir, "repository"))))
		}}
	f := cmd.Flags()
	f.StringVar(&product, "product", "demo", "name of the product; its releases are below PRODUCT/")
	f.StringVar(&listen, "listen", "127.0.0.1:8722", "loopback address of the server, which the charter lists")
	f.BoolVar(&serve, "serve", true, "serve until interrupted")
	return cmd
}

// devKeys are the keys of a development repository.
var devKeys = []struct{ label, use string }{
	{"vendor-root", "vendor root"}, {"vendor-release", "vendor release"}, {"timestamp", "vendor timestamp"}, {"snapshot", "vendor snapshot"},
	{"targets", "vendor targets"}, {"review-root", "review root"}, {"review-release", "review release"}}

// makeDev makes the identity and the repository in an empty or missing directory.
func (a *app) makeDev(dir, product, base string) (err error) {
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return usage("%s is not empty, and has no %s", text.Name(dir), folderFile)
	}
	defer func() {
		if err != nil { // a failed command leaves nothing
			for _, name := range []string{"repository", "keys", "ledger", "identity.toml", "pin.json", folderFile} {
				_ = os.RemoveAll(filepath.Join(dir, name))
			}
		}
	}()
	id := &identity{dir: dir}
	ring := map[string]tuf.Signer{}
	for _, k := range devKeys {
		s, err := a.newKey(id, k.label, k.use, nil)
		if err != nil {
			return err
		}
		ring[k.label] = s
	}
	public := func(label string) repo.Keys { return repo.Keys{Keys: []tuf.Key{ring[label].Key()}} }
	root := repo.Root{
		Parties:   []repo.Party{{Name: "vendor", Keys: public("vendor-root").Keys}, {Name: "review", Keys: public("review-root").Keys}},
		Timestamp: public("timestamp"), Snapshot: public("snapshot"), Targets: public("targets"),
		Classes: []repo.Class{{Name: product, Prefix: product + "/", Roles: []repo.ReleaseRole{
			{Party: "vendor", Role: "vendor-" + product, Keys: public("vendor-release")},
			{Party: "review", Role: "review-" + product, Keys: public("review-release")}}}},
		Locations: []tuf.Location{{ID: "dev", Tier: tuf.Primary, Operator: "dev", Base: base, Metadata: "metadata/", Targets: "targets/"}},
		Probe:     tuf.Probe{MinOperators: 1, Every: time.Hour, MaxAge: 30 * 24 * time.Hour},
	}
	ledgers := map[string]string{"vendor": "ledger/vendor", "review": "ledger/review"}
	f := &founding{store: storage.Dir(filepath.Join(dir, "repository")), root: root, review: "review", loopback: true, ledger: func(party string) string { return id.path(ledgers[party]) }}
	for _, k := range id.Keys {
		f.add(k.Party, ring[k.Label])
	}
	pin, err := a.found(f)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, "pin.json"), pin, 0o644); err != nil {
		return err
	}
	opened, err := tuf.OpenPin(pin, &tuf.Options{UnsafeLoopback: true})
	if err != nil {
		return err
	}
	repoID := opened.Root().Charter().RepoID()
	for _, party := range []string{"vendor", "review"} {
		id.Repositories = append(id.Repositories, identityRepo{RepoID: repoID, Party: party, Pin: "pin.json", Ledger: ledgers[party], UnsafeLoopback: true})
	}
	if err := writeTOML(filepath.Join(dir, "identity.toml"), id); err != nil {
		return err
	}
	return writeTOML(filepath.Join(dir, folderFile), &folderConfig{RepoID: repoID, Storage: "repository"})
}

// serveHTTP answers requests until the context ends.
func (a *app) serveHTTP(listen string, h http.Handler) error {
	l, err := (&net.ListenConfig{}).Listen(a.ctx, "tcp", listen)
	if err != nil {
		return err
	}
	a.note("serving http://%s/ until interrupted", l.Addr())
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		<-a.ctx.Done()
		srv.Close()
		close(done)
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-done
	return nil
}
