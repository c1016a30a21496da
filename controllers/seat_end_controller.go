package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

const (
	// seatEndWorkers is how many ledgers wait at once for their entries to become durable.
	seatEndWorkers = 16
	// seatEndTimeout bounds one pass over a ledger, its entries and its write.
	seatEndTimeout = 30 * time.Second
	// seatEndShare bounds the time that passes over one ledger take: they rest so many times as long as the last one took in
	// memory.
	seatEndShare = 9
	// seatClockPause is the default of SeatEndReconciler.Pause.
	seatClockPause = 5 * time.Minute
	// maxLease is the longest leaseDuration there is.
	maxLease = 24 * time.Hour
	// retrySync is when it is looked again whether the caches have been filled.
	retrySync = 100 * time.Millisecond

	// resourceNodes is what limits call nodes.
	resourceNodes corev1.ResourceName = "nodes"
)

// SeatLedgers shows the ledgers.
type SeatLedgers interface {
	// Ledger is the ledger of a licence, not to be changed; nil where there is none that can be understood.
	Ledger(license string) *seats.Ledger
	// Licenses are the licences that have a ledger, and LicensesOf those that a pod holds seats of.
	Licenses() []string
	LicensesOf(pod types.UID) []string
	// Subscribe calls f with the licence of each ledger that changes.
	Subscribe(f func(license string))
	// Synced says whether all ledgers are known.
	Synced() bool
}

// SeatBook writes the ledgers.
type SeatBook interface {
	// Do applies changes in one write. Drop deletes the ledger of a licence where nobody holds a seat.
	Do(ctx context.Context, license string, changes ...seats.Change) ([]seats.Result, error)
	Drop(ctx context.Context, license string) (gone bool, err error)
}

// SeatEndReconciler ends seats, where nobody reports the end of their pods (docs/decisions/0012), lets ledgers follow their
// licences, and removes the ledgers of deleted ones. It runs with the leader.
type SeatEndReconciler struct {
	// Client reads licences and nodes from the cache, Live pods, nodes and licences from the API server itself.
	Client client.Client
	Live   client.Reader
	// Ledgers and Book are the seat ledgers.
	Ledgers SeatLedgers
	Book    SeatBook
	// Pods finds the holders. SetupWithManager has it watch.
	Pods *SeatPods
	// Audit gets an entry for each seat before it ends.
	Audit AuditLog
	// Events gets an Event on the licence for each seat of which nothing proves that its pod has ended.
	Events events.EventRecorder
	// Clock tells the time.
	Clock clock.PassiveClock
	// Protected are namespaces whose pods are not deleted: kube-system, exempt ones and ours.
	Protected []string
	// Pause bounds for how long a deadline is waited for without asking the clock again, which may be set. Default 5 min.
	Pause time.Duration

	ender  ender
	mu     sync.Mutex
	wake   func(license string)
	synced []func() bool
	memory map[string]*seatMemory
}

// seatMemory is what is remembered of a ledger between passes, since it stands nowhere else. The queue sees to it that
// one pass at a time uses it; nodes is guarded by the reconciler's mutex.
type seatMemory struct {
	terms seatTerms
	// lease is the licence's, as last seen; longer one that it had before, since nodes have been given it.
	lease  time.Duration
	longer seatLease
	// over is the longest lease that the ledger knows, if no node has it any more.
	over time.Duration
	// noticed are holders whose pods are missing or terminal, ended those that have just been ended.
	noticed map[types.UID]seatNotice
	ended   map[types.UID]seatNotice
	nodes   map[string]bool
	// rest is until when the ledger rests, by the machine's clock.
	rest time.Time
}

// newSeatMemory knows of no licence: the longest lease counts.
func newSeatMemory() *seatMemory { return &seatMemory{terms: seatTerms{lease: maxLease}} }

// seatLease is a lease that was shortened, and until when nodes may still have it.
type seatLease struct {
	lease time.Duration
	until time.Time
}

// seatNotice is when something was first noticed about a holder; absent that the API server does not have its pod.
type seatNotice struct {
	since  time.Time
	held   time.Time // the holder's Since
	absent bool
}

