package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/internal/seats"
)

const (
	// allocPause is the least time between two rounds of the allocator, in which changes are gathered; takePause that after
	// a round that wrote a ledger, so that pods which come one after another share its next write.
	allocPause = 25 * time.Millisecond
	takePause  = 100 * time.Millisecond
	// allocRetry is when licences are looked at again that a round left out, or whose ledger could not be written.
	allocRetry = time.Second
	// maxTaking bounds the pods that have seats and still their gate: a crash leaves no more than those behind, and when
	// entries do not become durable, no more seats are taken.
	maxTaking = 1024
	// bookTimeout bounds one write of a ledger, with all that is tried again.
	bookTimeout = 15 * time.Second
	// viewLag is how long the view may take to show a seat that was written.
	viewLag = 2 * time.Second
	// groupGathers is how old the newest pod of a group is, whose pods do not say how many they are, when it starts with those
	// that are there.
	groupGathers = 2 * time.Second
	// DefaultTellRate is how many waiting pods are told their place in a second.
	DefaultTellRate = 20
	// tellEvery is how often it is looked whom to tell.
	tellEvery = 250 * time.Millisecond
)

// Ledgers shows who holds seats: *seatbook.View.
type Ledgers interface {
	SeatLedgers
	// Err says why the ledger of a licence cannot be understood.
	Err(license string) error
}

// AllocationBook is what the allocator needs of *seatbook.Book.
type AllocationBook interface {
	SeatBook
	// Newest is a ledger as it was last written here, or seen where that is newer; nil where it is not remembered what was
	// written. It must not be changed.
	Newest(license string) *seats.Ledger
}

// SeatAllocator takes the seats of waiting pods. There is one goroutine of it, on the leader, woken by pods, ledgers, licences
// and grants; it plans in memory over all ledgers that waiting pods need, and writes them in the order of their names. A pod
// that has all its seats goes to the pod controller, which logs it and removes its gate.
type SeatAllocator struct {
	// Queue knows who waits.
	Queue *SeatQueue
	// Ledgers shows who holds seats, Book writes it.
	Ledgers Ledgers
	Book    AllocationBook
	// Rights knows the licences.
	Rights Snapshots
	// Pods reads from the cache.
	Pods client.Reader
	// Clock tells the time.
	Clock clock.PassiveClock
	// Waited is told for how long each pod waited that has its seats now. Optional.
	Waited func(time.Duration)
	// TellRate is how many waiting pods are told their place in a second; 0 means DefaultTellRate.
	TellRate int
	// Interrupt is for tests.
	Interrupt Interrupt

	// unseen are the seats that were written, and that the view does not show yet; the allocator's goroutine alone uses it.
	unseen map[string][]unseenSeat
	// turns is when grants last had a turn, by turnKey; the same goroutine's. A leader begins with none.
	turns *lru.Cache
	// wrote says whether the round wrote a ledger; the same goroutine's.
	wrote bool
}

// unseenSeat is a pod's seat that was written at a time.
type unseenSeat struct {
	pod types.UID
	at  time.Time
}

// run goes on until ctx ends. Enqueue has a worker look at a pod, at once or when there is nothing more urgent.
func (a *SeatAllocator) run(ctx context.Context, enqueue func(pod types.NamespacedName, urgent bool)) {
	log := ctrl.LoggerFrom(ctx)
	tell, again := time.NewTicker(tellEvery), time.NewTicker(allocRetry)
	defer tell.Stop()
	defer again.Stop()
	left := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tell.C:
			a.tell(enqueue)
			continue
		case <-again.C:
			for license := range left {
				a.Queue.touch(license)
			}
			clear(left)
			continue
		case <-a.Queue.wake:
		}
		a.wrote = false
		skipped, err := a.round(ctx, enqueue)
		if err != nil && ctx.Err() == nil {
			log.Error(err, "Seats cannot be taken")
		}
		for _, license := range skipped {
			left[license] = true
		}
		pause := allocPause
		if a.wrote {
			pause = takePause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// tell has workers tell as many pods their place as the rate allows.
func (a *SeatAllocator) tell(enqueue func(types.NamespacedName, bool)) {
	rate := a.TellRate
	if rate == 0 {
		rate = DefaultTellRate
	}
	for _, pod := range a.Queue.untold(max(1, int(time.Duration(rate)*tellEvery/time.Second)), a.Clock.Now()) {
		enqueue(pod, false)
	}
}

// round plans the licences of which something has changed, and takes seats. It returns those that it left out, to be
// looked at again even if nothing changes.
func (a *SeatAllocator) round(ctx context.Context, enqueue func(types.NamespacedName, bool)) (skipped []string, err error) {
	licenses := a.Queue.takeChanged()
	if len(licenses) == 0 {
		return nil, nil
	}
	snapshot, synced := a.Rights.Snapshot()
	if !synced || !a.Ledgers.Synced() {
		return licenses, nil
	}
	scene := a.look(licenses, snapshot)
	for _, pod := range scene.unseated {
		enqueue(pod, true)
	}
	if len(scene.waiting)+len(scene.resumed)+len(scene.partial) == 0 {
		return scene.left, nil
	}
	chosen, partial := a.plan(scene)
	for _, pod := range partial {
		enqueue(pod, true)
	}
	if free := maxTaking - a.Queue.takingNow(); len(chosen) > max(free, 0) {
		chosen = chosen[:max(free, 0)]
		scene.left = append(scene.left, licenses...)
	}
	if len(chosen) == 0 {
		return scene.left, nil
	}
	a.wrote = true
	looks, err := a.take(ctx, scene, chosen)
	for _, pod := range looks {
		enqueue(pod, true)
	}
	if err != nil {
		return licenses, err
	}
	return scene.left, nil
}

// versionOf is the resourceVersion under which the cache has a pod of that UID that only our gate holds back.
func (a *SeatAllocator) versionOf(ctx context.Context, p *queuedPod) (string, error) {
	var pod corev1.Pod
	if err := a.Pods.Get(ctx, p.name, &pod, client.UnsafeDisableDeepCopy); err != nil {
		return "", fmt.Errorf("reading pod %s: %w", p.name, err)
	}
	if pod.UID != p.uid || !isGated(&pod) || hasOtherGates(&pod) || pod.DeletionTimestamp != nil {
		return "", fmt.Errorf("pod %s does not wait any more", p.name)
	}
	return pod.ResourceVersion, nil
}
