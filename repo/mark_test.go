package repo_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/signing/ledgertest"
)

func TestMarkedLedgerContract(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) func() signing.Ledger {
		shared, own := newMemory(), newMemory()
		return func() signing.Ledger { return signing.MarkedLedger(signing.StorageLedger(shared), own) }
	})
}

// A machine that lasts refuses a shared ledger that lacks what it has seen there: an older
// copy, another history, or none. What other machines add is accepted.
func TestMarkedLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.machine().adopts()
	own := newMemory()
	cfg := w.Config()
	cfg.Pin = w.Pin()
	for _, k := range vendorKeys {
		cfg.Signers = append(cfg.Signers, w.Signer(k))
	}
	sign := func(l signing.Ledger, version string) error {
		c := *cfg
		c.Ledger = l
		_, err := repo.New(w.Store, &c).Stage(t.Context(), add(version))
		return err
	}
	other := signing.StorageLedger(m.ledger)
	this := signing.MarkedLedger(other, own)
	noErr(t, sign(this, "1"))
	first := m.ledger.Copy().Files
	noErr(t, sign(other, "2"))
	noErr(t, sign(this, "3"))
	newest := m.ledger.Copy().Files
	seen := own.Copy().Files

	refuses := func(what string, files map[string][]byte) {
		t.Helper()
		m.ledger.Files = files
		before := fmt.Sprint(own.Files)
		wantErr(t, sign(this, "4"), signing.ErrLedger)
		if fmt.Sprint(own.Files) != before {
			t.Errorf("%s: the mark moved", what)
		}
	}
	refuses("an older copy", first)
	refuses("none", map[string][]byte{})
	// Another history of the same length, and a longer one.
	m.ledger.Files = first
	noErr(t, sign(other, "5"))
	noErr(t, sign(other, "6"))
	refuses("another history", m.ledger.Copy().Files)
	m.ledger.Files = first
	for i := range 5 {
		noErr(t, sign(other, fmt.Sprint(10+i)))
	}
	refuses("a longer history", m.ledger.Copy().Files)
	for name, data := range newest { // a document of an earlier version
		doc := string(data)
		start, end := strings.Index(doc, `"number"`), strings.Index(doc, `"sha256"`)
		refuses("without a number", map[string][]byte{name: []byte(doc[:start] + doc[end:])})
	}

	m.ledger.Files, own.Files = newest, seen
	noErr(t, sign(this, "7"))
	for i := range signing.KeptPredecessors + 5 { // beyond what a document names, numbers count
		noErr(t, sign(other, fmt.Sprint(100+i)))
	}
	noErr(t, sign(this, "8"))
	for _, data := range m.ledger.Files {
		var doc struct{ Before []string }
		noErr(t, json.Unmarshal(data, &doc))
		if len(doc.Before) != signing.KeptPredecessors {
			t.Errorf("a document names %d predecessors", len(doc.Before))
		}
	}

	for name := range own.Files {
		own.Files[name] = []byte("{}")
	}
	if err := sign(this, "9"); err == nil || !strings.Contains(err.Error(), "mark of the ledger") {
		t.Error(err)
	}
}

// afterLoad is a ledger of which another process writes a document after a Load.
type afterLoad struct {
	signing.Ledger
	do *func()
}

func (l afterLoad) Load(ctx context.Context, repoID string) ([]byte, error) {
	data, err := l.Ledger.Load(ctx, repoID)
	if do := *l.do; do != nil {
		*l.do = nil
		do()
	}
	return data, err
}

// A process that is slower than another one of its machine does not move the mark back.
func TestMarkStays(t *testing.T) {
	t.Parallel()
	const id = "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1"
	shared, own := signing.StorageLedger(newMemory()), newMemory()
	one, two := []byte(`{"number": 1}`), []byte(`{"number": 2, "before": ["x"]}`)
	fast := signing.MarkedLedger(shared, own)
	noErr(t, shared.Swap(t.Context(), id, nil, one))
	do := func() { noErr(t, fast.Swap(t.Context(), id, one, two)) }
	_, err := signing.MarkedLedger(afterLoad{shared, &do}, own).Load(t.Context(), id)
	noErr(t, err)
	for name, data := range own.Files {
		if !strings.Contains(string(data), `"number":2`) {
			t.Errorf("%s: %s", name, data)
		}
	}
}

// Processes of one machine use the ledger and its mark at the same time.
func TestMarkedLedgerConcurrently(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.machine().adopts()
	own := newMemory()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			cfg := w.Config()
			cfg.Pin, cfg.Ledger = w.Pin(), signing.MarkedLedger(signing.StorageLedger(m.ledger), own)
			for _, k := range vendorKeys {
				cfg.Signers = append(cfg.Signers, w.Signer(k))
			}
			for j := range 3 {
				if _, err := repo.New(w.Store, cfg).Stage(t.Context(), add(fmt.Sprintf("%d.%d", i, j))); err != nil {
					t.Errorf("%d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}
