package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// oneLine requires one line of printable ASCII of at most 4 kB; strictly, that foreign
// text is quoted too.
func oneLine(t *testing.T, what, s string, strictly bool) {
	t.Helper()
	if why := rawtuf.BadText(s); why != "" && (strictly || !strings.Contains(why, "foreign")) {
		t.Errorf("%s: %s: %.300q", what, why, s)
	}
}

// logLaw checks the attributes of all log records.
type logLaw struct {
	mu   sync.Mutex
	bad  []string
	seen int
}

func (l *logLaw) Enabled(context.Context, slog.Level) bool { return true }
func (l *logLaw) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logLaw) WithGroup(string) slog.Handler            { return l }
func (l *logLaw) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		l.seen++
		s := fmt.Sprint(a.Value.Any())
		if why := rawtuf.BadText(s); why != "" && !strings.Contains(why, "foreign") {
			l.bad = append(l.bad, fmt.Sprintf("%s %s: %s: %.200q", r.Message, a.Key, why, s))
		}
		return true
	})
	return nil
}

// Text of one party in releases, holds and recalls: each decision is one line that
// shows it quoted.
func TestTextsOfHostileReleases(t *testing.T) {
	t.Parallel()
	q := client.Query{Product: "tool", Channel: "stable", Platform: "any"}
	for i, evil := range rawtuf.Hostile {
		what := fmt.Sprint("text ", i)
		s := newShop(t)
		log := &logLaw{}
		say := func() {
			t.Helper()
			renew(s.repo)
			view := s.good(s.client(func(c *client.Config) { c.Log = slog.New(log) }), 1)
			rel, err := view.Latest(t.Context(), q)
			if err != nil {
				oneLine(t, what, err.Error(), true)
			}
			for _, d := range rel.Decisions {
				oneLine(t, what, d.String(), true)
			}
			d := view.Decide(t.Context(), "agent/"+evil)
			oneLine(t, what, d.String(), true)
			d, err = view.CheckInstalled(t.Context(), "agent/tool-1.0.0", rawtuf.FileOf([]byte("tool 1.0.0"))["hashes"].(rawtuf.Doc)["sha256"].(string))
			if err != nil {
				t.Fatal(err)
			}
			oneLine(t, what, d.String(), true)
		}
		s.list(1, "1.0.0")
		say()
		for _, parties := range [][]string{{"vendor-agent"}, {"vendor-agent", "review-agent"}} {
			rel := fields("tool", "9"+evil, 9)
			rel["min_version"] = evil
			s.repo.AddTarget("agent/"+evil, "x", rel, parties...)
			q.Installed = "2.0.0"
			say()
			q.Installed = ""
			say()
		}
		s.repo.AddTarget("agent/tool-1.0.0", "", rawtuf.Doc{"reason": evil, "at": rawtuf.Stamp(rawtuf.Now), "until": rawtuf.Stamp(rawtuf.Now.AddDate(0, 0, 1))}, "hold")
		say()
		s.repo.Roles["hold"]["targets"] = rawtuf.Doc{}
		for _, role := range []string{"vendor-agent", "review-agent"} {
			delete(rawtuf.At(s.repo.Roles[role], "targets"), "agent/"+evil)
		}
		sum := rawtuf.FileOf([]byte("tool 1.0.0"))["hashes"].(rawtuf.Doc)["sha256"]
		s.repo.Roles["review-agent"]["x-visum-recalled"] = []any{rawtuf.Doc{"path": "agent/tool-1.0.0", "sha256": sum, "reason": evil, "at": rawtuf.Stamp(rawtuf.Now)}}
		say()
		s.repo.Roles["team"+evil], s.repo.Signers["team"+evil] = rawtuf.Targets(), []string{"attacker"}
		s.repo.Delegate("vendor-agent", "team"+evil, rawtuf.Doc{"paths": []any{"agent/*"}}, "k")
		if i < 12 { // the last one is not a file name
			view := s.good(s.client(), 1)
			_, _ = view.Latest(t.Context(), q)
		}
		q.Product = evil
		if _, err := s.good(s.client(), 1).Latest(t.Context(), q); err != nil {
			oneLine(t, what, err.Error(), true)
		}
		q.Product = "tool"
		for _, bad := range log.bad {
			t.Error(bad)
		}
	}
}

