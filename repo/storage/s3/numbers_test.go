package s3

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
)

// ruleWorld is a repository of rules in a bucket, in hash bins.
func ruleWorld(t testing.TB, b repo.Storage, n int) *repotest.World {
	w := repotest.Empty(t)
	w.Now, w.Elsewhere = time.Now().UTC().Truncate(time.Second), b
	w.Update(w.Define)
	w.Update(func(tx *repo.Tx) error {
		for i := range n {
			path := fmt.Sprintf("agent/rules/%d", i)
			if err := tx.Add("vendor", path, strings.NewReader(fmt.Sprint("rule ", i)), nil); err != nil {
				return err
			}
			if err := tx.Approve("review", path, nil); err != nil {
				return err
			}
		}
		return nil
	})
	return w
}

// rulesUpdate changes one file and approves the change.
func rulesUpdate(i int) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		if err := tx.Add("vendor", "agent/rules/7", strings.NewReader(fmt.Sprint("changed ", i)), nil); err != nil {
			return err
		}
		return tx.Approve("review", "agent/rules/7", nil)
	}
}

func TestRulesPublishRequests(t *testing.T) {
	s := newServer(t)
	w := ruleWorld(t, s.open(t), 600)
	handle := w.Open()
	for i := range 3 {
		s.requests()
		if err := handle.Update(t.Context(), rulesUpdate(i)); err != nil {
			t.Fatal(err)
		}
		reads, writes := 0, 0
		for _, r := range s.requests() {
			t.Logf("%d: %s %s", i, r.Method, strings.TrimPrefix(r.URL.Path, "/bucket/pre/fix/"))
			if r.Method == http.MethodGet {
				reads++
			} else {
				writes++
			}
		}
		t.Logf("publish %d: %d reads, %d writes", i, reads, writes)
	}
}

// Prune removes the parts of an upload whose process died a week ago, and no others.
func TestPruneCleans(t *testing.T) {
	s := newServer(t)
	b := s.open(t)
	w := ruleWorld(t, b, 1)
	if _, err := b.client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &b.bucket, Key: b.key("targets/dead")}); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		age  time.Duration
		opt  *repo.PruneOptions
		want int
	}{{time.Hour, nil, 1}, {6 * 24 * time.Hour, nil, 1}, {8 * 24 * time.Hour, &repo.PruneOptions{DryRun: true}, 1}, {8 * 24 * time.Hour, nil, 0}} {
		now := w.Now
		w.Now = now.Add(x.age)
		_, err := w.Open().Prune(t.Context(), x.opt)
		if w.Now = now; err != nil {
			t.Fatal(err)
		}
		if n := s.uploads(); n != x.want {
			t.Errorf("%d uploads after %s, want %d", n, x.age, x.want)
		}
	}
}
