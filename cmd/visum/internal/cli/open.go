package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/config"
	"golang.org/x/term"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/awskms"
	"github.com/visum-dev/visum/repo/keys/exec"
	"github.com/visum-dev/visum/repo/keys/hashivault"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/storage/git"
	"github.com/visum-dev/visum/repo/storage/s3"
	"github.com/visum-dev/visum/tuf"
)

// site is an open repository: its storage, what this identity trusts, and a handle.
type site struct {
	*repo.Repo
	storage  storage.Storage
	cfg      *repo.Config
	pin      []byte
	party    string // that acts; "" if the identity has none
	loopback bool
	repoID   string
	signers  []tuf.Signer
	labels   map[string]string // of the signers, by key id
	outer    *site             // that of which this one is a batch; nil: none
}

// open returns the repository of the working folder with the keys of the identity.
func (a *app) open() (*site, error) {
	folder, err := a.readFolder()
	if err != nil {
		return nil, err
	}
	id, err := a.readIdentity()
	if err != nil {
		return nil, err
	}
	store, err := a.openStorage(folder.Storage, false)
	if err != nil {
		return nil, err
	}
	s := &site{storage: store, repoID: folder.RepoID}
	cfg := &repo.Config{Now: a.Now, Labels: map[string]string{}}
	mine := slices.DeleteFunc(slices.Clone(id.Repositories), func(r identityRepo) bool { return r.RepoID != folder.RepoID })
	switch {
	case len(mine) > 1 && a.as == "":
		var parties []string
		for _, r := range mine {
			parties = append(parties, r.Party)
		}
		return nil, usage("the identity takes part in repository %s as %s: choose one with --as", folder.RepoID, strings.Join(parties, " and as "))
	case a.as != "":
		mine = slices.DeleteFunc(mine, func(r identityRepo) bool { return r.Party != a.as })
		if len(mine) == 0 {
			return nil, usage("the identity has no party %s in repository %s", text.Name(a.as), folder.RepoID)
		}
	case len(mine) == 0:
		return nil, usage("the identity does not know repository %s: it needs a pin and a ledger for it", folder.RepoID)
	}
	me := mine[0]
	if me.Pin != "" { // without a pin, the roots in the ledger are the anchor
		if s.pin, err = os.ReadFile(id.path(me.Pin)); err != nil {
			return nil, err
		}
	}
	s.party, s.loopback = me.Party, me.UnsafeLoopback
	cfg.Pin, cfg.Party, cfg.UnsafeLoopback = s.pin, me.Party, me.UnsafeLoopback
	cfg.Ledger = repo.DirLedger(id.path(me.Ledger))
	if s.signers, err = a.signers(id, me.Party, cfg.Labels); err != nil {
		return nil, err
	}
	cfg.Signers, s.labels = s.signers, cfg.Labels
	s.cfg, s.Repo = cfg, repo.New(store, cfg)
	return s, nil
}

// batch calls fn with a site whose changes become visible at once, if the storage can do
// that. A dry run leaves the storage as it is then.
func (a *app) batch(s *site, fn func(*site) error) error {
	if _, ok := s.storage.(storage.Batcher); !ok {
		return fn(s)
	}
	dry := errors.New("dry run")
	err := storage.Batch(a.ctx, s.storage, func(in storage.Storage) error {
		inner := *s
		inner.storage, inner.Repo, inner.outer = in, repo.New(in, s.cfg), s
		if err := fn(&inner); err != nil || !a.dryRun {
			return err
		}
		return dry
	})
	if errors.Is(err, dry) {
		return nil
	}
	return err
}

// published calls fn with the site when what was published is visible.
func (s *site) published(fn func(*site) error) error {
	return storage.AfterCommit(s.storage, func() error {
		if s.outer != nil {
			return fn(s.outer)
		}
		return fn(s)
	})
}

// anchor returns the pin of the identity file, or one of the newest root, which the ledger
// vouches for.
func (s *site) anchor(ctx context.Context) ([]byte, error) {
	if len(s.pin) > 0 {
		return s.pin, nil
	}
	return s.Pin(ctx)
}

// openStorage opens a storage: a directory by its path, or a bucket or a branch by its
// URI. A remote with http: on this machine is permitted as for buckets; a branch of a
// directory is not, since git would run its hooks.
func (a *app) openStorage(uri string, readOnly bool) (storage.Storage, error) {
	switch scheme, _, ok := strings.Cut(uri, ":"); {
	case ok && scheme == "s3":
		return s3.Open(a.ctx, uri, &s3.Options{ReadOnly: readOnly})
	case ok && scheme == "git":
		return git.Open(a.ctx, uri, &git.Options{ReadOnly: readOnly, UnsafeLoopback: true})
	case ok && len(scheme) > 1 && scheme != "file": // one letter: a drive of Windows
		return nil, usage("%s: storages of this kind are not supported", text.Quote(uri))
	}
	path := strings.TrimPrefix(uri, "file:")
	if !filepath.IsAbs(path) {
		path = filepath.Join(a.folder, path)
	}
	return storage.Dir(path), nil
}

