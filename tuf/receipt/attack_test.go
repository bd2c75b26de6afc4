package receipt_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
	"github.com/visum-dev/visum/tuf/receipt"
)

// Each row changes one thing of a genuine receipt, which verifies without the change.
func TestAttackReceipt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	middle := func() []byte { w.renewRoot(); return w.newPin() }()
	w.renewRoot()
	old := w.Copy()
	w.Update(repotest.Add("2"))
	w.Update(func(tx *repo.Tx) error { return tx.Approve("review", "agent/2", &repo.ReviewRecord{Reviewer: "Ann"}) })
	data := w.receipt()
	two, err := mirror.Receipt(t.Context(), w.source(), w.Pin(), "agent/2", w.options())
	noErr(t, err)
	second := contents(t, two)

	other := newWorld(t)
	other.renewRoot()
	other.renewRoot()
	foreign := contents(t, other.receipt())
	before := old.Store.Files
	file := func(name string) []byte {
		if before[name] == nil {
			t.Fatalf("no %s", name)
		}
		return before[name]
	}
	statement := func(c *receipt.Contents, number int, role string, data []byte) {
		c.Statements = append(c.Statements, receipt.StatementFile{Role: role, Number: number, Data: data})
	}
	for name, x := range map[string]struct {
		edit func(c *receipt.Contents)
		pin  []byte // nil: the first one
		want error
		says string
	}{
		"older role":                 {func(c *receipt.Contents) { c.Roles["review-agent"] = file("metadata/2.review-agent.json") }, nil, tuf.ErrMismatch, "tuf: review-agent v3: does not match: "},
		"role of the other party":    {func(c *receipt.Contents) { c.Roles["review-agent"] = c.Roles["vendor-agent"] }, nil, tuf.ErrMismatch, "tuf: review-agent v3: does not match: "},
		"role of another repository": {func(c *receipt.Contents) { c.Roles["hold"] = foreign.Roles["hold"] }, nil, tuf.ErrMismatch, "tuf: hold v1: does not match: "},
		"older snapshot":             {func(c *receipt.Contents) { c.Snapshot = file("metadata/3.snapshot.json") }, nil, tuf.ErrMismatch, "tuf: snapshot v5: does not match: "},
		"older timestamp":            {func(c *receipt.Contents) { c.Timestamp = file("metadata/timestamp.json") }, nil, tuf.ErrMismatch, "tuf: snapshot v"},
		"older state, complete": {func(c *receipt.Contents) {
			c.Timestamp, c.Snapshot = second.Timestamp, second.Snapshot
			c.Path, c.Length, c.SHA256, c.Statements = "agent/3", 7, repotest.Sum("agent 3"), nil
		}, nil, tuf.ErrNoTarget, "listed by none of vendor (vendor-agent v3), review (review-agent v3)"},
		"foreign timestamp":          {func(c *receipt.Contents) { c.Timestamp = foreign.Timestamp }, nil, tuf.ErrThreshold, "tuf: timestamp v"},
		"foreign root of the pin":    {func(c *receipt.Contents) { c.Roots[0] = foreign.Roots[0] }, nil, tuf.ErrMismatch, "its root v1 is not that of the pin"},
		"foreign root after the pin": {func(c *receipt.Contents) { c.Roots[1] = foreign.Roots[1] }, nil, tuf.ErrThreshold, "tuf: root v2: not enough signatures: 0 of "},
		"foreign last root":          {func(c *receipt.Contents) { c.Roots[2] = foreign.Roots[2] }, nil, tuf.ErrThreshold, "tuf: root v3: not enough signatures: 0 of "},
		"foreign root before the pin": {func(c *receipt.Contents) { c.Roots[0] = foreign.Roots[0] }, middle, tuf.ErrMismatch,
			"root v2 does not name its root v1 as the one before it"},
		"root before the pin is cut":    {func(c *receipt.Contents) { c.Roots[0].Root = c.Roots[0].Root[:300] }, middle, tuf.ErrVersion, "3 roots from v0 to v3"},
		"everything is foreign":         {func(c *receipt.Contents) { *c = foreign }, nil, tuf.ErrMismatch, "its root v1 is not that of the pin"},
		"chain begins after the pin":    {func(c *receipt.Contents) { c.Roots = c.Roots[1:] }, nil, tuf.ErrVersion, "the pin has root v1, the receipt and the given roots are v2 to v3"},
		"chain has a gap":               {func(c *receipt.Contents) { c.Roots = slices.Delete(slices.Clone(c.Roots), 1, 2) }, nil, tuf.ErrVersion, "2 roots from v1 to v3"},
		"chain has a root twice":        {func(c *receipt.Contents) { c.Roots[1] = c.Roots[0] }, nil, tuf.ErrRollback, "tuf: root v1: rollback: the root after v1 must be v2"},
		"no root":                       {func(c *receipt.Contents) { c.Roots = nil }, nil, tuf.ErrMalformed, "no root"},
		"a root that is too large":      {func(c *receipt.Contents) { c.Roots[1].Root = make([]byte, 524289) }, nil, tuf.ErrTooLarge, "a root of 524289 bytes, at most 524288"},
		"recovery without a rule":       {func(c *receipt.Contents) { c.Roots[1].Recovery = []byte("{}") }, nil, tuf.ErrMalformed, "tuf: recovery: malformed: "},
		"another path":                  {func(c *receipt.Contents) { c.Path = "agent/9" }, nil, tuf.ErrNoTarget, "tuf: agent/9: no such target: "},
		"path of the other release":     {func(c *receipt.Contents) { c.Path = "agent/2" }, nil, tuf.ErrMismatch, "under agent/2, not "},
		"path of no class":              {func(c *receipt.Contents) { c.Path = "tools/1" }, nil, tuf.ErrNotApproved, "the path is in no class"},
		"another sha256":                {func(c *receipt.Contents) { c.SHA256 = repotest.Sum("agent 2") }, nil, tuf.ErrMismatch, "the roles list sha256 "},
		"sha256 in upper case":          {func(c *receipt.Contents) { c.SHA256 = strings.ToUpper(c.SHA256) }, nil, tuf.ErrMalformed, "want 64 lower-case hex digits"},
		"no sha256":                     {func(c *receipt.Contents) { c.SHA256 = "" }, nil, tuf.ErrMalformed, "want 64 lower-case hex digits"},
		"another length":                {func(c *receipt.Contents) { c.Length++ }, nil, tuf.ErrMismatch, "the roles list 7 bytes, the receipt states 8"},
		"another repository":            {func(c *receipt.Contents) { c.RepoID = foreign.RepoID }, nil, tuf.ErrMismatch, "repo_id is "},
		"no role of a party":            {func(c *receipt.Contents) { delete(c.Roles, "review-agent") }, nil, tuf.ErrMalformed, "role review-agent v3 is missing"},
		"no hold":                       {func(c *receipt.Contents) { delete(c.Roles, "hold") }, nil, tuf.ErrMalformed, "role hold v1 is missing"},
		"a role too many":               {func(c *receipt.Contents) { c.Roles["targets"] = file("metadata/1.targets.json") }, nil, tuf.ErrMalformed, "role targets is not needed"},
		"a time after the expiry":       {func(c *receipt.Contents) { c.Time = c.Time.Add(2 * day) }, nil, tuf.ErrExpired, "tuf: timestamp v"},
		"a time before signed_at":       {func(c *receipt.Contents) { c.Time = c.Time.Add(-time.Second) }, nil, tuf.ErrExpired, "is before signed_at of root v3"},
		"no statement, wrong timestamp": {func(c *receipt.Contents) { c.Statements, c.Timestamp = nil, []byte("{}") }, nil, tuf.ErrMalformed, "tuf: timestamp: malformed"},
		"statement on other bytes":      {func(c *receipt.Contents) { c.Statements[0].Data = second.Statements[0].Data }, nil, tuf.ErrMismatch, "the statement is about agent/2"},
		"foreign statement":             {func(c *receipt.Contents) { c.Statements[0].Data = foreign.Statements[0].Data }, nil, tuf.ErrThreshold, "statement: 0 of 1 needed keys of review"},
		"statement of the other party":  {func(c *receipt.Contents) { c.Statements[0].Role = "vendor-agent" }, nil, tuf.ErrThreshold, "statement: 0 of 1 needed keys of vendor"},
		"statement of no role":          {func(c *receipt.Contents) { c.Statements[0].Role = "hold" }, nil, tuf.ErrMalformed, "a statement of hold, which is no role of class agent"},
		"statement cut":                 {func(c *receipt.Contents) { c.Statements[0].Data = c.Statements[0].Data[:100] }, nil, tuf.ErrMalformed, "statement: malformed"},
		"statement number 0":            {func(c *receipt.Contents) { c.Statements[0].Number = 0 }, nil, tuf.ErrMalformed, "a number that is not from 1 to 1000"},
		"statement number 1001":         {func(c *receipt.Contents) { c.Statements[0].Number = 1001 }, nil, tuf.ErrMalformed, "a number that is not from 1 to 1000"},
		"statement twice":               {func(c *receipt.Contents) { statement(c, 1, "review-agent", c.Statements[0].Data) }, nil, tuf.ErrMalformed, "statement 1 of review-agent is not in order"},
		"statements out of order":       {func(c *receipt.Contents) { statement(c, 2, "hold", c.Statements[0].Data) }, nil, tuf.ErrMalformed, "statement 2 of hold is not in order"},
		"17 statements": {func(c *receipt.Contents) {
			for i := range 16 {
				statement(c, i+2, "review-agent", c.Statements[0].Data)
			}
		}, nil, tuf.ErrTooLarge, "more than 16 statements of review-agent"},
		"1025 roots": {func(c *receipt.Contents) { c.Roots = slices.Repeat(c.Roots[:1], 1025) }, nil, tuf.ErrTooLarge, "more than 1024 roots"},
		"257 roles": {func(c *receipt.Contents) {
			for i := range 254 {
				c.Roles[fmt.Sprint(i)] = nil
			}
		}, nil, tuf.ErrTooLarge, "more than 256 roles"},
		"17 proofs":                {func(c *receipt.Contents) { c.Proofs = slices.Repeat([]receipt.Proof{{Type: "x"}}, 17) }, nil, tuf.ErrTooLarge, "more than 16 proofs"},
		"a proof that is large":    {func(c *receipt.Contents) { c.Proofs = []receipt.Proof{{"x", make([]byte, 65537)}} }, nil, tuf.ErrMalformed, "at most 65536 bytes"},
		"a proof without a type":   {func(c *receipt.Contents) { c.Proofs = []receipt.Proof{{"", nil}} }, nil, tuf.ErrMalformed, "a type of 1 to 128"},
		"a proof of a hidden type": {func(c *receipt.Contents) { c.Proofs = []receipt.Proof{{"a\x1bb", nil}} }, nil, tuf.ErrMalformed, "a type of 1 to 128"},
	} {
		t.Run(name, func(t *testing.T) {
			pin := x.pin
			if pin == nil {
				pin = w.Pin()
			}
			if r := open(t, receipt.Seal(contents(t, data)), pin, nil); r.Err() != nil {
				t.Fatal(r)
			}
			c := contents(t, data)
			x.edit(&c)
			r, err := receipt.Open(receipt.Seal(c), pin, nil)
			wantErr(t, err, x.want, x.says)
			if r != nil {
				t.Error("a result with an error")
			}
		})
	}
	t.Run("oversized", func(t *testing.T) {
		_, err := receipt.Open(make([]byte, receipt.MaxReceipt+1), w.Pin(), nil)
		wantErr(t, err, tuf.ErrTooLarge, "134217729 bytes, at most 134217728")
		_, err = receipt.Open(data, nil, nil)
		wantErr(t, err, tuf.ErrMalformed, "tuf: pin: malformed")
	})
}

