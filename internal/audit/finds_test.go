package audit

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func find(pod string) Entry {
	e := denial("kube-system", "llm", "a:1")
	e.Type, e.ID, e.Pod.Name = Found, "Found/"+pod, pod
	return e
}

// TestFindsAreCoalesced: the pods of an owner are one entry and a count, and one that is tried again is no repetition.
func TestFindsAreCoalesced(t *testing.T) {
	d := NewDenials(DenialLimits{})
	for _, step := range []struct {
		entry Entry
		want  Fate
	}{
		{find("llm-1"), Written},
		{find("llm-2"), Repeated},
		{find("llm-1"), Written},
		{find("llm-3"), Repeated},
		{denial("kube-system", "llm", "a:1"), Written},
	} {
		if out, fate := d.Observe(noon, step.entry); fate != step.want || len(out) == 1 != (fate == Written) {
			t.Errorf("%s of %s: %d entries, fate %v, want %v", step.entry.Type, step.entry.Pod.Name, len(out), fate, step.want)
		}
	}
	if out := d.Flush(noon.Add(time.Minute)); len(out) != 1 || out[0].Count != 2 || out[0].Of != "Found/llm-1" {
		t.Errorf("flushed %+v", out)
	}
}

// TestFindsHideNothingElse: a namespace that has used up what it may write of finds has room for denials, and the other
// way round.
func TestFindsHideNothingElse(t *testing.T) {
	for name, types := range map[string][2]Type{"finds": {Found, Denied}, "denials": {Denied, Found}, "copies": {CopyDetected, KeyRefused}} {
		t.Run(name, func(t *testing.T) {
			d := NewDenials(DenialLimits{})
			var fate Fate
			for n := range 1000 {
				e := denial("ml", fmt.Sprintf("o-%d", n), "a:1")
				e.Type = types[0]
				_, fate = d.Observe(noon, e)
			}
			if fate != Capped {
				t.Fatal("nothing is capped")
			}
			e := denial("ml", "o", "a:1")
			e.Type = types[1]
			if _, fate := d.Observe(noon, e); fate != Written {
				t.Errorf("%s: %v", types[1], fate)
			}
		})
	}
}

// TestReport: an entry that is written is durable once Report returns; one that was not is written when it is tried again,
// and is no repetition of itself.
func TestReport(t *testing.T) {
	c := newClient(t)
	var refuse atomic.Bool
	log := newLog(t, intercept(c, func(ctx context.Context, c client.WithWatch, o client.Object) error {
		if refuse.Load() {
			return apierrors.NewForbidden(records, o.GetName(), errCut)
		}
		return c.Create(ctx, o)
	}))
	start(t, log)
	ctx := withTimeout(t, time.Minute)
	for n, step := range []struct {
		entry   Entry
		refused bool
		want    Fate
	}{
		{find("llm-1"), true, Written},
		{find("llm-2"), true, Repeated},
		{find("llm-1"), false, Written},
		{find("llm-2"), false, Repeated},
	} {
		refuse.Store(step.refused)
		fate, err := log.Report(ctx, step.entry)
		if failed := step.refused && step.want == Written; fate != step.want || errors.Is(err, ErrNotDurable) != failed {
			t.Errorf("step %d: fate %v, %v", n, fate, err)
		}
	}
	if got := ids(readLog(t, c)); got["Found/llm-1"] != 1 {
		t.Errorf("the log holds %v", got)
	}
	if _, err := log.Report(ctx, release()); !errors.Is(err, ErrNotDurable) {
		t.Errorf("a release was capped: %v", err)
	}
}