// SetupWithManager registers the controller: for ledgers, their licences, holders and nodes. Call it before the View
// watches.
func (r *SeatEndReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	if r.Pause <= 0 {
		r.Pause = seatClockPause
	}
	r.ender.client, r.ender.protected = r.Client, r.Protected
	r.memory = map[string]*seatMemory{}
	r.Ledgers.Subscribe(r.changed)
	return ctrl.NewControllerManagedBy(mgr).Named("seatend").
		For(&v1alpha1.ModelLicense{}, builder.WithPredicates(specUpdates)).
		WatchesRawSource(source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			return r.start(ctx, mgr.GetCache(), queue)
		})).
		WithOptions(controller.Options{MaxConcurrentReconciles: seatEndWorkers}).
		Complete(r)
}

// start watches, once this replica leads.
func (r *SeatEndReconciler) start(ctx context.Context, informers cache.Informers, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
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
	pods, err := r.Pods.Watch(ctx, informers)
	if err != nil {
		return err
	}
	informer, err := informers.GetInformer(ctx, &corev1.Node{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("informer for nodes: %w", err)
	}
	nodes, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { r.nodeChanged(nil, o) },
		UpdateFunc: r.nodeChanged,
		DeleteFunc: func(o any) { r.nodeChanged(nil, o) },
	})
	if err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	r.mu.Lock()
	r.synced = []func() bool{pods, nodes.HasSynced, r.Ledgers.Synced}
	r.mu.Unlock()
	for _, license := range r.Ledgers.Licenses() {
		r.changed(license)
	}
	return nil
}

// changed has a ledger looked at.
func (r *SeatEndReconciler) changed(license string) {
	r.mu.Lock()
	wake := r.wake
	r.mu.Unlock()
	if wake != nil {
		wake(license)
	}
}

// nodeChanged has the ledgers looked at that have holders on a node, where that is of concern for seats.
func (r *SeatEndReconciler) nodeChanged(old, updated any) {
	if tombstone, ok := updated.(toolscache.DeletedFinalStateUnknown); ok {
		updated = tombstone.Obj
	}
	after, ok := updated.(*corev1.Node)
	if !ok {
		return
	}
	if before, ok := old.(*corev1.Node); ok && before.UID == after.UID && seenNode(before) == seenNode(after) {
		return
	}
	var concerned []string
	r.mu.Lock()
	for license, memory := range r.memory {
		if memory.nodes[after.Name] {
			concerned = append(concerned, license)
		}
	}
	r.mu.Unlock()
	for _, license := range concerned {
		r.changed(license)
	}
}

// ready says whether everything that the cache holds at first has been seen: else a pod or a node might seem gone.
func (r *SeatEndReconciler) ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, synced := range r.synced {
		if !synced() {
			return false
		}
	}
	return r.synced != nil
}

// Reconcile brings the ledger of one licence up to date.
func (r *SeatEndReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if !r.ready() {
		return ctrl.Result{RequeueAfter: retrySync}, nil
	}
	ledger := r.Ledgers.Ledger(req.Name)
	if ledger == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.memory, req.Name)
		return ctrl.Result{}, nil
	}
	memory := r.memoryOf(req.Name)
	if rest := time.Until(memory.rest); rest > 0 {
		return ctrl.Result{RequeueAfter: rest}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, seatEndTimeout)
	defer cancel()
	license := &v1alpha1.ModelLicense{}
	if err := r.Client.Get(ctx, req.NamespacedName, license); err != nil {
		if client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, fmt.Errorf("reading licence %s: %w", req.Name, err)
		}
		license = nil
	}
	now := r.Clock.Now()
	memory.note(license, ledger, now)

	began := time.Now()
	pass := r.newPass(ledger, license, memory, now)
	err := pass.decide(ctx)
	memory.rest = time.Now().Add(seatEndShare * time.Since(began))
	if err != nil {
		return ctrl.Result{}, err
	}
	r.mu.Lock()
	memory.nodes = pass.nodes
	r.mu.Unlock()
	if err := pass.carryOut(ctx); err != nil {
		return ctrl.Result{}, err
	}
	if err := pass.endStranded(ctx); err != nil {
		return ctrl.Result{}, err
	}
	switch {
	case pass.more:
		return ctrl.Result{RequeueAfter: time.Millisecond}, nil
	case license == nil && ledger.Len() == 0:
		return ctrl.Result{}, r.drop(ctx, ledger)
	case pass.again.IsZero():
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: min(max(pass.again.Sub(now), time.Millisecond), r.Pause)}, nil
}