// Each row is a second form of a genuine receipt, or no receipt at all.
func TestReceiptForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	data := string(w.receipt())
	for name, x := range map[string]struct{ old, new, says string }{
		"duplicate member":        {`"visum-receipt":1}`, `"visum-receipt":1,"visum-receipt":1}`, "duplicate"},
		"duplicate role":          {`"roles":{"hold":`, `"roles":{"hold":"","hold":`, "duplicate"},
		"unknown member":          {`,"visum-receipt":1}`, `,"visum-receipt":1,"x":1}`, "the receipt has an unknown member \"x\""},
		"unknown member of roots": {`"roots":[{`, `"roots":[{"a":1,`, "a root has an unknown member \"a\""},
		"unknown member below":    {`"statements":[{`, `"statements":[{"a":1,`, "a statement has an unknown member \"a\""},
		"white space":             {`{"length"`, `{ "length"`, "not in canonical form"},
		"line break at the end":   {`,"visum-receipt":1}`, ",\"visum-receipt\":1}\n", "not in canonical form"},
		"other order":             {`{"length":7,`, `{"visum-receipt":1,"length":7,`, "duplicate"},
		"escaped letter":          {`"agent/1"`, `"\u0061gent/1"`, "not in canonical form"},
		"later version":           {`"visum-receipt":1}`, `"visum-receipt":2}`, "visum-receipt is 2, want 1"},
		"no mark":                 {`,"visum-receipt":1}`, `}`, "visum-receipt: an integer"},
		"string for integer":      {`"length":7`, `"length":"7"`, "length: an integer"},
		"negative":                {`"length":7`, `"length":-7`, "length: an integer"},
		"huge":                    {`"length":7`, `"length":9007199254740992`, "length: an integer"},
		"integer for string":      {`"path":"agent/1"`, `"path":1`, "path: "},
		"array for object":        {`"roles":{`, `"roles":[],"rolez":{`, ""},
		"empty proofs":            {`"repo_id"`, `"proofs":[],"repo_id"`, "proofs is empty"},
		"proofs null":             {`"repo_id"`, `"proofs":null,"repo_id"`, "proofs must be an array"},
		"no snapshot":             {`"snapshot"`, `"snapshox"`, "unknown member"},
		"time with an offset":     {`Z","timestamp"`, `+00:00","timestamp"`, "time "},
		"time with a fraction":    {`:00Z","timestamp"`, `:00.5Z","timestamp"`, "want the form"},
		"text after the end":      {`"visum-receipt":1}`, `"visum-receipt":1}{}`, ""},
		"cut":                     {`,"visum-receipt":1}`, ``, ""},
	} {
		if strings.Count(data, x.old) < 1 {
			t.Errorf("%s: %q is not in the receipt", name, x.old)
		}
		_, err := receipt.Read([]byte(strings.Replace(data, x.old, x.new, 1)))
		if !errors.Is(err, tuf.ErrMalformed) || !strings.HasPrefix(err.Error(), "tuf: receipt: ") || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: got %v, want %q", name, err, x.says)
		}
	}
	// Base64 has one form: with padding, without line breaks, with zero bits at the end.
	c := contents(t, []byte(data))
	c.Roles = map[string][]byte{"x": {1, 2, 3, 4}}
	sealed := string(receipt.Seal(c))
	contents(t, []byte(sealed))
	for _, other := range []string{"AQIDBA=", "AQIDBA", "AQIDBB==", `AQID\u000aBA==`, "AQID BA==", "AQIDBA==AQ==", "AQ-DBA=="} {
		_, err := receipt.Read([]byte(strings.Replace(sealed, "AQIDBA==", other, 1)))
		wantErr(t, err, tuf.ErrMalformed, "role x is not base64")
	}
}

