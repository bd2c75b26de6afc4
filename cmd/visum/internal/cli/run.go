package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/exchange"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// Bounds of run.
const (
	stepTries  = 5                // attempts of a step that another process interferes with
	maxBackOff = 15 * time.Minute // after rounds with errors, unless --every is longer
	stopGrace  = 30 * time.Second // for the current step after an interrupt
)

// runOptions are the flags of run.
type runOptions struct {
	once          bool
	every         string
	syncs         []string
	approve       []string
	check         string
	checkTimeout  string
	exchange      string
	withFiles     bool
	everyDuration time.Duration
	timeout       time.Duration
	folders       []syncFolder
}

// syncFolder is a folder whose files are listed below a prefix.
type syncFolder struct{ dir, prefix string }

func (o *runOptions) parse() (err error) {
	if o.everyDuration, err = parseAge(o.every); err != nil {
		return err
	}
	if o.everyDuration < time.Second {
		return usage("--every %s: want at least 1s", text.Quote(o.every))
	}
	if o.timeout, err = parseAge(o.checkTimeout); err != nil {
		return err
	}
	if o.timeout < time.Second {
		return usage("--check-timeout %s: want at least 1s", text.Quote(o.checkTimeout))
	}
	for _, s := range o.syncs {
		dir, prefix, ok := strings.Cut(s, "=")
		if !ok || dir == "" || !strings.HasSuffix(prefix, "/") {
			return usage("--sync %s: want DIR=PREFIX, with a prefix that ends in a slash, such as ./rules=rules/", text.Quote(s))
		}
		o.folders = append(o.folders, syncFolder{dir, prefix})
	}
	for _, p := range o.approve {
		if !strings.HasSuffix(p, "/") {
			return usage("--approve %s: a prefix ends in a slash, such as rules/", text.Quote(p))
		}
	}
	if (len(o.approve) > 0) != (o.check != "") {
		return usage("--approve and --check need each other: a target is approved if the program exits with status 0")
	}
	return nil
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{Use: "run", Short: "Publish, approve, renew and pass on drafts without a person, in rounds", Args: cobra.NoArgs,
		Long: `run is one process in place of several cron jobs. Each round:

  pull     reads the drafts of the exchange, signs renewals, and publishes drafts that are complete
  sync     lists the files of the folders of --sync, as visum sync does
  approve  runs the program of --check on each target below the prefixes of --approve that waits for
           this party, and approves those for which it exits with status 0
  renew    signs again what is due

What it signs is limited to the kinds in the member automation of the identity file (visum help automation); no
flag adds any. What others must sign or publish goes to the exchange. A new root is left to a person.

The program of --check is started without a shell, as PROGRAM FILE PATH, with the variables VISUM_PATH,
VISUM_SHA256, VISUM_LENGTH, VISUM_REPO_ID, VISUM_PARTY, and for releases VISUM_PRODUCT, VISUM_VERSION,
VISUM_CHANNEL and VISUM_PLATFORM. Of this process it gets PATH, HOME, TMPDIR and SYSTEMROOT only.

Errors of a round are reported, and the next round begins later, after at most 15 minutes. An interrupt ends run
after the current step. With --once the exit status is that of the other commands: 5 if a draft of this round lacks
signatures, 3 if something waits for a person or is due.

With --json each event is one line: time, event, repo_id, party, step, and as far as they apply draft (digest),
path, sha256, files, changed, roles, missing, offered, waiting, reason, next, retry_seconds. The events are started,
synced, sent, signed, published, approved, check_failed, renewed, due, waits, skipped, error and stopped.`,
		Example: "  visum run --every 15s --sync ./rules=rules/\n  visum run --every 5s --approve rules/ --check ./scan-rules",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.once && cmd.Flags().Changed("every") {
				return usage("--once and --every exclude each other")
			}
			if err := o.parse(); err != nil {
				return err
			}
			return a.run(o)
		}}
	f := cmd.Flags()
	f.BoolVar(&o.once, "once", false, "end after one round")
	f.StringVar(&o.every, "every", "1m", "time from the end of a round to the next, such as 15s")
	f.StringArrayVar(&o.syncs, "sync", nil, "DIR=PREFIX: list the files of a folder below a prefix; may be repeated")
	f.StringArrayVar(&o.approve, "approve", nil, "approve pending targets below this prefix for which the check succeeds; may be repeated")
	f.StringVar(&o.check, "check", "", "program that examines a target")
	f.StringVar(&o.checkTimeout, "check-timeout", "5m", "the program is killed after this time, and the target is not approved")
	f.StringVar(&o.exchange, "exchange", "", "the exchange, instead of that of visum.toml")
	f.BoolVar(&o.withFiles, "with-files", false, "pass target files through the exchange too")
	return cmd
}

