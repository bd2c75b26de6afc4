package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// auditFlags are the flags of commands that need a pin and no key.
type auditFlags struct {
	pin, fingerprint string
	from             []string
	loopback         bool
}

func (f *auditFlags) register(cmd *cobra.Command) {
	pinFlags(cmd, &f.pin, &f.loopback)
	cmd.Flags().StringArrayVar(&f.from, "from", nil, "directory, base URL or s3:// of the repository; may be repeated (default: all locations of the pin)")
}

func (f *auditFlags) registerFingerprint(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.fingerprint, "fingerprint", "", "trust the pin with this sha256: that of --pin, or one that the file carries")
}

// auditor asks the locations of one repository, with nothing but a pin.
type auditor struct {
	app      *app
	pin      []byte
	from     []mirror.Mirror
	at       []tuf.Location // of each source, if it is a location of the pin
	loopback bool
}

// errNoPin ends verify without a pin, after it has shown those that the files carry.
var errNoPin = errors.New("no pin was given, and nothing else is trusted")

// choosePin returns the pin of the flags; carriers are files that may carry one. It is nil
// if the working folder has a repository that the identity knows.
func (a *app) choosePin(f auditFlags, carriers []string) ([]byte, error) {
	fingerprint := ""
	if f.fingerprint != "" {
		var err error
		if fingerprint, err = checkFingerprint(f.fingerprint); err != nil {
			return nil, err
		}
	}
	if f.pin != "" {
		pin, err := readPin(f.pin)
		if err != nil || fingerprint == "" {
			return pin, err
		}
		h, err := hintOf(pin)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text.Name(f.pin), err)
		}
		return trusted([]hint{h}, fingerprint)
	}
	if fingerprint == "" {
		if _, err := os.Lstat(filepath.Join(a.folder, folderFile)); err == nil {
			return nil, nil
		}
	}
	pins, err := findPins(carriers)
	if err != nil {
		return nil, err
	}
	hints, lines := []hint{}, []string{}
	for _, pin := range pins {
		h, err := hintOf(pin)
		if err != nil {
			return nil, err
		}
		hints, lines = append(hints, h), append(lines, h.String())
	}
	switch {
	case fingerprint != "":
		return trusted(hints, fingerprint)
	case len(hints) == 0:
		return nil, usage("--pin is required: nothing else is trusted")
	}
	lines = append(lines, fmt.Sprintf("compare it with what the vendor and the review centre publish, then run the command with: --fingerprint %s", hints[0].Fingerprint))
	if err := a.print(map[string]any{"hints": hints}, lines...); err != nil {
		return nil, err
	}
	return nil, errNoPin
}

// audit returns an auditor with the pin of the flags, or with the repository of the
// working folder. Without --from, it asks all locations of the pin.
func (a *app) audit(f auditFlags, carriers []string) (*auditor, error) {
	x := &auditor{app: a, loopback: f.loopback}
	var err error
	if x.pin, err = a.choosePin(f, carriers); err != nil {
		return nil, err
	}
	if x.pin == nil {
		s, err := a.look()
		if err != nil {
			return nil, err
		}
		x.loopback = s.loopback
		x.from = []mirror.Mirror{{Name: "storage", Source: storage.SourceOf(s.storage)}}
		if x.pin, err = s.anchor(a.ctx); err != nil {
			return nil, err
		}
	}
	p, err := tuf.OpenPin(x.pin, &tuf.Options{UnsafeLoopback: x.loopback})
	if err != nil {
		return nil, err
	}
	if len(f.from) > 0 {
		x.from = nil
		for _, where := range f.from {
			src, err := a.openSource(where)
			if err != nil {
				return nil, err
			}
			x.from = append(x.from, mirror.Mirror{Name: where, Source: src})
		}
	}
	if len(x.from) > 0 {
		return x, nil
	}
	for _, l := range p.Locations() {
		if !p.Root().Charter().Usable(l, a.Now()) {
			continue
		}
		targets := ""
		if l.Targets != "" {
			targets = l.Base + l.Targets
		}
		x.from = append(x.from, mirror.Mirror{Name: l.ID, Source: client.HTTPSource(l.Base+l.Metadata, targets), RootsOnly: targets == ""})
		x.at = append(x.at, l)
	}
	if len(x.from) == 0 {
		return nil, usage("--from is required: the pin has no locations")
	}
	return x, nil
}

func (x *auditor) options() mirror.Options {
	return mirror.Options{Now: x.app.Now, UnsafeLoopback: x.loopback}
}

// sourceAnswer is what one source had, in the output.
type sourceAnswer struct {
	Name      string `json:"name"`
	RootsOnly bool   `json:"roots_only,omitempty"`
	Root      int64  `json:"root"`
	Timestamp int64  `json:"timestamp,omitempty"`
	Snapshot  int64  `json:"snapshot,omitempty"`
	Differs   string `json:"differs,omitempty"` // how it differs from what counts
	Fork      bool   `json:"fork,omitempty"`    // it has another file of the same version
}

// asked describes the sources of a report. lines are those that differ.
func (x *auditor) asked(r *mirror.AuditReport) (operators int, answers []sourceAnswer, lines []string) {
	var places []tuf.Location
	names := map[string]bool{}
	for i, s := range r.Answers {
		answers = append(answers, sourceAnswer{s.Name, s.RootsOnly, s.Root, s.Timestamp, s.Snapshot, s.Differs, s.Fork})
		if s.Differs != "" {
			lines = append(lines, fmt.Sprintf("DIFFERS %s: %s", text.Name(s.Name), s.Differs))
		}
		if s.Err == nil {
			if names[s.Name] = true; x.at != nil {
				places = append(places, x.at[i])
			}
		}
	}
	if operators = len(names); x.at != nil {
		operators = tuf.Operators(places)
	}
	return operators, answers, lines
}

func operatorsText(n int) string {
	if n == 1 {
		return "1 operator asked"
	}
	return fmt.Sprintf("%d operators asked", n)
}
