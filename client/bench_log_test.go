package client_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// BenchmarkRuleOfTheLog refreshes a client with nothing new and with a new snapshot, under a
// rule of the log, and another one without a rule, in one run.
func BenchmarkRuleOfTheLog(b *testing.B) {
	world := func(b *testing.B, rule bool) (w *logWeb, c *client.Client) {
		w = &logWeb{&web{repo: rawtuf.New(), now: rawtuf.Now, dir: b.TempDir(), serves: map[string]*rawtuf.Repo{}, answers: map[string]answer{}}, rawlog.NewLog(logName)}
		w.log.Append([]byte("an earlier entry"))
		if rule {
			w.repo.Charter()["log"] = logRule("enforce", logName)
			w.repo.PublishRoot()
			w.repo.Publish()
			w.prove(w.log, w.now)
		}
		c, err := client.New(w.pin(), &client.Config{Dir: w.dir, HTTP: &http.Client{Transport: w.web}, Now: clock})
		if err != nil {
			b.Fatal(err)
		}
		return w, c
	}
	for _, news := range []bool{false, true} {
		name := map[bool]string{false: "nothing new", true: "news"}[news]
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			requests := map[bool]int{}
			refresh := func(rule bool) func() error {
				w, c := world(b, rule)
				first := true
				return func() error {
					if news {
						w.repo.Bump("hold")
						w.repo.Publish()
						if rule {
							w.prove(w.log, w.now)
						}
					}
					_, err := c.Refresh(b.Context())
					n := len(w.asked(""))
					if !first {
						requests[rule] = n
					}
					first = false
					return err
				}
			}
			compareAs(b, "without/with", refresh(true), refresh(false))
			b.ReportMetric(float64(requests[true]), "requests")
			b.ReportMetric(float64(requests[false]), "requests-without")
		})
	}
}
