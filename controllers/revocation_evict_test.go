package controllers

import (
	"context"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/test/builders"
)

// endings is an API server that answers evictions as it is told, and counts what it is asked.
type endings struct {
	answer, onDelete   error
	evictions, deletes int
}

func (e *endings) client(pods ...client.Object) client.Client {
	return fake.NewClientBuilder().WithObjects(pods...).WithInterceptorFuncs(interceptor.Funcs{
		SubResourceCreate: func(context.Context, client.Client, string, client.Object, client.Object, ...client.SubResourceCreateOption) error {
			e.evictions++
			return e.answer
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			e.deletes++
			if e.onDelete != nil {
				return e.onDelete
			}
			return c.Delete(ctx, o, opts...)
		},
	}).Build()
}

var (
	heldByBudget = apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
	twoBudgets   = apierrors.NewInternalError(context.Canceled)
	away         = apierrors.NewServiceUnavailable("etcd is away")
	conflicts    = apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "llm", context.Canceled)
	absentPod    = apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "llm")
)

func TestEnder(t *testing.T) {
	type try struct {
		at      time.Duration
		answer  error
		how     endedBy
		removed bool
		fails   bool
	}
	for name, tc := range map[string]struct {
		tries              []try
		evictions, deletes int
	}{
		"at once":        {[]try{{0, nil, endedByEviction, true, false}}, 1, 0},
		"it is gone":     {[]try{{0, absentPod, "", true, false}}, 1, 0},
		"after a budget": {[]try{{0, heldByBudget, "", false, false}, {time.Second, nil, "", false, false}, {5 * time.Second, nil, endedByEviction, true, false}}, 2, 0},
		"it conflicts":   {[]try{{0, conflicts, "", false, false}, {time.Second, nil, "", false, false}, {5 * time.Second, nil, endedByEviction, true, false}}, 2, 0},
		"held by a budget for two minutes": {[]try{
			{0, heldByBudget, "", false, false}, {50 * time.Second, heldByBudget, "", false, false}, {100 * time.Second, twoBudgets, "", false, false},
			{119 * time.Second, heldByBudget, "", false, false}, {124 * time.Second, heldByBudget, endedByDeletion, true, false},
		}, 5, 1},
		"an API server that is away proves nothing": {[]try{
			{0, heldByBudget, "", false, false}, {5 * time.Second, away, "", false, true}, {10 * time.Minute, heldByBudget, "", false, false},
			{11 * time.Minute, heldByBudget, "", false, false}, {12*time.Minute - time.Second, heldByBudget, "", false, false}, {12*time.Minute + 4*time.Second, heldByBudget, endedByDeletion, true, false},
		}, 6, 1},
	} {
		t.Run(name, func(t *testing.T) {
			pod, api, p := podOnNode(chatImage), &endings{}, &proceeding{}
			e := &ender{client: api.client(pod)}
			for _, step := range tc.tries {
				api.answer = step.answer
				how, err := e.end(t.Context(), pod, p, noon.Add(step.at))
				if how != step.how || (err != nil) != step.fails || p.removed != step.removed {
					t.Errorf("after %s: %q, %v, removed %v", step.at, how, err, p.removed)
				}
			}
			if api.evictions != tc.evictions || api.deletes != tc.deletes {
				t.Errorf("%d evictions, %d deletions", api.evictions, api.deletes)
			}
		})
	}
}

// TestEnderDeleteConflicts: a deletion that conflicts says nothing about whether the pod is gone.
func TestEnderDeleteConflicts(t *testing.T) {
	pod := podOnNode(chatImage)
	api := &endings{answer: heldByBudget, onDelete: conflicts}
	e, p := &ender{client: api.client(pod)}, &proceeding{refused: noon.Add(-evictPatience), tried: noon.Add(-evictAgain)}
	how, err := e.end(t.Context(), pod, p, noon)
	if how != "" || err != nil || p.removed || !p.tryAgain.After(noon) {
		t.Errorf("a conflict: %q, %v, removed %v, again at %v", how, err, p.removed, p.tryAgain)
	}
	api.onDelete = nil
	if how, err = e.end(t.Context(), pod, p, p.tryAgain); how != endedByDeletion || err != nil || !p.removed || api.deletes != 2 {
		t.Errorf("later: %q, %v, removed %v, %d deletions", how, err, p.removed, api.deletes)
	}
}

func TestEnds(t *testing.T) {
	e := &ender{protected: []string{"kube-system"}}
	of := func(b *builders.PodBuilder) *corev1.Pod { return b.Container("a", chatImage).Obj() }
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		ends bool
	}{
		"a pod":                        {of(builders.Pod("ml", "llm")), true},
		"in a protected namespace":     {of(builders.Pod("kube-system", "llm")), false},
		"a static pod's mirror":        {of(builders.Pod("ml", "llm").Annotation(corev1.MirrorPodAnnotationKey, "x")), false},
		"one that is on its way out":   {of(builders.Pod("ml", "llm").Deleted(noon)), false},
		"one with another annotation":  {of(builders.Pod("ml", "llm").Annotation("a", "b")), true},
		"in a namespace like that one": {of(builders.Pod("kube-system-2", "llm")), true},
	} {
		if got := e.ends(tc.pod); got != tc.ends {
			t.Errorf("%s: ends %v", name, got)
		}
	}
}

// TestEndRate: so many pods at once, and those that are held by budgets hold up no others.
func TestEndRate(t *testing.T) {
	api := &endings{}
	e := &ender{client: api.client()}
	for range endBurst + 10 {
		api.answer = heldByBudget
		if _, err := e.end(t.Context(), podOnNode(chatImage), &proceeding{}, noon); err != nil {
			t.Fatal(err)
		}
	}
	if api.evictions != endBurst+10 {
		t.Errorf("%d tries, want each pod's", api.evictions)
	}
	api.answer = nil
	ended := 0
	for range 2 * endBurst {
		p := &proceeding{}
		if _, err := e.end(t.Context(), podOnNode(chatImage), p, noon); err != nil {
			t.Fatal(err)
		}
		if p.removed {
			ended++
		} else if !p.tryAgain.After(noon) {
			t.Fatal("a pod that has to wait is not tried again later")
		}
	}
	if ended != endBurst {
		t.Errorf("%d pods are ended at once, want %d", ended, endBurst)
	}
}

func TestIsRefusal(t *testing.T) {
	for name, tc := range map[string]struct {
		err     error
		refusal bool
	}{
		"a budget":         {heldByBudget, true},
		"two budgets":      {twoBudgets, true},
		"an admission":     {apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "llm", nil), true},
		"a conflict":       {conflicts, true},
		"told to wait":     {context.DeadlineExceeded, true},
		"away":             {away, false},
		"a server timeout": {apierrors.NewTimeoutError("", 1), false},
		"no such verb":     {apierrors.NewGenericServerResponse(http.StatusMethodNotAllowed, "create", schema.GroupResource{}, "", "", 0, false), false},
	} {
		if got := isRefusal(tc.err); got != tc.refusal {
			t.Errorf("%s: refusal %v", name, got)
		}
	}
}