// A statement counts for the role that it names, also if the party has several.
func TestStatementOfAnotherRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := open(t, w.receipt(), w.Pin(), nil)
	f := contents(t, w.receipt()).Statements[0]
	subject := attestation.SubjectOf(r.Approved())
	s, err := receipt.OpenStatement(f, r.Root(), "review", subject, w.Now.Add(1000*day))
	if err != nil || s.Review == nil {
		t.Fatal(err)
	}
	f.Role = "review-more"
	_, err = receipt.OpenStatement(f, r.Root(), "review", subject, w.Now)
	wantErr(t, err, tuf.ErrMismatch, "a statement of review-agent is listed for review-more")
}

// Proofs of logs travel with a receipt and decide nothing.
func TestReceiptProofs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := contents(t, w.receipt())
	c.Proofs = []receipt.Proof{{"c2sp.org/tlog-proof@v1", []byte("proof")}, {"x", nil}}
	r := open(t, receipt.Seal(c), w.Pin(), nil)
	if got := r.Proofs(); len(got) != 2 || got[0].Type != c.Proofs[0].Type || string(got[0].Data) != "proof" || r.Err() != nil {
		t.Errorf("%+v", got)
	}
}

// The hash bins on the way are in the receipt, and no others.
func TestReceiptOfDelegatedRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error {
		for i := range 513 {
			p := fmt.Sprintf("agent/data/%d", i)
			if err := errors.Join(tx.Add("vendor", p, strings.NewReader(p), nil), tx.Approve("review", p, &repo.ReviewRecord{Unrecorded: true})); err != nil {
				return err
			}
		}
		return nil
	})
	data, err := mirror.Receipt(t.Context(), w.source(), w.Pin(), "agent/data/77", w.options())
	noErr(t, err)
	r := open(t, data, w.Pin(), nil)
	c := contents(t, data)
	if r.Err() != nil || len(c.Roles) != 5 || r.Agreed().Signoffs[0].Role == "vendor-agent" {
		t.Errorf("%v: %d roles, %+v", r, len(c.Roles), r.Agreed().Signoffs)
	}
	var bin string
	for name := range c.Roles {
		if name != "hold" && name != "vendor-agent" && name != "review-agent" {
			bin = max(bin, name)
		}
	}
	delete(c.Roles, bin)
	_, err = receipt.Open(receipt.Seal(c), w.Pin(), nil)
	wantErr(t, err, tuf.ErrMalformed, "is missing")

	_, err = mirror.Receipt(t.Context(), w.source(), w.Pin(), "agent/data/513", w.options())
	wantErr(t, err, tuf.ErrNoTarget, "agent/data/513")
}

