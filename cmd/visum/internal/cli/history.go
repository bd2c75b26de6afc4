package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/tuf"
)

// historyRoot is a root in the output of history roots.
type historyRoot struct {
	Version   int64       `json:"version"`
	SHA256    string      `json:"sha256"`
	SignedAt  time.Time   `json:"signed_at"`
	Expires   time.Time   `json:"expires"`
	Recovered bool        `json:"recovered"`
	Signers   []signerKey `json:"signers"`
	Changes   []string    `json:"changes"` // headlines, compared with the root before
}

// signerKey is a key, by its label if the identity file knows it.
type signerKey struct {
	KeyID string `json:"keyid"`
	Label string `json:"label,omitempty"`
	Party string `json:"party,omitempty"`
}

func (k signerKey) String() string {
	if k.Label != "" {
		return text.Name(k.Label)
	}
	return fmt.Sprintf("%.16s", k.KeyID)
}

// historyKey is a key in the output of history keys.
type historyKey struct {
	signerKey
	Scheme      string   `json:"scheme"`
	Fingerprint string   `json:"fingerprint,omitempty"` // sha256 of the public key
	Roles       []string `json:"roles"`
	First       int64    `json:"first_root"`
	Last        int64    `json:"last_root"`
	Current     bool     `json:"current"` // the newest root has it
}

// historyStatement is a statement in the output of history statements.
type historyStatement struct {
	verdictReview
	Path    string          `json:"path"`
	SHA256  string          `json:"sha256"`
	Release *verdictRelease `json:"release,omitempty"`
	Signers []signerKey     `json:"signers"`
}