// event is one line of run.
type event struct {
	Time    time.Time      `json:"time"`
	Event   string         `json:"event"`
	RepoID  string         `json:"repo_id"`
	Party   string         `json:"party,omitempty"`
	Step    string         `json:"step,omitempty"`
	Draft   string         `json:"draft,omitempty"` // digest
	Path    string         `json:"path,omitempty"`
	SHA256  string         `json:"sha256,omitempty"`
	Files   int            `json:"files,omitempty"`
	Changed int            `json:"changed,omitempty"`
	Roles   []string       `json:"roles,omitempty"`
	Missing []repo.Missing `json:"missing,omitempty"`
	Offered *bool          `json:"offered,omitempty"`
	Waiting []string       `json:"waiting,omitempty"` // parties
	Reason  string         `json:"reason,omitempty"`
	Next    string         `json:"next,omitempty"`
	Retry   int64          `json:"retry_seconds,omitempty"`
}

func (e *event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.Time.UTC().Format("15:04:05"), e.Event)
	add := func(format string, args ...any) { fmt.Fprintf(&b, " "+format, args...) }
	if e.Path != "" {
		add("%s", text.Name(e.Path))
	}
	if e.Files > 0 {
		add("%d of %d files changed", e.Changed, e.Files)
	}
	if len(e.Roles) > 0 {
		add("%s", strings.Join(e.Roles, ", "))
	}
	if e.Draft != "" {
		add("draft %s", e.Draft)
	}
	switch {
	case e.Offered != nil && *e.Offered:
		add("and OFFERED")
	case e.Offered != nil:
		add("NOT OFFERED yet: waits for %s", strings.Join(e.Waiting, " and "))
	}
	for _, m := range e.Missing {
		add("missing: %s", m)
	}
	if e.Reason != "" {
		add(": %s", e.Reason)
	}
	if e.Retry > 0 {
		add("(next round in %ds)", e.Retry)
	}
	if e.Next != "" {
		add("next: %s", e.Next)
	}
	return text.Line(strings.ReplaceAll(b.String(), " : ", ": "))
}

// runner is one run.
type runner struct {
	*app
	o        runOptions
	site     *site
	exchange *exchange.Exchange // nil: none
	renewing *site              // may sign renewals only; nil: not even those
	kinds    *signing.Automation
	check    string          // absolute path of the program; "": none
	outer    context.Context // ends with an interrupt
	step     string

	reported map[string]bool      // events that are written once
	later    map[string]time.Time // when a check that failed is tried again
	synced   map[string]syncState
	unsigned bool // a draft of this round lacks signatures
	found    bool // something waits for a person
}

// run works in rounds until the context ends.
func (a *app) run(o runOptions) error {
	a.machine = true
	outer := a.ctx
	// The current step is completed after an interrupt, within a limit.
	work, cancel := context.WithCancel(context.WithoutCancel(outer))
	defer cancel()
	defer context.AfterFunc(outer, func() { time.AfterFunc(stopGrace, cancel) })()
	a.ctx = work
	// A party without the online keys needs no permission to write to the storage.
	s, err := a.look()
	if err != nil {
		return err
	}
	publishes, err := a.publishes(s)
	if err == nil && (publishes || len(o.folders) > 0 || o.withFiles) {
		s, err = a.open()
	}
	if err != nil {
		return err
	}
	if s.party == "" {
		return usage("the identity has no party in repository %s", s.repoID)
	}
	r := &runner{app: a, o: o, site: s, kinds: s.cfg.Automation, outer: outer, reported: map[string]bool{}, later: map[string]time.Time{}, synced: map[string]syncState{}}
	if o.check != "" {
		if r.check, err = findCheck(o.check); err != nil {
			return err
		}
	}
	if o.exchange != "" || s.exchange != "" {
		if r.exchange, err = a.openExchange(s, o.exchange); err != nil {
			return err
		}
	}
	if r.kinds.Renew {
		only := *s.cfg
		only.Automation = &signing.Automation{Renew: true}
		copied := *s
		copied.Repo = repo.New(s.storage, &only)
		r.renewing = &copied
	}
	if !o.once {
		r.emit(event{Event: "started", Reason: "automation: " + strings.Join(r.kinds.Kinds(), ",")})
	}
	return r.rounds()
}

func (r *runner) rounds() error {
	for failed := 0; ; {
		r.unsigned, r.found = false, false
		err := r.round()
		if r.o.once {
			switch {
			case err != nil:
				return err
			case r.unsigned:
				return fmt.Errorf("%w: the drafts above", repo.ErrUnsigned)
			case r.found:
				return errFound
			}
			return nil
		}
		wait := r.o.everyDuration
		if err != nil {
			failed++
			wait = max(wait, min(wait<<min(failed, 10), maxBackOff))
		} else {
			failed = 0
		}
		if r.outer.Err() != nil {
			return r.stopped()
		}
		if err != nil {
			r.emit(event{Event: "error", Reason: text.Line(err.Error()), Retry: int64(wait / time.Second), Next: nextStep(err)})
		}
		if r.wait(wait) != nil {
			return r.stopped()
		}
	}
}

