package integration

import (
	"context"
	"net"
	"strconv"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seatbook"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
	"modelrights.dev/modelrights/webhooks"
)

// wholeWorld is an API server with the roles, policies and webhooks of config/, and an operator that acts as its own
// account, which may do more here than its roles allow: its caches are not bounded as its command bounds them. One replica
// answers all webhooks, another leads. There are no kubelets: specs say what they would.
type wholeWorld struct {
	operatorWorld
	*admission
	// admin is who installed all this, tenant somebody who may do as much. Neither is the operator.
	admin, tenant client.Client
	ledgers       *seatbook.View
}

func newWholeWorld(ctx context.Context) *wholeWorld {
	GinkgoHelper()
	w := &wholeWorld{operatorWorld: newOperatorWorld(ctx)}
	DeferCleanup(w.stopAll)
	w.admin = w.operatorWorld.client
	n1 := node("n1", "eu")
	w.create(ctx, builders.Namespace(nodeNamespace).Obj(), n1)
	n1.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("64Gi")}
	n1.Status.Capacity = n1.Status.Allocatable
	Expect(w.admin.Status().Update(ctx, n1)).To(Succeed())
	for _, directory := range []string{"rbac", "policy", "webhook"} {
		applyConfig(ctx, w.admin, directory)
	}
	env, config := *w.env, w.operatorWorld.config
	env.Config = rest.CopyConfig(config)
	env.Config.Impersonate = rest.ImpersonationConfig{UserName: operatorUser, Groups: []string{"system:masters", "system:authenticated"}}
	w.operatorWorld.config = env.Config
	w.admission = startOperatorWith(ctx, &env, func(mgr ctrl.Manager, _ controllers.Coverage) { addExec(mgr, &env) })
	w.admission.client, w.admission.config = w.admin, config
	w.tenant = w.asTenant()
	w.run(ctx, "operator-0", func(o *operatorParts) {
		w.ledgers = o.ledgers
		o.addPods()
		o.addGrants(clock.RealClock{})
		o.addWhole()
	})
	return w
}

// addWhole adds the other controllers of licences and seats.
func (o *operatorParts) addWhole() {
	GinkgoHelper()
	now := clock.RealClock{}
	pods := controllers.NewSeatPods(now, o.ledgers)
	Expect((&controllers.LicenseReconciler{
		Client: o.GetClient(), Keys: noKeys{}, Namespace: operatorNamespace, Audit: o.log, Events: o.events, Clock: now,
	}).SetupWithManager(o.running, o)).To(Succeed())
	Expect((&controllers.SeatEndReconciler{
		Client: o.GetClient(), Live: o.GetAPIReader(), Ledgers: o.ledgers, Book: o.allocator.Book, Pods: pods, Audit: o.log, Events: o.events, Clock: now,
	}).SetupWithManager(o.running, o)).To(Succeed())
	Expect((&controllers.SeatStatusReconciler{Client: o.GetClient(), Ledgers: o.ledgers, Queue: o.allocator.Queue, Pods: pods, Clock: now}).SetupWithManager(o)).To(Succeed())
	Expect((&controllers.RevocationReconciler{
		Client: o.GetClient(), Live: o.GetAPIReader(), Rights: o.rights, Ledgers: o.ledgers, Audit: o.log, Events: o.events,
		Clock: now, Timers: now, Protected: []string{"kube-system", operatorNamespace},
	}).SetupWithManager(o)).To(Succeed())
}