// signers returns the keys of a party in the key ring. They are opened at their first
// signature, so that a command that signs nothing asks for no passphrase.
func (a *app) signers(id *identity, party string, labels map[string]string) ([]tuf.Signer, error) {
	var out []tuf.Signer
	for _, k := range id.Keys {
		if k.Party != party {
			continue
		}
		key, err := a.publicKey(id, k)
		if err != nil {
			return nil, err
		}
		labels[key.ID()] = k.Label
		out = append(out, &lazySigner{app: a, id: id, entry: k, key: key})
	}
	return out, nil
}

// publicKey returns the public key of an entry of the key ring.
func (a *app) publicKey(id *identity, k identityKey) (tuf.Key, error) {
	if k.Public != "" {
		key, _, err := keys.ParsePublic([]byte(k.Public))
		if err != nil {
			return tuf.Key{}, fmt.Errorf("key %s: public: %w", text.Name(k.Label), err)
		}
		return key, nil
	}
	if path, ok := strings.CutPrefix(k.URI, "file:"); ok {
		key, _, err := keys.ReadPublic(id.path(strings.TrimPrefix(path, "//")))
		if err != nil {
			return tuf.Key{}, fmt.Errorf("key %s: %w", text.Name(k.Label), err)
		}
		return key, nil
	}
	s, err := a.openKey(id, k)
	if err != nil {
		return tuf.Key{}, err
	}
	return s.Key(), nil
}

// openKey opens a key with its passphrase.
func (a *app) openKey(id *identity, k identityKey) (tuf.Signer, error) {
	uri := k.URI
	if path, ok := strings.CutPrefix(uri, "file:"); ok && !strings.HasPrefix(path, "//") {
		uri = keys.FileURI(id.path(path))
	}
	s, err := keys.Open(a.ctx, uri, &keys.Options{Passphrase: a.passphrase, AgentSocket: a.Getenv("SSH_AUTH_SOCK"), Openers: a.openers()})
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", text.Name(k.Label), err)
	}
	return s, nil
}

// openers are the key stores of the tool.
func (a *app) openers() map[string]keys.Opener {
	return map[string]keys.Opener{
		"exec": func(ctx context.Context, uri string, opts *keys.Options) (tuf.Signer, error) {
			return exec.Opener(exec.Config{Env: a.Environ(), Terminal: a.terminal()})(ctx, uri, opts)
		},
		"hashivault": func(ctx context.Context, uri string, opts *keys.Options) (tuf.Signer, error) {
			cfg, err := hashivault.FromEnv(a.Getenv)
			if err != nil {
				return nil, err
			}
			return hashivault.Opener(cfg)(ctx, uri, opts)
		},
		"awskms": func(ctx context.Context, uri string, opts *keys.Options) (tuf.Signer, error) {
			cfg, err := config.LoadDefaultConfig(ctx)
			if err != nil {
				return nil, err
			}
			return awskms.Opener(cfg)(ctx, uri, opts)
		},
	}
}

// lazySigner opens its key at the first signature.
type lazySigner struct {
	app   *app
	id    *identity
	entry identityKey
	key   tuf.Key

	once sync.Once
	s    tuf.Signer
	err  error
}

func (l *lazySigner) Key() tuf.Key { return l.key }

func (l *lazySigner) Sign(ctx context.Context, payload []byte) ([]byte, error) {
	l.once.Do(func() {
		if l.s, l.err = l.app.openKey(l.id, l.entry); l.err == nil && l.s.Key() != l.key {
			l.err = fmt.Errorf("key %s: its public key is not the one of the key ring", text.Name(l.entry.Label))
		}
	})
	if l.err != nil {
		return nil, l.err
	}
	return l.s.Sign(ctx, payload)
}

// passphrase returns the passphrase of a key file: from a file, or from the terminal.
func (a *app) passphrase(_ context.Context, uri string) ([]byte, error) {
	path := a.passFile
	if path == "" {
		path = a.Getenv("VISUM_PASSPHRASE_FILE")
	}
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		return []byte(strings.TrimRight(string(data), "\r\n")), nil
	}
	if !a.terminal() {
		return nil, usage("%s: there is no terminal to ask for its passphrase; --passphrase-file names a file with it", text.Quote(uri))
	}
	fmt.Fprintf(a.Err, "passphrase of %s: ", text.Quote(uri))
	defer fmt.Fprintln(a.Err)
	data, err := term.ReadPassword(int(a.In.Fd()))
	if err == nil && len(data) == 0 {
		err = errors.New("no passphrase was given")
	}
	return data, err
}