func (r *runner) wait(d time.Duration) error {
	if r.Wait != nil {
		return r.Wait(r.outer, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.outer.Done():
		return r.outer.Err()
	}
}

// stopped reports the end after an interrupt.
func (r *runner) stopped() error {
	reason := "interrupted between two rounds; no step is unfinished"
	if r.step != "" {
		reason = fmt.Sprintf("interrupted; the step %s was the last one, and each change is published or sent completely or not at all", r.step)
	}
	r.emit(event{Event: "stopped", Reason: reason, Next: "the next run continues"})
	return nil
}

// round runs each step once, and returns the first error. A step that fails does not
// keep the next one from running.
func (r *runner) round() (first error) {
	for _, step := range []struct {
		name string
		do   func() error
	}{{"pull", r.pullStep}, {"sync", r.syncStep}, {"approve", r.approveStep}, {"renew", r.renewStep}} {
		r.step = step.name
		var err error
		for try := range stepTries {
			err = step.do()
			again := errors.Is(err, repo.ErrConflict) || errors.Is(err, repo.ErrStale) || errors.Is(err, repo.ErrPublished)
			if !again || r.outer.Err() != nil || try == stepTries-1 {
				break
			}
		}
		if errors.Is(err, repo.ErrStale) || errors.Is(err, repo.ErrPublished) {
			err = fmt.Errorf("%w: %w", repo.ErrConflict, err)
		}
		if err != nil && first == nil {
			first = fmt.Errorf("%s: %w", step.name, err)
		} else if err != nil {
			r.emit(event{Event: "error", Reason: text.Line(err.Error())})
		}
		if errors.Is(err, tuf.ErrUntrusted) { // nothing else can be right
			return first
		}
		if r.outer.Err() != nil {
			return first
		}
	}
	r.step = ""
	return first
}

// emit writes an event.
func (r *runner) emit(e event) {
	e.Time, e.RepoID, e.Party, e.Step = r.Now().UTC().Truncate(time.Second), r.site.repoID, r.site.party, r.step
	if r.json {
		enc := json.NewEncoder(r.Out)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(e)
		return
	}
	fmt.Fprintln(r.Out, e.String())
}

// once writes an event unless it was written before.
func (r *runner) emitOnce(e event) {
	key := fmt.Sprintf("%q", []string{e.Event, r.step, e.Draft, e.Path, e.SHA256, strings.Join(e.Roles, " "), e.Reason})
	if r.reported[key] {
		return
	}
	if len(r.reported) > 100_000 {
		clear(r.reported)
	}
	r.reported[key] = true
	r.emit(e)
}

// deliver publishes a draft, or sends it to the exchange if other keys are needed. paths
// are the targets that it adds.
func (r *runner) deliver(d *repo.Draft, paths []string) error {
	missing := d.Missing()
	if len(missing) == 0 {
		publishes, err := r.publishes(r.site)
		if err != nil {
			return err
		}
		if publishes {
			return r.publish(d, paths)
		}
	}
	if r.exchange == nil {
		return fmt.Errorf("%w, and there is no exchange: add exchange = \"URI\" to %s; %s", repo.ErrUnsigned, folderFile, describe(missing))
	}
	if r.o.withFiles {
		if _, err := r.exchange.SendFiles(r.ctx, d); err != nil {
			return err
		}
	}
	if _, _, err := r.exchange.Send(r.ctx, d); err != nil {
		return err
	}
	r.unsigned = r.unsigned || len(missing) > 0
	next := "the operator publishes it"
	if len(missing) > 0 {
		next = "visum draft pull, at the other signers"
	}
	r.emit(event{Event: "sent", Draft: d.Digest(), Missing: missing, Next: next})
	return nil
}

// describe says what a draft lacks.
func describe(missing []repo.Missing) string {
	if len(missing) == 0 {
		return "the keys of timestamp and snapshot are elsewhere"
	}
	return missing[0].String()
}

func (r *runner) publish(d *repo.Draft, paths []string) error {
	if err := r.site.Publish(r.ctx, d); err != nil {
		return err
	}
	e := event{Event: "published", Draft: d.Digest()}
	if len(paths) > 0 {
		waits, err := r.waitingFor(r.site, paths)
		if err != nil {
			return err
		}
		offered := len(waits) == 0
		e.Offered, e.Waiting = &offered, waits
	}
	r.emit(e)
	return nil
}
