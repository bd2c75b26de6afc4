package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

// A small fleet goes through the whole story, and the table says so; a machine
// that does not arrive is seen.
func TestSmallFleet(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	v := &view{out: &out}
	ctx := t.Context()
	w, err := newWorld(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	f, err := newFleet(w, 12, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.story(ctx, v); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"A is retired.", "root 4: 12 | from place-b: 12 | ok: 12", "Every expectation held."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("does not say %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colours where there is no terminal")
	}
	m := f.machines[3]
	for name, harm := range map[string]func(){
		"left behind":     func() { m.root = 3 },
		"old release":     func() { m.version = "1.1.0" },
		"no content":      func() { m.state = "no content" },
		"did what is bad": func() { m.problems = []string{"day 3: asked the old place"} },
	} {
		was := *m
		harm()
		if err := v.results(w, f); err == nil {
			t.Errorf("%s: not seen", name)
		}
		*m = was
	}
	if err := v.results(w, f); err != nil {
		t.Error(err)
	}
}

// In a terminal the picture is drawn over the last one; an interrupt ends the story.
func TestLiveView(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	w, err := newWorld(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	f, err := newFleet(w, 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	v := &view{out: &out, live: true, color: true}
	if err := f.live(ctx); err != nil {
		t.Fatal(err)
	}
	v.show(w, f)
	v.say(w, "something")
	v.show(w, f)
	v.show(w, f)
	for _, want := range []string{"\x1b[J", "\x1b[32m█", "\x1b[1msomething", "from place-a"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("does not draw %q:\n%q", want, &out)
		}
	}
	cancel()
	if err := f.story(ctx, v); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
