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

// Limits of the evidence, for each rank. The first files stay, so that a flood does not
// displace them. Ranks have separate limits, so that files anyone can make do not
// displace those that take a key:
//
//   - fork: roots that the trusted root's parties signed in addition to another of the
//     same version
//   - signed: refused files that a root key of a trusted root signed
//   - root: other well-formed but refused roots
//   - anything else; files that are not metadata, such as the page of a captive portal,
//     get only a part of this room
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

// rank returns a refused file's rank, and the hash that identifies it: for ranked files
// that of the signed part, because anyone can change the rest.
func (w *walk) rank(c *Client, from, name string, data []byte, why error) (rank, sum string) {
	payload, signers := rootSigners(data, c.limits.Root, w.trusted, c.pin.Root())
	past := errors.Is(why, tuf.ErrVersion) || errors.Is(why, tuf.ErrRollback) // an old root under another name
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

// rootSigners returns the signed part of a metadata file, and how many root keys of the
// given roots signed it. Files above limit are not parsed.
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

// maxEvidenceSignatures limits the signatures that are checked in a refused file.
const maxEvidenceSignatures = 1024

// keepEvidence stores a refused file. A failure to do so must not stop an update.
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
		c.log.Warn("refused", "location", from, "reason", why, "not kept", err)
		return
	}
	c.log.Warn("refused", "location", from, "reason", why, "evidence", file)
	w.evidence = append(w.evidence, file)
}

// accuses reports whether a refusal may indicate an attack. An unknown type of key does
// not, and neither does an old timestamp: some mirrors lag.
func (w *walk) accuses(name string, why error) bool {
	if errors.Is(why, tuf.ErrUnknownKey) {
		return false
	}
	refused, ok := errors.AsType[*tuf.Error](why)
	lags := ok && name == "timestamp.json" && refused.Err == tuf.ErrRollback && refused.Version < w.session.Floors["timestamp"].Version
	return !lags
}

// quarantine stores a damaged file of the state as evidence.
func (w *walk) quarantine(c *Client, name string, data []byte) {
	if len(data) > 0 {
		w.keepEvidence(c, "state", name, data, fmt.Errorf("%w: damaged on the disk", tuf.ErrMalformed))
	}
}

// keepEvidence stores refused bytes together with the reason, and returns the file's
// name in the store. Equal bytes are stored once.
func (s *session) keepEvidence(rank, sum, from, name string, data []byte, why error, when time.Time) (string, error) {
	// The hash comes first, so that a name from metadata cannot choose the rank.
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
		return "", fmt.Errorf("too much evidence of this kind: %d files, %d bytes with this one", pieces, total)
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
