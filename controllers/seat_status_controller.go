package controllers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

const (
	// seatStatusWorkers is how many licences have their seats written at once.
	seatStatusWorkers = 4
	// seatStatusPause is the least time between two writes of the seats of one licence and its grants.
	seatStatusPause = time.Second
	// usagePause is how long usage may be behind in a status, where nothing else changes; usageShare how much longer that is for
	// each object of which it has to be written.
	usagePause = 5 * time.Minute
	usageShare = 100 * time.Millisecond
)

// SeatWaiting knows what waits for seats.
type SeatWaiting interface {
	// Waiting says what waits for seats of a licence, by grant.
	Waiting(license string) map[seats.Grant]WaitingSeats
	// Subscribe calls f with each licence of which that may have changed. F neither blocks nor asks.
	Subscribe(f func(license string))
}

// LedgerErrors says why a ledger cannot be understood; nil where it can.
type LedgerErrors interface {
	Err(license string) error
}

// SeatStatusReconciler says in the status of licences and grants what is in use, who waits, and what was used. It has a
// part of both of its own. It runs with the leader.
type SeatStatusReconciler struct {
	// Client reads from the cache and writes status.
	Client client.Client
	// Ledgers shows the ledgers. Where it is LedgerErrors too, the status tells of ledgers that cannot be understood.
	Ledgers SeatLedgers
	// Queue knows what waits. Optional.
	Queue SeatWaiting
	// Pods knows the holders' names. SeatEndReconciler has it watch.
	Pods *SeatPods
	// Clock tells the time.
	Clock clock.PassiveClock

	grants shownGrants
	mu     sync.Mutex
	wake   func(license string)
	memory map[string]*statusMemory
	shown  int // objects of which usage has to be written time and again
}

// statusMemory is when the seats of a licence were last written, by the machine's clock, and usage; and of how many
// objects usage grows.
type statusMemory struct {
	written, usage time.Time
	growing        int
	// share is how much of usagePause usage waits for: at first a random part, so that after a start, when it is behind
	// everywhere, it is not written everywhere at once.
	share float64
	// unseen are statuses that were written and that the cache may not show yet, by the object's namespace and name: what is
	// wanted next is compared with them too, or a change back would be missed.
	unseen map[types.NamespacedName]*v1alpha1.SeatStatus
}

// shows says whether an object has the seats in its status that are wanted, by the cache and by what was written last.
func (m *statusMemory) shows(name types.NamespacedName, cached, wanted *v1alpha1.SeatStatus) bool {
	unseen, ok := m.unseen[name]
	if ok && equality.Semantic.DeepEqual(cached, unseen) {
		delete(m.unseen, name)
		ok = false
	}
	return equality.Semantic.DeepEqual(cached, wanted) && (!ok || equality.Semantic.DeepEqual(unseen, wanted))
}

// wrote remembers what was written until the cache shows it.
func (m *statusMemory) wrote(name types.NamespacedName, written *v1alpha1.SeatStatus) {
	if m.unseen == nil {
		m.unseen = map[types.NamespacedName]*v1alpha1.SeatStatus{}
	}
	m.unseen[name] = written
}

// usageDue is when usage is to be written next.
func (m *statusMemory) usageDue(pause time.Duration) time.Time {
	return m.usage.Add(time.Duration(m.share * float64(pause)))
}

// SetupWithManager registers the controller: for licences and grants, ledgers, and the names and nodes of their holders.
func (r *SeatStatusReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.memory = map[string]*statusMemory{}
	r.Ledgers.Subscribe(r.changed)
	if r.Queue != nil {
		r.Queue.Subscribe(r.changed)
	}
	return ctrl.NewControllerManagedBy(mgr).Named("seatstatus").
		For(&v1alpha1.ModelLicense{}, builder.WithPredicates(specUpdates)).
		Watches(&v1alpha1.ModelGrant{}, r.grants.handler()).
		WatchesRawSource(source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			r.mu.Lock()
			r.wake = func(license string) {
				queue.Add(reconcile.Request{NamespacedName: client.ObjectKey{Name: license}})
			}
			r.mu.Unlock()
			r.Pods.Subscribe(func(uid types.UID) {
				for _, license := range r.Ledgers.LicensesOf(uid) {
					r.changed(license)
				}
			})
			return nil
		})).
		WithOptions(controller.Options{MaxConcurrentReconciles: seatStatusWorkers}).
		Complete(r)
}

