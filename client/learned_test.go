package client_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
)

// Save starts at the location that served the refresh, and not at one that failed in
// it, for as long as a refresh would ask that one last. Configured sources still come
// first unless they failed.
func TestSaveUsesLocationOfRefresh(t *testing.T) {
	const mirror = "mirror.example"
	mirrored := func(cfg *client.Config) {
		cfg.Sources = []client.Source{client.HTTPSource("https://"+mirror+"/r/metadata/", "https://"+mirror+"/r/targets/")}
	}
	for name, tt := range map[string]struct {
		vendor answer // in the refresh
		source bool
		mirror answer
		begins []string // hosts that Save asks, at most
	}{
		"all well":                      {nil, false, nil, []string{vendorHost}},
		"the first is unreachable":      {unreachable, false, nil, []string{cdnHost}},
		"the first has no content":      {status(404, "timestamp.json", nil), false, nil, []string{cdnHost}},
		"the first serves junk":         {body("timestamp.json", []byte("{}")), false, nil, []string{cdnHost}},
		"the first is busy":             {busy(503, "600", ""), false, nil, []string{cdnHost}},
		"a source":                      {nil, true, nil, []string{mirror}},
		"a source has only targets":     {unreachable, true, status(404, ".json", nil), []string{mirror}},
		"a source that failed":          {nil, true, unreachable, []string{vendorHost}},
		"a source and the first failed": {unreachable, true, unreachable, []string{cdnHost}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWeb(t)
			c := w.client(func(cfg *client.Config) {
				if tt.source {
					mirrored(cfg)
				}
			})
			w.does(tt.vendor, vendorHost)
			w.does(tt.mirror, mirror)
			a := w.approved(c)
			w.does(nil, vendorHost)
			if tt.mirror != nil && len(tt.begins) > 0 && tt.begins[0] != mirror {
				w.does(nil, mirror)
			}
			save := func() (hosts []string) {
				t.Helper()
				w.asked("")
				must(t, c.Save(t.Context(), a, filepath.Join(t.TempDir(), "agent")))
				for _, host := range []string{mirror, vendorHost, cdnHost} {
					w.mu.Lock()
					asked := slices.ContainsFunc(w.requests, func(r string) bool { return len(r) > len(host) && r[:len(host)] == host })
					w.mu.Unlock()
					if asked {
						hosts = append(hosts, host)
					}
				}
				return hosts
			}
			if got := save(); !slices.Equal(got, tt.begins) {
				t.Errorf("asked %q, want %q", got, tt.begins)
			}
			// This ends after a while.
			if name == "the first is unreachable" {
				w.now = w.now.Add(2 * time.Minute)
				w.good(c, 1)
				w.does(unreachable, cdnHost)
				w.now = w.now.Add(2 * time.Hour)
				w.good(c, 1)
				w.does(nil, cdnHost)
				if got := save(); !slices.Equal(got, []string{vendorHost}) {
					t.Errorf("later asked %q", got)
				}
			}
		})
	}
}
