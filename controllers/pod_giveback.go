package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

const (
	// giveBackWithin is the least time until the end that marks a seat which is about to be given back. Nobody ends a gated
	// pod's seat by it.
	giveBackWithin = 10 * time.Minute
	// markSpread is how many different marks can be made in one second.
	markSpread = 3600
)

// giveBackMarks makes ends that tell one give-back from another: ledgers keep whole seconds, and a pod may take and give back
// seats more than once in one. Marks of an operator differ while it makes fewer than markSpread of them a second; those of
// several begin at random.
type giveBackMarks struct {
	begin sync.Once
	count atomic.Uint32
}

// next is an end that marks a seat from now.
func (m *giveBackMarks) next(now time.Time) time.Time {
	m.begin.Do(func() { m.count.Store(uint32(rand.Intn(markSpread))) })
	return now.Add(giveBackWithin + time.Duration(m.count.Add(1)%markSpread)*time.Second)
}

// giveBack gives back the seats of a pod that is still gated. It must not be that the gate is removed by what was read
// before, by this operator or by another that believes to lead. So the seats are marked first, by which nobody who looks at
// the ledgers from then on removes the gate; then the pod is touched under its resourceVersion, by which whoever looked
// earlier fails; then the seats that carry this very mark are given back. Took are licences of which it may have seats that the
// view does not show yet.
func (r *PodReconciler) giveBack(ctx context.Context, known *corev1.Pod, took ...string) error {
	licenses := slices.Concat(r.Seats.Ledgers.LicensesOf(known.UID), took)
	slices.Sort(licenses)
	licenses = slices.Compact(licenses)
	if len(licenses) == 0 {
		return nil
	}
	name, interrupt := client.ObjectKeyFromObject(known), r.Seats.Interrupt
	if err := interrupt.at(ctx, StepBeforeMark, name); err != nil {
		return err
	}
	marked, err := r.markSeats(ctx, known.UID, licenses)
	if err != nil || len(marked) == 0 {
		return err
	}
	if err := interrupt.at(ctx, StepAfterMark, name); err != nil {
		return err
	}
	pod := &corev1.Pod{}
	if err := r.Live.Get(ctx, name, pod); apierrors.IsNotFound(err) || err == nil && pod.UID != known.UID {
		return nil // seats of pods that are gone end by themselves
	} else if err != nil {
		return fmt.Errorf("reading pod %s: %w", name, err)
	}
	if !isGated(pod) {
		return r.keepSeats(ctx, pod.UID, marked)
	}
	if err := interrupt.at(ctx, StepBeforeTouch, name); err != nil {
		return err
	}
	if err := r.touch(ctx, pod); err != nil {
		return err
	}
	if err := interrupt.at(ctx, StepAfterTouch, name); err != nil {
		return err
	}
	if err := interrupt.at(ctx, StepBeforeGiveBack, name); err != nil {
		return err
	}
	for license, until := range marked {
		if _, err := r.book(ctx, license, seats.GiveBack{Pod: pod.UID, Until: until}); err != nil {
			return err
		}
	}
	return interrupt.at(ctx, StepAfterGiveBack, name)
}

// leave takes a pod out of the queue that is not to start, and gives back its seats, also those that it has just taken and that
// the view does not show yet: once the pod is forgotten, nobody would take notice when it does. Done is false while the
// allocator is taking seats for it.
func (r *PodReconciler) leave(ctx context.Context, pod *corev1.Pod) (done bool, err error) {
	took, taking := r.Seats.Queue.withdraw(pod.UID)
	if taking {
		return false, nil
	}
	if err := r.giveBack(ctx, pod, took...); err != nil {
		return false, err
	}
	r.Seats.Queue.left(client.ObjectKeyFromObject(pod), pod.UID)
	return true, nil
}

// giveBackPartial gives back the seats of a pod that goes on waiting.
func (r *PodReconciler) giveBackPartial(ctx context.Context, pod *corev1.Pod) error {
	if err := r.giveBack(ctx, pod); err != nil {
		return err
	}
	r.Seats.Queue.gaveBack(pod.UID)
	return nil
}

// gaveBack lets a pod be planned again.
func (q *SeatQueue) gaveBack(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := q.byUID[uid]; p != nil && p.partial {
		p.partial = false
		for _, n := range p.needs {
			q.change(n.license.Name)
		}
	}
}

// markSeats sets an end for a pod's seats, and returns which it is for each.
func (r *PodReconciler) markSeats(ctx context.Context, pod types.UID, licenses []string) (map[string]time.Time, error) {
	until, marked := r.marks.next(r.Clock.Now()), map[string]time.Time{}
	for _, license := range licenses {
		result, err := r.book(ctx, license, seats.Expire{Pod: pod, Until: until})
		if err != nil {
			return nil, err
		}
		if !result.OK() {
			continue // the view is behind: it holds none
		}
		ledger, err := r.liveLedger(ctx, license)
		if err != nil {
			return nil, err
		}
		if ledger == nil {
			continue
		}
		if h, ok := ledger.Holder(pod); ok && !h.Until.IsZero() {
			marked[license] = h.Until
		}
	}
	return marked, nil
}

// keepSeats takes back the marks of a pod whose gate was removed meanwhile.
func (r *PodReconciler) keepSeats(ctx context.Context, pod types.UID, marked map[string]time.Time) error {
	for license := range marked {
		if _, err := r.book(ctx, license, seats.Renew{Pod: pod}); err != nil {
			return err
		}
	}
	return nil
}

// touch writes a pod as it was read, so that its resourceVersion is another; it fails where somebody wrote it since.
func (r *PodReconciler) touch(ctx context.Context, pod *corev1.Pod) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": pod.UID, "resourceVersion": pod.ResourceVersion,
		"annotations": map[string]string{v1alpha1.AnnotationAttention: r.Clock.Now().UTC().Format(time.RFC3339Nano)},
	}})
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	if err := r.Client.Patch(ctx, pod, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return fmt.Errorf("touching pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// book does one change.
func (r *PodReconciler) book(ctx context.Context, license string, change seats.Change) (seats.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, bookTimeout)
	defer cancel()
	results, err := r.Seats.Book.Do(ctx, license, change)
	if err != nil {
		return seats.Result{}, fmt.Errorf("writing the ledger of licence %s: %w", license, err)
	}
	return results[0], nil
}
