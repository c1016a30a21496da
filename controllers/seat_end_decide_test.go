package controllers

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

const testLease = time.Hour

var (
	seatNow  = time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)
	seatTook = seatNow.Add(-3 * time.Hour)
)

func ago(d time.Duration) time.Time { return seatNow.Add(-d) }

func TestDecideSeat(t *testing.T) {
	held := seats.Holder{Pod: "u", Since: seatTook}
	bound := seats.Holder{Pod: "u", Since: seatTook, Node: "n"}
	released := seats.Holder{Pod: "u", Since: seatTook, Node: "n", Released: true}
	until := func(h seats.Holder, t time.Time) seats.Holder { h.Until = t; return h }

	gated := seatPod{there: true}
	runs := seatPod{there: true, node: "n", bound: ago(time.Hour), started: true}
	starts := seatPod{there: true, node: "n", bound: ago(time.Hour)}
	terminal := func(p seatPod, since time.Time) seatPod { p.terminal, p.since = true, since; return p }
	deleted := func(p seatPod, at time.Time) seatPod { p.deletion = at; return p }
	gone := func(p seatPod, since time.Time) seatPod { p.there, p.gone, p.since = false, true, since; return p }
	absent := func(since time.Time) seatPod { return seatPod{absent: true, since: since} }

	withKeys := seatTerms{lease: testLease, keys: keysSome}
	withoutKeys := seatTerms{lease: testLease, keys: keysNone}
	forgotten := seatTerms{lease: maxLease}
	full := testLease + leaseSlack

	stays := seatVerdict{}
	again := func(at time.Time) seatVerdict { return seatVerdict{again: at} }
	expires := func(at time.Time) seatVerdict { return seatVerdict{action: seatExpires, until: at} }
	over := func(at time.Time) seatVerdict {
		return seatVerdict{action: seatEnds, at: at, reason: v1alpha1.ReasonLeaseOver, rests: at}
	}
	restingOn := func(v seatVerdict, rests time.Time) seatVerdict { v.rests = rests; return v }
	proven := seatVerdict{action: seatEnds, at: seatNow, reason: v1alpha1.ReasonPodGone, proven: true}
	nodeGone := seatVerdict{action: seatEnds, at: seatNow, reason: v1alpha1.ReasonNodeGone}

	for name, test := range map[string]struct {
		holder seats.Holder
		pod    seatPod
		node   seatNode
		terms  seatTerms
		want   seatVerdict
	}{
		"waits to be scheduled":                        {held, gated, seatNode{}, withKeys, stays},
		"gated, marked by whoever gives it back":       {until(held, ago(time.Hour)), gated, seatNode{}, withKeys, stays},
		"gated and gone":                               {held, gone(gated, ago(0)), seatNode{}, withKeys, proven},
		"gated and gone, without keys":                 {held, gone(gated, ago(0)), seatNode{}, withoutKeys, proven},
		"gated and gone, of a licence that is gone":    {held, gone(gated, ago(0)), seatNode{}, forgotten, proven},
		"deleted, not bound, kept by a finalizer":      {held, deleted(gated, ago(-time.Minute)), seatNode{}, withKeys, proven},
		"bound long ago, the ledger does not know":     {held, starts, seatNode{}, withKeys, seatVerdict{action: seatBinds, node: "n"}},
		"bound just now: its release will say so":      {held, seatPod{there: true, node: "n", bound: ago(time.Second)}, seatNode{}, withKeys, again(ago(time.Second - bindGrace))},
		"bound just now, and nodes are limited":        {held, seatPod{there: true, node: "n", bound: ago(time.Second)}, seatNode{}, seatTerms{lease: testLease, keys: keysSome, limitsNodes: true}, seatVerdict{action: seatBinds, node: "n"}},
		"the ledger has another node":                  {seats.Holder{Pod: "u", Node: "other"}, runs, seatNode{}, withKeys, seatVerdict{action: seatBinds, node: "n"}},
		"starts":                                       {bound, starts, seatNode{}, withKeys, stays},
		"runs":                                         {released, runs, seatNode{}, withKeys, stays},
		"runs without keys":                            {bound, runs, seatNode{}, withoutKeys, stays},
		"is ending":                                    {released, deleted(runs, ago(-time.Minute)), seatNode{}, withKeys, again(ago(-time.Minute))},
		"should have ended":                            {released, deleted(runs, ago(time.Minute)), seatNode{}, withKeys, again(ago(time.Minute - full))},
		"should have ended a lease ago":                {released, deleted(runs, ago(full)), seatNode{}, withKeys, restingOn(over(seatNow), time.Time{})},
		"should have ended, an end is set":             {until(released, ago(time.Second)), deleted(runs, ago(time.Minute)), seatNode{}, withKeys, over(ago(time.Second))},
		"should have ended, a later end is set":        {until(released, ago(-9*time.Hour)), deleted(runs, ago(time.Minute)), seatNode{}, withKeys, again(ago(time.Minute - full))},
		"ended, without keys":                          {bound, terminal(runs, ago(0)), seatNode{}, withoutKeys, proven},
		"ended before it got its key":                  {bound, terminal(starts, ago(0)), seatNode{}, withKeys, proven},
		"ended before the ledger knew its node":        {held, terminal(starts, ago(0)), seatNode{}, withKeys, proven},
		"ended just now, its node will report":         {released, terminal(runs, ago(time.Second)), seatNode{}, withKeys, again(ago(time.Second - reportGrace))},
		"ended, no report":                             {released, terminal(runs, ago(reportGrace)), seatNode{}, withKeys, expires(ago(reportGrace - full))},
		"ended, the end is to come":                    {until(released, ago(-time.Minute)), terminal(runs, ago(time.Hour)), seatNode{}, withKeys, again(ago(-time.Minute))},
		"ended, the end has come":                      {until(released, ago(time.Minute)), terminal(runs, ago(time.Hour)), seatNode{}, withKeys, over(ago(time.Minute))},
		"gone just now, its node will report":          {released, gone(runs, ago(time.Second)), seatNode{}, withKeys, again(ago(time.Second - reportGrace))},
		"gone, no report":                              {released, gone(runs, ago(reportGrace)), seatNode{}, withKeys, expires(ago(reportGrace - full))},
		"gone and ended, no report":                    {released, gone(terminal(runs, ago(0)), ago(time.Minute)), seatNode{}, withKeys, expires(ago(time.Minute - full))},
		"gone, the end is to come":                     {until(released, ago(-time.Minute)), gone(runs, ago(time.Hour)), seatNode{}, withKeys, again(ago(-time.Minute))},
		"gone, the end has come":                       {until(released, ago(time.Minute)), gone(runs, ago(2*time.Hour)), seatNode{}, withKeys, over(ago(time.Minute))},
		"gone, of a licence that is gone":              {released, gone(runs, ago(time.Minute)), seatNode{}, forgotten, expires(ago(time.Minute - maxLease - leaseSlack))},
		"an end before the seat is no end":             {until(released, seatTook.Add(-time.Hour)), gone(runs, ago(time.Minute)), seatNode{}, withKeys, restingOn(over(seatNow), seatTook.Add(-time.Hour))},
		"deleted by force, without keys":               {bound, gone(runs, ago(time.Minute)), seatNode{}, withoutKeys, expires(ago(time.Minute - full))},
		"deleted by force while starting, no keys":     {bound, gone(starts, ago(time.Minute)), seatNode{}, withoutKeys, expires(ago(time.Minute - full))},
		"gone and ended, without keys":                 {bound, gone(terminal(runs, ago(0)), ago(0)), seatNode{}, withoutKeys, proven},
		"gone without a key: no key from now on":       {bound, gone(starts, ago(0)), seatNode{}, withKeys, expires(ago(-full))},
		"gone without a key, none can follow":          {until(bound, ago(-full)), gone(starts, ago(0)), seatNode{}, withKeys, restingOn(proven, ago(-full))},
		"gone, bound but not in the ledger":            {held, gone(starts, ago(0)), seatNode{}, withKeys, expires(ago(-full))},
		"gone, ran before the licence had keys":        {bound, gone(runs, ago(time.Minute)), seatNode{}, withKeys, expires(ago(time.Minute - full))},
		"never seen, perhaps on the way":               {held, seatPod{since: ago(time.Second)}, seatNode{}, withKeys, again(ago(time.Second - missingGrace))},
		"never seen":                                   {held, seatPod{since: ago(missingGrace)}, seatNode{}, withKeys, seatVerdict{askPod: true}},
		"went while nobody looked, no key":             {held, absent(ago(time.Minute)), seatNode{}, withKeys, expires(ago(time.Minute - full))},
		"went while nobody looked, none can follow":    {until(held, ago(-time.Hour)), absent(ago(time.Minute)), seatNode{}, withKeys, restingOn(proven, ago(-time.Hour))},
		"went while nobody looked, with its key":       {released, absent(ago(time.Minute)), seatNode{}, withKeys, expires(ago(time.Minute - full))},
		"went while nobody looked, on a node":          {bound, absent(ago(time.Minute)), seatNode{}, withKeys, expires(ago(time.Minute - full))},
		"went while nobody looked, without keys":       {held, absent(ago(time.Minute)), seatNode{}, withoutKeys, expires(ago(time.Minute - full))},
		"went while nobody looked, no licence":         {held, absent(ago(time.Minute)), seatNode{}, forgotten, expires(ago(time.Minute - maxLease - leaseSlack))},
		"a holder that somebody wrote, at its end":     {until(released, ago(time.Second)), absent(ago(2 * time.Hour)), seatNode{}, withKeys, over(ago(time.Second))},
		"node not in the cache":                        {released, runs, seatNode{missing: true}, withKeys, seatVerdict{askNode: true}},
		"node gone":                                    {released, runs, seatNode{absent: true}, withKeys, nodeGone},
		"node gone, pod too":                           {released, gone(runs, ago(0)), seatNode{absent: true}, withKeys, nodeGone},
		"node gone, pod went while nobody looked":      {released, absent(ago(0)), seatNode{absent: true}, withKeys, nodeGone},
		"node out of service":                          {released, runs, seatNode{outOfService: true}, withKeys, nodeGone},
		"node out of service, of the ledger alone":     {bound, gone(gated, ago(0)), seatNode{outOfService: true}, withKeys, nodeGone},
		"no node, whatever the zero node says":         {held, gated, seatNode{missing: true}, withKeys, stays},
		"node cut off":                                 {released, runs, seatNode{unknown: ago(time.Minute)}, withKeys, again(ago(time.Minute - testLease))},
		"node cut off for a lease":                     {released, runs, seatNode{unknown: ago(testLease)}, withKeys, expires(ago(-full))},
		"node cut off, the end is to come":             {until(released, ago(-time.Minute)), runs, seatNode{unknown: ago(9 * time.Hour)}, withKeys, again(ago(-time.Minute))},
		"node cut off, the end has come":               {until(released, ago(0)), runs, seatNode{unknown: ago(9 * time.Hour)}, withKeys, over(ago(0))},
		"node back before the end":                     {until(released, ago(-time.Minute)), runs, seatNode{}, withKeys, seatVerdict{action: seatRenewed}},
		"node back, end passed with nobody looking":    {until(released, ago(time.Minute)), runs, seatNode{}, withKeys, seatVerdict{action: seatRenewed}},
		"node back, but the pod should have ended":     {until(released, ago(-time.Minute)), deleted(runs, ago(time.Minute)), seatNode{}, withKeys, again(ago(-time.Minute))},
		"node cut off, pod deleted: the sooner counts": {released, deleted(runs, ago(full)), seatNode{unknown: ago(time.Minute)}, withKeys, restingOn(over(seatNow), time.Time{})},
	} {
		t.Run(name, func(t *testing.T) {
			got := decideSeat(test.holder, test.pod, test.node, test.terms, seatNow)
			if got.action == seatEnds && got.message == "" {
				t.Error("nothing is said about the end")
			}
			got.message = ""
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestDecideSeatHoldsToProof goes through all that can be known together.
func TestDecideSeatHoldsToProof(t *testing.T) {
	times := []time.Time{{}, ago(10 * time.Hour), ago(time.Second), ago(-time.Hour)}
	all := 0
	every(5, func(state int) {
		every(2, func(terminal int) {
			every(2, func(started int) {
				every(2, func(onNode int) {
					for _, deletion := range times {
						pod := seatPod{since: ago(time.Minute), bound: ago(time.Hour), terminal: terminal == 1, started: started == 1, deletion: deletion}
						pod.there, pod.gone, pod.absent = state == 0, state == 1, state == 2
						if state == 3 {
							pod.since = ago(0)
						}
						if onNode == 1 {
							pod.node = "n"
						}
						if state >= 2 {
							pod = seatPod{since: pod.since, absent: pod.absent}
						}
						every(5, func(n int) {
							node := []seatNode{{}, {missing: true}, {absent: true}, {outOfService: true}, {unknown: ago(2 * time.Hour)}}[n]
							every(12, func(ledger int) {
								h := seats.Holder{Pod: "u", Since: seatTook, Released: ledger%2 == 1}
								if ledger/2%2 == 1 || h.Released {
									h.Node = "n"
								}
								h.Until = []time.Time{{}, ago(time.Second), ago(-time.Hour)}[ledger/4]
								every(3, func(keys int) {
									all++
									terms := seatTerms{lease: testLease, keys: keyed(keys)}
									checkProof(t, h, pod, node, terms, decideSeat(h, pod, node, terms, seatNow))
								})
							})
						})
					}
				})
			})
		})
	})
	if all < 10000 {
		t.Errorf("only %d cases", all)
	}
}

func every(n int, f func(int)) {
	for i := range n {
		f(i)
	}
}

func checkProof(t *testing.T, h seats.Holder, pod seatPod, node seatNode, terms seatTerms, v seatVerdict) {
	t.Helper()
	bound := h.Node != "" || pod.node != ""
	nodeGone := bound && (node.absent || node.outOfService)
	fault := ""
	switch {
	case v.action == seatEnds && v.reason == v1alpha1.ReasonNodeGone && !nodeGone:
		fault = "the node is there"
	case v.action == seatEnds && v.reason == v1alpha1.ReasonLeaseOver && v.at.After(seatNow):
		fault = "it ends in the future"
	case v.action == seatEnds && v.reason == v1alpha1.ReasonLeaseOver && h.Until.After(seatNow) && !overdue(pod.deletion, ago(testLease)):
		fault = "the lease is not over"
	case v.action == seatEnds && v.reason == v1alpha1.ReasonLeaseOver && h.Until.IsZero() && !overdue(pod.deletion, ago(testLease)):
		fault = "no end was set"
	case v.proven && h.Released:
		fault = "only its node or the lease proves the end of a pod that has a key"
	case v.proven && pod.there && !pod.terminal && (bound || pod.deletion.IsZero()):
		fault = "it may run"
	case v.proven && !pod.terminal && pod.started && bound:
		fault = "it may run on though its object is gone"
	case v.proven && bound && !pod.terminal && terms.keys != keysSome:
		fault = "nothing shows that it did not start"
	case v.proven && bound && !pod.terminal && (h.Until.IsZero() || !v.rests.Equal(h.Until)):
		fault = "a key may be released at the same time"
	case v.action == seatEnds && v.reason == v1alpha1.ReasonLeaseOver && !v.rests.Equal(h.Until) && !overdue(pod.deletion, ago(testLease)):
		fault = "it may have been renewed meanwhile"
	case v.action == seatExpires && v.until.Before(seatNow.Add(testLease/2)):
		fault = "the lease that its node has may be longer"
	case v.action == seatExpires && pod.there && !pod.terminal && node.unknown.IsZero():
		fault = "an end is set to a pod that runs"
	case v.action == seatRenewed && (!pod.there || pod.terminal || overdue(pod.deletion, seatNow) || !node.unknown.IsZero()):
		fault = "it is renewed and does not run"
	case v.action == seatStays && v.again.IsZero() && !v.askPod && !v.askNode && (!pod.there || pod.terminal && h.Released):
		fault = "nobody looks again"
	}
	if fault != "" {
		t.Errorf("%s: %+v of holder %+v, pod %+v, node %+v, terms %+v", fault, v, h, pod, node, terms)
	}
}

func TestSeenPod(t *testing.T) {
	created, scheduled := metav1.NewTime(ago(time.Hour)), metav1.NewTime(ago(time.Minute))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: created, DeletionTimestamp: &scheduled},
		Spec:       corev1.PodSpec{NodeName: "n"},
		Status: corev1.PodStatus{
			Phase:      corev1.PodPending,
			Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: scheduled}},
		},
	}
	want := seatPod{there: true, node: "n", bound: scheduled.Time, deletion: scheduled.Time}
	if got := seenPod(pod); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{ImageID: "sha256:1"}}
	if !seenPod(pod).started {
		t.Error("an init container that has run is not seen")
	}
	for phase, terminal := range map[corev1.PodPhase]bool{corev1.PodRunning: false, corev1.PodFailed: true, corev1.PodSucceeded: true, corev1.PodUnknown: false} {
		if pod.Status.Phase = phase; seenPod(pod).terminal != terminal {
			t.Errorf("%s: terminal is not %t", phase, terminal)
		}
	}
}

func TestSeenNode(t *testing.T) {
	when := metav1.NewTime(ago(time.Minute))
	ready := func(status corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeDiskPressure, Status: corev1.ConditionUnknown, LastTransitionTime: when},
			{Type: corev1.NodeReady, Status: status, LastTransitionTime: when},
		}}}
	}
	outOfService := ready(corev1.ConditionUnknown)
	outOfService.Spec.Taints = []corev1.Taint{{Key: "a"}, {Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}
	for name, test := range map[string]struct {
		node *corev1.Node
		want seatNode
	}{
		"none":           {nil, seatNode{missing: true}},
		"new":            {&corev1.Node{}, seatNode{}},
		"ready":          {ready(corev1.ConditionTrue), seatNode{}},
		"not ready":      {ready(corev1.ConditionFalse), seatNode{}},
		"unknown":        {ready(corev1.ConditionUnknown), seatNode{unknown: when.Time}},
		"out of service": {outOfService, seatNode{unknown: when.Time, outOfService: true}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := seenNode(test.node); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
