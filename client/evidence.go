package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// Bounds of the evidence folder. The first pieces stay: who floods it can't wash
// them out. What is not even metadata, such as the page of a captive portal,
// gets a part of the room only.
const (
	maxEvidence      = 32
	maxJunk          = 8
	maxEvidenceBytes = 16 << 20
)

// keepEvidence files what was refused. That it can't be kept must not stop an update.
func (w *walk) keepEvidence(c *Client, from, name string, data []byte, why error) {
	if w.quiet {
		return
	}
	file, err := w.session.keepEvidence(from, name, data, why, w.clock)
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

// quarantine files what stood in the state in the place of a good file.
func (w *walk) quarantine(c *Client, name string, data []byte) {
	if len(data) > 0 {
		w.keepEvidence(c, "state", name, data, fmt.Errorf("%w: damaged on the disk", tuf.ErrMalformed))
	}
}

// keepEvidence files refused bytes with the reason beside them and returns the
// file's name in the store. The same bytes are kept once.
func (s *session) keepEvidence(from, name string, data []byte, why error, when time.Time) (string, error) {
	// The sum first: no name from metadata begins the name of a file.
	file := hexSum(data)[:16] + "." + diskName(name)
	have, err := s.store.List("evidence")
	if err != nil {
		return "", err
	}
	if size, ok := have[file]; ok && size == int64(len(data)) {
		return "evidence/" + file, nil
	}
	total := int64(0)
	for _, size := range have {
		total += size
	}
	limit := maxEvidence
	if errors.Is(why, tuf.ErrMalformed) {
		limit = maxJunk
	}
	if pieces := (len(have) + 1) / 2; pieces >= limit || total+int64(len(data)) > maxEvidenceBytes { // each with its reason
		return "", fmt.Errorf("the evidence folder holds %d pieces already, %d bytes", pieces, total)
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
