package integration

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/seatbook"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// endWorld is an API server without kubelets, and the part of an operator that ends seats and tells of them. Specs take
// the seats, and set the clock.
type endWorld struct {
	operatorWorld
	book  *seatbook.Book
	clock *clocktesting.FakePassiveClock
	queue *waitingSeats
	stop  func()
	// view and pods are what the operator that runs knows, passes how often it has looked at licences' seats.
	view   *seatbook.View
	pods   *controllers.SeatPods
	passes *seatPasses
}

// seatPasses counts how often each licence is read, as the operator does when it begins to look at its seats.
type seatPasses struct {
	client.Client
	mu    sync.Mutex
	begun map[string]int
}

func (p *seatPasses) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if _, ok := object.(*v1alpha1.ModelLicense); ok {
		p.mu.Lock()
		p.begun[key.Name]++
		p.mu.Unlock()
	}
	return p.Client.Get(ctx, key, object, options...)
}

func (p *seatPasses) of(license string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begun[license]
}

// waitingSeats is what waits, by licence.
type waitingSeats struct {
	mu        sync.Mutex
	byLicense map[string]map[seats.Grant]controllers.WaitingSeats
	tell      []func(license string)
}

func (w *waitingSeats) Subscribe(f func(license string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell = append(w.tell, f)
}

func (w *waitingSeats) Waiting(license string) map[seats.Grant]controllers.WaitingSeats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.byLicense[license])
}

func (w *waitingSeats) set(license string, grant seats.Grant, waiting controllers.WaitingSeats) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.byLicense[license] = map[seats.Grant]controllers.WaitingSeats{grant: waiting}
	for _, tell := range w.tell {
		tell(license)
	}
}

func newEndWorld(ctx context.Context) *endWorld {
	GinkgoHelper()
	w := &endWorld{
		operatorWorld: newOperatorWorld(ctx), clock: clocktesting.NewFakePassiveClock(time.Now().Truncate(time.Second)),
		queue: &waitingSeats{byLicense: map[string]map[seats.Grant]controllers.WaitingSeats{}},
	}
	DeferCleanup(w.stopAll)
	w.book = seatbook.New(seatbook.Options{Client: w.client, Reader: w.client})
	w.create(ctx, builders.Namespace("ml").Obj())
	w.begin(ctx)
	return w
}

// begin runs an operator, until stop is called.
func (w *endWorld) begin(ctx context.Context) {
	GinkgoHelper()
	stop := w.run(ctx, "test", func(o *operatorParts) {
		w.view, w.pods = o.ledgers, controllers.NewSeatPods(w.clock, o.ledgers)
		w.passes = &seatPasses{Client: o.GetClient(), begun: map[string]int{}}
		Expect((&controllers.SeatEndReconciler{
			Client: w.passes, Live: o.GetAPIReader(), Ledgers: w.view, Book: o.allocator.Book, Pods: w.pods,
			Audit: o.log, Events: o.events, Clock: w.clock, Pause: 20 * time.Millisecond,
		}).SetupWithManager(o.running, o)).To(Succeed())
		Expect((&controllers.SeatStatusReconciler{Client: o.GetClient(), Ledgers: w.view, Queue: w.queue, Pods: w.pods, Clock: w.clock}).SetupWithManager(o)).To(Succeed())
		o.addGrants(w.clock) // who else writes statuses of grants writes them whole
	})
	w.stop = func() {
		stop()
		w.pods = nil
	}
}

// lookedAt waits until the operator has looked at all seats of a licence, of which one at least is to be looked at again.
func (w *endWorld) lookedAt(ctx context.Context, license *v1alpha1.ModelLicense) {
	GinkgoHelper()
	before := w.passes.of(license.Name)
	// One pass follows the other: when the second begins, the first that began from now on is over.
	Eventually(func() int { return w.passes.of(license.Name) }).WithContext(ctx).Should(BeNumerically(">=", before+2))
}

// pass lets time go by.
func (w *endWorld) pass(d time.Duration) { w.clock.SetTime(w.clock.Now().Add(d)) }

// license creates a licence, and its grant chat-NAME in namespace ml.
func (w *endWorld) license(ctx context.Context, b *builders.LicenseBuilder) (*v1alpha1.ModelLicense, *v1alpha1.ModelGrant) {
	GinkgoHelper()
	license := b.Repository("registry.example.com/models/chat").Obj()
	Expect(w.client.Create(ctx, license)).To(Succeed())
	grant := builders.Grant("ml", "chat-"+license.Name, license.Name).ServiceAccount("llm").Obj()
	Expect(w.client.Create(ctx, grant)).To(Succeed())
	return license, grant
}

func (w *endWorld) pod(ctx context.Context, b *builders.PodBuilder) *corev1.Pod {
	GinkgoHelper()
	pod := b.Container("main", "registry.example.com/models/chat:v1").Obj()
	Expect(w.client.Create(ctx, pod)).To(Succeed())
	return pod
}

func (w *endWorld) node(ctx context.Context, name string) *corev1.Node {
	GinkgoHelper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	Expect(w.client.Create(ctx, node)).To(Succeed())
	return w.kubelet(ctx, node, corev1.ConditionTrue)
}

