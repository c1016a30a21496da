package controllers

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/test/builders"
)

// TestRightsTimes: a licence and a grant are swept when they end, and when their grace period does, and not before.
func TestRightsTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		license := builders.License("chat").NotAfter(begin.Add(2 * time.Minute)).Grace(100 * time.Minute).Obj()
		grant := builders.Grant("ml", "g", "chat").NotAfter(begin.Add(time.Minute)).Obj()
		next := func(of rightsTime, now time.Time) time.Time {
			if of.namespace != "" {
				return nextOfGrant(grant, now)
			}
			return entitlement.NextChange(license, nil, now)
		}
		var rung []string
		times := newRightsTimes(clock.RealClock{}, clock.RealClock{}, next, func(of rightsTime) {
			rung = append(rung, fmt.Sprint(of.name, " ", time.Since(begin)))
		})
		ctx, cancel := context.WithCancel(t.Context())
		go times.run(ctx)
		for _, of := range []rightsTime{{name: "chat"}, {namespace: "ml", name: "g"}} {
			times.at(of, next(of, begin))
		}
		time.Sleep(24 * time.Hour) // of the bubble's time
		cancel()
		synctest.Wait()
		// Between the end and that of the grace period the clock is asked again.
		if got := strings.Join(rung, ", "); got != "g 1m0s, chat 2m0s, chat 1h2m0s, chat 1h42m0s" {
			t.Errorf("swept for %s", got)
		}
	})
}

// TestWhatIsWrittenIsTimed: timers are set whatever is written first.
func TestWhatIsWrittenIsTimed(t *testing.T) {
	for name, objects := range map[string]func(end time.Time) []client.Object{
		"a licence": func(end time.Time) []client.Object {
			return []client.Object{builders.License("chat").NotAfter(end).Obj()}
		},
		"a grant": func(end time.Time) []client.Object {
			return []client.Object{builders.Grant("ml", "g", "chat").NotAfter(end).Obj()}
		},
		"a licence after its grant": func(end time.Time) []client.Object {
			return []client.Object{builders.Grant("ml", "g", "chat").Obj(), builders.License("chat").NotAfter(end).Obj()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &RevocationReconciler{Clock: clock.RealClock{}, Rights: fixedRights{}, Ledgers: heldLedgers{}}
				r.times = newRightsTimes(clock.RealClock{}, clock.RealClock{}, nil, nil)
				defer r.times.queue.ShutDown()
				for _, o := range objects(time.Now().Add(time.Minute)) {
					r.rightsWritten(o)
				}
				time.Sleep(time.Minute - time.Nanosecond) // of the bubble's time
				if synctest.Wait(); r.times.queue.Len() != 0 {
					t.Error("a timer rings too soon")
				}
				time.Sleep(time.Nanosecond)
				if synctest.Wait(); r.times.queue.Len() != 1 {
					t.Error("no timer rings")
				}
			})
		})
	}
}

// TestLastLicenses: a licence that is deleted is remembered while somebody holds a seat of it.
func TestLastLicenses(t *testing.T) {
	pod, ledgers := podOnNode(chatImage), heldLedgers{}
	ledgers.holds(t, chatLicense(), pod, nil)
	r := &RevocationReconciler{Rights: fixedRights{world{[]*v1alpha1.ModelLicense{builders.License("there").Obj()}, nil}.snapshot(t)}, Ledgers: ledgers}
	for _, l := range []*v1alpha1.ModelLicense{chatLicense(), otherLicense(), builders.License("there").Obj()} {
		r.licenses.saw(l)
	}
	r.forgetLicenses()
	if r.licenses.last("chat") == nil || r.licenses.last("there") == nil || r.licenses.last("other") != nil {
		t.Errorf("remembered %v", r.licenses.licenses)
	}
	for range 2000 {
		r.licenses.saw(chatLicense())
	}
	if !r.licenses.grown() {
		t.Error("nothing is ever forgotten")
	}
}
