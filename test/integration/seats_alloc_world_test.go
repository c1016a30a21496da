package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// seatsWorld is an API server without webhooks and kubelets, and operators that take the seats of pods and end them. Pods
// come with the gate that the webhook would have given them.
type seatsWorld struct {
	operatorWorld
	// interrupt is what operators call at each step from now on.
	interrupt atomic.Pointer[controllers.Interrupt]
	count     int
}

func newSeatsWorld(ctx context.Context) *seatsWorld {
	GinkgoHelper()
	w := &seatsWorld{operatorWorld: newOperatorWorld(ctx, func(env *envtest.Environment) {
		// Directories that outlive the processes, so that these can be started again.
		env.ControlPlane.GetAPIServer().CertDir = GinkgoT().TempDir()
		env.ControlPlane.Etcd = &envtest.Etcd{DataDir: GinkgoT().TempDir()}
		env.ControlPlane.GetAPIServer().Configure().Set("max-mutating-requests-inflight", "1000")
	})}
	DeferCleanup(w.stopAll)
	return w
}

// lead runs an operator that believes to lead, until stop is called or the specs are over.
func (w *seatsWorld) lead(ctx context.Context, identity string) (stop func()) {
	GinkgoHelper()
	return w.run(ctx, identity, func(o *operatorParts) {
		o.allocator.TellRate = 400
		o.allocator.Interrupt = func(ctx context.Context, step controllers.SeatStep, pod types.NamespacedName) error {
			if f := w.interrupt.Load(); f != nil {
				return (*f)(ctx, step, pod)
			}
			return nil
		}
		o.addPods()
		now := clock.RealClock{}
		Expect((&controllers.SeatEndReconciler{
			Client: o.GetClient(), Live: o.GetAPIReader(), Ledgers: o.ledgers, Book: o.allocator.Book,
			Pods: controllers.NewSeatPods(now, o.ledgers), Audit: o.log, Events: o.events, Clock: now,
		}).SetupWithManager(o.running, o)).To(Succeed())
	})
}

// at has operators call f at each step, and nothing when the spec is over.
func (w *seatsWorld) at(f controllers.Interrupt) {
	w.interrupt.Store(&f)
	DeferCleanup(func() { w.interrupt.Store(nil) })
}

// team makes a namespace with a licence of the same name for each of the limits, and a grant of each.
func (w *seatsWorld) team(ctx context.Context, licenses ...func(*builders.LicenseBuilder)) (namespace string, names []string) {
	GinkgoHelper()
	w.count++
	namespace = fmt.Sprintf("team-%d", w.count)
	w.create(ctx, builders.Namespace(namespace).Obj())
	for i, change := range licenses {
		name := fmt.Sprintf("%s-%c", namespace, 'a'+i)
		b := builders.License(name).Repository(modelOf(name))
		change(b)
		w.create(ctx, b.Obj(), builders.Grant(namespace, "grant-"+name, name).ServiceAccount("llm").Obj())
		names = append(names, name)
	}
	return namespace, names
}

func modelOf(license string) string { return "registry.example.com/models/" + license }

// pods limits a licence to so many.
func pods(n int) func(*builders.LicenseBuilder) {
	return func(b *builders.LicenseBuilder) { b.Limits("pods", fmt.Sprint(n)) }
}

// gatedPod is a pod of licences, as the webhook lets it in.
func gatedPod(namespace, name string, licenses ...string) *builders.PodBuilder {
	b := builders.Pod(namespace, name).ServiceAccount("llm").Gate()
	for i, license := range licenses {
		b.Container(fmt.Sprintf("c%d", i), modelOf(license)+":1")
	}
	return b
}

// createAll creates many objects at a time.
func (w *seatsWorld) createAll(ctx context.Context, objects []*corev1.Pod) {
	GinkgoHelper()
	var group errgroup.Group
	group.SetLimit(16)
	for _, o := range objects {
		group.Go(func() error { return w.client.Create(ctx, o) })
	}
	Expect(group.Wait()).To(Succeed())
}

