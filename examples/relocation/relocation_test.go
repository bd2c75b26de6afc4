package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

// A small fleet passes through all days with the expected results. The table reports a
// machine that does not follow the move.
func TestSmallFleet(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	v := &view{out: &out}
	ctx := t.Context()
	w, err := newSystem(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	f, err := newFleet(w, 12, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.days(ctx, v); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"A is retired.", "root 4: 12 | from location-b: 12 | ok: 12", "Every expectation held."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("does not say %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colours without a terminal")
	}
	m := f.machines[3]
	for name, harm := range map[string]func(){
		"left behind": func() { m.root = 3 },
		"old release": func() { m.version = "1.1.0" },
		"no content":  func() { m.state = "no content" },
		"bad request": func() { m.problems = []string{"day 3: requests to the old location after its end: 1"} },
	} {
		was := *m
		harm()
		if err := v.results(w, f); err == nil {
			t.Errorf("%s: not reported", name)
		}
		*m = was
	}
	if err := v.results(w, f); err != nil {
		t.Error(err)
	}
}

// In a terminal each picture replaces the last one. An interrupt ends the program.
func TestLiveView(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	w, err := newSystem(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	f, err := newFleet(w, 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	v := &view{out: &out, live: true, color: true}
	if err := f.update(ctx); err != nil {
		t.Fatal(err)
	}
	v.show(w, f)
	v.say(w, "something")
	v.show(w, f)
	v.show(w, f)
	for _, want := range []string{"\x1b[J", "\x1b[32m█", "\x1b[1msomething", "from location-a"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("does not draw %q:\n%q", want, &out)
		}
	}
	cancel()
	if err := f.days(ctx, v); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
