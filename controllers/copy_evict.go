package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

const (
	// evictionRate bounds evictions a second in the whole cluster, after evictionBurst at once: a licence that was written
	// amiss must not empty a cluster before somebody notices.
	evictionRate, evictionBurst = 1, 10

	// evictionRetry is how soon an eviction is tried again that a PodDisruptionBudget did not allow, doubled each time up
	// to evictionRetryMax.
	evictionRetry    = 5 * time.Second
	evictionRetryMax = 5 * time.Minute

	annotationMirror = corev1.MirrorPodAnnotationKey
)

// evictor ends pods by the eviction API, which respects PodDisruptionBudgets and lets pods end in their grace period. It
// never deletes one past that.
type evictor struct {
	client client.Client
	// protected are namespaces whose pods are not evicted: of the cluster's own components, which a mistaken licence must
	// not take down, and ours, since keys of other pods depend on the node driver and nothing works without the operator.
	protected []string

	mu      sync.Mutex
	limiter *rate.Limiter
	backoff *flowcontrol.Backoff
	// owed are entries of evictions that have happened and could not be logged yet.
	owed map[PodRef][]audit.Entry
}

// evictable says whether a pod is evicted at all. The API server's object of a static pod is a mirror: evicting it would
// end nothing, and the kubelet makes it anew. It is reported, and whoever manages the node has to remove its file.
func (e *evictor) evictable(pod *corev1.Pod) bool {
	_, mirror := pod.Annotations[annotationMirror]
	return !mirror && pod.DeletionTimestamp.IsZero() && !slices.Contains(e.protected, pod.Namespace)
}

// evict asks for the eviction of a pod as it was read. Where that has to wait it says how long; done is true once the pod
// is being deleted for it.
func (e *evictor) evict(ctx context.Context, pod *corev1.Pod, now time.Time) (wait time.Duration, done bool, err error) {
	turn, wait := e.turn(pod, now)
	if wait > 0 {
		return wait, false, nil
	}
	err = e.client.SubResource("eviction").Create(ctx, pod.DeepCopy(), &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(pod.UID)}},
	})
	switch {
	case err == nil:
		return 0, true, nil
	case apierrors.IsTooManyRequests(err), isRefusal(err): // also by a webhook that says that there is no such pod
		turn.CancelAt(now) // whoever may be evicted shall not wait for those who may not
		return e.delay(pod, now), false, nil
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // it is gone, or another has its name
		return 0, false, nil
	default:
		return 0, false, fmt.Errorf("evicting pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
}

func (e *evictor) init() {
	if e.limiter == nil {
		e.limiter = rate.NewLimiter(evictionRate, evictionBurst)
		e.backoff = flowcontrol.NewBackOff(evictionRetry, evictionRetryMax)
		e.owed = map[PodRef][]audit.Entry{}
	}
}

// turn is one of the evictions that may happen now, or how long to wait for one.
func (e *evictor) turn(pod *corev1.Pod, now time.Time) (*rate.Reservation, time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.init()
	if e.backoff.IsInBackOffSinceUpdate(string(pod.UID), now) {
		return nil, max(time.Second, e.backoff.Get(string(pod.UID)))
	}
	turn := e.limiter.ReserveN(now, 1)
	if turn.DelayFrom(now) > 0 {
		turn.CancelAt(now)
		return nil, evictionRetry
	}
	return turn, 0
}

// delay is how long to wait after an eviction was not allowed.
func (e *evictor) delay(pod *corev1.Pod, now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.backoff.Next(string(pod.UID), now)
	e.backoff.GC()
	return e.backoff.Get(string(pod.UID))
}

// owes remembers entries until they are in the log.
func (e *evictor) owes(pod PodRef, entries []audit.Entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.init()
	if len(entries) == 0 {
		delete(e.owed, pod)
	} else {
		e.owed[pod] = entries
	}
}

func (e *evictor) debt(pod PodRef) []audit.Entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.owed[pod]
}

// wanted says whether one of the licences wants pods that run copies of it to be evicted. What another licence entitles
// the pod to is reported and runs on: which of two licensors is right is not for a controller to say.
func wanted(copies []podCopy) bool {
	return slices.ContainsFunc(copies, func(c podCopy) bool {
		return !c.licensed && c.license.Spec.Terms.OnCopy == v1alpha1.CopyPolicyEvict
	})
}
