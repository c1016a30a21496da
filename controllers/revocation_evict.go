package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// endRate and endBurst bound how many pods are ended a second. Keys are wiped without a bound.
	endRate, endBurst = 20, 50
	// evictAgain is how soon an eviction is tried again that was refused.
	evictAgain = 5 * time.Second
	// evictPatience is for how long evictions are refused before a pod is deleted.
	evictPatience = 2 * time.Minute
	// evictGap is how long after a refusal the next one goes on with it: in between the API server may have been away.
	evictGap = time.Minute
	// evictTimeout bounds one try: a client repeats by itself what it is told to ask again later.
	evictTimeout = 5 * time.Second
)

// endedBy is how a pod was ended, as the audit log says it; empty where it was not.
type endedBy string

const (
	endedByEviction endedBy = "the pod was evicted"
	endedByDeletion endedBy = "the pod was deleted, with its grace period: its eviction was refused for two minutes"
)

// way is the same for metrics.
func (e endedBy) way() string {
	if e == endedByDeletion {
		return "deleted"
	}
	return "evicted"
}

// ender ends pods that lost their entitlement: by the eviction API and, where that is refused for long, by deletion. Either
// gives the pod its grace period.
type ender struct {
	client client.Client
	// protected are namespaces whose pods are not ended: of the cluster's own components, ours, and exempt ones.
	protected []string

	mu      sync.Mutex
	limiter *rate.Limiter
}

// ends says whether a pod is ended at all. The API server's object of a static pod is a mirror: deleting it would end
// nothing.
func (e *ender) ends(pod *corev1.Pod) bool {
	_, mirror := pod.Annotations[annotationMirror]
	return !mirror && pod.DeletionTimestamp.IsZero() && !slices.Contains(e.protected, pod.Namespace)
}

// turn is one of those to end a pod now; nil where there is none.
func (e *ender) turn(now time.Time) *rate.Reservation {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.limiter == nil {
		e.limiter = rate.NewLimiter(endRate, endBurst)
	}
	turn := e.limiter.ReserveN(now, 1)
	if turn.DelayFrom(now) > 0 {
		turn.CancelAt(now)
		return nil
	}
	return turn
}

// end ends a pod as it was read, or takes notice in p of when to try again.
func (e *ender) end(ctx context.Context, pod *corev1.Pod, p *proceeding, now time.Time) (how endedBy, err error) {
	if now.Before(p.tryAgain) {
		return "", nil
	}
	turn := e.turn(now)
	if turn == nil {
		p.tryAgain = now.Add(time.Second)
		return "", nil
	}
	err = e.evict(ctx, pod)
	switch {
	case err == nil:
		p.removed = true
		return endedByEviction, nil
	case apierrors.IsNotFound(err):
		p.removed = true
		return "", nil
	case !isRefusal(err):
		return "", fmt.Errorf("evicting pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	if now.Sub(p.tried) > evictGap {
		p.refused = now
	}
	p.tried, p.tryAgain = now, now.Add(evictAgain)
	if now.Sub(p.refused) < evictPatience {
		turn.CancelAt(now) // whoever may be evicted shall not wait for those who may not
		return "", nil
	}
	return e.delete(ctx, pod, p)
}

func (e *ender) delete(ctx context.Context, pod *corev1.Pod, p *proceeding) (how endedBy, err error) {
	err = e.client.Delete(ctx, pod.DeepCopy(), client.Preconditions{UID: ptr.To(pod.UID)})
	switch {
	case err == nil:
		p.removed = true
		return endedByDeletion, nil
	case apierrors.IsNotFound(err):
		p.removed = true
		return "", nil
	case apierrors.IsConflict(err): // whether another has its name, the next look finds out
		return "", nil
	}
	return "", fmt.Errorf("deleting pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

func (e *ender) evict(ctx context.Context, pod *corev1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, evictTimeout)
	defer cancel()
	return e.client.SubResource("eviction").Create(ctx, pod.DeepCopy(), &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(pod.UID)}},
	})
}

// isRefusal says whether an eviction was answered, and not allowed: by a disruption budget (429), by several that select the
// pod (500), or by somebody's admission (403); or conflicts (409): whether another pod has its name by now, the next look
// finds out. A client waits and asks again by itself while it is told to, until its time is
// over. https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
func isRefusal(err error) bool {
	return apierrors.IsTooManyRequests(err) || apierrors.IsInternalError(err) || apierrors.IsForbidden(err) || apierrors.IsConflict(err) ||
		errors.Is(err, context.DeadlineExceeded)
}
