package tuf

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/public"
	"github.com/visum-dev/visum/internal/text"
)

// The rules of a charter. H1 to H9, H12 (recovery.go) and H13 (logrule.go) are checked on one root,
// the others on a root and its successor; H11 is [Root.Next] itself. Clients and
// the operator's preflight use the same code.

// shortID is the beginning of a key id, an arbitrary string, for messages.
func shortID(id string) string {
	if len(id) > 16 {
		id = id[:16]
	}
	return text.Name(id)
}

// broken returns the error for a charter that breaks a rule.
func (r *Root) broken(rule, format string, args ...any) *Error {
	e := refuse("root", r.doc.version, ErrCharter, rule+": "+format, args...)
	e.Evidence = r.doc.raw
	return e
}

// checkCharter checks the rules that concern one root.
func (r *Root) checkCharter() error {
	c := r.charter
	if !repoIDForm.MatchString(c.repoID) {
		return r.broken("H1", "repo_id %s is not 32 hex digits", text.Quote(c.repoID))
	}
	if c.prev != "" && !isSHA256(c.prev) {
		return r.broken("H2", "prev_root_sha256 is not a sha256")
	}
	for _, check := range []func() error{r.checkLocations, r.checkParties, r.checkClasses, r.checkRecovery, r.checkLog} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkLocations checks H4 to H8.
func (r *Root) checkLocations() error {
	c := r.charter
	retired := map[string]bool{}
	ids := map[string]bool{}
	for _, old := range c.retired {
		if !idForm.MatchString(old.ID) || ids[old.ID] {
			return r.broken("H6", "retired id %s is malformed or used twice", text.Quote(old.ID))
		}
		ids[old.ID] = true
		if len(old.Hosts) == 0 {
			return r.broken("H8", "retired %s names no host", old.ID)
		}
		for _, h := range old.Hosts {
			if !r.opt.hostOK(h) {
				return r.broken("H4", "retired host %s is not a public host name in lower case", text.Quote(h))
			}
			retired[h] = true
		}
	}
	open := false
	for _, l := range c.locations {
		if rule, why := r.opt.locationFault(l, ids); rule != "" {
			return r.broken(rule, "%s", why)
		}
		open = open || (l.Tier == Primary || l.Tier == Mirror) && l.UseUntil.IsZero()
		host := l.Host()
		if retired[host] {
			return r.broken("H8", "location %s is at the retired host %s", l.ID, host)
		}
	}
	if !open {
		return r.broken("H7", "no primary or mirror location without use_until")
	}
	return nil
}

// locationFault checks H4 to H6 on one location of a charter or a pin and adds it to
// ids. rule is the broken rule, or "".
func (o *Options) locationFault(l Location, ids map[string]bool) (rule, why string) {
	if !idForm.MatchString(l.ID) || ids[l.ID] {
		return "H6", fmt.Sprintf("location id %s is malformed or used twice", text.Quote(l.ID))
	}
	ids[l.ID] = true
	switch l.Tier {
	case Primary, Mirror, Legacy, Rendezvous:
	default:
		return "H6", fmt.Sprintf("location %s has tier %s", l.ID, text.Quote(l.Tier))
	}
	if !nameForm.MatchString(l.Operator) {
		return "H6", fmt.Sprintf("location %s has operator %s", l.ID, text.Quote(l.Operator))
	}
	if why := o.baseFault(l.Base); why != "" {
		return "H4", fmt.Sprintf("location %s, base %s: %s", l.ID, text.Quote(l.Base), why)
	}
	if l.Metadata == "" || !pathOK(l.Metadata) || !pathOK(l.Targets) || l.Targets == "" && l.Tier != Rendezvous {
		return "H5", fmt.Sprintf("location %s has paths %s and %s", l.ID, text.Quote(l.Metadata), text.Quote(l.Targets))
	}
	return "", ""
}

// checkParties checks H9 for the root role.
func (r *Root) checkParties() error {
	c := r.charter
	owner := map[string]string{}
	for id, k := range r.keys {
		if k.pub == nil {
			continue
		}
		if other, twice := owner[k.fingerprint]; twice {
			return r.broken("H9", "key ids %s and %s are one public key", shortID(min(other, id)), shortID(max(other, id)))
		}
		owner[k.fingerprint] = id
	}
	if len(c.parties) < 2 {
		return r.broken("H9", "%d parties, at least 2", len(c.parties))
	}
	role := r.roles["root"]
	names, byKey := map[string]bool{}, map[string]string{}
	for _, p := range c.parties {
		if !nameForm.MatchString(p.Name) || names[p.Name] {
			return r.broken("H9", "party name %s is malformed or used twice", text.Quote(p.Name))
		}
		names[p.Name] = true
		if p.Min < 1 || p.Min > len(p.KeyIDs) {
			return r.broken("H9", "party %s: minimum is %d of %d keys", p.Name, p.Min, len(p.KeyIDs))
		}
		if need := len(role.keyIDs) - len(p.KeyIDs) + p.Min; role.threshold < need {
			return r.broken("H9", "root threshold is %d, party %s requires at least %d (rule Q)", role.threshold, p.Name, need)
		}
		for _, id := range p.KeyIDs {
			if other, twice := byKey[id]; twice {
				return r.broken("H9", "key %s belongs to %s and to %s", shortID(id), other, p.Name)
			}
			byKey[id] = p.Name
			if r.keys[id].pub == nil { // missing or unusable
				return r.broken("H9", "key %s of party %s is missing or can't be used", shortID(id), p.Name)
			}
			if !slices.Contains(role.keyIDs, id) {
				return r.broken("H9", "key %s of party %s is not a root key", shortID(id), p.Name)
			}
		}
	}
	if len(byKey) != len(role.keyIDs) {
		return r.broken("H9", "%d root keys, the parties hold %d", len(role.keyIDs), len(byKey))
	}
	return nil
}

// checkClasses checks H10 within one root, and H9 for the release keys.
func (r *Root) checkClasses() error {
	c := r.charter
	holder := map[string]string{} // key id to party, over root keys and release keys
	for _, p := range c.parties {
		for _, id := range p.KeyIDs {
			holder[id] = p.Name
		}
	}
	names, roles := map[string]bool{}, map[string]bool{}
	claim := func(class, role string, k roleKeys) error {
		if !nameForm.MatchString(role) || isTopLevel(role) || roles[role] {
			return r.broken("H10", "class %s: role name %s is malformed or used twice", class, text.Quote(role))
		}
		roles[role] = true
		if k.threshold > len(k.keyIDs) {
			return r.broken("H9", "role %s: threshold is %d of %d keys", role, k.threshold, len(k.keyIDs))
		}
		for _, id := range k.keyIDs {
			if r.keys[id].pub == nil {
				return r.broken("H9", "key %s of role %s is missing or can't be used", shortID(id), role)
			}
		}
		return nil
	}
	for i, cl := range c.classes {
		if !nameForm.MatchString(cl.Name) || names[cl.Name] {
			return r.broken("H10", "class name %s is malformed or used twice", text.Quote(cl.Name))
		}
		names[cl.Name] = true
		if !strings.HasSuffix(cl.Prefix, "/") || !pathOK(cl.Prefix) {
			return r.broken("H10", "class %s has prefix %s", cl.Name, text.Quote(cl.Prefix))
		}
		for _, other := range c.classes[:i] {
			if strings.HasPrefix(cl.Prefix, other.Prefix) || strings.HasPrefix(other.Prefix, cl.Prefix) {
				return r.broken("H10", "classes %s and %s overlap", other.Name, cl.Name)
			}
		}
		taking := map[string]bool{}
		for _, role := range cl.Roles {
			if c.party(role.Party) == nil {
				return r.broken("H10", "class %s: role %s belongs to the unknown party %s", cl.Name, text.Name(role.Role), text.Quote(role.Party))
			}
			taking[role.Party] = true
			if err := claim(cl.Name, role.Role, roleKeys{role.KeyIDs, role.Threshold}); err != nil {
				return err
			}
			for _, id := range role.KeyIDs {
				if h, ok := holder[id]; ok && h != role.Party {
					return r.broken("H9", "key %s signs for %s and for %s", shortID(id), h, role.Party)
				}
				holder[id] = role.Party
			}
		}
		for _, p := range c.parties {
			if !taking[p.Name] {
				return r.broken("H10", "class %s has no role of party %s", cl.Name, p.Name)
			}
		}
		if h := cl.Hold; h != nil {
			if err := claim(cl.Name, h.Role, roleKeys{h.KeyIDs, h.Threshold}); err != nil {
				return err
			}
			if h.Max <= 0 {
				return r.broken("H10", "class %s: hold without max_seconds", cl.Name)
			}
		}
	}
	return nil
}

// checkSuccessor checks next as the successor of r: H1, H2, H3, H8, H10.
func (r *Root) checkSuccessor(next *Root) error {
	c, n := r.charter, next.charter
	if c == nil {
		return next.checkSound()
	}
	if n == nil {
		return next.broken("H10", "the charter is missing")
	}
	if err := next.checkSound(); err != nil {
		return err
	}
	if n.repoID != c.repoID {
		return next.broken("H1", "repo_id is %s, was %s", n.repoID, c.repoID)
	}
	// seq may grow by any amount: after a fork, one root with a seq above both branches
	// is valid for clients of either.
	switch {
	case n.seq < c.seq:
		return next.broken("H2", "seq is %d, was %d", n.seq, c.seq)
	case n.seq == c.seq && n.unchanged != c.unchanged:
		return next.broken("H2", "seq is still %d, but the charter changed", n.seq)
	}
	old, now := r.onlineKeys(), next.onlineKeys()
	switch n.epoch {
	case c.epoch:
		for _, role := range []string{"timestamp", "snapshot"} {
			if !slices.Equal(r.fingerprints(role), next.fingerprints(role)) {
				return next.broken("H3", "the keys of %s changed within epoch %d", role, c.epoch)
			}
		}
		if n.floors.Timestamp < c.floors.Timestamp || n.floors.Snapshot < c.floors.Snapshot {
			return next.broken("H3", "a floor was lowered within epoch %d", c.epoch)
		}
	case c.epoch + 1:
		for _, k := range now {
			if slices.Contains(old, k) {
				return next.broken("H3", "epoch %d keeps an online key of epoch %d", n.epoch, c.epoch)
			}
		}
	default:
		return next.broken("H3", "epoch is %d, was %d", n.epoch, c.epoch)
	}
	if n.floors.Targets < c.floors.Targets {
		return next.broken("H3", "the floor of targets was lowered")
	}
	for _, was := range c.retired {
		i := slices.IndexFunc(n.retired, func(x Retired) bool { return x.ID == was.ID })
		if i < 0 {
			return next.broken("H8", "the retired location %s is missing", was.ID)
		}
		for _, h := range was.Hosts {
			if !slices.Contains(n.retired[i].Hosts, h) {
				return next.broken("H8", "the retired host %s is missing", h)
			}
		}
	}
	return nil
}

// checkSound is the expensive part of H9 and H12; it runs only after the signatures
// were verified. A key whose signatures never count could leave a role without a
// signer.
func (r *Root) checkSound() error {
	c := r.charter
	if c == nil {
		return nil
	}
	check := func(of string, ids []string) error {
		for _, id := range ids {
			if !r.keys[id].sound() {
				return r.broken("H9", "key %s of %s can't be used: its RSA modulus is a prime number", shortID(id), of)
			}
		}
		return nil
	}
	for _, p := range c.parties {
		if err := check("party "+p.Name, p.KeyIDs); err != nil {
			return err
		}
	}
	for _, cl := range c.classes {
		for _, role := range cl.Roles {
			if err := check("role "+role.Role, role.KeyIDs); err != nil {
				return err
			}
		}
		if h := cl.Hold; h != nil {
			if err := check("role "+h.Role, h.KeyIDs); err != nil {
				return err
			}
		}
	}
	if c.recovery != nil {
		for _, o := range c.recovery.Orgs {
			if err := check("recovery by "+o.Name, o.KeyIDs); err != nil {
				return err
			}
		}
	}
	return nil
}

// fingerprints returns the usable keys of a top-level role, sorted.
func (r *Root) fingerprints(role string) []string {
	var out []string
	for _, id := range r.roles[role].keyIDs {
		if k := r.keys[id]; k.pub != nil {
			out = append(out, k.fingerprint)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r *Root) onlineKeys() []string {
	return append(r.fingerprints("timestamp"), r.fingerprints("snapshot")...)
}

// baseFault returns why a location's base breaks H4, or "".
func (o *Options) baseFault(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return "not a URL"
	}
	switch {
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(base, "#"):
		return "user, query or fragment"
	case !strings.HasPrefix(u.Path, "/") || !pathOK(u.Path[1:]) || strings.Contains(base, "%"):
		return "the path must be plain and end in /"
	case u.Port() != "" && !portOK(u.Port()) || strings.HasSuffix(u.Host, ":"):
		return "bad port"
	case o.UnsafeLoopback && public.Loopback(u.Hostname()) && (u.Scheme == "http" || u.Scheme == "https") && u.Port() != "":
		return ""
	case u.Scheme == "http" && public.Loopback(u.Hostname()):
		return "not https; UnsafeLoopback, with a port, allows http on this machine"
	case u.Scheme != "https":
		return "not https"
	case !o.hostOK(strings.TrimSuffix(u.Host, ":"+u.Port())):
		return "not a public host name in lower case"
	}
	return ""
}

var pathForm = regexp.MustCompile(`^[A-Za-z0-9._~/-]*$`)

// pathOK checks H5: a relative path of plain characters without "." and "..".
func pathOK(p string) bool {
	if !pathForm.MatchString(p) || p != "" && !strings.HasSuffix(p, "/") {
		return false
	}
	for seg := range strings.SplitSeq(strings.TrimSuffix(p, "/"), "/") {
		if p != "" && (seg == "" || seg == "." || seg == "..") {
			return false
		}
	}
	return true
}

// Host is the location's host in the form of [Retired].Hosts: without the port, or
// with it for a loopback host, which only tests use.
func (l Location) Host() string {
	u, err := url.Parse(l.Base)
	if err != nil {
		return ""
	}
	if public.Loopback(u.Hostname()) {
		return u.Host
	}
	return strings.TrimSuffix(u.Host, ":"+u.Port())
}

// Operators counts the distinct operators of locations. Locations with the same
// operator name or the same host count once, and so do locations that others connect
// in this way. So a client that asks all locations, in any order, reaches at least
// this number of operators.
func Operators(list []Location) int {
	hosts := make([]string, len(list))
	group := make([]int, len(list)) // for each location, the index of an earlier one of the same operator
	n := 0
	for i, a := range list {
		group[i], hosts[i] = i, a.Host()
		n++
		for j, b := range list[:i] {
			if old := group[j]; old != group[i] && (a.Operator == b.Operator || hosts[i] == hosts[j]) {
				for k := range i + 1 {
					if group[k] == old {
						group[k] = group[i]
					}
				}
				n--
			}
		}
	}
	return n
}

// Usable reports whether a client may contact the location at now: this charter does
// not retire it, and its use_until has not passed.
func (c *Charter) Usable(l Location, now time.Time) bool {
	if !l.UseUntil.IsZero() && !now.Before(l.UseUntil) {
		return false
	}
	return !c.banned(l.Host(), now)
}

// banned reports whether the charter forbids to contact a host.
func (c *Charter) banned(host string, now time.Time) bool {
	for _, r := range c.retired {
		if slices.Contains(r.Hosts, host) {
			return true
		}
	}
	// A host is forbidden after the use_until of all its listed locations.
	listed, alive := false, false
	for _, l := range c.locations {
		if l.Host() == host {
			listed = true
			alive = alive || l.UseUntil.IsZero() || now.Before(l.UseUntil)
		}
	}
	return listed && !alive
}

// checkRecovery checks H12: recovery keys have no other role in the repository
// (compared by public key), at least two organisations must sign, and the waiting
// period has a minimum.
func (r *Root) checkRecovery() error {
	rule := r.charter.recovery
	if rule == nil {
		return nil
	}
	inUse := map[string]string{} // key id to role; by H9 no two ids have the same public key
	for name, role := range r.roles {
		for _, id := range role.keyIDs {
			inUse[id] = name
		}
	}
	for _, cl := range r.charter.classes {
		for _, role := range cl.Roles {
			for _, id := range role.KeyIDs {
				inUse[id] = role.Role
			}
		}
		if cl.Hold != nil {
			for _, id := range cl.Hold.KeyIDs {
				inUse[id] = cl.Hold.Role
			}
		}
	}
	names, keys := map[string]bool{}, 0
	for _, o := range rule.Orgs {
		if !nameForm.MatchString(o.Name) || names[o.Name] || len(o.KeyIDs) == 0 {
			return r.broken("H12", "recovery organisation %s is malformed, used twice or without keys", text.Quote(o.Name))
		}
		names[o.Name] = true
		for _, id := range o.KeyIDs {
			if other, twice := inUse[id]; twice {
				return r.broken("H12", "recovery key %s of %s is in use for %s", shortID(id), o.Name, other)
			}
			inUse[id] = "recovery by " + o.Name
			if k, ok := r.keys[id]; !ok || k.pub == nil {
				return r.broken("H12", "recovery key %s of %s is missing or can't be used", shortID(id), o.Name)
			}
			keys++
		}
	}
	switch {
	case rule.MinOrgs < 2 || rule.MinOrgs > len(rule.Orgs):
		return r.broken("H12", "recovery by %d of %d organisations, at least 2", rule.MinOrgs, len(rule.Orgs))
	case rule.Threshold < rule.MinOrgs || rule.Threshold > keys:
		return r.broken("H12", "recovery threshold is %d of %d keys of %d organisations", rule.Threshold, keys, rule.MinOrgs)
	case rule.Hold < minHold:
		return r.broken("H12", "recovery after %s, at least %s", rule.Hold, minHold)
	case rule.MinTicks < 2 || rule.MinTicks > 1000:
		return r.broken("H12", "recovery after %d searches, 2 to 1000", rule.MinTicks)
	}
	return nil
}