// changed has the status of a licence looked at.
func (r *SeatStatusReconciler) changed(license string) {
	r.mu.Lock()
	wake := r.wake
	r.mu.Unlock()
	if wake != nil {
		wake(license)
	}
}

// Reconcile brings the seats in the status of one licence and its grants up to date.
func (r *SeatStatusReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if !r.Ledgers.Synced() {
		return ctrl.Result{RequeueAfter: retrySync}, nil
	}
	var license v1alpha1.ModelLicense
	if err := r.Client.Get(ctx, req.NamespacedName, &license); err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.forget(req.Name)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	memory := r.memoryOf(req.Name)
	if wait := time.Until(memory.written.Add(seatStatusPause)); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	if told, ok := r.Ledgers.(LedgerErrors); ok {
		if err := told.Err(req.Name); err != nil {
			status := v1alpha1.ModelLicenseStatus{Seats: license.Status.Seats, Usage: license.Status.Usage, Conditions: slices.Clone(license.Status.Conditions)}
			setLedgerUnreadable(&status.Conditions, license.Generation, req.Name, err)
			return ctrl.Result{}, r.writeLicense(ctx, &license, status, memory, false)
		}
	}
	ledger := r.Ledgers.Ledger(req.Name)
	now := r.Clock.Now()
	view := &seatView{ledger: ledger, now: now, byGrant: map[seats.Grant]WaitingSeats{}}
	if r.Queue != nil {
		view.byGrant = r.Queue.Waiting(req.Name)
	}
	if ledger != nil {
		view.holders = ledger.Holders()
		view.beyond = beyondByGrant(view.holders)
	}
	usageDue := !time.Now().Before(memory.usageDue(r.usagePause()))
	err := r.writeLicense(ctx, &license, r.licenseStatus(&license, view), memory, usageDue || len(view.holders) == 0)
	growing, grantsErr := r.writeGrants(ctx, req.Name, view, memory, usageDue)
	if err := errors.Join(err, grantsErr); err != nil {
		return ctrl.Result{}, err
	}
	if usageDue {
		memory.usage, memory.share = time.Now(), 1
	}
	r.count(memory, growing)
	if len(view.holders) == 0 {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(seatStatusPause, time.Until(memory.usageDue(r.usagePause())))}, nil
}

// seatView is what is known of the seats of one licence.
type seatView struct {
	ledger  *seats.Ledger // nil where there is none
	holders []seats.Holder
	beyond  map[seats.Grant]int
	byGrant map[seats.Grant]WaitingSeats
	now     time.Time
}

func (r *SeatStatusReconciler) licenseStatus(license *v1alpha1.ModelLicense, view *seatView) v1alpha1.ModelLicenseStatus {
	status := v1alpha1.ModelLicenseStatus{Conditions: slices.Clone(license.Status.Conditions)}
	waiting, limits := waitingSum(view.byGrant), license.Spec.Terms.Limits
	if view.ledger == nil {
		status.Seats = seatStatus(nothingInUse(), limits, waiting, 0)
	} else {
		status.Seats = seatStatus(view.ledger.InUse(), limits, waiting, view.ledger.BeyondLimits())
		status.Seats.Holders = shownHolders(view.holders, func(uid types.UID) *corev1.Pod {
			pod, gone := r.Pods.Pod(uid)
			if gone {
				return nil
			}
			return pod
		})
		usage := view.ledger.Usage(view.now)
		status.Usage = &usage
	}
	setOverLimit(&status.Conditions, license.Generation, status.Seats)
	return status
}

