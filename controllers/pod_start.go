package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// retryConflict is when a pod is tried again that somebody else has written.
const retryConflict = 20 * time.Millisecond

// retryTaking is when a pod is looked at again that is not to start, and whose seats are being taken right now.
const retryTaking = 100 * time.Millisecond

// start lets a pod go that has all its seats: an entry for each licence, durable, then its condition, then its gate. Both
// writes of the pod carry the resourceVersion that was read before its ledgers were written, or before they were read again
// here: whoever gives the seats back touches the pod first, so that one of the two fails. They are read again, too, where
// the pod needs other seats than it took, by licences and grants that have changed since.
func (r *PodReconciler) start(ctx context.Context, pod *corev1.Pod, g gated, a allocation) (ctrl.Result, error) {
	trimmed := len(a.confine) > 0 && g.settled() // and so not written before its gate is removed: the cache has no affinity
	if a.version != pod.ResourceVersion || !sameSeats(a.taken, g.needs) || trimmed {
		fresh, verified, err := r.verify(ctx, pod)
		if err != nil {
			return ctrl.Result{}, err
		}
		if fresh == nil {
			r.Seats.Queue.release(pod.UID)
			return ctrl.Result{RequeueAfter: retryConflict}, nil
		}
		pod, g = fresh, verified
	}
	after, err := r.letGo(ctx, pod, g, a)
	switch {
	case apierrors.IsConflict(err):
		r.Seats.Queue.stale(pod.UID)
		return ctrl.Result{RequeueAfter: retryConflict}, nil
	case apierrors.IsNotFound(err):
		r.Seats.Queue.drop(client.ObjectKeyFromObject(pod))
		return ctrl.Result{}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	r.observe(after, g.standing)
	if r.Seats.Waited != nil {
		r.Seats.Waited(r.Clock.Now().Sub(after.CreationTimestamp.Time))
	}
	admitted, _ := g.unlogged()
	r.tellAdmitted(after, admitted)
	return ctrl.Result{}, nil
}

// letGo writes the pod, and returns it as it is then.
func (r *PodReconciler) letGo(ctx context.Context, pod *corev1.Pod, g gated, a allocation) (*corev1.Pod, error) {
	name, interrupt := client.ObjectKeyFromObject(pod), r.Seats.Interrupt
	if err := interrupt.at(ctx, StepBeforeAudit, name); err != nil {
		return nil, err
	}
	if err := r.log(ctx, g.unloggedAdmissions(), g.unloggedFindings()); err != nil {
		return nil, err
	}
	if err := interrupt.at(ctx, StepAfterAudit, name); err != nil {
		return nil, err
	}
	if err := interrupt.at(ctx, StepBeforeCondition, name); err != nil {
		return nil, err
	}
	if !g.settled() {
		pod = pod.DeepCopy()
		if err := patchPodConditionOf(ctx, r.Client, pod, g.desired(r.Clock.Now())); err != nil {
			return nil, err
		}
	}
	if err := interrupt.at(ctx, StepAfterCondition, name); err != nil {
		return nil, err
	}
	if err := interrupt.at(ctx, StepBeforeUngate, name); err != nil {
		return nil, err
	}
	after, err := ungate(ctx, r.Client, pod, a.confine)
	if err != nil {
		return nil, err
	}
	return after, interrupt.at(ctx, StepAfterUngate, name)
}

// verify reads a pod, then the ledgers in which it is to have its seats, from the API server. The pod is nil where it is no
// longer one that can start.
func (r *PodReconciler) verify(ctx context.Context, known *corev1.Pod) (*corev1.Pod, gated, error) {
	name := client.ObjectKeyFromObject(known)
	pod := &corev1.Pod{}
	if err := r.Live.Get(ctx, name, pod); err != nil {
		return nil, gated{}, client.IgnoreNotFound(err)
	}
	if pod.UID != known.UID || !isGated(pod) || hasOtherGates(pod) || pod.DeletionTimestamp != nil {
		return nil, gated{}, nil
	}
	snapshot, _ := r.Rights.Snapshot()
	labels, err := r.Rights.NamespaceLabels(ctx, pod.Namespace, false)
	if err != nil {
		return nil, gated{}, client.IgnoreNotFound(err)
	}
	g := r.standGated(pod, labels, snapshot)
	if len(g.denied) > 0 || len(g.needs) == 0 {
		return nil, gated{}, nil
	}
	if len(r.Seats.Ledgers.LicensesOf(pod.UID)) > len(g.needs) {
		return nil, gated{}, nil // it has a seat that it does not need any more
	}
	for _, n := range g.needs {
		ledger, err := r.liveLedger(ctx, n.license.Name)
		if err != nil {
			return nil, gated{}, err
		}
		if ledger == nil {
			return nil, gated{}, nil
		}
		if h, ok := ledger.Holder(pod.UID); !ok || h.Grant.UID != n.grant.UID || !h.Until.IsZero() || !sameAmount(h.Amount, n.amount) {
			return nil, gated{}, nil
		}
	}
	return pod, g, nil
}

// liveLedger is a licence's ledger as the API server has it; nil where there is none.
func (r *PodReconciler) liveLedger(ctx context.Context, license string) (*seats.Ledger, error) {
	var stored v1alpha1.ModelSeats
	if err := r.Live.Get(ctx, client.ObjectKey{Name: license}, &stored); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading the ledger of licence %s: %w", license, err)
	}
	ledger, err := seats.Decode(&stored)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger of licence %s: %w", license, err)
	}
	return ledger, nil
}

func (s standing) unloggedAdmissions() []admission {
	admitted, _ := s.unlogged()
	return admitted
}

func (s standing) unloggedFindings() []finding {
	_, found := s.unlogged()
	return found
}

// observe tells the queue of a pod without our gate: which seats it is to hold.
func (r *PodReconciler) observe(pod *corev1.Pod, s standing) {
	state := seatHeld
	if isOver(pod) {
		state = seatFinished
	}
	queued := queuedAs(pod, state, nil)
	if state == seatHeld && !isRevoked(s.condition) {
		for _, a := range s.admitted {
			queued.needs = append(queued.needs, needOf(pod, a.use))
			if _, held := r.holder(pod, a); !held && r.isLost(pod, a) {
				queued.lost = true
			}
		}
	}
	if len(queued.needs) == 0 && (queued.group == "" || pod.Status.Phase != corev1.PodSucceeded) {
		r.Seats.Queue.drop(queued.name)
		return
	}
	r.Seats.Queue.put(queued)
}
