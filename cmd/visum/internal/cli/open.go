package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/config"

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
	pin      []byte
	party    string // that acts; "" if the identity has none
	loopback bool
	repoID   string
	cfg      *repo.Config
	review   string       // name of the reviewing party
	own      bool         // the draft was staged here without signatures; finish signs it after the question
	dry      bool         // --dry-run: nothing is signed
	dual     bool         // signs with the old and the new keys of a move, which only Stage does
	uri      string       // of the storage
	exchange string       // of visum.toml; "": none
	me       identityRepo // the entry of the identity
	signers  []tuf.Signer
	labels   map[string]string // of the signers, by key id
	outer    *site             // that of which this one is a batch; nil: none
	// copyTo updates the copies at other locations; nil: there are none.
	copyTo func(ctx context.Context, s *site, roots bool) error
}

// open returns the repository of the working folder with the keys of the identity.
func (a *app) open() (*site, error) { return a.openSite(false) }

// look is open for commands that only read: it writes nothing to a bucket, and needs no
// permission to.
func (a *app) look() (*site, error) { return a.openSite(true) }

func (a *app) openSite(readOnly bool) (*site, error) {
	folder, err := a.readFolder()
	if err != nil {
		return nil, err
	}
	id, err := a.readIdentity()
	if err != nil {
		return nil, err
	}
	store, err := a.openStorage(folder.Storage, readOnly)
	if err != nil {
		return nil, err
	}
	s := &site{storage: store, dry: a.dryRun, repoID: folder.RepoID, uri: folder.Storage, exchange: folder.Exchange}
	cfg := &repo.Config{Now: a.Now, Labels: map[string]string{}, Progress: a.progress()}
	mine := slices.DeleteFunc(slices.Clone(id.Repositories), func(r identityRepo) bool { return r.RepoID != folder.RepoID })
	if i := slices.IndexFunc(mine, func(r identityRepo) bool { return r.Default }); i >= 0 && a.as == "" {
		mine = mine[i : i+1]
	}
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
	s.party, s.loopback, s.review, s.me = me.Party, me.UnsafeLoopback, cmp.Or(me.Review, "review"), me
	cfg.Pin, cfg.Party, cfg.Review, cfg.UnsafeLoopback = s.pin, me.Party, me.Review, me.UnsafeLoopback
	if cfg.Ledger, err = a.openLedger(id, me, folder); err != nil {
		return nil, err
	}
	if cfg.Expiry, err = expiryOf(me.Renews); err != nil {
		return nil, err
	}
	if err := a.setAutomation(cfg, me); err != nil {
		return nil, err
	}
	if s.signers, err = a.signers(id, me.Party, cfg.Labels); err != nil {
		return nil, err
	}
	cfg.Signers, s.labels, s.cfg = s.signers, cfg.Labels, cfg
	s.Repo = repo.New(store, cfg)
	if len(folder.Locations) > 0 {
		s.copyTo = a.copies(folder.Locations)
	}
	return s, nil
}

// stage makes a draft without signatures: nothing is signed, and nothing recorded in the
// ledger, before a person has seen the change.
func (s *site) stage(ctx context.Context, fn func(*repo.Tx) error) (*repo.Draft, error) {
	if err := s.checkReview(ctx); err != nil {
		return nil, err
	}
	s.own = true
	return s.unsigned().Stage(ctx, fn)
}

// stageOn is stage on top of an unpublished draft.
func (s *site) stageOn(ctx context.Context, d *repo.Draft, fn func(*repo.Tx) error) (*repo.Draft, error) {
	if err := s.checkReview(ctx); err != nil {
		return nil, err
	}
	s.own = true
	return s.unsigned().StageOn(ctx, d, fn)
}

// checkReview refuses an identity whose reviewing party is not in the newest root, since
// targets.json and pins depend on it.
func (s *site) checkReview(ctx context.Context) error {
	chain, err := s.Chain(ctx)
	if err != nil || len(chain) == 0 {
		return err
	}
	var names []string
	for _, p := range chain[len(chain)-1].Charter().Parties() {
		if p.Name == s.review {
			return nil
		}
		names = append(names, text.Name(p.Name))
	}
	return usage("the root has no party %s, which the identity file has as the reviewing party: set review for this repository there, to %s", text.Name(s.review), strings.Join(names, " or "))
}