// writeLicense writes the part of a licence's status that is ours, if it has changed. That usage alone has grown counts where
// it is due.
func (r *SeatStatusReconciler) writeLicense(ctx context.Context, license *v1alpha1.ModelLicense, status v1alpha1.ModelLicenseStatus, memory *statusMemory, usageDue bool) error {
	before, name := license.Status, client.ObjectKeyFromObject(license)
	if memory.shows(name, before.Seats, status.Seats) &&
		equality.Semantic.DeepEqual(ownerSeats.part(v1alpha1.ModelLicenseStatus{Conditions: before.Conditions}),
			ownerSeats.part(v1alpha1.ModelLicenseStatus{Conditions: status.Conditions})) &&
		(!usageDue || equality.Semantic.DeepEqual(before.Usage, status.Usage)) {
		return nil
	}
	memory.written = time.Now()
	memory.wrote(name, status.Seats)
	return client.IgnoreNotFound(applyLicenseStatus(ctx, r.Client, license, ownerSeats, status))
}

// writeGrants does the same for grants that have seats, wait for some, have had some or limit them, and says of how many
// usage grows.
func (r *SeatStatusReconciler) writeGrants(ctx context.Context, license string, view *seatView, memory *statusMemory, usageDue bool) (growing int, err error) {
	names := r.grants.of(license)
	add := func(g seats.Grant) { names = append(names, types.NamespacedName{Namespace: g.Namespace, Name: g.Name}) }
	if view.ledger != nil {
		for _, g := range view.ledger.Grants() {
			add(g)
		}
	}
	for g := range view.byGrant {
		add(g)
	}
	slices.SortFunc(names, compareNames)
	var errs []error
	for _, name := range slices.Compact(names) {
		var grant v1alpha1.ModelGrant
		if err := r.Client.Get(ctx, name, &grant, client.UnsafeDisableDeepCopy); err != nil {
			if client.IgnoreNotFound(err) != nil {
				errs = append(errs, fmt.Errorf("reading grant %s: %w", name, err))
			}
			continue
		}
		if grant.Spec.LicenseName != license {
			continue
		}
		inUse, usage := grantSeats(&grant, view)
		pods := inUse.InUse[corev1.ResourcePods]
		if !pods.IsZero() {
			growing++
		}
		if memory.shows(name, grant.Status.Seats, inUse) &&
			(equality.Semantic.DeepEqual(grant.Status.Usage, usage) || !usageDue && !pods.IsZero()) {
			continue
		}
		memory.written = time.Now()
		memory.wrote(name, inUse)
		if err := client.IgnoreNotFound(applyGrantSeats(ctx, r.Client, &grant, inUse, usage)); err != nil {
			errs = append(errs, err)
		}
	}
	return growing, errors.Join(errs...)
}

// grantSeats is what a grant's status says of seats.
func grantSeats(grant *v1alpha1.ModelGrant, view *seatView) (*v1alpha1.SeatStatus, *v1alpha1.UsageStatus) {
	g := seats.Grant{Namespace: grant.Namespace, Name: grant.Name, UID: grant.UID}
	if view.ledger == nil {
		return seatStatus(nothingInUse(), grant.Spec.Limits, view.byGrant[g], 0), nil
	}
	usage := view.ledger.UsageOf(g, view.now)
	return seatStatus(view.ledger.InUseBy(g), grant.Spec.Limits, view.byGrant[g], view.beyond[g]), &usage
}

func (r *SeatStatusReconciler) memoryOf(license string) *statusMemory {
	r.mu.Lock()
	defer r.mu.Unlock()
	memory := r.memory[license]
	if memory == nil {
		memory = &statusMemory{usage: time.Now(), share: rand.Float64()} //nolint:gosec // it spreads writes and protects nothing
		r.memory[license] = memory
	}
	return memory
}

func (r *SeatStatusReconciler) forget(license string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if memory := r.memory[license]; memory != nil {
		r.shown -= memory.growing
		delete(r.memory, license)
	}
}

// count notes of how many objects usage grows.
func (r *SeatStatusReconciler) count(memory *statusMemory, growing int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shown += growing - memory.growing
	memory.growing = growing
}

// usagePause is how long usage may be behind now.
func (r *SeatStatusReconciler) usagePause() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(usagePause, time.Duration(r.shown)*usageShare)
}
