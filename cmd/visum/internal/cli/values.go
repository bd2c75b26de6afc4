package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/charter"
	"github.com/visum-dev/visum/tuf"
)

// parseAge reads a duration with days, such as 21d or 12h.
func parseAge(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days, "%d", &n); err != nil || n < 0 || n > 3660 || fmt.Sprint(n) != days {
			return 0, usage("%s: want a number of days, such as 21d", text.Quote(s))
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, usage("%s: want a duration, such as 12h or 21d", text.Quote(s))
	}
	return d, nil
}

// parseDate reads a number of days from now, a day, or a time in RFC 3339.
func (a *app) parseDate(s string) (time.Time, error) {
	if strings.HasSuffix(s, "d") {
		age, err := parseAge(s)
		return a.Now().Add(age).UTC().Truncate(time.Second), err
	}
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(form, s); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, usage("%s: want days from now such as 14d, a day such as 2027-03-01, or RFC 3339", text.Quote(s))
}

// releaseID reads PRODUCT@VERSION.
func releaseID(s string) (repo.ReleaseID, error) {
	product, version, ok := strings.Cut(s, "@")
	if !ok || product == "" || version == "" {
		return repo.ReleaseID{}, usage("%s: want PRODUCT@VERSION", text.Quote(s))
	}
	return repo.ReleaseID{Product: product, Version: version}, nil
}

// percent reads a share of machines: 0% to 100%.
func percent(s string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(s, "%"))
	if err != nil || n < 0 || n > 100 || !strings.HasSuffix(s, "%") {
		return 0, usage("%s: want 0%% to 100%%", text.Quote(s))
	}
	return n, nil
}

// location makes a location from a base URL. Without an operator, the host's name is
// the operator.
func location(id, tier, base, operator string) (tuf.Location, error) {
	if !strings.HasSuffix(base, "/") {
		base += "/"
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return tuf.Location{}, fmt.Errorf("%s: want https://HOST/PATH/", text.Quote(base))
	}
	if operator == "" {
		operator = strings.ToLower(u.Hostname())
	}
	return tuf.Location{ID: id, Tier: tier, Operator: operator, Base: base, Metadata: "metadata/", Targets: "targets/"}, nil
}

// parseLocation reads ID,URL[,MEMBER=VALUE]...
func parseLocation(s string) (tuf.Location, error) {
	bad := func(why string) (tuf.Location, error) {
		return tuf.Location{}, usage("%s: %s; want ID,URL[,operator=NAME][,tier=T][,jurisdiction=CC][,priority=N]", text.Quote(s), why)
	}
	parts := strings.Split(s, ",")
	if len(parts) < 2 {
		return bad("there is no URL")
	}
	l, err := location(parts[0], tuf.Primary, parts[1], "")
	if err != nil {
		return bad(err.Error())
	}
	for _, p := range parts[2:] {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			return bad("no value for " + name)
		}
		switch name {
		case "operator":
			l.Operator = value
		case "tier":
			if l.Tier = value; value == tuf.Rendezvous {
				l.Targets = ""
			}
		case "jurisdiction":
			l.Jurisdiction = value
		case "priority":
			if _, err := fmt.Sscanf(value, "%d", &l.Priority); err != nil || fmt.Sprint(l.Priority) != value {
				return bad("priority is no number")
			}
		default:
			return bad("unknown member " + name)
		}
	}
	return l, nil
}

// readCharter reads a charter document.
func readCharter(path string) (repo.Root, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return repo.Root{}, err
	}
	root, _, err := charter.Parse(data)
	if err != nil {
		return repo.Root{}, &usageError{fmt.Errorf("%s: %w", text.Name(path), err)}
	}
	return root, nil
}

// encodeJSON returns a value as indented JSON with a line break at the end.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// readJSON reads a JSON file of at most 1 MiB strictly.
func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(data) > 1<<20 {
		return usage("%s: larger than 1 MiB", text.Name(path))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return usage("%s: %s", text.Name(path), text.Line(err.Error()))
	}
	if d.More() {
		return usage("%s: there is more than one value", text.Name(path))
	}
	return nil
}

func readPin(path string) ([]byte, error) {
	if path == "" {
		return nil, usage("--pin is required: nothing else is trusted")
	}
	return os.ReadFile(path)
}

// pinFingerprint is the sha256 of a pin in its canonical form, as sha256sum shows it.
func pinFingerprint(pin []byte) (string, error) {
	p, err := tuf.OpenPin(pin, &tuf.Options{UnsafeLoopback: true})
	if err != nil {
		return "", err
	}
	return p.Fingerprint(), nil
}

func pinFlags(cmd *cobra.Command, pin *string, loopback *bool) {
	cmd.Flags().StringVar(pin, "pin", "", "file with the pin, the only thing that is trusted")
	cmd.Flags().BoolVar(loopback, "unsafe-loopback", false, "permit http: locations on this machine, for development")
}