// ledger is a licence's ledger as it is stored; an empty one where there is none.
func (w *seatsWorld) ledger(ctx context.Context, license string) *seats.Ledger {
	GinkgoHelper()
	var stored v1alpha1.ModelSeats
	err := w.client.Get(ctx, client.ObjectKey{Name: license}, &stored)
	if apierrors.IsNotFound(err) {
		return seats.Empty(builders.License(license).Obj())
	}
	Expect(err).NotTo(HaveOccurred())
	ledger, err := seats.Decode(&stored)
	Expect(err).NotTo(HaveOccurred())
	return ledger
}

// stored lists the pods of a namespace.
func (w *seatsWorld) stored(ctx context.Context, namespace string) []corev1.Pod {
	GinkgoHelper()
	var list corev1.PodList
	Expect(w.client.List(ctx, &list, client.InNamespace(namespace))).To(Succeed())
	return list.Items
}

func waits(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.SeatGate })
}

func over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// started are the pods of a namespace without a gate that have not ended.
func (w *seatsWorld) started(ctx context.Context, namespace string) []*corev1.Pod {
	GinkgoHelper()
	var started []*corev1.Pod
	for _, pod := range w.stored(ctx, namespace) {
		if !waits(&pod) && !over(&pod) {
			started = append(started, &pod)
		}
	}
	return started
}

// ends has a pod end as kubelet would say it.
func (w *seatsWorld) ends(ctx context.Context, pods ...*corev1.Pod) {
	GinkgoHelper()
	for _, pod := range pods {
		before := client.StrategicMergeFrom(pod.DeepCopy())
		pod.Status.Phase = corev1.PodSucceeded
		Expect(w.client.Status().Patch(ctx, pod, before)).To(Succeed())
	}
}

// bind puts a pod on a node as the scheduler does.
func (w *seatsWorld) bind(ctx context.Context, pod *corev1.Pod, node string) {
	GinkgoHelper()
	Expect(w.client.SubResource("binding").Create(ctx, pod, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: node}})).To(Succeed())
}

// seatsMatch waits until exactly the pods that have started hold a seat, n of them, and returns them.
func (w *seatsWorld) seatsMatch(ctx context.Context, namespace string, n int, licenses ...string) (started []*corev1.Pod) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		started = w.started(ctx, namespace)
		g.Expect(started).To(HaveLen(n))
		for _, license := range licenses {
			g.Expect(holdersOf(w.ledger(ctx, license))).To(ConsistOf(uidsOf(started)))
		}
	}).WithContext(ctx).WithPolling(50 * time.Millisecond).Should(Succeed())
	return started
}

func holdersOf(l *seats.Ledger) []types.UID {
	uids := []types.UID{}
	for _, h := range l.Holders() {
		uids = append(uids, h.Pod)
	}
	return uids
}

func uidsOf(pods []*corev1.Pod) []types.UID {
	uids := []types.UID{}
	for _, p := range pods {
		uids = append(uids, p.UID)
	}
	return uids
}

// killAPIServer ends the API server at once: to stop in good order, it waits for those that watch.
func (w *seatsWorld) killAPIServer() {
	GinkgoHelper()
	server := w.env.ControlPlane.GetAPIServer()
	programs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	Expect(err).NotTo(HaveOccurred())
	killed := 0
	for _, program := range programs {
		if line, err := os.ReadFile(program); err != nil || !strings.Contains(string(line), "--cert-dir="+server.CertDir+"\x00") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(program)))
		Expect(err).NotTo(HaveOccurred())
		Expect(syscall.Kill(pid, syscall.SIGKILL)).To(Succeed())
		killed++
	}
	Expect(killed).To(Equal(1))
	Eventually(server.Stop).Should(Succeed())
}
