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
	file, err := w.folder.keepEvidence(from, name, data, why, w.clock)
	if err != nil {
		c.log.Warn("refused", "place", from, "reason", why, "not kept", err)
		return
	}
	c.log.Warn("refused", "place", from, "reason", why, "evidence", file)
	w.evidence = append(w.evidence, file)
}

// keepEvidence files refused bytes with the reason beside them and returns the
// file's path. The same bytes are kept once.
func (f *folder) keepEvidence(from, name string, data []byte, why error, when time.Time) (string, error) {
	// The sum first: no name from metadata begins the name of a file.
	file := "evidence/" + hexSum(data)[:16] + "." + diskName(name)
	if fi, err := f.root.Lstat(file); err == nil && fi.Mode().IsRegular() && fi.Size() == int64(len(data)) {
		return filepath.Join(f.dir, filepath.FromSlash(file)), nil
	}
	pieces, size, err := f.evidence()
	if err != nil {
		return "", err
	}
	limit := maxEvidence
	if errors.Is(why, tuf.ErrMalformed) {
		limit = maxJunk
	}
	if pieces >= limit || size+int64(len(data)) > maxEvidenceBytes {
		return "", fmt.Errorf("the evidence folder holds %d pieces already, %d bytes", pieces, size)
	}
	reason, err := json.MarshalIndent(map[string]string{"from": from, "reason": why.Error(), "time": when.UTC().Format(time.RFC3339)}, "", " ")
	if err != nil {
		return "", err
	}
	if err := f.write(file+".reason.json", reason); err != nil {
		return "", err
	}
	return filepath.Join(f.dir, filepath.FromSlash(file)), f.write(file, data)
}

// evidence counts what is there.
func (f *folder) evidence() (pieces int, size int64, err error) {
	d, err := f.root.Open("evidence")
	if err != nil {
		return 0, 0, err
	}
	defer d.Close()
	list, err := d.ReadDir(-1)
	if err != nil {
		return 0, 0, err
	}
	for _, e := range list {
		if fi, err := e.Info(); err == nil {
			size += fi.Size()
		}
	}
	return (len(list) + 1) / 2, size, nil // each with its reason
}
