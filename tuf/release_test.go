package tuf_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// Each rule is broken in turn: Check names it, and a release that both parties list is refused
// for the same reason.
func TestReleaseCheck(t *testing.T) {
	good := tuf.Release{Product: "agent", Version: "v11.4.0-rc.1", Channel: "stable", Platform: "linux/amd64", Sequence: 7, MinVersion: "10.0.19041.1",
		Source: tuf.SourceRef{URI: "git+https://src.example/agent", Revision: "abc"}, Notes: "better\n\tand faster, ä", Rollout: &tuf.Rollout{Percent: 25}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	long := func(n int) string { return strings.Repeat("1", n) }
	for _, tt := range []struct {
		name   string
		change func(*tuf.Release)
		says   string // "": nothing is wrong
	}{
		{"no sequence", func(r *tuf.Release) { r.Sequence = 0 }, ""},
		{"the largest sequence", func(r *tuf.Release) { r.Sequence = 1<<53 - 1 }, ""},
		{"any platform", func(r *tuf.Release) { r.Platform = "any" }, ""},
		{"wasm", func(r *tuf.Release) { r.Platform = "wasip1/wasm" }, ""},
		{"a halted rollout", func(r *tuf.Release) { r.Rollout.Percent = 0 }, ""},
		{"a whole rollout", func(r *tuf.Release) { r.Rollout.Percent = 100 }, ""},
		{"no rollout", func(r *tuf.Release) { r.Rollout = nil }, ""},
		{"a product with a space", func(r *tuf.Release) { r.Product = "Agent für alle" }, ""},
		{"a product of the largest size", func(r *tuf.Release) { r.Product = long(128) }, ""},
		{"no min_version", func(r *tuf.Release) { r.MinVersion = "" }, ""},

		{"no product", func(r *tuf.Release) { r.Product = "" }, "product is missing"},
		{"a product with a space at the end", func(r *tuf.Release) { r.Product = "agent " }, `product "agent " begins or ends with a space`},
		{"a product with a line break", func(r *tuf.Release) { r.Product = "a\nb" }, `product "a\nb" has an unprintable character at byte 1`},
		{"a product with a bidi override", func(r *tuf.Release) { r.Product = "a\u202eb" }, "unprintable character at byte 1"},
		{"a product that is not UTF-8", func(r *tuf.Release) { r.Product = "a\xff" }, "unprintable character at byte 1"},
		{"a long product", func(r *tuf.Release) { r.Product = long(129) }, "product of 129 bytes is longer than 128"},
		{"no version", func(r *tuf.Release) { r.Version = "" }, "version is missing"},
		{"a version that is none", func(r *tuf.Release) { r.Version, r.MinVersion = "nightly", "" }, "version nightly: "},
		{"a version with a space", func(r *tuf.Release) { r.Version = "11.4.0 " }, `version "11.4.0 ": `},
		{"a long version", func(r *tuf.Release) { r.Version = long(129) }, "too long"},
		{"no channel", func(r *tuf.Release) { r.Channel = "" }, "channel is missing"},
		{"a channel with a tab", func(r *tuf.Release) { r.Channel = "\tstable" }, `channel "\tstable" begins or ends with a space`},
		{"a channel with a space that does not break", func(r *tuf.Release) { r.Channel = "stable\u00a0" }, "begins or ends with a space"},
		{"a channel with a zero byte", func(r *tuf.Release) { r.Channel = "sta\x00ble" }, "unprintable character at byte 3"},
		{"no platform", func(r *tuf.Release) { r.Platform = "" }, "platform"},
		{"GOOS alone", func(r *tuf.Release) { r.Platform = "linux" }, `platform "linux" is neither GOOS/GOARCH`},
		{"GOOS and no GOARCH", func(r *tuf.Release) { r.Platform = "linux/" }, `platform "linux/" is neither GOOS/GOARCH`},
		{"GOARCH and no GOOS", func(r *tuf.Release) { r.Platform = "/amd64" }, "platform"},
		{"three parts", func(r *tuf.Release) { r.Platform = "linux/arm/v7" }, "platform"},
		{"a platform in capitals", func(r *tuf.Release) { r.Platform = "Linux/amd64" }, "platform"},
		{"Any", func(r *tuf.Release) { r.Platform = "Any" }, "platform"},
		{"a platform with a space", func(r *tuf.Release) { r.Platform = "linux/amd64 " }, "platform"},
		{"a long platform", func(r *tuf.Release) { r.Platform = "linux/" + long(128) }, "platform"},
		{"a negative sequence", func(r *tuf.Release) { r.Sequence = -1 }, "sequence -1 is not between"},
		{"a sequence that metadata cannot hold", func(r *tuf.Release) { r.Sequence = 1 << 53 }, "sequence"},
		{"a min_version that is none", func(r *tuf.Release) { r.MinVersion = ">=1.0" }, `min_version ">=1.0": `},
		{"a min_version with a space", func(r *tuf.Release) { r.MinVersion = " 1.0" }, "min_version"},
		{"a min_version above the version", func(r *tuf.Release) { r.MinVersion = "11.4" }, "min_version 11.4 is not below the version v11.4.0-rc.1 itself"},
		{"a min_version that is the version", func(r *tuf.Release) { r.MinVersion = "11.4-rc.1" }, "is not below the version"},
		{"a source with an escape", func(r *tuf.Release) { r.Source.URI = "\x1b[2J" }, "source uri"},
		{"a long source", func(r *tuf.Release) { r.Source.Revision = long(2049) }, "source revision of 2049 bytes"},
		{"notes with an escape", func(r *tuf.Release) { r.Notes = "good\x1b[2J" }, "notes"},
		{"long notes", func(r *tuf.Release) { r.Notes = long(64<<10 + 1) }, "notes of 65537 bytes"},
		{"a rollout of more than all", func(r *tuf.Release) { r.Rollout.Percent = 150 }, "rollout of 150 percent is not between 0 and 100"},
		{"a negative rollout", func(r *tuf.Release) { r.Rollout.Percent = -1 }, "rollout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rel := good
			rel.Rollout = &tuf.Rollout{Percent: 25}
			tt.change(&rel)
			before := rel
			err := rel.Check()
			want(t, err, map[bool]error{true: nil, false: tuf.ErrRelease}[tt.says == ""], tt.says)
			if rel != before {
				t.Errorf("Check changed %+v to %+v", before, rel)
			}
			var e *tuf.Error
			if err != nil && (!errors.As(err, &e) || e.Role != "release" || !errors.Is(err, tuf.ErrMalformed) || rawtuf.BadText(err.Error()) != "") {
				t.Errorf("%#v", err)
			}
			if strings.Contains(tt.name, "UTF-8") {
				return // metadata must be UTF-8
			}
			r := rawtuf.New()
			var fields doc
			if err := json.Unmarshal(rawtuf.Marshal(rel), &fields); err != nil {
				t.Fatal(err)
			}
			r.AddTarget(rawtuf.Path, "the agent", fields, "vendor-agent", "review-agent")
			r.Publish()
			_, err = mustSnapshot(t, r).Approve(rawtuf.Path, from(r))
			if tt.name == "a sequence that metadata cannot hold" {
				tt.says = "sequence" // JSON refuses it first
			}
			want(t, err, map[bool]error{true: nil, false: tuf.ErrRelease}[tt.says == ""], tt.says)
		})
	}
}