// kubelet has the node's controller say whether its kubelet was heard of.
func (w *endWorld) kubelet(ctx context.Context, node *corev1.Node, ready corev1.ConditionStatus) *corev1.Node {
	GinkgoHelper()
	before := client.MergeFrom(node.DeepCopy())
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastTransitionTime: metav1.NewTime(w.clock.Now())}}
	Expect(w.client.Status().Patch(ctx, node, before)).To(Succeed())
	return node
}

// phase has a pod's kubelet say how far it is.
func (w *endWorld) phase(ctx context.Context, pod *corev1.Pod, phase corev1.PodPhase) {
	GinkgoHelper()
	before := client.MergeFrom(pod.DeepCopy())
	pod.Status.Phase = phase
	Expect(w.client.Status().Patch(ctx, pod, before)).To(Succeed())
}

// do changes the ledger of a licence.
func (w *endWorld) do(ctx context.Context, license *v1alpha1.ModelLicense, changes ...seats.Change) {
	GinkgoHelper()
	doing, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	results, err := w.book.Do(doing, license.Name, changes...)
	Expect(err).NotTo(HaveOccurred())
	for i, result := range results {
		Expect(result.OK()).To(BeTrue(), "%T: %s", changes[i], result.Message)
	}
}

// take takes a seat for a pod.
func (w *endWorld) take(ctx context.Context, license *v1alpha1.ModelLicense, grant *v1alpha1.ModelGrant, pod *corev1.Pod) {
	GinkgoHelper()
	w.do(ctx, license, seats.Limit{License: license}, seats.Take{
		Pod: pod.UID, Grant: grantOf(grant), Amount: corev1.ResourceList{}, Generation: license.Generation, Since: w.clock.Now(),
	})
	Eventually(func() []string { return w.view.LicensesOf(pod.UID) }).WithContext(ctx).Should(ContainElement(license.Name))
}

// release takes a seat for a pod, and has its key released.
func (w *endWorld) release(ctx context.Context, license *v1alpha1.ModelLicense, grant *v1alpha1.ModelGrant, pod *corev1.Pod) {
	GinkgoHelper()
	w.take(ctx, license, grant, pod)
	w.do(ctx, license, seats.Release{Pod: pod.UID, Node: pod.Spec.NodeName})
}

func grantOf(grant *v1alpha1.ModelGrant) seats.Grant {
	return seats.Grant{Namespace: grant.Namespace, Name: grant.Name, UID: grant.UID}
}

// force deletes a pod's object, whatever becomes of its containers, and waits until the operator, if one runs, knows: until
// then no time may go by.
func (w *endWorld) force(ctx context.Context, pod *corev1.Pod) {
	GinkgoHelper()
	Expect(w.client.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
	if w.pods == nil {
		return
	}
	Eventually(func() bool {
		_, gone := w.pods.Pod(pod.UID)
		return gone
	}).WithContext(ctx).Should(BeTrue())
}

// ledger reads the ledger of a licence; nil where there is none.
func (w *endWorld) ledger(ctx context.Context, license *v1alpha1.ModelLicense) *seats.Ledger {
	GinkgoHelper()
	var stored v1alpha1.ModelSeats
	if err := w.client.Get(ctx, client.ObjectKeyFromObject(license), &stored); err != nil {
		Expect(client.IgnoreNotFound(err)).To(Succeed())
		return nil
	}
	ledger, err := seats.Decode(&stored)
	Expect(err).NotTo(HaveOccurred())
	return ledger
}

// seat says what the ledger says of a pod: none, held, on NODE, until DURATION from now; with a + where its key was released.
func (w *endWorld) seat(ctx context.Context, license *v1alpha1.ModelLicense, pod types.UID) func() string {
	return func() string {
		GinkgoHelper()
		ledger := w.ledger(ctx, license)
		if ledger == nil {
			return "no ledger"
		}
		h, ok := ledger.Holder(pod)
		switch {
		case !ok:
			return "none"
		case !h.Until.IsZero():
			return "until " + h.Until.Sub(w.clock.Now().Truncate(time.Second)).String()
		case h.Node != "":
			return "on " + h.Node
		}
		return "held"
	}
}

// ends lists the ends of seats that the audit log tells of, of a licence: POD REASON SECONDS.
func (w *endWorld) ends(ctx context.Context, license *v1alpha1.ModelLicense) func() []string {
	return func() []string {
		GinkgoHelper()
		told, ids := []string{}, map[string]bool{}
		for e, err := range audit.Entries(ctx, w.client, 0) {
			Expect(err).NotTo(HaveOccurred())
			if e.Entry.Type == audit.SeatEnded && e.Entry.License.UID == string(license.UID) && !ids[e.Entry.ID] {
				told = append(told, fmt.Sprintf("%s %s %d", e.Entry.Pod.Name, e.Entry.Reason, e.Entry.Seconds))
				ids[e.Entry.ID] = true
			}
		}
		return told
	}
}

// events lists the Events SeatEnded about a licence.
func (w *endWorld) events(ctx context.Context, license *v1alpha1.ModelLicense) func() []string {
	return func() []string {
		GinkgoHelper()
		var list eventsv1.EventList
		Expect(w.client.List(ctx, &list)).To(Succeed())
		notes := []string{}
		for _, e := range list.Items {
			if e.Regarding.UID == license.UID && e.Reason == string(v1alpha1.ReasonSeatEnded) {
				notes = append(notes, e.Note)
			}
		}
		return notes
	}
}
