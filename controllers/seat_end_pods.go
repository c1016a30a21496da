package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// rememberGone is how long a deleted pod is remembered that no ledger knows: its seat may be on the way.
const rememberGone = 2 * time.Minute

// SeatPods finds cached pods by their UIDs, which is how ledgers name them, and remembers how those looked last that are
// deleted. It is safe for concurrent use.
type SeatPods struct {
	clock clock.PassiveClock

	mu          sync.Mutex
	live        map[types.UID]*corev1.Pod
	gone        map[types.UID]gonePod
	pruned      time.Time
	ledgers     SeatHolders
	subscribers []func(types.UID)
}

// gonePod is a pod that was deleted: how it looked last, and who it was.
type gonePod struct {
	seen seatPod
	pod  *corev1.Pod
}

// SeatHolders knows which pods hold seats.
type SeatHolders interface {
	// LicensesOf are the licences that a pod holds seats of.
	LicensesOf(pod types.UID) []string
}

// NewSeatPods returns a tracker that knows no pod yet.
func NewSeatPods(now clock.PassiveClock, ledgers SeatHolders) *SeatPods {
	return &SeatPods{clock: now, ledgers: ledgers, live: map[types.UID]*corev1.Pod{}, gone: map[types.UID]gonePod{}, pruned: now.Now()}
}

// Watch registers the tracker with the informer of pods. What it returns says whether the first list has arrived.
func (p *SeatPods) Watch(ctx context.Context, informers cache.Informers) (synced func() bool, err error) {
	informer, err := informers.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("informer for pods: %w", err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { p.observe(o, false) },
		UpdateFunc: p.update,
		DeleteFunc: func(o any) { p.observe(o, true) },
	})
	if err != nil {
		return nil, fmt.Errorf("watching pods: %w", err)
	}
	return registration.HasSynced, nil
}

// Subscribe calls f with the UID of each pod whose seat may be concerned by a change from now on.
func (p *SeatPods) Subscribe(f func(types.UID)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscribers = append(p.subscribers, f)
}

// Pod returns the cached pod, which must not be modified; nil where there is none of that UID. Gone is true for one that
// was deleted: of it there is its name, account and owner.
func (p *SeatPods) Pod(uid types.UID) (pod *corev1.Pod, gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pod := p.live[uid]; pod != nil {
		return pod, false
	}
	last, gone := p.gone[uid]
	return last.pod, gone
}

// seen is what is known of a pod.
func (p *SeatPods) seen(uid types.UID) seatPod {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pod := p.live[uid]; pod != nil {
		return seenPod(pod)
	}
	return p.gone[uid].seen
}

// update takes notice of a new state. Where the watch was interrupted, it may be that of another pod of the same name.
func (p *SeatPods) update(old, updated any) {
	before, ok1 := old.(*corev1.Pod)
	after, ok2 := updated.(*corev1.Pod)
	if ok1 && ok2 && before.UID != after.UID {
		p.observe(before, true)
	}
	p.observe(updated, false)
}

func (p *SeatPods) observe(object any, gone bool) {
	if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	if changed, subscribers := p.note(pod, gone); changed {
		for _, f := range subscribers {
			f(pod.UID)
		}
	}
}

// note takes notice of a pod, and says whether a seat may be concerned.
func (p *SeatPods) note(pod *corev1.Pod, gone bool) (changed bool, subscribers []func(types.UID)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.live[pod.UID]
	if !gone {
		p.live[pod.UID] = pod
		return before == nil || seenPod(before) != seenPod(pod), p.subscribers
	}
	delete(p.live, pod.UID)
	if !p.holds(pod.UID) && !isGated(pod) && conditionOf(pod, v1alpha1.PodConditionLicensed) == nil {
		return false, nil
	}
	last := seenPod(pod)
	last.there, last.gone, last.since = false, true, p.clock.Now()
	p.gone[pod.UID] = gonePod{seen: last, pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Generation: pod.Generation, OwnerReferences: pod.OwnerReferences},
		Spec:       corev1.PodSpec{ServiceAccountName: pod.Spec.ServiceAccountName},
	}}
	p.prune(last.since)
	return true, p.subscribers
}

func (p *SeatPods) holds(uid types.UID) bool { return len(p.ledgers.LicensesOf(uid)) > 0 }

// prune forgets pods that are gone for a while and that no ledger names.
func (p *SeatPods) prune(now time.Time) {
	if now.Sub(p.pruned) < rememberGone {
		return
	}
	p.pruned = now
	for uid, pod := range p.gone {
		if now.Sub(pod.seen.since) > rememberGone && !p.holds(uid) {
			delete(p.gone, uid)
		}
	}
}
