package client

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Bounds of the evidence folder, for each rank. The first pieces stay: a flood does
// not wash them out. Ranks have room of their own, so that what costs nothing to
// make does not displace what takes a key:
//
//   - fork: roots that the trusted root's parties signed, beside one that they
//     signed too
//   - signed: what a root key signed that this client trusts, and was refused
//   - root: what else was shown as a root, and is one in form
//   - anything else; what is not even metadata, such as the page of a captive
//     portal, gets a part of that room only
const (
	maxEvidence      = 32
	maxJunk          = 8
	maxEvidenceBytes = 16 << 20
	maxForks         = 16
	maxSigned        = 16
	maxRoots         = 16
	maxRankedBytes   = 8 << 20
)

const (
	rankFork   = "fork-"
	rankSigned = "signed-"
	rankRoot   = "root-"
	rankOther  = ""
)

// rank says what room a refused file takes, and the sum that it is known by: of
// ranked files that of the signed part, because anyone can add to the rest.
func (w *walk) rank(c *Client, from, name string, data []byte, why error) (rank, sum string) {
	payload, signers := rootSigners(data, c.limits.Root, w.tip, c.pin.Root())
	past := errors.Is(why, tuf.ErrVersion) || errors.Is(why, tuf.ErrRollback) // a root of the past under another name
	switch {
	case from == "fork":
		rank = rankFork
	case signers > 0 && !past:
		rank = rankSigned
	case strings.HasSuffix(name, ".root.json") && !past && !errors.Is(why, tuf.ErrMalformed):
		return rankRoot, hexSum(data)[:16]
	default:
		return rankOther, hexSum(data)[:16]
	}
	if payload == nil {
		payload = data
	}
	return rank, hexSum(payload)[:16]
}

// rootSigners returns the signed part of a metadata file, and how many root keys
// of the given roots signed it. Files above limit are not looked at.
func rootSigners(data []byte, limit int64, roots ...*tuf.Root) (payload []byte, signers int) {
	if int64(len(data)) > limit {
		return nil, 0
	}
	doc, err := wire.Canonical(bytes.Clone(data))
	if err != nil {
		return nil, 0
	}
	var signed, list wire.Value
	if doc.Fields(wire.Field{Name: "signed", To: &signed}, wire.Field{Name: "signatures", To: &list}) != nil || signed.Kind() != '{' || list.Kind() != '[' {
		return nil, 0
	}
	sigs := map[string][]byte{}
	for e := range list.Elements() {
		var id, sig wire.Value
		if e.Kind() != '{' || e.Fields(wire.Field{Name: "keyid", To: &id}, wire.Field{Name: "sig", To: &sig}) != nil {
			continue
		}
		if name, err := id.Text(); err == nil && len(sigs) < maxEvidenceSignatures {
			text, _ := sig.Text()
			sigs[name], _ = hex.DecodeString(text)
		}
	}
	for _, root := range roots {
		ids, _ := root.RoleKeys("root")
		signers += len(root.Signed(signed, sigs, ids))
	}
	return signed, signers
}

// maxEvidenceSignatures bounds the signatures that are looked at in a refused file.
const maxEvidenceSignatures = 1024

// keepEvidence files what was refused. That it can't be kept must not stop an update.
func (w *walk) keepEvidence(c *Client, from, name string, data []byte, why error) {
	if w.quiet || !w.accuses(name, why) {
		return
	}
	rank, sum := w.rank(c, from, name, data, why)
	file, err := w.session.keepEvidence(rank, sum, from, name, data, why, w.clock)
	if c.dir != "" {
		file = filepath.Join(c.dir, filepath.FromSlash(file))
	}
	if err != nil {
		c.log.Warn("refused", "place", from, "reason", why, "not kept", err)
		return
	}
	c.log.Warn("refused", "place", from, "reason", why, "evidence", file)
	w.evidence = append(w.evidence, file)
}

// accuses reports whether a refusal may show that somebody lied. A key of a kind that
// is not known here does not, and neither does a timestamp that was right some time
// ago: some copies of a repository lag.
func (w *walk) accuses(name string, why error) bool {
	if errors.Is(why, tuf.ErrUnknownKey) {
		return false
	}
	refused, ok := errors.AsType[*tuf.Error](why)
	lags := ok && name == "timestamp.json" && refused.Err == tuf.ErrRollback && refused.Version < w.session.Floors["timestamp"].Version
	return !lags
}

// quarantine files what stood in the state in the place of a good file.
func (w *walk) quarantine(c *Client, name string, data []byte) {
	if len(data) > 0 {
		w.keepEvidence(c, "state", name, data, fmt.Errorf("%w: damaged on the disk", tuf.ErrMalformed))
	}
}

// keepEvidence files refused bytes with the reason beside them and returns the
// file's name in the store. The same bytes are kept once.
func (s *session) keepEvidence(rank, sum, from, name string, data []byte, why error, when time.Time) (string, error) {
	// The sum first: no name from metadata begins the name of a file.
	file := rank + sum + "." + diskName(name)
	have, err := s.store.List("evidence")
	if err != nil {
		return "", err
	}
	if size, ok := have[file]; ok && (rank == rankFork || rank == rankSigned || size == int64(len(data))) {
		return "evidence/" + file, nil
	}
	files, total := 0, int64(len(data))
	for other, size := range have {
		if rankOf(other) == rank {
			files++
			total += size
		}
	}
	limit, room := maxEvidence, int64(maxEvidenceBytes)
	switch {
	case rank == rankFork:
		limit, room = maxForks, maxRankedBytes
	case rank == rankSigned:
		limit, room = maxSigned, maxRankedBytes
	case rank == rankRoot:
		limit, room = maxRoots, maxRankedBytes
	case errors.Is(why, tuf.ErrMalformed):
		limit = maxJunk
	}
	if pieces := (files + 1) / 2; pieces >= limit || total > room { // each with its reason
		return "", fmt.Errorf("the evidence folder holds %d pieces of this kind already, with this one %d bytes", pieces, total)
	}
	reason, err := json.MarshalIndent(map[string]string{"from": from, "reason": why.Error(), "time": when.UTC().Format(time.RFC3339)}, "", " ")
	if err != nil {
		return "", err
	}
	if err := s.store.Write("evidence/"+file+".reason.json", reason); err != nil {
		return "", err
	}
	return "evidence/" + file, s.store.Write("evidence/"+file, data)
}

func rankOf(file string) string {
	for _, rank := range []string{rankFork, rankSigned, rankRoot} {
		if strings.HasPrefix(file, rank) {
			return rank
		}
	}
	return rankOther
}
