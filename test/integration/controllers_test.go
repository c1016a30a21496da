package integration

import (
	"context"
	"fmt"
	"strings"
	"time"

	"filippo.io/age"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keys"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/test/builders"
)

const operatorNamespace = "modelrights-system"

var _ = Describe("Controllers", Ordered, ContinueOnFailure, func() {
	var c client.Client

	BeforeAll(func(ctx SpecContext) {
		env := &envtest.Environment{}
		config := startEnvironment(env)
		DeferCleanup(env.Stop)
		var err error
		c, err = client.New(config, client.Options{Scheme: testScheme})
		Expect(err).NotTo(HaveOccurred())
		for _, name := range []string{operatorNamespace, "ml-prod", "ml-dev"} {
			Expect(c.Create(ctx, builders.Namespace(name).Obj())).To(Succeed())
		}

		mgr, err := ctrl.NewManager(config, ctrl.Options{
			Scheme:  testScheme,
			Metrics: metricsserver.Options{BindAddress: "0"},
			Logger:  GinkgoLogr,
		})
		Expect(err).NotTo(HaveOccurred())
		running, stop := context.WithCancel(context.Background())
		log, err := audit.New(audit.Options{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Identity: "test", Linger: 10 * time.Millisecond})
		Expect(err).NotTo(HaveOccurred())
		Expect(mgr.Add(log)).To(Succeed())
		store, err := rights.NewStore(nil, mgr.GetCache(), mgr.GetAPIReader())
		Expect(err).NotTo(HaveOccurred())
		waitForSync, err := store.Watch(running, mgr.GetCache())
		Expect(err).NotTo(HaveOccurred())
		recorder, now := mgr.GetEventRecorder("modelrights-operator"), clock.RealClock{}
		Expect((&controllers.GrantReconciler{Client: mgr.GetClient(), Audit: log, Events: recorder, Clock: now}).SetupWithManager(running, mgr)).To(Succeed())
		Expect((&controllers.LicenseReconciler{
			Client: mgr.GetClient(), Keys: keys.NewSecretSource(mgr.GetAPIReader(), operatorNamespace), Namespace: operatorNamespace,
			Audit: log, Events: recorder, Clock: now,
		}).SetupWithManager(running, mgr)).To(Succeed())
		Expect((&controllers.PodReconciler{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Rights: store, Audit: log, Events: recorder, Clock: now, Seats: newAllocator(running, mgr, store),
		}).SetupWithManager(mgr)).To(Succeed())

		ended := make(chan error, 1)
		go func() { ended <- mgr.Start(running) }()
		DeferCleanup(func() {
			stop()
			Eventually(ended).Should(Receive(BeNil()))
		})
		Expect(waitForSync(ctx)).To(Succeed())
	}, NodeTimeout(specTimeout))

	// ready waits for the readiness of an object and returns the condition.
	ready := func(ctx context.Context, object client.Object, conditions func() []metav1.Condition, reason v1alpha1.Reason) *metav1.Condition {
		GinkgoHelper()
		var found *metav1.Condition
		Eventually(func(g Gomega) {
			g.Expect(c.Get(ctx, client.ObjectKeyFromObject(object), object)).To(Succeed())
			found = meta.FindStatusCondition(conditions(), v1alpha1.ConditionReady)
			g.Expect(found).NotTo(BeNil())
			g.Expect(found.Reason).To(Equal(string(reason)), found.Message)
			g.Expect(found.ObservedGeneration).To(Equal(object.GetGeneration()))
		}).WithContext(ctx).Should(Succeed())
		return found
	}
	licenseReady := func(ctx context.Context, l *v1alpha1.ModelLicense, reason v1alpha1.Reason) *metav1.Condition {
		GinkgoHelper()
		return ready(ctx, l, func() []metav1.Condition { return l.Status.Conditions }, reason)
	}
	grantReady := func(ctx context.Context, g *v1alpha1.ModelGrant, reason v1alpha1.Reason) *metav1.Condition {
		GinkgoHelper()
		return ready(ctx, g, func() []metav1.Condition { return g.Status.Conditions }, reason)
	}
	entries := func(ctx context.Context, want func(audit.Entry) bool) []audit.Entry {
		GinkgoHelper()
		var found []audit.Entry
		for e, err := range audit.Entries(ctx, c, 0) {
			Expect(err).NotTo(HaveOccurred())
			if want(e.Entry) {
				found = append(found, e.Entry)
			}
		}
		return found
	}
	// change writes an object anew, past the status updates of its controller.
	change := func(ctx context.Context, object client.Object, how func()) {
		GinkgoHelper()
		Expect(retry.RetryOnConflict(retry.DefaultRetry, func() error {
			if err := c.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
				return err
			}
			how()
			return c.Update(ctx, object)
		})).To(Succeed())
	}
	secret := func(name, entry, value string) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: name},
			StringData: map[string]string{entry: value},
		}
	}
	identity := func() string {
		GinkgoHelper()
		generated, err := age.GenerateX25519Identity()
		Expect(err).NotTo(HaveOccurred())
		return generated.String()
	}

	It("says of a licence which key is wrong, and notices when it is put right", func(ctx SpecContext) {
		license := builders.License("keys").Repository("registry.example.com/models/keys").Obj()
		Expect(c.Create(ctx, license)).To(Succeed())
		licenseReady(ctx, license, v1alpha1.ReasonNoKey)

		change(ctx, license, func() {
			license.Spec.Keys = []v1alpha1.ModelKey{{Name: "v1", SecretRef: v1alpha1.SecretKeyReference{Name: "keys-v1"}}}
		})
		Expect(licenseReady(ctx, license, v1alpha1.ReasonKeySecretMissing).Message).To(ContainSubstring("keys-v1"))

		empty := secret("keys-v1", "key", "")
		Expect(c.Create(ctx, empty)).To(Succeed())
		Expect(licenseReady(ctx, license, v1alpha1.ReasonKeyEmpty).Message).To(ContainSubstring("keys-v1"))

		empty.StringData = map[string]string{"key": "no identity"}
		Expect(c.Update(ctx, empty)).To(Succeed())
		Expect(licenseReady(ctx, license, v1alpha1.ReasonKeyInvalid).Message).NotTo(ContainSubstring("no identity"))

		empty.StringData = map[string]string{"key": identity()}
		Expect(c.Update(ctx, empty)).To(Succeed())
		licenseReady(ctx, license, v1alpha1.ReasonReady)
		Expect(meta.IsStatusConditionTrue(license.Status.Conditions, v1alpha1.ConditionKeysAvailable)).To(BeTrue())

		Expect(c.Delete(ctx, empty)).To(Succeed())
		licenseReady(ctx, license, v1alpha1.ReasonKeySecretMissing)
	}, SpecTimeout(specTimeout))

	It("says of a grant why it does not count, until it does", func(ctx SpecContext) {
		grant := builders.Grant("ml-prod", "chat", "chat").ServiceAccount("llm").Obj()
		Expect(c.Create(ctx, grant)).To(Succeed())
		grantReady(ctx, grant, v1alpha1.ReasonLicenseMissing)

		license := builders.License("chat").Repository("registry.example.com/models/chat").Key("v1").Namespaces("ml-dev").Obj()
		Expect(c.Create(ctx, license)).To(Succeed())
		Expect(grantReady(ctx, grant, v1alpha1.ReasonNamespaceNotAllowed).Message).To(ContainSubstring("ml-dev"))

		Expect(c.Create(ctx, secret("chat-v1", "key", identity()))).To(Succeed())
		change(ctx, license, func() {
			license.Spec.AllowedNamespaces.Names = []string{"ml-dev", "ml-prod"}
			license.Spec.Terms.NotAfter = &metav1.Time{Time: time.Now().Add(time.Hour).Truncate(time.Second)}
		})
		grantReady(ctx, grant, v1alpha1.ReasonReady)
		Expect(grant.Status.Expires.Time).To(BeTemporally("==", license.Spec.Terms.NotAfter.Time))

		By("counting it in the licence")
		Eventually(func(g Gomega) {
			g.Expect(c.Get(ctx, client.ObjectKeyFromObject(license), license)).To(Succeed())
			g.Expect(license.Status.Grants).To(HaveValue(BeEquivalentTo(1)))
		}).WithContext(ctx).Should(Succeed())
	}, SpecTimeout(specTimeout))

	It("follows the labels of namespaces", func(ctx SpecContext) {
		Expect(c.Create(ctx, builders.License("labelled").Repository("registry.example.com/models/labelled").
			NamespaceSelector(map[string]string{"team": "vision"}).Obj())).To(Succeed())
		grant := builders.Grant("ml-dev", "labelled", "labelled").ServiceAccount("llm").Obj()
		Expect(c.Create(ctx, grant)).To(Succeed())
		grantReady(ctx, grant, v1alpha1.ReasonNamespaceNotAllowed)

		var namespace corev1.Namespace
		Expect(c.Get(ctx, client.ObjectKey{Name: "ml-dev"}, &namespace)).To(Succeed())
		namespace.Labels["team"] = "vision"
		Expect(c.Update(ctx, &namespace)).To(Succeed())
		grantReady(ctx, grant, v1alpha1.ReasonReady)
	}, SpecTimeout(specTimeout))

	It("lets a licence end on time, by itself", func(ctx SpecContext) {
		license := builders.License("short").Repository("registry.example.com/models/short").Key("v1").
			NotAfter(time.Now().Add(3 * time.Second).Truncate(time.Second)).Obj()
		Expect(c.Create(ctx, secret("short-v1", "key", identity()))).To(Succeed())
		Expect(c.Create(ctx, license)).To(Succeed())
		grant := builders.Grant("ml-prod", "short", "short").ServiceAccount("llm").Obj()
		Expect(c.Create(ctx, grant)).To(Succeed())
		grantReady(ctx, grant, v1alpha1.ReasonExpired)
		licenseReady(ctx, license, v1alpha1.ReasonExpired)
	}, SpecTimeout(specTimeout))

	It("logs a stored pod once, marks it, and tells pod, licence and grant", func(ctx SpecContext) {
		pod := builders.Pod("ml-prod", "llm-0").ServiceAccount("llm").Container("server", "registry.example.com/models/chat:2.1").Obj()
		// A tenant cannot preset the mark: the API server clears status on create.
		pod.Status.Conditions = []corev1.PodCondition{{Type: v1alpha1.PodConditionLicensed, Status: corev1.ConditionTrue}}
		Expect(c.Create(ctx, pod)).To(Succeed())
		admitted := func() []audit.Entry {
			return entries(ctx, func(e audit.Entry) bool { return e.Type == audit.Admitted && e.Pod.UID == string(pod.UID) })
		}
		Eventually(func(g Gomega) {
			g.Expect(c.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
			g.Expect(pod.Status.Conditions).To(ContainElement(SatisfyAll(
				HaveField("Type", v1alpha1.PodConditionLicensed), HaveField("Message", ContainSubstring("licence chat of acme.example by grant chat")))))
		}).WithContext(ctx).Should(Succeed())
		logged := admitted()
		Expect(logged).To(HaveLen(1))
		Expect(logged[0]).To(SatisfyAll(
			HaveField("License.Name", "chat"), HaveField("Grant.Name", "chat"), HaveField("ServiceAccount", "llm"),
			HaveField("Images", ConsistOf("registry.example.com/models/chat:2.1"))))

		for _, about := range []string{"Pod/llm-0", "ModelLicense/chat", "ModelGrant/chat"} {
			Eventually(func(g Gomega) {
				var list eventsv1.EventList
				g.Expect(c.List(ctx, &list)).To(Succeed())
				var seen []string
				for _, e := range list.Items {
					if e.Reason == string(v1alpha1.ReasonAdmitted) {
						seen = append(seen, fmt.Sprintf("%s/%s", e.Regarding.Kind, e.Regarding.Name))
					}
				}
				g.Expect(seen).To(ContainElement(about))
			}).WithContext(ctx).Should(Succeed())
		}
		Consistently(admitted).WithContext(ctx).WithTimeout(time.Second).Should(HaveLen(1))
	}, SpecTimeout(specTimeout))

	It("logs what enters a pod later, and nothing twice", func(ctx SpecContext) {
		Expect(c.Create(ctx, builders.License("later").Repository("registry.example.com/models/later").Obj())).To(Succeed())
		grant := builders.Grant("ml-prod", "later", "later").ServiceAccount("llm").Obj()
		Expect(c.Create(ctx, grant)).To(Succeed())
		grantReady(ctx, grant, v1alpha1.ReasonReady)
		pod := builders.Pod("ml-prod", "llm-later").ServiceAccount("llm").Container("server", "registry.example.com/models/chat:2.1").Obj()
		Expect(c.Create(ctx, pod)).To(Succeed())
		admitted := func() []string {
			var images []string
			for _, e := range entries(ctx, func(e audit.Entry) bool { return e.Type == audit.Admitted && e.Pod.UID == string(pod.UID) }) {
				images = append(images, e.License.Name+" "+strings.Join(e.Images, ","))
			}
			return images
		}
		first := "chat registry.example.com/models/chat:2.1"
		Eventually(admitted).WithContext(ctx).Should(Equal([]string{first}))

		debugged := builders.Pod("ml-prod", "llm-later").EphemeralContainer("debug", "registry.example.com/models/later:1").Obj()
		Expect(retry.RetryOnConflict(retry.DefaultRetry, func() error {
			if err := c.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
				return err
			}
			pod.Spec.EphemeralContainers = debugged.Spec.EphemeralContainers
			return c.SubResource("ephemeralcontainers").Update(ctx, pod)
		})).To(Succeed())
		second := "later registry.example.com/models/later:1"
		Eventually(admitted).WithContext(ctx).Should(Equal([]string{first, second}))

		change(ctx, pod, func() { pod.Spec.Containers[0].Image = "registry.example.com/models/chat:2.2" })
		third := "chat registry.example.com/models/chat:2.2"
		Eventually(admitted).WithContext(ctx).Should(Equal([]string{first, second, third}))
		change(ctx, pod, func() { pod.Labels = map[string]string{"seen": "again"} })
		Consistently(admitted).WithContext(ctx).WithTimeout(time.Second).Should(HaveLen(3))
	}, SpecTimeout(specTimeout))

	It("logs a pod whose grant comes after it, which was found without", func(ctx SpecContext) {
		pod := builders.Pod("ml-dev", "early").ServiceAccount("llm").Container("server", "registry.example.com/models/chat:2.1").Obj()
		Expect(c.Create(ctx, pod)).To(Succeed())
		types := func() []audit.Type {
			var types []audit.Type
			for _, e := range entries(ctx, func(e audit.Entry) bool { return e.Pod.UID == string(pod.UID) }) {
				types = append(types, e.Type)
			}
			return types
		}
		Eventually(types).WithContext(ctx).Should(Equal([]audit.Type{audit.Found}))
		Expect(c.Create(ctx, builders.Grant("ml-dev", "chat", "chat").ServiceAccount("llm").Obj())).To(Succeed())
		Eventually(types).WithContext(ctx).Should(Equal([]audit.Type{audit.Found, audit.Admitted}))
	}, SpecTimeout(specTimeout))

	It("logs what happens to licences and grants, and no key", func(ctx SpecContext) {
		license := builders.License("logged").Repository("registry.example.com/models/logged").Obj()
		Expect(c.Create(ctx, license)).To(Succeed())
		licenseReady(ctx, license, v1alpha1.ReasonNoKey)
		change(ctx, license, func() { license.Spec.Licensor = "other.example" })
		licenseReady(ctx, license, v1alpha1.ReasonNoKey)
		Expect(c.Delete(ctx, license)).To(Succeed())
		Eventually(func() []audit.Type {
			var types []audit.Type
			for _, e := range entries(ctx, func(e audit.Entry) bool { return e.License.UID == string(license.UID) }) {
				types = append(types, e.Type)
			}
			return types
		}).WithContext(ctx).Should(Equal([]audit.Type{audit.LicenseCreated, audit.LicenseChanged, audit.LicenseDeleted}))

		for e, err := range audit.Entries(ctx, c, 0) {
			Expect(err).NotTo(HaveOccurred())
			Expect(strings.ToUpper(e.Leaf)).NotTo(ContainSubstring("AGE-SECRET-KEY"))
		}
	}, SpecTimeout(specTimeout))
})