// historyRelease is a release in the output of history releases.
type historyRelease struct {
	Path    string          `json:"path"`
	SHA256  string          `json:"sha256"`
	Length  int64           `json:"length"`
	State   string          `json:"state"`
	Release *verdictRelease `json:"release,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Later   string          `json:"later,omitempty"`
	By      []tuf.Signoff   `json:"by"`
	Reviews []verdictReview `json:"reviews"`
	// At is the last date that a party signed about the bytes; absent if none did.
	At *time.Time `json:"at,omitempty"`
}

// history is one call of visum history.
type history struct {
	*app
	flags  auditFlags
	since  string
	prefix string
	after  time.Time
	labels map[string]string
	x      *auditor
}

func (a *app) historyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "history", Short: "List the releases, roots, keys or statements of a repository",
		Long: "history verifies a repository from the pin on, and lists what it has. It needs a pin or the identity, and no\nkey. Keys have the labels of the identity file, or the first 16 digits of their ids."}
	for _, c := range []struct {
		name, short, long string
		paths             bool
		run               func(*history) error
	}{
		{"releases", "List every release that a role lists or a party recalled, with its state", `releases lists each release with its state: offered, superseded, held, recalled, refused or waiting; the roles
that list it; and the last date that a party signed about it, in a statement or a recall. No key signs the date at
which a role began to list a release. --since leaves out the releases whose last date is earlier; those without a
date stay.`, true, (*history).releases},
		{"roots", "List the roots: when and by whom they were signed, and what they changed", `roots lists every root that the pin authenticates, with the date of its signers, its expiry, the keys that signed
it, and what it changed.`, false, (*history).roots},
		{"keys", "List each key that a root named, with its roles and its first and last root", `keys lists each key with its roles in all roots, the first and the last root that has it. --since leaves out keys
that were neither added nor removed since.`, false, (*history).keys},
		{"statements", "List every review and refusal", `statements lists the reviews and refusals of everything that a role lists, by date: who signed with which keys,
and whether these keys were replaced since (rotated).`, true, (*history).statements},
	} {
		h := &history{app: a}
		sub := &cobra.Command{Use: c.name, Short: c.short, Long: c.long, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			if err := h.begin(); err != nil {
				return err
			}
			return c.run(h)
		}}
		h.flags.register(sub)
		sub.Flags().StringVar(&h.since, "since", "", "leave out what is older: a date such as 2026-11-28, or an age such as 30d")
		if c.paths {
			sub.Flags().StringVar(&h.prefix, "path", "", "leave out paths that do not begin with this")
		}
		cmd.AddCommand(sub)
	}
	return cmd
}

// parseSince reads a date or an age.
func parseSince(s string, now time.Time) (time.Time, error) {
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(form, s); err == nil {
			return t, nil
		}
	}
	age, err := parseAge(s)
	if err != nil {
		return time.Time{}, usage("--since %s: want a date such as 2026-11-28, or an age such as 30d", text.Quote(s))
	}
	return now.Add(-age), nil
}

func (h *history) begin() (err error) {
	if h.since != "" {
		if h.after, err = parseSince(h.since, h.Now()); err != nil {
			return err
		}
	}
	if h.labels, err = h.keyLabels(); err != nil {
		return err
	}
	h.x, err = h.audit(h.flags, nil)
	return err
}

// keyLabels are the labels of the keys in the key ring, by key id. Keys whose public half
// is not in a file are left out: no key is opened.
func (a *app) keyLabels() (map[string]string, error) {
	id, err := a.readIdentity()
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, k := range id.Keys {
		if k.Public == "" && !strings.HasPrefix(k.URI, "file:") {
			continue
		}
		if key, err := a.publicKey(id, k); err == nil {
			out[key.ID()] = k.Label
		}
	}
	return out, nil
}

func (h *history) report(opt mirror.AuditOptions) (*mirror.AuditReport, error) {
	opt.Options = h.x.options()
	return mirror.Audit(h.ctx, h.x.from, h.x.pin, &opt)
}

// show prints rows as aligned lines, or list as JSON, and how the sources differ.
func (h *history) show(r *mirror.AuditReport, name string, list any, rows [][]string) error {
	operators, answers, differ := h.x.asked(r)
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var lines []string
	for l := range strings.Lines(b.String()) {
		lines = append(lines, strings.TrimRight(l, " \n"))
	}
	if len(rows) == 0 {
		lines = append(lines, "none")
	}
	fork := slices.ContainsFunc(answers, func(s sourceAnswer) bool { return s.Fork })
	lines = append(lines, fmt.Sprintf("as of %s, %s", text.Time(r.At), operatorsText(operators)))
	return h.printFound(fork, map[string]any{name: list, "at": r.At, "operators": operators, "sources": answers}, append(lines, differ...)...)
}

func (h *history) key(id string, roots []mirror.AuditRoot) signerKey {
	k := signerKey{KeyID: id, Label: h.labels[id]}
	for _, root := range slices.Backward(roots) {
		if root.Charter() == nil {
			continue
		}
		for _, p := range root.Charter().Parties() {
			if slices.Contains(p.KeyIDs, id) {
				k.Party = p.Name
				return k
			}
		}
		for _, c := range root.Charter().Classes() {
			for _, role := range c.Roles {
				if slices.Contains(role.KeyIDs, id) {
					k.Party = role.Party
					return k
				}
			}
		}
	}
	return k
}

func (h *history) roots() error {
	r, err := h.report(mirror.AuditOptions{RootsOnly: true})
	if err != nil {
		return err
	}
	out, rows := []historyRoot{}, [][]string{}
	var before *tuf.Root
	for i, root := range r.Roots {
		x := historyRoot{Version: root.Version(), SHA256: root.SHA256(), Expires: root.Expires(), Recovered: root.Recovered, Signers: []signerKey{}, Changes: []string{}}
		signers, err := rootSigners(root.Root, before)
		if err != nil {
			return err
		}
		var names []string
		for _, id := range signers {
			k := h.key(id, r.Roots[:i+1])
			x.Signers, names = append(x.Signers, k), append(names, k.String())
		}
		if root.Charter() != nil {
			x.SignedAt = root.Charter().SignedAt()
			changes, err := repo.DiffRoots(before, root.Root, h.labels)
			if err != nil {
				return err
			}
			for _, c := range changes {
				if c.Part == diff.PartHeadline {
					x.Changes = append(x.Changes, c.New)
				}
			}
		}
		if root.Recovered {
			x.Changes = append([]string{"RECOVERED by the recovery organisations"}, x.Changes...)
		}
		if before = root.Root; x.SignedAt.Before(h.after) {
			continue
		}
		out = append(out, x)
		rows = append(rows, []string{fmt.Sprintf("v%d", x.Version), "signed " + text.Time(x.SignedAt), "expires " + x.Expires.UTC().Format(time.DateOnly),
			"by " + strings.Join(names, ", "), strings.Join(x.Changes, "; ")})
	}
	return h.show(r, "roots", out, rows)
}

// rootSigners returns the ids of the keys that signed a root, of those that it or the root
// before it names for the root role and the parties.
func rootSigners(root, before *tuf.Root) ([]string, error) {
	env, err := metafile.Open(root.Bytes())
	if err != nil {
		return nil, err
	}
	keys := map[string]tuf.Key{}
	for _, r := range []*tuf.Root{before, root} {
		if r == nil {
			continue
		}
		ids, _ := r.RoleKeys("root")
		if c := r.Charter(); c != nil {
			for _, p := range c.Parties() {
				ids = append(ids, p.KeyIDs...)
			}
		}
		for id, k := range r.Keys(ids) {
			keys[id] = k
		}
	}
	return tuf.Signers(env.Signed, env.Signatures, keys), nil
}

func (h *history) keys() error {
	r, err := h.report(mirror.AuditOptions{RootsOnly: true})
	if err != nil {
		return err
	}
	byID := map[string]*historyKey{}
	signed := map[int64]time.Time{}
	var out []*historyKey
	newest := r.Roots[len(r.Roots)-1].Version()
	for _, root := range r.Roots {
		if root.Charter() != nil {
			signed[root.Version()] = root.Charter().SignedAt()
		}
		for _, x := range rolesOf(root.Root) {
			role := x.name
			for id, key := range root.Keys(x.keyIDs) {
				k := byID[id]
				if k == nil {
					k = &historyKey{signerKey: h.key(id, r.Roots), Scheme: key.Scheme, First: root.Version()}
					k.Fingerprint, _ = key.Fingerprint() // "": a key that can't be used
					byID[id], out = k, append(out, k)
				}
				if k.Last = root.Version(); !slices.Contains(k.Roles, role) {
					k.Roles = append(k.Roles, role)
				}
			}
		}
	}
	out = slices.DeleteFunc(out, func(k *historyKey) bool {
		k.Current = k.Last == newest
		slices.Sort(k.Roles)
		return signed[k.First].Before(h.after) && (k.Current || signed[k.Last+1].Before(h.after))
	})
	slices.SortFunc(out, func(a, b *historyKey) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Roles[0], b.Roles[0]), cmp.Compare(a.KeyID, b.KeyID))
	})
	rows := [][]string{}
	for _, k := range out {
		last := fmt.Sprintf("to v%d", k.Last)
		if k.Current {
			last = "in use"
		}
		rows = append(rows, []string{k.String(), text.Name(k.Scheme), fmt.Sprintf("from v%d", k.First), last, strings.Join(k.Roles, ", ")})
	}
	if out == nil {
		out = []*historyKey{}
	}
	return h.show(r, "keys", out, rows)
}

func (h *history) statements() error {
	r, err := h.report(mirror.AuditOptions{Prefix: h.prefix, Files: true})
	if err != nil {
		return err
	}
	out := []historyStatement{}
	for _, e := range r.Entries {
		for _, review := range reviewsOf(e.Statements) {
			s := historyStatement{verdictReview: review, Path: e.Path, SHA256: e.SHA256, Release: releaseOf(e.Release), Signers: []signerKey{}}
			for _, id := range review.KeyIDs {
				s.Signers = append(s.Signers, h.key(id, r.Roots))
			}
			if !s.At.Before(h.after) {
				out = append(out, s)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b historyStatement) int { return a.At.Compare(b.At) })
	rows := [][]string{}
	for _, s := range out {
		word, by, more := "approved", "by "+text.Name(s.Party), ""
		if s.Refused {
			word = "REFUSED"
		}
		if s.Reviewer != "" {
			by += " (" + text.Quote(s.Reviewer) + ")"
		}
		var names []string
		for _, k := range s.Signers {
			names = append(names, k.String())
		}
		signed := "signed by " + strings.Join(names, ", ")
		if s.Rotated {
			signed += ", rotated"
		}
		for _, x := range []struct{ word, value string }{{"source ", s.Source}, {"rebuild ", s.Rebuild}, {"", s.Reason}} {
			if x.value != "" {
				more += "; " + x.word + text.Quote(x.value)
			}
		}
		rows = append(rows, []string{text.Time(s.At), word, titleOf(s.Release, s.Path), by, signed, strings.TrimPrefix(more, "; ")})
	}
	return h.show(r, "statements", out, rows)
}

// titleOf is the short name of a release or a file.
func titleOf(rel *verdictRelease, path string) string {
	if rel == nil {
		return text.Name(path)
	}
	return fmt.Sprintf("%s@%s %s %s", text.Name(rel.Product), text.Name(rel.Version), text.Name(rel.Channel), text.Name(rel.Platform))
}

func (h *history) releases() error {
	r, err := h.report(mirror.AuditOptions{Prefix: h.prefix})
	if err != nil {
		return err
	}
	out, rows := []historyRelease{}, [][]string{}
	for _, e := range r.Entries {
		x := historyRelease{Path: e.Path, SHA256: e.SHA256, Length: e.Length, State: strings.ToUpper(string(e.State)), Release: releaseOf(e.Release), Reason: reasonOf(e), Later: e.Later,
			By: e.Signoffs, Reviews: reviewsOf(e.Statements)}
		if x.By == nil {
			x.By = []tuf.Signoff{}
		}
		var at time.Time
		for _, s := range x.Reviews {
			at = later(at, s.At)
		}
		if e.Recall != nil {
			at = later(at, e.Recall.At)
		}
		date := "no date"
		if !at.IsZero() {
			x.At, date = &at, text.Time(at)
			if at.Before(h.after) {
				continue
			}
		}
		var by []string
		for _, s := range x.By {
			by = append(by, fmt.Sprintf("%s (%s v%d)", text.Name(s.Party), text.Name(s.Role), s.Version))
		}
		listed := "listed by " + strings.Join(by, ", ")
		if len(by) == 0 {
			listed = "listed by no role"
		}
		more := ""
		switch {
		case e.Recall != nil:
			more = fmt.Sprintf("recalled by %s: %s", text.Name(e.Recall.Party), text.Quote(e.Recall.Reason))
		case x.Later != "":
			more = "clients are offered " + text.Name(x.Later)
		case e.State != mirror.StateWaiting:
			more = x.Reason
		}
		out, rows = append(out, x), append(rows, []string{x.State, titleOf(x.Release, e.Path), date, listed, more})
	}
	return h.show(r, "releases", out, rows)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
