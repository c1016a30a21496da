package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
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

// ender ends these pods by it.
func (e *endings) ender(pods ...client.Object) *ender {
	c := fake.NewClientBuilder().WithObjects(pods...).WithInterceptorFuncs(interceptor.Funcs{
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			e.deletes++
			if e.onDelete != nil {
				return e.onDelete
			}
			return c.Delete(ctx, o, opts...)
		},
	}).Build()
	return &ender{client: c, evictions: func(context.Context, *policyv1.Eviction) error {
		e.evictions++
		return e.answer
	}}
}

// answered is an error as clients make it of an API server's answer.
func answered(code int32, message string, causes ...metav1.CauseType) error {
	status := metav1.Status{Status: metav1.StatusFailure, Code: code, Message: message, Details: &metav1.StatusDetails{}}
	for _, cause := range causes {
		status.Details.Causes = append(status.Details.Causes, metav1.StatusCause{Type: cause})
	}
	return &apierrors.StatusError{ErrStatus: status}
}

var (
	heldByBudget = answered(http.StatusTooManyRequests, "Cannot evict pod as it would violate the pod's disruption budget.", policyv1.DisruptionBudgetCause)
	twoBudgets   = answered(http.StatusInternalServerError, "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
	broken       = apierrors.NewInternalError(errors.New("failed calling webhook \"a.example\""))
	busy         = apierrors.NewTooManyRequests("too many requests, please try again later", 1)
	away         = apierrors.NewServiceUnavailable("etcd is away")
	conflicts    = apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "llm", context.Canceled)
	absentPod    = apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "llm")
	denied404    = answered(http.StatusNotFound, "admission webhook \"stay.example.com\" denied the request: no such pod")
	denied409    = answered(http.StatusConflict, "admission webhook \"stay.example.com\" denied the request: try again")
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
		"a webhook says that it is gone, or that it conflicts": {[]try{
			{0, denied404, "", false, false}, {59 * time.Second, denied409, "", false, false}, {118 * time.Second, denied404, "", false, false},
			{123 * time.Second, denied409, endedByDeletion, true, false},
		}, 4, 1},
		"an API server that is away proves nothing": {[]try{
			{0, heldByBudget, "", false, false}, {5 * time.Second, away, "", false, true}, {10 * time.Minute, heldByBudget, "", false, false},
			{11 * time.Minute, heldByBudget, "", false, false}, {12*time.Minute - time.Second, heldByBudget, "", false, false}, {12*time.Minute + 4*time.Second, heldByBudget, endedByDeletion, true, false},
		}, 6, 1},
		"an API server that is broken, busy or slow for an hour": {[]try{
			{0, broken, "", false, true}, {time.Second, busy, "", false, true}, {3 * time.Second, context.DeadlineExceeded, "", false, true},
			{30 * time.Minute, broken, "", false, true}, {45 * time.Minute, busy, "", false, true}, {time.Hour, nil, endedByEviction, true, false},
		}, 6, 0},
		"what is broken ends no pod that a budget held for long": {[]try{
			{0, heldByBudget, "", false, false}, {59 * time.Second, heldByBudget, "", false, false}, {118 * time.Second, heldByBudget, "", false, false},
			{2*time.Minute + 3*time.Second, broken, "", false, true}, {2*time.Minute + 4*time.Second, busy, "", false, true}, {2*time.Minute + 6*time.Second, conflicts, "", false, false},
			{2*time.Minute + 11*time.Second, heldByBudget, endedByDeletion, true, false},
		}, 7, 1},
		"it waits longer from try to try, and not too long": {[]try{
			{0, broken, "", false, true}, {999 * time.Millisecond, broken, "", false, false}, {time.Second, broken, "", false, true},
			{2 * time.Second, broken, "", false, false}, {3 * time.Second, broken, "", false, true}, {time.Hour, broken, "", false, true},
			{2 * time.Hour, broken, "", false, true}, {2*time.Hour + evictBackoffMost, nil, endedByEviction, true, false},
		}, 6, 0},
	} {
		t.Run(name, func(t *testing.T) {
			pod, api, p := podOnNode(chatImage), &endings{}, &proceeding{}
			e := api.ender(pod)
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
	e, p := api.ender(pod), &proceeding{refused: noon.Add(-evictPatience), tried: noon.Add(-evictAgain)}
	how, err := e.end(t.Context(), pod, p, noon)
	if how != "" || err != nil || p.removed || !p.tryAgain.After(noon) {
		t.Errorf("a conflict: %q, %v, removed %v, again at %v", how, err, p.removed, p.tryAgain)
	}
	api.onDelete = nil
	if how, err = e.end(t.Context(), pod, p, p.tryAgain); how != endedByDeletion || err != nil || !p.removed || api.deletes != 2 {
		t.Errorf("later: %q, %v, removed %v, %d deletions", how, err, p.removed, api.deletes)
	}
}

// TestEnderDeleteDenied: nor does a webhook that denies it, whatever it says.
func TestEnderDeleteDenied(t *testing.T) {
	for _, denied := range []error{denied404, denied409} {
		pod := podOnNode(chatImage)
		api := &endings{answer: heldByBudget, onDelete: denied}
		e, p := api.ender(pod), &proceeding{refused: noon.Add(-evictPatience), tried: noon.Add(-evictAgain)}
		if how, err := e.end(t.Context(), pod, p, noon); how != "" || err == nil || p.removed {
			t.Errorf("%v: %q, %v, removed %v", denied, how, err, p.removed)
		}
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
	e := api.ender()
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
		"a budget":                {heldByBudget, true},
		"a budget, wrapped":       {fmt.Errorf("evicting: %w", heldByBudget), true},
		"two budgets":             {twoBudgets, true},
		"an admission":            {apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "llm", nil), true},
		"a policy":                {answered(http.StatusUnprocessableEntity, "pods \"llm\" is invalid: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no"), true},
		"a webhook":               {answered(http.StatusBadRequest, "admission webhook \"stay.example.com\" denied the request: no"), true},
		"a webhook, by 503":       {answered(http.StatusServiceUnavailable, "admission webhook \"stay.example.com\" denied the request without explanation"), true},
		"a policy, by 401":        {answered(http.StatusUnauthorized, "pods \"llm\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no"), true},
		"a policy, by 413":        {answered(http.StatusRequestEntityTooLarge, "pods \"llm\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: no"), true},
		"a token that is over":    {answered(http.StatusUnauthorized, "Unauthorized"), false},
		"a webhook, by 404":       {denied404, true},
		"words in another place":  {answered(http.StatusInternalServerError, "Internal error occurred: admission webhook \"a.example\" denied the request"), false},
		"a webhook that is away":  {answered(http.StatusInternalServerError, "Internal error occurred: failed calling webhook \"stay.example.com\": connection refused"), false},
		"a conflict":              {conflicts, false},
		"no answer in time":       {context.DeadlineExceeded, false},
		"no connection":           {errors.New("connection refused"), false},
		"too much to do":          {busy, false},
		"another internal error":  {broken, false},
		"away":                    {away, false},
		"a server timeout":        {apierrors.NewTimeoutError("couldn't update PodDisruptionBudget \"b\" due to conflicts", 10), false},
		"no such verb":            {apierrors.NewGenericServerResponse(http.StatusMethodNotAllowed, "create", schema.GroupResource{}, "", "", 0, false), false},
		"words of another answer": {answered(http.StatusBadRequest, "This pod has more than one PodDisruptionBudget"), false},
	} {
		if got := isRefusal(tc.err); got != tc.refusal {
			t.Errorf("%s: refusal %v", name, got)
		}
	}
}

// TestEvictOnce: what an API server answers is seen as it is, and at once, also where it says when to ask again.
func TestEvictOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		code    int
		cause   metav1.CauseType
		message string
		refusal bool
	}{
		"a budget whose controller is behind": {http.StatusTooManyRequests, policyv1.DisruptionBudgetCause, "Cannot evict pod", true},
		"too much to do":                      {http.StatusTooManyRequests, "", "too many requests", false},
		"away":                                {http.StatusServiceUnavailable, "", "etcd is away", false},
		"several budgets":                     {http.StatusInternalServerError, "", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.", true},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				if r.Method != http.MethodPost || r.URL.Path != "/api/v1/namespaces/ml/pods/llm/eviction" {
					t.Errorf("asks %s %s", r.Method, r.URL.Path)
				}
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(tc.code)
				status := metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(tc.code), Message: tc.message}
				if tc.cause != "" {
					status.Details = &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: tc.cause}}}
				}
				if err := json.NewEncoder(w).Encode(status); err != nil {
					t.Error(err)
				}
			}))
			defer server.Close()
			clientset, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
			if err != nil {
				t.Fatal(err)
			}
			err = evictOnce(clientset.CoreV1().RESTClient())(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "llm"}})
			if err == nil || isRefusal(err) != tc.refusal || calls.Load() != 1 {
				t.Errorf("asked %d times: %v, refusal %v", calls.Load(), err, isRefusal(err))
			}
		})
	}
}
