package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
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
	// evictTimeout bounds one try.
	evictTimeout = 5 * time.Second
	// evictBackoff is how soon an eviction is tried again that was not answered, and twice as long after each further one, up to
	// evictBackoffMost, which is less than evictGap.
	evictBackoff, evictBackoffMost = time.Second, 30 * time.Second
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
	// evictions asks the API server to evict once, and returns what it answers.
	evictions func(context.Context, *policyv1.Eviction) error
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
	case isRefusal(err): // also by a webhook that says that there is no such pod, or a conflict
	case apierrors.IsNotFound(err):
		p.removed = true
		return "", nil
	case apierrors.IsConflict(err): // whether another pod has its name by now, the next look finds out
		p.tryAgain = now.Add(evictAgain)
		return "", nil
	default: // nothing is known of what would have been answered
		p.tryAgain = now.Add(min(evictBackoff<<min(p.unanswered, 10), evictBackoffMost))
		p.unanswered++
		return "", fmt.Errorf("evicting pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	p.unanswered = 0
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
	case isRefusal(err): // whatever a webhook says
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
	return e.evictions(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(pod.UID)}},
	})
}

// evictOnce asks through a client of the core group. Clients usually wait and ask again by themselves where the answer says
// when; whether a budget said so or an API server that has too much to do, would then be lost in a timeout.
func evictOnce(core rest.Interface) func(context.Context, *policyv1.Eviction) error {
	return func(ctx context.Context, eviction *policyv1.Eviction) error {
		return core.Post().Namespace(eviction.Namespace).Resource("pods").Name(eviction.Name).SubResource("eviction").
			Body(eviction).MaxRetries(0).Do(ctx).Error()
	}
}

// severalBudgets is in the answer, of code 500 and with neither reason nor cause, about a pod that several disruption
// budgets select: https://github.com/kubernetes/kubernetes/blob/master/pkg/registry/core/pod/storage/eviction.go
const severalBudgets = "has more than one PodDisruptionBudget"

// denied begins the answer where an admission webhook denied it, under whatever code of at least 400 that chose, 404 included, or
// a policy, under one of four:
// https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/errors/statuserror.go
// https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/validating/dispatcher.go
var denied = regexp.MustCompile(`^(admission webhook ".+" denied the request|pods ".+" is forbidden: ValidatingAdmissionPolicy '.+' denied request)`)

// isRefusal says whether an eviction was answered, and not allowed: by a disruption budget (429, with its cause), by several
// that select the pod (500, by its message), or by somebody's admission: a plugin (403), a policy (422, or what it says, by its
// message), or a webhook (what it says, and by its message). Those do not pass by themselves. Whatever else an API server says, that it has
// too much to do (429 too) or cannot reach its storage or a webhook (500 too), refuses nothing.
// https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
func isRefusal(err error) bool {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok {
		return false
	}
	answer := status.Status()
	if denied.MatchString(answer.Message) {
		return true
	}
	switch answer.Code {
	case http.StatusForbidden, http.StatusUnprocessableEntity:
		return true
	case http.StatusTooManyRequests:
		return apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause)
	case http.StatusInternalServerError:
		return strings.Contains(answer.Message, severalBudgets)
	}
	return false
}