// FuzzRead checks that a receipt has one form: what Read accepts, Seal writes again.
func FuzzRead(f *testing.F) {
	sum := repotest.Sum("")
	f.Add(receipt.Seal(receipt.Contents{SHA256: sum, Roots: []receipt.RootFile{{Root: []byte("a")}, {Root: []byte("b"), Recovery: []byte("c")}}}))
	f.Add(receipt.Seal(receipt.Contents{SHA256: sum, Path: "a\n\"\\ä\x00", Length: 1<<53 - 1, Time: time.Unix(1e9, 0), Roots: []receipt.RootFile{{}},
		Roles:      map[string][]byte{"\n": {1}, "\"": {2, 3}},
		Statements: []receipt.StatementFile{{"a", 1, []byte("{}")}, {"a", 1000, nil}, {"b", 7, nil}}, Proofs: []receipt.Proof{{"x", []byte("y")}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := receipt.Read(data)
		if err != nil {
			if !errors.Is(err, tuf.ErrUntrusted) || strings.Contains(err.Error(), "\n") || !reflect.DeepEqual(c, receipt.Contents{}) {
				t.Errorf("%v, %+v", err, c)
			}
			return
		}
		if again := receipt.Seal(c); !bytes.Equal(again, data) {
			t.Errorf("%q\nis written as\n%q", data, again)
		}
	})
}