func (r *SeatEndReconciler) memoryOf(license string) *seatMemory {
	r.mu.Lock()
	defer r.mu.Unlock()
	memory := r.memory[license]
	if memory == nil {
		memory = newSeatMemory()
		r.memory[license] = memory
	}
	return memory
}

// note takes notice of a licence's terms. Those of one that is gone are remembered; where it was never seen, the lease that the
// ledger knows counts, or else the longest there is. A lease that becomes shorter may have been given out before.
func (m *seatMemory) note(license *v1alpha1.ModelLicense, ledger *seats.Ledger, now time.Time) {
	_, m.terms.limitsNodes = ledger.Limits()[resourceNodes]
	known := ledger.Terms().Lease
	if license == nil {
		if m.lease == 0 && known > 0 {
			m.terms.lease = known
		}
		return
	}
	lease, before := leaseOf(license), m.lease
	if m.longer.lease > 0 && !now.Before(m.longer.until) {
		m.longer, m.over = seatLease{}, known
	}
	if known != m.over || lease >= known { // given out by another leader, by this one, or from now on
		m.over, before = 0, max(before, known)
	}
	if lease < before && (lease < m.lease || m.longer.lease < before) {
		m.longer.lease = max(m.longer.lease, before)
		if until := now.Add(before); m.longer.until.Before(until) {
			m.longer.until = until
		}
	}
	m.lease = lease
	m.terms.lease, m.terms.keys = max(lease, m.longer.lease), keysNone
	if len(license.Spec.Keys) > 0 {
		m.terms.keys = keysSome
	}
}

// shorten is the change by which the ledger forgets a longer lease that is over; false where there is none.
func (m *seatMemory) shorten(ledger *seats.Ledger) (seats.ShortenLease, bool) {
	known := ledger.Terms().Lease
	return seats.ShortenLease{From: known, To: m.lease}, m.lease > 0 && m.lease < known && known == m.over
}

// leaseOf is a licence's lease.
func leaseOf(license *v1alpha1.ModelLicense) time.Duration { return seats.TermsOf(license).Lease }

// follows says whether a ledger carries generation, limits and terms of a licence as the cache has it. Where the ledger's generation
// is newer, the book finds out which of them is wrong.
func follows(ledger *seats.Ledger, license *v1alpha1.ModelLicense) bool {
	return ledger.LicenseUID() == license.UID && ledger.Generation() == license.Generation && ledger.Terms().Follows(license) && equality.Semantic.DeepEqual(ledger.Limits(), license.Spec.Terms.Limits)
}

// drop removes the ledger of a deleted licence. What was used under it goes into the audit log.
func (r *SeatEndReconciler) drop(ctx context.Context, ledger *seats.Ledger) error {
	name := ledger.License()
	err := r.Live.Get(ctx, client.ObjectKey{Name: name}, &v1alpha1.ModelLicense{})
	if err == nil {
		return nil // it is here again, and its event is on the way
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading licence %s: %w", name, err)
	}
	if entry, used := closedEntry(ledger, r.Clock.Now()); used {
		if err := appendEntry(ctx, r.Audit, entry); err != nil {
			return err
		}
	}
	gone, err := r.Book.Drop(ctx, name)
	if err != nil {
		return fmt.Errorf("removing the ledger of licence %s: %w", name, err)
	}
	if !gone {
		return errors.New("the ledger of a deleted licence has holders again")
	}
	return nil
}