// eachPending calls fn with each party of the newest root and what it has not approved.
func (s *site) eachPending(ctx context.Context, fn func(party string, pending []repo.Pending)) error {
	chain, err := s.Chain(ctx)
	if err != nil {
		return err
	}
	for _, p := range chain[len(chain)-1].Charter().Parties() {
		pending, err := s.Pending(ctx, p.Name)
		if err != nil {
			return err
		}
		fn(p.Name, pending)
	}
	return nil
}

// unsigned returns a handle without signers.
func (s *site) unsigned() *repo.Repo {
	// Automation signs without a question. Its rules need the signers of the handle.
	if s.dual || s.cfg.Automation != nil && !s.dry {
		s.own = false
		return s.Repo
	}
	cfg := *s.cfg
	cfg.Signers = nil
	return repo.New(s.storage, &cfg)
}

// sign adds the signatures of the identity's keys to a draft. Keys that may not sign
// anything in it are skipped; their number is not in the result.
func (s *site) sign(ctx context.Context, d *repo.Draft) (signed int, err error) {
	for _, signer := range s.signers {
		switch err := d.Sign(ctx, signer); {
		case err == nil:
			signed++
		case !errors.Is(err, repo.ErrNoPart):
			return signed, err
		}
	}
	return signed, nil
}

// missing returns the signatures that a draft lacks, without those that this identity
// can make.
func (s *site) missing(d *repo.Draft) (out []repo.Missing) {
	for _, m := range d.Missing() {
		n := 0
		for _, signer := range s.signers {
			if s.own && slices.Contains(m.KeyIDs, signer.Key().ID()) {
				n++
			}
		}
		if m.Have+n < m.Want {
			out = append(out, m)
		}
	}
	return out
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
	if err := s.checkReview(ctx); err != nil {
		return nil, err
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

// openKey opens a key with its passphrase. The passphrase that was typed last is tried
// first: often one opens all keys of a person.
func (a *app) openKey(id *identity, k identityKey) (tuf.Signer, error) {
	uri := k.URI
	if path, ok := strings.CutPrefix(uri, "file:"); ok && !strings.HasPrefix(path, "//") {
		uri = keys.FileURI(id.path(path))
	}
	opts := &keys.Options{Passphrase: a.passphrase, AgentSocket: a.Getenv("SSH_AUTH_SOCK"), Openers: a.openers()}
	if a.typed != nil && strings.HasPrefix(uri, "file:") { // never as the PIN of a token, which counts wrong ones
		given := *opts
		given.Passphrase = func(context.Context, string) ([]byte, error) { return slices.Clone(a.typed), nil }
		if s, err := keys.Open(a.ctx, uri, &given); err == nil || !errors.Is(err, keys.ErrPassphrase) {
			return s, a.keyError(k, err)
		}
	}
	s, err := keys.Open(a.ctx, uri, opts)
	return s, a.keyError(k, err)
}

func (a *app) keyError(k identityKey, err error) error {
	if err != nil {
		return fmt.Errorf("key %s: %w", text.Name(k.Label), err)
	}
	return nil
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
		"pkcs11": a.openToken,
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
	data, err := a.secret(fmt.Sprintf("passphrase of %s: ", text.Quote(uri)))
	if err == nil && len(data) == 0 {
		err = errors.New("no passphrase was given")
	}
	a.typed = slices.Clone(data)
	return data, err
}

// newPassphrase returns the passphrase of a new key, which a person types twice.
func (a *app) newPassphrase(what string) ([]byte, error) {
	pass, err := a.passphrase(a.ctx, what)
	if err != nil || a.typed == nil {
		return pass, err
	}
	again, err := a.passphrase(a.ctx, what+", again")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(pass, again) {
		return nil, errors.New("the two passphrases differ; nothing was changed")
	}
	return pass, nil
}
