package integration

import (
	"context"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seatbook"
	"modelrights.dev/modelrights/test/builders"
)

// operatorWorld is an API server without webhooks and kubelets, and operators, each with the controllers that specs ask for.
type operatorWorld struct {
	env    *envtest.Environment
	config *rest.Config
	client client.Client
	stops  []func()
}

// operatorParts are what the controllers of an operator share.
type operatorParts struct {
	ctrl.Manager
	// running ends with the operator.
	running context.Context
	log     *audit.Log
	events  events.EventRecorder
	// rights are the real ones, unless the spec has replaced them.
	rights    controllers.Snapshots
	ledgers   *seatbook.View
	allocator *controllers.SeatAllocator
}

// newOperatorWorld starts the API server, which the caller may configure, until the specs of a container are over.
func newOperatorWorld(ctx context.Context, configure ...func(*envtest.Environment)) operatorWorld {
	GinkgoHelper()
	env := &envtest.Environment{}
	for _, f := range configure {
		f(env)
	}
	w := operatorWorld{env: env, config: startEnvironment(env)}
	DeferCleanup(env.Stop)
	w.config.QPS = -1
	w.client = clientOf(w.config)
	w.create(ctx, builders.Namespace(operatorNamespace).Obj())
	return w
}

// stopAll ends the operators that run still. It is to be deferred once the world has its place.
func (w *operatorWorld) stopAll() {
	for _, stop := range w.stops {
		stop()
	}
}

// run runs an operator that believes to lead, with the controllers that add adds, until stop is called or the specs are over.
// Rights may be replaced.
func (w *operatorWorld) run(ctx context.Context, identity string, add func(*operatorParts), replace ...func(*rights.Store) controllers.Snapshots) (stop func()) {
	GinkgoHelper()
	mgr, err := ctrl.NewManager(rest.CopyConfig(w.config), ctrl.Options{
		Scheme:     testScheme,
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Logger:     GinkgoLogr,
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: {Transform: controllers.TrimPod}, &corev1.Node{}: {Transform: controllers.TrimNode}, &v1alpha1.ModelGrant{}: {Transform: controllers.TrimGrant},
		}},
	})
	Expect(err).NotTo(HaveOccurred())
	running, cancel := context.WithCancel(context.Background())
	o := &operatorParts{Manager: mgr, running: running, events: mgr.GetEventRecorder("modelrights-operator")}
	o.log, err = audit.New(audit.Options{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Identity: identity, Linger: 10 * time.Millisecond})
	Expect(err).NotTo(HaveOccurred())
	Expect(mgr.Add(o.log)).To(Succeed())
	store, err := rights.NewStore([]string{"registry.example.com/governed/**"}, mgr.GetCache(), mgr.GetAPIReader())
	Expect(err).NotTo(HaveOccurred())
	waitForRights, err := store.Watch(running, mgr.GetCache())
	Expect(err).NotTo(HaveOccurred())
	o.rights = store
	for _, f := range replace {
		o.rights = f(store)
	}
	o.allocator = newAllocator(running, mgr, o.rights)
	var ok bool
	o.ledgers, ok = o.allocator.Ledgers.(*seatbook.View)
	Expect(ok).To(BeTrue())
	add(o)
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(running) }()
	stop = sync.OnceFunc(func() {
		cancel()
		Eventually(ended).Should(Receive(BeNil()))
	})
	w.stops = append(w.stops, stop) // at the end of all specs, where a spec starts another
	Expect(waitForRights(ctx)).To(Succeed())
	return stop
}

// addPods adds the controller that finds pods, and gives them seats.
func (o *operatorParts) addPods() {
	GinkgoHelper()
	Expect((&controllers.PodReconciler{
		Client: o.GetClient(), Live: o.GetAPIReader(), Rights: o.rights, Audit: o.log, Events: o.events, Clock: clock.RealClock{}, Seats: o.allocator,
	}).SetupWithManager(o)).To(Succeed())
}

// addGrants adds the controller of grants' status.
func (o *operatorParts) addGrants(now clock.PassiveClock) {
	GinkgoHelper()
	Expect((&controllers.GrantReconciler{Client: o.GetClient(), Audit: o.log, Events: o.events, Clock: now}).SetupWithManager(o.running, o)).To(Succeed())
}

// newAllocator returns an allocator that a manager's pod controller can run, and fills its view of the ledgers.
func newAllocator(running context.Context, mgr ctrl.Manager, snapshots controllers.Snapshots) *controllers.SeatAllocator {
	GinkgoHelper()
	view := seatbook.NewView()
	waitForSync, err := view.Watch(running, mgr.GetCache())
	Expect(err).NotTo(HaveOccurred())
	Expect(mgr.Add(manager.RunnableFunc(waitForSync))).To(Succeed())
	return &controllers.SeatAllocator{
		Queue: controllers.NewSeatQueue(), Ledgers: view, Rights: snapshots, Pods: mgr.GetClient(), Clock: clock.RealClock{},
		Book: seatbook.New(seatbook.Options{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), View: view}),
	}
}

func (w *operatorWorld) create(ctx context.Context, objects ...client.Object) {
	GinkgoHelper()
	for _, o := range objects {
		Expect(w.client.Create(ctx, o)).To(Succeed())
	}
}
