package repo_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// marks are the entries pending for the review centre: a path, and its earlier
// decision.
func marks(t *testing.T, r *repo.Repo, draft *repo.Draft) (out []string) {
	t.Helper()
	list, err := r.PendingIn(t.Context(), "review", draft)
	noErr(t, err)
	for _, p := range list {
		s := p.Path
		if p.Recalled != nil {
			if p.Recalled.SHA256 != p.SHA256 || p.Recalled.Party != "review" || p.Recalled.Role != "review-agent" {
				t.Errorf("%+v", p.Recalled)
			}
			s += " recalled as " + p.Recalled.Path + ": " + p.Recalled.Reason
		}
		if p.Refused != nil {
			if p.Refused.SHA256 != p.SHA256 || p.Refused.Reviewer.Party != "review" {
				t.Errorf("%+v", p.Refused)
			}
			s += " refused as " + p.Refused.Path + ": " + p.Refused.Reason
		}
		out = append(out, s)
	}
	return out
}

func wantMarks(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// addAs lists the bytes of another release under a second path.
func addAs(path, version string) func(tx *repo.Tx) error {
	return func(tx *repo.Tx) error {
		return tx.Add("vendor", path, strings.NewReader("agent "+version), release(version+".1"))
	}
}

// approveAll is a loop that approves all pending releases without checking them.
func approveAll(r *repo.Repo, waiting []repo.Pending) func(tx *repo.Tx) error {
	return func(tx *repo.Tx) error {
		for _, p := range waiting {
			if err := tx.Approve("review", p.Path, &repo.ReviewRecord{SHA256: p.SHA256}); err != nil {
				return err
			}
		}
		return nil
	}
}

// Content that the centre recalled or refused is marked when it is offered again,
// under any path and for every reader: with the ledger that signed the decision, with
// a new ledger, in an exported directory, after a key rotation, and with malformed
// files next to the statement. A loop that approves everything is refused and signs
// nothing; stating a reason permits the approval.
func TestDecisionsLast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), add("2")(tx), add("3")(tx)) })
	w.Update(approve("1"))
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Recall("review", "agent/1", repo.RecallRecord{Reason: "it leaks"}), tx.Refuse("review", "agent/2", repo.RefusalRecord{Reason: "no source", Reviewer: "Ann"}))
	})
	w.Update(func(tx *repo.Tx) error { return errors.Join(addAs("agent/one", "1")(tx), addAs("agent/two", "2")(tx)) })
	w.Sees("root 1")
	all := []string{"agent/1 recalled as agent/1: it leaks", "agent/2 refused as agent/2: no source", "agent/3",
		"agent/one recalled as agent/1: it leaks", "agent/two refused as agent/2: no source"}
	wantMarks(t, "own ledger", marks(t, w.Open(), nil), all...)
	// The file name of a refusal contains its path, so that a ledger that has never seen
	// it knows only that path.
	strange := slices.Clone(all)
	strange[4] = "agent/two"
	fresh := func(dir string) *repo.Repo {
		cfg := w.Config()
		cfg.Ledger, cfg.UnsafeTrustStorage, cfg.Pin = nil, true, nil
		cfg.Signers = []tuf.Signer{w.Signer("review-release")}
		if dir != "" {
			return repo.New(repo.Folder(dir), cfg)
		}
		return repo.New(w.Store, cfg)
	}
	wantMarks(t, "new ledger", marks(t, fresh(""), nil), strange...)

	for i, target := range []string{"agent/1", "agent/2", "agent/one"} {
		for what, r := range map[string]*repo.Repo{"own ledger": w.Open(), "new ledger": fresh("")} {
			w.Refused(signing.ErrTakenBack, func() error {
				_, err := r.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Approve("review", target, examined()) })
				if err == nil || !strings.Contains(err.Error(), "ReviewRecord.Reinstate") || !strings.Contains(err.Error(), []string{"it leaks", "no source", "as agent/1"}[i]) {
					t.Errorf("%s, %s: %v", what, target, err)
				}
				return err
			})
		}
	}
	waiting, err := w.Open().Pending(t.Context(), "review")
	noErr(t, err)
	w.Refused(signing.ErrTakenBack, func() error { return w.Try(approveAll(w.Open(), waiting)) })

	// The same loop works from a directory, for the additions of the draft and for other
	// pending releases.
	dir := t.TempDir()
	draft, err := w.Open(vendorOnly...).Stage(t.Context(), add("4"))
	noErr(t, err)
	noErr(t, w.Open(vendorOnly...).Export(t.Context(), draft, dir))
	draft, err = repo.LoadDraft(dir)
	noErr(t, err)
	exported := slices.Insert(slices.Clone(strange), 3, "agent/4")
	wantMarks(t, "exported", marks(t, fresh(dir), draft), exported...)

	// A refusal within a draft counts as soon as enough keys have signed it.
	refused, err := fresh(dir).StageOn(t.Context(), draft, func(tx *repo.Tx) error {
		return tx.Refuse("review", "agent/4", repo.RefusalRecord{Reason: "too late", Reviewer: "Ann"})
	})
	noErr(t, err)
	refused = travel(t, refused)
	again := slices.Clone(exported)
	again[3] = "agent/4 refused as agent/4: too late"
	wantMarks(t, "in a draft", marks(t, fresh(dir), refused), again...)
	_, err = fresh(dir).StageOn(t.Context(), refused, func(tx *repo.Tx) error { return tx.Approve("review", "agent/4", nil) })
	wantErr(t, err, signing.ErrTakenBack)
	both, err := fresh(dir).StageOn(t.Context(), refused, func(tx *repo.Tx) error {
		return tx.Approve("review", "agent/4", &repo.ReviewRecord{Reinstate: "in time after all"})
	})
	noErr(t, err)
	{
		w := w.Copy()
		noErr(t, w.Open(vendorOnly...).Publish(t.Context(), travel(t, both)))
		w.Sees("root 1 agent/4")
		said, err := w.Open().Statements(t.Context(), "agent/4")
		if err != nil || len(said) != 2 || said[0].Refusal == nil || said[1].Review == nil {
			t.Errorf("%+v, %v", said, err)
		}
	}

	// A malformed file after the last statement, which any attacker with write access to
	// the storage can add, has no effect.
	w.Store.Files[waiting[1].Name+".reviews/review-agent.2.json"] = []byte("{}")
	wantMarks(t, "junk", marks(t, fresh(""), nil), strange...)
	delete(w.Store.Files, waiting[1].Name+".reviews/review-agent.2.json")

	// After a key rotation, statements by the old keys still count.
	w.Now = w.Now.Add(time.Hour)
	w.Update(func(tx *repo.Tx) error {
		tx.Root().Classes[0].Roles[1].Keys.Keys = w.Public("review-release-2")
		return nil
	})
	wantMarks(t, "rotated", marks(t, fresh(""), nil), strange...)
	said, err := w.Open().Statements(t.Context(), "agent/2")
	if err != nil || len(said) != 1 || said[0].Refusal == nil || !said[0].Rotated || said[0].Err != nil {
		t.Errorf("%+v, %v", said, err)
	}

	// With a reason both are approved, and no longer marked.
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Approve("review", "agent/one", &repo.ReviewRecord{Reinstate: "it was another one"}),
			tx.Approve("review", "agent/2", &repo.ReviewRecord{Reinstate: "the source has come"}))
	})
	w.Sees("root 2 agent/2 agent/one")
	wantMarks(t, "reinstated", marks(t, w.Open(), nil), "agent/1", "agent/3", "agent/two")
	w.Update(resignReview)
	w.Update(func(tx *repo.Tx) error { return errors.Join(approve("1")(tx), approve("3")(tx)) })
	w.Sees("root 2 agent/1 agent/2 agent/3 agent/one")
	said, err = w.Open().Statements(t.Context(), "agent/2")
	if err != nil || len(said) != 2 || said[1].Review == nil || said[1].Rotated {
		t.Errorf("%+v, %v", said, err)
	}
}

