package integration

import (
	"context"
	"fmt"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/test/builders"
)

// What got past admission. There is no webhook here at all, so whatever is stored came by another way.
var _ = Describe("Pods that got past admission", Ordered, ContinueOnFailure, func() {
	const model = "registry.example.com/models/chat:2.1"
	var (
		w    *foundWorld
		stop func()
		team string
		spec int
	)

	BeforeAll(func(ctx SpecContext) {
		w = newFoundWorld(ctx)
		w.create(ctx, builders.License("chat").Repository("registry.example.com/models/chat").Obj(),
			&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}},
			&rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "kubelets"},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
				Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:nodes"}},
			})
		stop = w.operator(ctx, "operator-0")
	}, NodeTimeout(specTimeout))

	BeforeEach(func(ctx SpecContext) {
		spec++
		team = fmt.Sprintf("team-%d", spec)
		w.create(ctx, builders.Namespace(team).Obj())
	})

	pod := func(namespace, name, image string) *corev1.Pod {
		return builders.Pod(namespace, name).ServiceAccount("llm").Container("server", image).Obj()
	}
	found := func(ctx context.Context, p *corev1.Pod, reason v1alpha1.Reason) {
		GinkgoHelper()
		Eventually(w.licensed(ctx, p)).Should(Equal("False " + string(reason)))
		Expect(w.entries(ctx, p)).To(Equal([]audit.Type{audit.Found}))
		Eventually(w.told(ctx, "Pod", p.Namespace, p.Name)).
			Should(ContainElement(And(HavePrefix("FoundUnlicensed "), ContainSubstring("[%s]: ", reason))))
	}

	It("are found once, each class of them", func(ctx SpecContext) {
		static := builders.Pod(team, "static-node-a").Container("server", model).Annotation(corev1.MirrorPodAnnotationKey, "hash").Obj()
		static.Spec.NodeName = "node-a"
		static.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node-a", UID: "n", Controller: ptr.To(true)}}
		Expect(w.as("system:node:node-a", "system:nodes").Create(ctx, static)).To(Succeed())
		fetching := pod(team, "fetching", "docker.io/library/busybox")
		fetching.Spec.Containers[0].Args = []string{"oci://" + model + "-fetched", "/mnt/models"}
		// Pods that differ in name alone are one entry and a count.
		classes := map[*corev1.Pod]v1alpha1.Reason{
			pod("kube-system", "exempt-"+team, model):                      v1alpha1.ReasonNoGrant,
			pod(team, "ungranted", model):                                  v1alpha1.ReasonNoGrant,
			pod(team, "governed", "registry.example.com/governed/model:1"): v1alpha1.ReasonUnlicensed,
			pod(team, "by-id", "sha256:0123456789ab"):                      v1alpha1.ReasonImageID,
			fetching: v1alpha1.ReasonNoGrant,
		}
		if w.imageVolumes {
			classes[builders.Pod(team, "volume").ServiceAccount("llm").Container("server", "docker.io/library/busybox").
				ImageVolume("model", model+"-mounted", "server").Obj()] = v1alpha1.ReasonNoGrant
		}
		for p := range classes {
			w.create(ctx, p)
		}
		classes[static] = v1alpha1.ReasonNoGrant
		for p, reason := range classes {
			found(ctx, p, reason)
		}
		By("saying where a static pod runs")
		Expect(w.all(ctx, audit.Found, team)).To(ContainElement(And(
			HaveField("Pod.Name", "static-node-a"), HaveField("Owner", audit.Owner{Kind: "Node", Name: "node-a"}), HaveField("Node", "node-a"))))

		By("and nothing again after a restart")
		versions := map[*corev1.Pod]string{}
		for p := range classes {
			versions[p] = p.ResourceVersion
		}
		stop()
		stop = w.operator(ctx, "operator-1")
		after := pod(team, "after", model+"-after")
		w.create(ctx, after)
		found(ctx, after, v1alpha1.ReasonNoGrant)
		for p := range classes {
			Expect(w.entries(ctx, p)).To(Equal([]audit.Type{audit.Found}))
			Expect(w.client.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
			Expect(p.ResourceVersion).To(Equal(versions[p]), "pod %s was written again", p.Name)
		}
	}, SpecTimeout(specTimeout))

	It("are left alone where they name nothing governed", func(ctx SpecContext) {
		plain, probe := pod(team, "plain", "docker.io/library/busybox"), pod(team, "probe", model)
		w.create(ctx, plain, probe)
		found(ctx, probe, v1alpha1.ReasonNoGrant)
		Expect(w.licensed(ctx, plain)()).To(BeEmpty())
		Expect(w.entries(ctx, plain)).To(BeEmpty())
	}, SpecTimeout(specTimeout))

	It("are found when a licence comes after them, and forgiven when it goes", func(ctx SpecContext) {
		var pods []*corev1.Pod
		for i := range 20 {
			p := pod(team, fmt.Sprintf("early-%d", i), "registry.example.com/"+team+"/any/model:1")
			pods = append(pods, p)
			w.create(ctx, p)
		}
		license := builders.License(team).Repository("registry.example.com/" + team + "/**").Obj()
		w.create(ctx, license)
		for _, p := range pods {
			Eventually(w.licensed(ctx, p)).Should(Equal("False NoGrant"))
		}
		Expect(w.client.Delete(ctx, license)).To(Succeed())
		for _, p := range pods {
			Eventually(w.licensed(ctx, p)).Should(BeEmpty())
		}
	}, SpecTimeout(specTimeout))

	It("are admitted when a grant comes, and not found when it goes again", func(ctx SpecContext) {
		p := pod(team, "llm", model)
		w.create(ctx, p)
		found(ctx, p, v1alpha1.ReasonNoGrant)
		grant := builders.Grant(team, "chat", "chat").ServiceAccount("llm").Obj()
		w.create(ctx, grant)
		Eventually(w.licensed(ctx, p)).Should(Equal("True Entitled"))
		Expect(w.entries(ctx, p)).To(Equal([]audit.Type{audit.Found, audit.Admitted}))
		Expect(w.client.Delete(ctx, grant)).To(Succeed())
		probe := pod(team, "probe", model+"-probe")
		w.create(ctx, probe)
		found(ctx, probe, v1alpha1.ReasonNoGrant)
		Consistently(w.licensed(ctx, p)).WithTimeout(2 * time.Second).Should(Equal("True Entitled"))
		Expect(w.entries(ctx, p)).To(Equal([]audit.Type{audit.Found, audit.Admitted}))
	}, SpecTimeout(specTimeout))

	It("are admitted when labels make a grant select them, or the licence their namespace", func(ctx SpecContext) {
		grant := builders.Grant(team, "chat", team).ServiceAccount("llm").Obj()
		grant.Spec.PodSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "llm"}}
		license := builders.License(team).Repository("registry.example.com/" + team + "/model").NamespaceSelector(map[string]string{"models": "yes"}).Obj()
		w.create(ctx, license, grant)
		p := pod(team, "llm", "registry.example.com/"+team+"/model:1")
		w.create(ctx, p)
		found(ctx, p, v1alpha1.ReasonNamespaceNotAllowed)
		patch := func(o client.Object, key, value string) {
			before := client.MergeFrom(o.DeepCopyObject().(client.Object))
			o.SetLabels(map[string]string{key: value})
			Expect(w.client.Patch(ctx, o, before)).To(Succeed())
		}
		patch(builders.Namespace(team).Obj(), "models", "yes")
		Eventually(w.licensed(ctx, p)).Should(Equal("False PodNotSelected"))
		patch(p, "app", "llm")
		Eventually(w.licensed(ctx, p)).Should(Equal("True Entitled"))
		Expect(w.entries(ctx, p)).To(Equal([]audit.Type{audit.Found, audit.Admitted}))
	}, SpecTimeout(specTimeout))

	It("fill neither the log nor the list of Events when a tenant makes many", func(ctx SpecContext) {
		const pods = 80
		began := time.Now()
		var last *corev1.Pod
		for i := range pods {
			last = builders.Pod(team, fmt.Sprintf("crash-%d", i)).Owner("batch/v1", "Job", "crash", "j-uid").ServiceAccount("llm").Container("server", model).Obj()
			w.create(ctx, last)
		}
		Eventually(w.licensed(ctx, last)).Should(Equal("False NoGrant"))
		Eventually(func(g Gomega) {
			var list corev1.PodList
			g.Expect(w.client.List(ctx, &list, client.InNamespace(team))).To(Succeed())
			for i := range list.Items {
				g.Expect(list.Items[i].Status.Conditions).To(ContainElement(HaveField("Type", v1alpha1.PodConditionLicensed)), list.Items[i].Name)
			}
		}).Should(Succeed())
		// One entry a minute, and the specs may run over the turn of some.
		entries := len(w.all(ctx, audit.Found, team))
		Expect(entries).To(BeNumerically("<=", 2+int(time.Since(began)/time.Minute)))
		events := 0
		for i := range pods {
			events += len(w.told(ctx, "Pod", team, fmt.Sprintf("crash-%d", i))())
		}
		Expect(events).To(And(BeNumerically(">=", 1), BeNumerically("<=", 32)))
	}, SpecTimeout(specTimeout))

	It("are not accused by a cache that lags behind", func(ctx SpecContext) {
		stop()
		known, elsewhere := &staleRights{client: w.client}, team+"-without-grants"
		w.create(ctx, builders.Grant(team, "chat", "chat").ServiceAccount("llm").Obj())
		stop = w.operator(ctx, "operator-2", func(store *rights.Store) controllers.Snapshots {
			known.Store = store
			before, _ := store.Snapshot() // of before anything was read: it holds neither licence nor grant
			known.known.Store(before)
			return known
		})
		Eventually(func() int {
			s, _ := known.Store.Snapshot()
			return len(s.GrantsIn(team))
		}).Should(Equal(1))
		complete, _ := known.Store.Snapshot()
		license := complete.License("chat")
		Expect(license).NotTo(BeNil())
		known.known.Store(withoutGrants(license))
		p := pod(team, "llm", model)
		w.create(ctx, p)
		Eventually(w.licensed(ctx, p)).Should(Equal("True Entitled"))
		Expect(w.entries(ctx, p)).To(Equal([]audit.Type{audit.Admitted}))

		By("nor by a licence that is gone, nor by one that has changed")
		gone, narrowed := license.DeepCopy(), license.DeepCopy()
		gone.Name, gone.UID, gone.Spec.Images[0].Repository = "gone", "u", "registry.example.com/models/gone"
		narrowed.Generation, narrowed.Spec.Images[0].Repository = license.Generation-1, "registry.example.com/models/narrowed"
		known.known.Store(withoutGrants(narrowed, gone))
		spared := []*corev1.Pod{pod(elsewhere, "gone", "registry.example.com/models/gone:1"), pod(elsewhere, "narrowed", "registry.example.com/models/narrowed:1")}
		probe := pod(elsewhere, "probe", "registry.example.com/governed/model:1")
		w.create(ctx, builders.Namespace(elsewhere).Obj(), spared[0], spared[1], probe)
		found(ctx, probe, v1alpha1.ReasonUnlicensed)
		for _, p := range spared {
			Consistently(w.licensed(ctx, p)).WithTimeout(2 * time.Second).Should(BeEmpty())
			Expect(w.entries(ctx, p)).To(BeEmpty())
		}
		stop()
		stop = w.operator(ctx, "operator-3")
	}, SpecTimeout(specTimeout))

	It("are told once by two operators that both believe they lead", func(ctx SpecContext) {
		second := w.operator(ctx, "operator-4")
		var pods []*corev1.Pod
		for i := range 10 {
			p := builders.Pod(team, fmt.Sprintf("llm-%d", i)).ServiceAccount(fmt.Sprintf("llm-%d", i)).Container("server", model).Obj()
			pods = append(pods, p)
			w.create(ctx, p)
		}
		for _, p := range pods {
			Eventually(w.licensed(ctx, p)).Should(Equal("False NoGrant"))
		}
		second()
		for _, p := range pods {
			Expect(w.entries(ctx, p)).To(Equal([]audit.Type{audit.Found}))
		}
	}, SpecTimeout(specTimeout))

	It("stay unreported where somebody forges the mark, which takes a right that tenants do not have", func(ctx SpecContext) {
		for _, name := range []string{"system:aggregate-to-edit", "system:aggregate-to-admin"} {
			var role rbacv1.ClusterRole
			Expect(w.client.Get(ctx, client.ObjectKey{Name: name}, &role)).To(Succeed())
			for _, rule := range role.Rules {
				if slices.Contains(rule.Resources, "pods/status") {
					Expect([]string{"get", "list", "watch"}).To(ContainElements(rule.Verbs), "%s: %v", name, rule)
				}
			}
		}
		var pods []*corev1.Pod
		for _, forged := range []string{"", "nothing of ours", "[0123456789ab]"} {
			p := pod(team, fmt.Sprintf("forged-%d", len(pods)), fmt.Sprintf("%s-%d", model, len(pods)))
			w.create(ctx, p)
			before := client.StrategicMergeFrom(p.DeepCopy())
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: v1alpha1.PodConditionLicensed, Status: corev1.ConditionTrue, Message: forged})
			Expect(w.client.Status().Patch(ctx, p, before)).To(Succeed())
			pods = append(pods, p)
		}
		By("a condition without the very mark hides nothing")
		for _, p := range pods {
			found(ctx, p, v1alpha1.ReasonNoGrant)
		}
	}, SpecTimeout(specTimeout))
})