// addExec adds the webhooks for interactive access.
func addExec(mgr ctrl.Manager, env *envtest.Environment) {
	GinkgoHelper()
	running, stop := context.WithCancel(context.Background())
	DeferCleanup(stop)
	store, err := rights.NewStore(nil, mgr.GetCache(), mgr.GetAPIReader())
	Expect(err).NotTo(HaveOccurred())
	ledgers := seatbook.NewView()
	for _, watch := range []func(context.Context, cache.Informers) (func(context.Context) error, error){store.Watch, ledgers.Watch} {
		waitForSync, err := watch(running, mgr.GetCache())
		Expect(err).NotTo(HaveOccurred())
		Expect(mgr.Add(manager.RunnableFunc(waitForSync))).To(Succeed())
	}
	Expect(webhooks.RegisterExec(mgr.GetWebhookServer(), webhooks.ExecOptions{
		PathSecret: pathSecret, Licenses: store, Seats: ledgers, Pods: mgr.GetCache(), Live: mgr.GetAPIReader(),
		Sessions: webhooks.NewSessionReporter(&submitted{}, mgr.GetEventRecorder("modelrights-operator")), Clock: clock.RealClock{}, Metrics: prometheus.NewRegistry(),
	})).To(Succeed())
	settings, install := operatorSettings(), env.WebhookInstallOptions
	settings.DenyExecPath, settings.AuditExecPath = webhooks.DenyExecPath(pathSecret), webhooks.AuditExecPath(pathSecret)
	live := &addressed{Client: clientOf(env.Config), at: "https://" + net.JoinHostPort(install.LocalServingHost, strconv.Itoa(install.LocalServingPort))}
	Expect((&controllers.ExecWebhooks{
		Client: live, Live: live, Rights: store, Ledgers: ledgers, Certificates: fixedCertificate(install.LocalServingCAData), Settings: settings,
	}).SetupWithManager(mgr)).To(Succeed())
}

// team makes a namespace of that name with a licence of it and a grant to account llm, and waits until they are in force.
func (w *wholeWorld) team(ctx context.Context, name string, license func(*builders.LicenseBuilder)) (*v1alpha1.ModelLicense, *v1alpha1.ModelGrant) {
	GinkgoHelper()
	b := builders.License(name).Repository(modelOf(name)).Key("v1").OnRevoke(v1alpha1.RevokeWipeKey)
	license(b)
	l, g := b.Obj(), builders.Grant(name, "chat", name).ServiceAccount("llm").Obj()
	w.create(ctx, builders.Namespace(name).Obj(), g)
	w.write(ctx, l)
	return l, g
}

// pod is one of a team, as tenants write it.
func (w *wholeWorld) pod(team, name string) *builders.PodBuilder {
	return builders.Pod(team, name).ServiceAccount("llm").Container("main", modelOf(team)+":1")
}

// stands waits until a pod's condition says so, as STATUS REASON.
func (w *wholeWorld) stands(ctx context.Context, pod *corev1.Pod, says string) {
	GinkgoHelper()
	Eventually(w.licensed(ctx, pod)).WithContext(ctx).WithPolling(20 * time.Millisecond).Should(Equal(says))
}

// runs has a pod bound to n1, where it runs, and its key released.
func (w *wholeWorld) runs(ctx context.Context, pod *corev1.Pod) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(w.admin.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		g.Expect(waits(pod)).To(BeFalse())
	}).WithContext(ctx).WithPolling(20 * time.Millisecond).Should(Succeed())
	if pod.Spec.NodeName == "" {
		Expect(w.admin.SubResource("binding").Create(ctx, pod, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}})).To(Succeed())
		Expect(w.admin.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
	}
	w.kubelet(ctx, pod, corev1.PodRunning)
}

// kubelet has a pod's kubelet say how far it is, and what it has given to its containers.
func (w *wholeWorld) kubelet(ctx context.Context, pod *corev1.Pod, phase corev1.PodPhase) {
	GinkgoHelper()
	Expect(w.admin.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
	before := client.StrategicMergeFrom(pod.DeepCopy())
	pod.Status.Phase = phase
	pod.Status.ContainerStatuses = nil
	for _, c := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, AllocatedResources: c.Resources.Requests, Resources: c.Resources.DeepCopy(),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		})
	}
	Expect(w.admin.Status().Patch(ctx, pod, before)).To(Succeed())
}

// held is how much of a resource the pods of a licence count for.
func (w *wholeWorld) held(license string, name corev1.ResourceName) func() string {
	return func() string {
		ledger := w.ledgers.Ledger(license)
		if ledger == nil {
			return "no ledger"
		}
		quantity := ledger.InUse()[name]
		return quantity.String()
	}
}

// holder is the seat of a pod.
func (w *wholeWorld) holder(pod *corev1.Pod, license string) (seats.Holder, bool) {
	ledger := w.ledgers.Ledger(license)
	if ledger == nil {
		return seats.Holder{}, false
	}
	return ledger.Holder(pod.UID)
}