// twoClasses is a world with a second class of both parties, which has other keys.
func twoClasses(t *testing.T) *world {
	w := heldWorld(t)
	w.Update(func(tx *repo.Tx) error {
		c := w.Class("tools")
		c.Roles[1].Keys.Keys = w.Public("tools-review")
		tx.Root().Classes = append(tx.Root().Classes, c)
		return nil
	})
	return w
}

// A recall names bytes: it removes them from every list of the party, in every class,
// and they can't be listed again without a reason.
func TestRecallNamesBytes(t *testing.T) {
	t.Parallel()
	w := twoClasses(t)
	list := func(path, content, version string) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error {
			if err := tx.Add("vendor", path, strings.NewReader(content), release(version)); err != nil {
				return err
			}
			return tx.Approve("review", path, nil)
		}
	}
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(list("agent/1", "bad", "1")(tx), list("agent/latest", "bad", "1.1")(tx), list("agent/2", "good", "2")(tx),
			list("tools/1", "bad", "1.2")(tx), list("tools/2", "good", "2.1")(tx))
	})
	w.Sees("root 2 agent/1 agent/2 agent/latest tools/1 tools/2")
	behind := w.machine().adopts()
	w.Update(func(tx *repo.Tx) error {
		return tx.Recall("review", "agent/1", repo.RecallRecord{Reason: "it eats disks"})
	})
	w.Sees("root 2 agent/2 tools/2")
	c := w.Product()
	snap, err := c.Refresh()
	noErr(t, err)
	recalls, err := snap.Recalls(c.Get)
	if err != nil || len(recalls) != 2 || recalls[0].Path != "agent/1" || recalls[0].Class != "agent" || recalls[1].Path != "tools/1" || recalls[1].Class != "tools" {
		t.Errorf("%+v, %v", recalls, err)
	}
	// A machine that has not yet seen the recall does not sign the bytes either, although
	// only their hash identifies them.
	w.Update(func(tx *repo.Tx) error { return tx.Add("vendor", "tools/3", strings.NewReader("bad"), release("3")) })
	if _, err := behind.open().Pending(t.Context(), "review"); err != nil { // the ledger records what is published
		t.Fatal(err)
	}
	behind.refuses(signing.ErrTakenBack, func() error {
		_, err := behind.open("tools-review").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Add("review", "tools/3", strings.NewReader("bad"), nil) })
		return err
	})
	w.Refused(signing.ErrTakenBack, func() error {
		return w.Try(func(tx *repo.Tx) error { return tx.Approve("review", "tools/3", nil) })
	})
	w.Update(func(tx *repo.Tx) error {
		return tx.Approve("review", "tools/3", &repo.ReviewRecord{Reinstate: "disks are eaten elsewhere"})
	})
	w.Sees("root 2 agent/2 tools/2 tools/3")
	w.Update(func(tx *repo.Tx) error { return tx.Approve("review", "agent/latest", nil) })
	w.Update(resignReview)
	w.Sees("root 2 agent/2 agent/latest tools/2 tools/3")
}

