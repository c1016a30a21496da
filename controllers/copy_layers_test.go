package controllers

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	testingclock "k8s.io/utils/clock/testing"

	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/registry"
)

// scriptedLayers answers as it is told, and counts questions.
type scriptedLayers struct {
	err   error
	asked int
}

func (s *scriptedLayers) Layers(context.Context, string) ([]copies.Manifest, error) {
	s.asked++
	if s.err != nil {
		return nil, s.err
	}
	return []copies.Manifest{{Digest: digestA}}, nil
}

func running(digest string) runningImage {
	return runningImage{images.UseContainer, "server", "example.com/x", digest, "example.com/x@" + digest}
}

func TestCopyLayers(t *testing.T) {
	pods := []PodRef{{Namespace: "ml", Name: "a"}, {Namespace: "ml", Name: "b"}}
	for name, test := range map[string]struct {
		err error
		// answered says that the pods are woken; rests that the image is not asked for again within the hour.
		answered, rests bool
	}{
		"read":             {nil, true, true},
		"not allowed":      {fmt.Errorf("x: %w", registry.ErrNotAllowed), false, true},
		"not there":        {fmt.Errorf("x: %w", registry.ErrNotFound), false, true},
		"unreachable":      {fmt.Errorf("x: %w", registry.ErrUnreachable), false, false},
		"left alone":       {&registry.BackoffError{Host: "example.com", Until: noon.Add(time.Hour), Cause: registry.ErrUnreachable}, false, false},
		"something at all": {errors.New("x"), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			clock := testingclock.NewFakePassiveClock(noon)
			source := &scriptedLayers{err: test.err}
			l := newCopyLayers(source, clock)
			defer l.queue.ShutDown()
			for _, pod := range pods {
				if manifests, again := l.of(running(digestB), pod); manifests != nil || again == 0 {
					t.Errorf("known before it was asked: %v, %v", manifests, again)
				}
			}
			if n := l.queue.Len(); n != 1 {
				t.Errorf("%d questions wait, want one", n)
			}
			if woken := l.ask(t.Context(), digestB); (len(woken) == 2) != test.answered {
				t.Errorf("woken: %v", woken)
			}
			manifests, again := l.of(running(digestB), pods[0])
			if (manifests != nil) != test.answered || (again == 0) != test.answered {
				t.Errorf("%v, %v", manifests, again)
			}
			if (len(l.questions) == 0) != test.rests {
				t.Errorf("%d questions are open", len(l.questions))
			}
			if source.asked != 1 {
				t.Errorf("asked %d times", source.asked)
			}
			if errors.Is(test.err, registry.ErrNotAllowed) {
				l.changed()
				if l.of(running(digestB), pods[0]); len(l.questions) != 1 {
					t.Error("a licence that names the host changes nothing")
				}
			}
		})
	}
}

// TestCopyLayersAreBounded: whatever pods run, so many questions wait at most, and the others come back.
func TestCopyLayersAreBounded(t *testing.T) {
	l := newCopyLayers(&scriptedLayers{}, testingclock.NewFakePassiveClock(noon))
	defer l.queue.ShutDown()
	for i := range 2 * maxLayerQuestions {
		if _, again := l.of(running(fmt.Sprintf("sha256:%064x", i)), PodRef{Namespace: "ml", Name: "a"}); again == 0 {
			t.Fatal("an image that is not known does not come back")
		}
	}
	if len(l.questions) != maxLayerQuestions {
		t.Errorf("%d questions", len(l.questions))
	}
	if _, again := l.of(runningImage{digest: digestA}, PodRef{}); again != 0 {
		t.Error("an image without a repository is asked for")
	}
}

func TestCopyTracker(t *testing.T) {
	var tracker CopyTracker
	var told []string
	tracker.Subscribe(func(license string) { told = append(told, license) })
	a, b := PodRef{Namespace: "ml", Name: "a"}, PodRef{Namespace: "dev", Name: "b"}
	for _, step := range []struct {
		pod      PodRef
		licenses []string
		told     string
		of       string
		want     string
	}{
		{a, []string{"chat"}, "[chat]", "chat", "[ml/a]"},
		{a, []string{"chat"}, "[]", "chat", "[ml/a]"},
		{b, []string{"chat", "code"}, "[chat code]", "chat", "[dev/b ml/a]"},
		{a, []string{"code"}, "[chat code]", "chat", "[dev/b]"},
		{a, nil, "[code]", "code", "[dev/b]"},
		{b, nil, "[chat code]", "code", "[]"},
	} {
		told = nil
		tracker.set(step.pod, step.licenses)
		if fmt.Sprint(told) != step.told || fmt.Sprint(tracker.Copies(step.of)) != step.want {
			t.Errorf("%v %v: told %v, copies of %s %v", step.pod, step.licenses, told, step.of, tracker.Copies(step.of))
		}
	}
	if len(tracker.byPod)+len(tracker.byLicense) > 0 {
		t.Error("something is left")
	}
}
