package tuf

import (
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/wire"
)

// OpenRoot reads a root that the caller trusts already, for example because it is
// embedded in the product. It checks that the root meets its own threshold and, with
// a charter, each party's minimum and the charter's rules. It does not check expiry:
// an update may start from an expired root (specification, 5.2 and 5.3.10). opt may
// be nil. Errors wrap [ErrUntrusted].
func OpenRoot(data []byte, opt *Options) (*Root, error) {
	r, err := parseRoot(data, opt)
	if err == nil {
		err = r.signedBy(r)
	}
	if err == nil {
		err = r.checkSound()
	}
	if err != nil {
		attach(err, data)
		return nil, err
	}
	return r, nil
}

// Next reads the successor of r (specification, 5.3.4 and 5.3.5). Its version must
// be exactly one more. It must meet the thresholds of both roots and, with a
// charter, each party's minimum in both. The new charter must obey rules H1 to H13.
// Next does not check expiry: intermediate roots may be expired (5.3.10). Errors
// wrap [ErrUntrusted] and hold the refused bytes as Evidence.
func (r *Root) Next(data []byte) (next *Root, err error) {
	defer func() { attach(err, data) }()
	if r == nil || r.doc == nil {
		return nil, refuse("root", 0, ErrUntrusted, "zero Root")
	}
	if next, err = r.readNext(data); err != nil {
		return nil, err
	}
	if err := next.signedBy(r); err != nil {
		return nil, err
	}
	if err := next.signedBy(next); err != nil {
		return nil, err
	}
	if err := r.checkSuccessor(next); err != nil {
		return nil, err
	}
	r.setForce(next)
	return next, nil
}

// readNext reads the successor of r and checks its version and form, not its
// signatures.
func (r *Root) readNext(data []byte) (*Root, error) {
	next, err := parseRoot(data, r.opt)
	if err != nil {
		return nil, err
	}
	if next.doc.version != r.doc.version+1 {
		e := refuse("root", next.doc.version, ErrVersion, "the root after v%d must be v%d", r.doc.version, r.doc.version+1)
		if next.doc.version <= r.doc.version {
			e.Err = ErrRollback
		}
		return nil, e
	}
	next.keys.remember(r.keys)
	return next, nil
}

// signedBy returns an error unless r meets the threshold of by's root role and each
// party's minimum in by.
func (r *Root) signedBy(by *Root) error {
	whose := "the new root"
	if by != r {
		whose = "the trusted root"
	}
	if c := by.charter; c != nil {
		for _, p := range c.parties {
			if _, err := r.doc.threshold(roleKeys{p.KeyIDs, p.Min}, by.keys, "party "+p.Name+" in "+whose); err != nil {
				return err
			}
		}
	}
	_, err := r.doc.threshold(by.roles["root"], by.keys, whose)
	return err
}

func parseRoot(data []byte, opt *Options) (*Root, error) {
	if opt == nil {
		opt = &Options{}
	}
	o := *opt
	o.Limits = o.Limits.WithDefaults()
	var keys, roles, consistent, charter wire.Value
	doc, err := open(data, "root", "root", o.Limits, wire.Field{Name: "keys", To: &keys}, wire.Field{Name: "roles", To: &roles},
		wire.Field{Name: "consistent_snapshot", To: &consistent}, wire.Field{Name: layout.CharterMember, To: &charter})
	if err != nil {
		return nil, err
	}
	r := &Root{doc: doc, opt: &o, roles: map[string]roleKeys{}, sum: hexSum256(doc.signed)}
	fail := func(err error) (*Root, error) { return nil, malformed("root", doc.version, err) }
	// The member may be absent without a charter (specification, 4.3). With a charter
	// every published name must include a version or a hash; otherwise old and new
	// files could not exist at the same time.
	if consistent != nil {
		if r.consistent, err = consistent.Bool(); err != nil {
			return fail(syntaxf("consistent_snapshot: %v", err))
		}
	}
	if charter != nil && !r.consistent {
		return fail(syntaxf("consistent_snapshot must be true with a charter"))
	}
	if r.keys, err = parseKeyring(keys); err != nil {
		return fail(err)
	}
	if roles.Kind() != '{' {
		return fail(syntaxf("roles must be an object"))
	}
	for name, v := range roles.Members() {
		k, err := parseRoleKeys(v)
		if err != nil {
			return fail(err)
		}
		r.roles[name.String()] = k
	}
	for _, name := range []string{"root", "timestamp", "snapshot", "targets"} {
		if _, ok := r.roles[name]; !ok {
			return fail(syntaxf("no role %s", name))
		}
	}
	if charter != nil {
		if r.charter, err = parseCharter(charter); err != nil {
			return fail(err)
		}
		if err := r.checkCharter(); err != nil {
			return nil, err
		}
	}
	return r, nil
}
