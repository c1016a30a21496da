package integration

import (
	"context"
	"net"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/trustedtime"
)

// shiftedMachine is a machine whose clock is wrong.
type shiftedMachine struct {
	trustedtime.Source
	mu    sync.Mutex
	ahead time.Duration
}

func (m *shiftedMachine) Wall() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Source.Wall().Add(m.ahead)
}

func (m *shiftedMachine) set(ahead time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ahead = ahead
}

var _ = Describe("The time that licences are judged by", Ordered, ContinueOnFailure, func() {
	const year = 365 * 24 * time.Hour
	var (
		env *envtest.Environment
		c   client.Client
	)
	// operator runs the clock, the log and the keeper of its head, until the spec ends or stop.
	type operator struct {
		machine *shiftedMachine
		now     *trustedtime.Clock
		asker   trustedtime.Asker
		log     *audit.Log
		stop    func()
	}
	start := func(ctx context.Context, ahead time.Duration) *operator {
		GinkgoHelper()
		mgr, err := ctrl.NewManager(env.Config, ctrl.Options{
			Scheme: testScheme, Metrics: metricsserver.Options{BindAddress: "0"}, Logger: GinkgoLogr,
			Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)},
		})
		Expect(err).NotTo(HaveOccurred())
		running, cancel := context.WithCancel(context.Background())
		o := &operator{machine: &shiftedMachine{Source: trustedtime.Machine(), ahead: ahead}}
		o.now = trustedtime.New(o.machine)
		o.asker, err = trustedtime.NewAsker(env.Config, testScheme, mgr.GetRESTMapper())
		Expect(err).NotTo(HaveOccurred())
		Expect(o.now.Begin(ctx, mgr.GetAPIReader(), o.asker)).To(Succeed())
		Expect(o.now.Follow(running, mgr.GetCache())).To(Succeed())
		o.log, err = audit.New(audit.Options{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Identity: "operator-0", Stamped: o.now.Stamped})
		Expect(err).NotTo(HaveOccurred())
		Expect(mgr.Add(o.log)).To(Succeed())
		Expect((&controllers.AuditLogReconciler{
			Audit: o.log, Time: o.now, Events: mgr.GetEventRecorder("modelrights-operator"), Debounce: 100 * time.Millisecond,
		}).SetupWithManager(mgr)).To(Succeed())
		ended := make(chan error, 1)
		go func() { ended <- mgr.Start(running) }()
		o.stop = sync.OnceFunc(func() {
			cancel()
			Eventually(ended).Should(Receive(BeNil()))
		})
		DeferCleanup(o.stop)
		return o
	}
	head := func(ctx context.Context) v1alpha1.ModelAuditLogStatus {
		GinkgoHelper()
		found := &v1alpha1.ModelAuditLog{}
		Expect(client.IgnoreNotFound(c.Get(ctx, client.ObjectKey{Name: v1alpha1.AuditLogName}, found))).To(Succeed())
		return found.Status
	}
	markAfter := func(ctx context.Context, at time.Time) {
		GinkgoHelper()
		Eventually(func() time.Time { return ptr.Deref(head(ctx).TimeMark, metav1.Time{}).Time }).
			WithContext(ctx).Should(BeTemporally(">=", at.Truncate(time.Second)))
	}
	// beNow is the time of the API server, which runs on this machine. Clocks are wrong by years here; a mark may be older
	// than what it is compared with by as long as a slow machine takes.
	beNow := func() OmegaMatcher {
		return WithTransform(func(t time.Time) time.Duration { return time.Since(t).Abs() }, BeNumerically("<", 3*time.Minute))
	}

	BeforeAll(func() {
		env = &envtest.Environment{}
		c = clientOf(startEnvironment(env))
		DeferCleanup(env.Stop)
	})

	It("is the API server's before anything is written, wherever the machine's clock is", func(ctx SpecContext) {
		config, dialled := rest.CopyConfig(env.Config), 0
		config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled++
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
		asker, err := trustedtime.NewAsker(config, testScheme, c.RESTMapper())
		Expect(err).NotTo(HaveOccurred())
		for _, ahead := range []time.Duration{-10 * year, 10 * year} {
			now := trustedtime.New(&shiftedMachine{Source: trustedtime.Machine(), ahead: ahead})
			Expect(now.Begin(ctx, c, asker)).To(Succeed())
			Expect(now.Now()).To(beNow())
			skew, known := now.Skew()
			Expect(known).To(BeTrue())
			Expect(skew.Machine).To(BeNumerically("~", ahead, 3*time.Minute))
		}
		var records v1alpha1.ModelAuditRecordList
		Expect(c.List(ctx, &records)).To(Succeed())
		Expect(records.Items).To(BeEmpty(), "asking for the time wrote a record")
		Expect(dialled).To(Equal(6), "who asks again may ask another API server")
	})

	It("does not leap ahead with one API server, which alarms and leaves no mark", func(ctx SpecContext) {
		o := start(ctx, 0)
		_, err := o.log.Append(ctx, audit.Entry{Type: audit.Started})
		Expect(err).NotTo(HaveOccurred())
		o.now.Stamped(time.Now().Add(year))
		Expect(o.now.Now()).To(beNow())
		later, held := o.now.Held()
		Expect(held).To(BeTrue())
		Expect(later).To(BeTemporally("~", time.Now().Add(year), 10*time.Second))
		Eventually(func() string {
			return ptr.Deref(meta.FindStatusCondition(head(ctx).Conditions, v1alpha1.ConditionClockSkewed), metav1.Condition{}).Message
		}).WithContext(ctx).Should(ContainSubstring("leapt ahead"))

		By("asking again")
		at, err := o.asker.Ask(ctx)
		Expect(err).NotTo(HaveOccurred())
		o.now.Probed(at)
		_, held = o.now.Held()
		Expect(held).To(BeFalse())
		_, err = o.log.Append(ctx, audit.Entry{Type: audit.Started})
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() bool { return meta.IsStatusConditionTrue(head(ctx).Conditions, v1alpha1.ConditionClockSkewed) }).
			WithContext(ctx).WithTimeout(20 * time.Second).Should(BeFalse())
		Expect(head(ctx).TimeMark.Time).To(beNow())
		o.stop()
	})

	It("is not that of a machine whose clock runs ahead, which alarms and leaves no mark", func(ctx SpecContext) {
		o, began := start(ctx, year), time.Now()
		o.log.Submit(audit.Entry{Type: audit.Started})
		markAfter(ctx, began)
		Expect(o.now.Now()).To(beNow())
		Expect(head(ctx).TimeMark.Time).To(beNow())
		skewed := func() bool { return meta.IsStatusConditionTrue(head(ctx).Conditions, v1alpha1.ConditionClockSkewed) }
		Eventually(skewed).WithContext(ctx).Should(BeTrue())
		o.machine.set(0)
		_, err := o.log.Append(ctx, audit.Entry{Type: audit.Started})
		Expect(err).NotTo(HaveOccurred())
		Eventually(skewed).WithContext(ctx).Should(BeFalse())
		o.stop()
	})

	It("does not go back with the mark that it began with, nor with a restart, until somebody resets it", func(ctx SpecContext) {
		By("an API server whose clock ran a year ahead, and was set right")
		ahead := time.Now().Add(year).UTC().Truncate(time.Second)
		marked := &v1alpha1.ModelAuditLog{}
		marked.Name = v1alpha1.AuditLogName
		Expect(c.Status().Patch(ctx, marked, client.RawPatch("application/merge-patch+json", []byte(`{"status": {"timeMark": "`+ahead.Format(time.RFC3339)+`"}}`)))).To(Succeed())
		first, second := start(ctx, 0), start(ctx, -10*year)
		for _, o := range []*operator{first, second} {
			Expect(o.now.Now()).To(BeTemporally(">=", ahead))
			_, err := o.log.Append(ctx, audit.Entry{Type: audit.Started})
			Expect(err).NotTo(HaveOccurred())
			Expect(o.now.Now()).To(BeTemporally(">=", ahead), "a record that was written since revived what had ended")
		}
		Eventually(func() string {
			return ptr.Deref(meta.FindStatusCondition(head(ctx).Conditions, v1alpha1.ConditionClockSkewed), metav1.Condition{}).Message
		}).WithContext(ctx).Should(ContainSubstring(v1alpha1.AnnotationResetTimeMark))
		Expect(head(ctx).TimeMark.Time).To(BeTemporally("==", ahead))

		By("the annotation")
		Expect(c.Patch(ctx, marked, client.RawPatch("application/merge-patch+json", []byte(`{"metadata": {"annotations": {"modelrights.dev/reset-time-mark": "NTP was broken"}}}`)))).To(Succeed())
		for _, o := range []*operator{first, second} {
			Eventually(o.now.Now).WithContext(ctx).Should(beNow(), "each operator hears of it")
		}
		Expect(head(ctx).TimeMark.Time).To(beNow())
		Eventually(func() map[string]string {
			found := &v1alpha1.ModelAuditLog{}
			Expect(c.Get(ctx, client.ObjectKey{Name: v1alpha1.AuditLogName}, found)).To(Succeed())
			return found.Annotations
		}).WithContext(ctx).ShouldNot(HaveKey(v1alpha1.AnnotationResetTimeMark))
		resets := 0
		for e, err := range audit.Entries(ctx, c, 0) {
			Expect(err).NotTo(HaveOccurred())
			if e.Entry.Type == audit.TimeMarkReset {
				resets++
				Expect(e.Entry.Message).To(And(ContainSubstring("NTP was broken"), ContainSubstring(ahead.Format(time.RFC3339))))
			}
		}
		// Two keepers of the head run here, where a cluster has one leader.
		Expect(resets).To(BeNumerically(">=", 1))
		first.stop()
		second.stop()
		Expect(start(ctx, 0).now.Now()).To(beNow())
	}, SpecTimeout(specTimeout))
})
