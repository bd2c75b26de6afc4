package repo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// Tx collects changes. It is valid until the function to which it was passed returns.
type Tx struct {
	ctx     context.Context
	repo    *Repo
	present *present
	root    *Root // nil until it is requested
	stays   *Root // the current root
	buf     []byte
	lists   map[string]*rolelist.List // edited lists, and their delegators
	parents map[string]string         // of roles that the root does not name
	passing map[child]*rolelist.List  // cache of lists that are only read
	indexes map[string]*releaseIndex  // releases by role, filled on request

	statements map[string]*statement // by name in storage
	recovering *RecoveryOptions      // nil: the next root is a regular one
	heals      [][]byte              // the roots of a fork that the next root heals
	override   override

	drafts      []*Draft               // on which tx is staged
	recallsOf   map[string]recallIndex // by role
	ledgerBySum map[string][]takenBack // nil: not read yet
}

func (r *Repo) newTx(ctx context.Context, p *present) *Tx {
	return &Tx{ctx: ctx, repo: r, present: p, lists: map[string]*rolelist.List{}, parents: map[string]string{}, passing: map[child]*rolelist.List{}, indexes: map[string]*releaseIndex{},
		statements: map[string]*statement{}, recallsOf: map[string]recallIndex{}, override: override{lift: map[string]bool{}}}
}

// Root returns the next root for editing. A new root is made only if it differs from
// the current one.
func (tx *Tx) Root() *Root {
	if tx.root == nil {
		tx.root = &Root{}
		if tx.present.root != nil {
			tx.root = rootOf(tx.present.root)
		}
	}
	return tx.root
}

// SetRoot replaces the next root, for example for the first root of a repository. The
// transaction takes ownership of the slices of root.
func (tx *Tx) SetRoot(root Root) { *tx.Root() = root }

// Supersede permits this handle to sign a root although it signed another one of the
// same version, which was not published; sha256, in lower-case hex, names that one
// (rule K1). It also permits signing the successor of a published root whose signed_at
// is ahead of this machine's clock; sha256 then names the published root (rule K5).
// Clients use signed_at of the newest root as the current time, so a next root with the
// right date corrects them.
func (tx *Tx) Supersede(sha256 string) { tx.override.supersede = sha256 }

// ShorterExpiry permits this handle to sign a root or a party's role that expires more
// than an hour before the version that it replaces (rule K5).
func (tx *Tx) ShorterExpiry() { tx.override.shorterExpiry = true }

// RenewRoot makes a new root even if only its date changes.
func (tx *Tx) RenewRoot() { tx.Root().renew = true }

// layout returns the next root; callers must not change it.
func (tx *Tx) layout() *Root {
	if tx.root != nil {
		return tx.root
	}
	if tx.stays == nil {
		tx.stays = &Root{}
		if tx.present.root != nil {
			tx.stays = rootOf(tx.present.root)
		}
	}
	return tx.stays
}

// role finds the party's roles of the class of a target path.
func (tx *Tx) role(party, target string) (Class, []string, error) {
	if err := errors.Join(storage.CheckName("targets/"+target), storage.CheckName(layout.TargetName(target, strings.Repeat("0", 64)))); err != nil {
		return Class{}, nil, err
	}
	for _, c := range tx.layout().Classes {
		if !strings.HasPrefix(target, c.Prefix) {
			continue
		}
		var roles []string
		for _, role := range c.Roles {
			if role.Party == party {
				roles = append(roles, role.Role)
			}
		}
		if roles == nil {
			return Class{}, nil, fmt.Errorf("repo: %s: class %s has no role of party %s", text.Name(target), text.Name(c.Name), text.Quote(party))
		}
		return c, roles, nil
	}
	return Class{}, nil, fmt.Errorf("repo: %s: the path is in no class: %w", text.Name(target), tuf.ErrNoTarget)
}

func newRepoID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// class returns the class of a target path.
func (tx *Tx) class(target string) (Class, error) {
	for _, c := range tx.layout().Classes {
		if strings.HasPrefix(target, c.Prefix) {
			return c, nil
		}
	}
	return Class{}, fmt.Errorf("repo: %s: the path is in no class: %w", text.Name(target), tuf.ErrNoTarget)
}

// rolesOf returns the party's roles in the class.
func (c Class) rolesOf(party string) (out []ReleaseRole) {
	for _, role := range c.Roles {
		if role.Party == party {
			out = append(out, role)
		}
	}
	return out
}

func subjectOf(target string, v wire.Value) (attestation.Subject, error) {
	e, err := rolelist.ParseEntry(v)
	if err != nil {
		return attestation.Subject{}, fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	return attestation.Subject{Path: target, Length: e.Length, SHA256: e.Hashes.SHA256}, nil
}

// recallIndex holds a role's recalls by sha256.
type recallIndex struct {
	of    wire.Value // the member from which it was built
	bySum map[string]*tuf.Recall
}

// RecoveryOptions states the reason for a recovery and the root that it follows.
type RecoveryOptions struct {
	// Reason is human-readable: why no regular root can be signed any more.
	Reason string
	// After is the version of the root whose quorum is lost, which is the newest that
	// clients accept without the recovery. 0: the newest root. To replace a recovery,
	// set After to the version of the root before the recovery root, as long as no
	// further root follows it. Clients that still wait restart the waiting period;
	// clients that have accepted the earlier recovery root can't continue. If Publish
	// is interrupted during a replacement, only publishing the same draft again
	// completes it.
	After int64
}
