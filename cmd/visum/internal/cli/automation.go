package cli

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/storage/s3"
)

// checkAutomation refuses kinds of automation that do not exist, with their line.
func (id *identity) checkAutomation(file string) error {
	for _, r := range id.Repositories {
		if r.Automation == nil {
			continue
		}
		if _, err := signing.ParseAutomation(r.Automation); err != nil {
			line := 0
			if data, readErr := os.ReadFile(file); readErr == nil {
				line = lineOf(data, "automation")
			}
			return usage("%s: line %d: automation: %w", text.Name(file), line, err)
		}
	}
	return nil
}

// setAutomation limits what the handle signs if no person is at a terminal. The kinds
// are those of the identity file; no flag adds any.
func (a *app) setAutomation(cfg *repo.Config, me identityRepo) (err error) {
	cfg.SharedLedger = me.SharedLedger
	if len(me.Automation) == 0 {
		if a.machine {
			return usage("the identity file lists no automation for repository %s, so nothing may be signed without a person; add to its entry: automation = [\"renew\"], or further kinds (visum help automation)", me.RepoID)
		}
		return nil
	}
	if a.terminal() && !a.machine {
		return nil
	}
	cfg.Automation, err = signing.ParseAutomation(me.Automation)
	return err
}

// ledger returns the place of a ledger: a URI, or a path.
func (id *identity) ledger(r identityRepo) string {
	if scheme, _, ok := strings.Cut(r.Ledger, ":"); ok && len(scheme) > 1 {
		return r.Ledger
	}
	return id.path(r.Ledger)
}

// openLedger opens the ledger of the identity. It must not be where another party can
// write: in the storage of the repository, or in the exchange.
func (a *app) openLedger(id *identity, me identityRepo, folder *folderConfig) (signing.Ledger, error) {
	where := id.ledger(me)
	if where == id.path(me.Ledger) { // not a URI
		abs, err := filepath.Abs(where)
		if err != nil {
			return nil, err
		}
		where = abs
	}
	others := map[string]string{"storage": folder.Storage, "exchange": folder.Exchange}
	for _, l := range folder.Locations {
		others["location "+text.Name(l.ID)] = l.Storage
	}
	for name, other := range others {
		if other != "" && a.inside(where, other) {
			return nil, usage("the ledger of repository %s is in the %s of visum.toml (%s), where other parties can write: keep it where this party alone writes", folder.RepoID, name, text.Quote(other))
		}
	}
	l, err := a.ledgerAt(where)
	if err != nil || !strings.HasPrefix(where, "s3:") {
		return l, err
	}
	// A machine that lasts keeps what it has seen there.
	seen := id.path(seenFolder)
	if err := durable.MkdirAll(seen, 0o700); err != nil { // the identity file is in a read-only place
		a.note("warning: an older copy of the ledger would not be noticed: %v", err)
		return l, nil
	}
	return signing.MarkedLedger(l, storage.Dir(seen)), nil
}

// seenFolder has the marks of ledgers in buckets, next to the identity file.
const seenFolder = "ledger-seen"

// ledgerAt opens a ledger in a directory or a bucket.
func (a *app) ledgerAt(where string) (signing.Ledger, error) {
	scheme, rest, ok := strings.Cut(where, ":")
	switch {
	case ok && scheme == "s3":
		s, err := s3.Open(a.ctx, where, nil)
		if err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		return signing.StorageLedger(s), nil
	case ok && scheme == "file":
		return repo.DirLedger(strings.TrimPrefix(rest, "//")), nil
	case ok && len(scheme) > 1:
		return nil, usage("%s: a ledger is in a directory or in s3://BUCKET/PREFIX", text.Quote(where))
	}
	return repo.DirLedger(where), nil
}

// inside reports whether the storage a is b or below it.
func (a *app) inside(where, other string) bool {
	x, y := a.place(where), a.place(other)
	return x == y || strings.HasPrefix(x, strings.TrimSuffix(y, "/")+"/")
}

// place returns a comparable form of a storage: a bucket with its prefix, or an absolute
// path.
func (a *app) place(uri string) string {
	if rest, ok := strings.CutPrefix(uri, "s3://"); ok {
		rest, _, _ = strings.Cut(rest, "?")
		return "s3://" + path.Clean(rest)
	}
	p := strings.TrimPrefix(strings.TrimPrefix(uri, "file:"), "//")
	if !filepath.IsAbs(p) {
		p = filepath.Join(a.folder, p)
	}
	if abs, err := filepath.Abs(p); err == nil {
		p = abs
	}
	if real, err := filepath.EvalSymlinks(p); err == nil {
		p = real
	} else if parent, err := filepath.EvalSymlinks(filepath.Dir(p)); err == nil {
		p = filepath.Join(parent, filepath.Base(p))
	}
	return filepath.ToSlash(p)
}

var errNoExchange = errors.New("no exchange")

// exchangeURI returns the exchange of a flag, or of visum.toml.
func (s *site) exchangeURI(flag string) (string, error) {
	switch {
	case flag != "":
		return flag, nil
	case s.exchange != "":
		return s.exchange, nil
	}
	return "", usage("%w: add exchange = \"DIRECTORY or s3://BUCKET/PREFIX\" to %s, or name it with --exchange", errNoExchange, folderFile)
}
