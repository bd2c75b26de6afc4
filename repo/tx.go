package repo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/proof"
)

// Tx collects changes. It is valid within the function it was handed to.
type Tx struct {
	ctx     context.Context
	repo    *Repo
	present *present
	root    *Root // nil where nobody asked for it
	stays   *Root // what the present root says
	buf     []byte
	lists   map[string]*listing      // edited, or on the way to what is edited
	parents map[string]string        // of those that root does not name
	passing map[child]*listing       // only read, a few
	indexes map[string]*releaseIndex // of the releases that roles list, as far as somebody asked

	statements map[string]*statement // by name in storage
	recovering *RecoveryOptions      // nil: the next root is an ordinary one
	heals      [][]byte              // the roots of a fork that the next root heals
	override   override

	drafts      []*Draft               // that tx is staged on
	recallsOf   map[string]recallIndex // by role
	ledgerBySum map[string][]takenBack // nil: not read yet
}

func (r *Repo) newTx(ctx context.Context, p *present) *Tx {
	return &Tx{ctx: ctx, repo: r, present: p, lists: map[string]*listing{}, parents: map[string]string{}, passing: map[child]*listing{}, indexes: map[string]*releaseIndex{},
		statements: map[string]*statement{}, recallsOf: map[string]recallIndex{}, override: override{lift: map[string]bool{}}}
}

// Root returns what the next root shall say, for editing. A new root comes to
// be only where something was changed.
func (tx *Tx) Root() *Root {
	if tx.root == nil {
		tx.root = &Root{}
		if tx.present.root != nil {
			tx.root = rootOf(tx.present.root)
		}
	}
	return tx.root
}

// SetRoot replaces what the next root says, such as for the first root of a repository.
// The slices and maps of root become the transaction's own.
func (tx *Tx) SetRoot(root Root) { *tx.Root() = root }

// Supersede allows this handle to sign a root although it signed another one of
// the same version before, which sha256, in lower-case hex, names (rule K1): one that
// was signed and will not be published. It also allows to sign the root that follows a
// published one, which sha256 names then, whose signed_at is ahead of this machine's
// clock (rule K5): clients take the time of the newest root for the present, so the
// next root with the right date heals them.
func (tx *Tx) Supersede(sha256 string) { tx.override.supersede = sha256 }

// ShorterExpiry allows this handle to sign a root or a party's role that expires
// more than an hour before what it replaces (rule K5).
func (tx *Tx) ShorterExpiry() { tx.override.shorterExpiry = true }

// RenewRoot makes a new root even where nothing but its date changes.
func (tx *Tx) RenewRoot() { tx.Root().renew = true }

// layout is the root as it will be; not to be changed.
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

// role finds the party's roles of the class that a target path belongs to.
func (tx *Tx) role(party, target string) (Class, []string, error) {
	if err := errors.Join(storage.CheckName("targets/"+target), storage.CheckName(TargetName(target, strings.Repeat("0", 64)))); err != nil {
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

// class is the class that a target path belongs to.
func (tx *Tx) class(target string) (Class, error) {
	for _, c := range tx.layout().Classes {
		if strings.HasPrefix(target, c.Prefix) {
			return c, nil
		}
	}
	return Class{}, fmt.Errorf("repo: %s: the path is in no class: %w", text.Name(target), tuf.ErrNoTarget)
}

// rolesOf are the party's roles in the class.
func (c Class) rolesOf(party string) (out []ReleaseRole) {
	for _, role := range c.Roles {
		if role.Party == party {
			out = append(out, role)
		}
	}
	return out
}

func subjectOf(target string, v wire.Value) (proof.Subject, error) {
	e, err := parseEntry(v)
	if err != nil {
		return proof.Subject{}, fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	return proof.Subject{Path: target, Length: e.length, SHA256: strings.ToLower(e.sha256)}, nil
}

// recallIndex is what a role's recalls say, by sha256.
type recallIndex struct {
	of    wire.Value // the member that it was made from
	bySum map[string]*tuf.Recall
}

// RecoveryOptions says what is recovered from, and why.
type RecoveryOptions struct {
	// Reason tells people why no ordinary root can be signed any more.
	Reason string
	// After is the version of the root whose quorum is lost, which clients wait at.
	// 0: the newest. With that of the root before a recovered one StageRecovery
	// replaces that recovery, as long as no other root has followed: clients that
	// still wait begin anew; those that have followed already are lost. Killed while
	// it replaces, Publish leaves what only the same draft, published again, ends.
	After int64
}