// Responses instead of files: errors and log attributes are one printable line each,
// and errors.Is still finds the causes.
func TestTextsOfHostileLocations(t *testing.T) {
	t.Parallel()
	for i, evil := range rawtuf.Hostile {
		quoted := string(rawtuf.Marshal(evil))
		for j, data := range []string{
			evil, `{"signed":{"_type":` + quoted + `,"version":2},"signatures":[]}`, "{" + quoted + ":1," + quoted + ":1}", `{"signed":{"_type":"root","version":` + quoted + `},"signatures":[]}`,
			`{"signed":{"_type":"timestamp","version":9,"spec_version":"1.0","expires":"2031-01-01T00:00:00Z","meta":{"snapshot.json":{"version":` + quoted + `}}},"signatures":[]}`,
		} {
			for _, suffix := range []string{".root.json", "timestamp.json", ".snapshot.json", ".review-agent.json"} {
				w := newWeb(t)
				log := &logLaw{}
				w.does(body(suffix, []byte(data)), vendorHost, cdnHost, reviewHost)
				_, err := w.client(func(c *client.Config) { c.Log = slog.New(log) }).Refresh(t.Context())
				if err != nil {
					oneLine(t, fmt.Sprintf("text %d, %d as %s", i, j, suffix), err.Error(), true)
					if suffix != ".root.json" && !errors.Is(err, tuf.ErrUntrusted) && !errors.Is(err, tuf.ErrMalformed) {
						t.Errorf("%v", err)
					}
				}
				for _, bad := range log.bad {
					t.Error(bad)
				}
				if log.seen == 0 {
					t.Error("nothing was logged")
				}
			}
		}
		w := newWeb(t)
		log := &logLaw{}
		w.does(func(string, *http.Request) (*http.Response, error) { return nil, errors.New(evil) }, vendorHost, cdnHost, reviewHost)
		_, err := w.client(func(c *client.Config) { c.Log = slog.New(log) }).Refresh(t.Context())
		if !errors.Is(err, client.ErrUnreachable) {
			t.Fatal(err)
		}
		oneLine(t, "transport", err.Error(), false)
		w.does(func(_ string, r *http.Request) (*http.Response, error) {
			resp := respond(r, 206, bytes.NewReader(nil))
			resp.Header.Set("Content-Range", evil)
			resp.Status = evil
			return resp, nil
		}, vendorHost, cdnHost, reviewHost)
		if _, err := w.client().Refresh(t.Context()); err != nil {
			oneLine(t, "header", err.Error(), true)
		}
		w.does(nil, vendorHost, cdnHost, reviewHost)
		a := w.approved(w.client())
		w.does(func(string, *http.Request) (*http.Response, error) { return nil, errors.New(evil) }, vendorHost, cdnHost, reviewHost)
		err = w.client(func(c *client.Config) { c.Log = slog.New(log) }).Save(t.Context(), a, t.TempDir()+"/file")
		if err == nil {
			t.Fatal("saved")
		}
		oneLine(t, "save", err.Error(), false)
		for _, bad := range log.bad {
			t.Error(bad)
		}
		_, err = client.New([]byte(`{"`+strings.ReplaceAll(evil, `"`, "")+`":1}`), &client.Config{Dir: t.TempDir()})
		if err == nil {
			t.Fatal("a pin")
		}
		oneLine(t, "pin", err.Error(), true)
	}
}

// Several errors are one line, and each is found.
func TestErrorsOnOneLine(t *testing.T) {
	w := newWeb(t)
	w.does(unreachable, vendorHost, cdnHost, reviewHost)
	_, err := w.client().Refresh(t.Context())
	if !errors.Is(err, client.ErrUnreachable) || !errors.Is(err, errDark) || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "client: no repository location is reachable; main: ") || strings.Contains(err.Error(), "client: client") {
		t.Errorf("%v", err)
	}
}