// A draft that recalls bytes and still lists them, which this package never makes, is
// not signed.
func TestRecallWithAnAlias(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(add("1")(tx), tx.Add("vendor", "agent/latest", strings.NewReader("agent 1"), nil))
	})
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(approve("1")(tx), tx.Approve("review", "agent/latest", nil))
	})
	d, err := w.Open("vendor-1").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Recall("review", "agent/1", repo.RecallRecord{Reason: "bad"}) })
	noErr(t, err)
	noErr(t, w.Copy().received(d).Sign(t.Context(), w.Signer("review-release"))) // the valid counterpart
	d = w.tampered(d, func(draft map[string]any) {
		signed := at(w.files(draft)["review-agent"], "content", "signed")
		signed["targets"].(object)["agent/latest"] = object{"hashes": object{"sha256": sum("agent 1")}, "length": 7}
	})
	w.Refused(signing.ErrTakenBack, func() error { return d.Sign(t.Context(), w.Signer("review-release")) })
}

// Recall and Hold apply to a release: to all of its files, for any platform, channel
// or spelling of the version.
func TestStopARelease(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	files := map[string]*tuf.Release{
		"agent/linux":   {Product: "agent", Version: "1.2.0", Channel: "stable", Platform: "linux/amd64"},
		"agent/windows": {Product: "agent", Version: "v1.2", Channel: "stable", Platform: "windows/amd64"},
		"agent/beta":    {Product: "agent", Version: "1.2.0+7", Channel: "beta", Platform: "linux/amd64"},
		"agent/other":   {Product: "other", Version: "1.2.0", Channel: "stable", Platform: "linux/amd64"},
		"agent/newer":   {Product: "agent", Version: "1.2.1", Channel: "stable", Platform: "linux/amd64"},
		"agent/unseen":  {Product: "agent", Version: "1.2.0", Channel: "stable", Platform: "darwin/arm64"},
	}
	w.Update(func(tx *repo.Tx) error {
		var errs []error
		for path, rel := range files {
			errs = append(errs, tx.Add("vendor", path, strings.NewReader(path), rel))
			if path != "agent/unseen" {
				errs = append(errs, tx.Approve("review", path, &repo.ReviewRecord{Unrecorded: true}))
			}
		}
		return errors.Join(errs...)
	})
	healthy := "root 1 agent/beta agent/linux agent/newer agent/other agent/windows"
	w.Sees(healthy)
	day := w.Now.Add(24 * time.Hour)
	w.Update(func(tx *repo.Tx) error {
		return tx.HoldRelease(repo.ReleaseID{Product: "agent", Version: "1.2"}, "wait", day)
	})
	w.Sees("root 1 agent/newer agent/other")
	w.Update(func(tx *repo.Tx) error { return tx.UnholdRelease(repo.ReleaseID{Product: "agent", Version: "v1.2.0"}) })
	w.Sees(healthy)
	w.Update(func(tx *repo.Tx) error {
		return tx.RecallRelease("review", repo.ReleaseID{Product: "agent", Version: "1.2.0"}, "it leaks")
	})
	w.Sees("root 1 agent/newer agent/other")
	// Pending files that were not yet approved are recalled too.
	wantMarks(t, "recalled", marks(t, w.Open(), nil), "agent/beta recalled as agent/beta: it leaks", "agent/linux recalled as agent/linux: it leaks",
		"agent/unseen recalled as agent/unseen: it leaks", "agent/windows recalled as agent/windows: it leaks")
	for name, x := range map[string]struct {
		fn   func(tx *repo.Tx) error
		want error
	}{
		"recall of an unlisted version": {func(tx *repo.Tx) error {
			return tx.RecallRelease("review", repo.ReleaseID{Product: "agent", Version: "1.3"}, "x")
		}, tuf.ErrNoTarget},
		"recall without a version": {func(tx *repo.Tx) error { return tx.RecallRelease("review", repo.ReleaseID{Product: "agent"}, "x") }, tuf.ErrNoTarget},
		"recall by an unknown party": {func(tx *repo.Tx) error {
			return tx.RecallRelease("unknown", repo.ReleaseID{Product: "agent", Version: "1.2"}, "x")
		}, tuf.ErrNoTarget},
		"recall without a reason": {func(tx *repo.Tx) error {
			return tx.RecallRelease("review", repo.ReleaseID{Product: "agent", Version: "1.2"}, "")
		}, os.ErrInvalid},
		"hold of an unlisted product": {func(tx *repo.Tx) error {
			return tx.HoldRelease(repo.ReleaseID{Product: "agents", Version: "1.2"}, "x", day)
		}, tuf.ErrNoTarget},
		"hold without a reason": {func(tx *repo.Tx) error {
			return tx.HoldRelease(repo.ReleaseID{Product: "agent", Version: "1.2"}, "", day)
		}, os.ErrInvalid},
		"hold for too long": {func(tx *repo.Tx) error {
			return tx.HoldRelease(repo.ReleaseID{Product: "agent", Version: "1.2"}, "x", w.Now.Add(8*24*time.Hour))
		}, os.ErrInvalid},
		"lifting without a hold": {func(tx *repo.Tx) error { return tx.UnholdRelease(repo.ReleaseID{Product: "agent", Version: "1.2"}) }, tuf.ErrNoTarget},
	} {
		w.Refused(x.want, func() error {
			err := w.Try(x.fn)
			if err == nil {
				t.Error(name)
			}
			return err
		})
	}
	// A class without a hold role can't be held in part.
	plain := newWorld(t)
	plain.Update(add("1"))
	plain.Refused(os.ErrInvalid, func() error {
		return plain.Try(func(tx *repo.Tx) error {
			return tx.HoldRelease(repo.ReleaseID{Product: "agent", Version: "1"}, "x", day)
		})
	})
}
