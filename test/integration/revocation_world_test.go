package integration

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/keys"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seatbook"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// revocationWorld is an API server without webhooks and kubelets, and operators that admit pods, give them seats and revoke
// them. Specs bind pods to nodes, and say of keys what node drivers would.
type revocationWorld struct {
	operatorWorld
	book *seatbook.Book
	spec int
}

func newRevocationWorld(ctx context.Context) *revocationWorld {
	GinkgoHelper()
	w := &revocationWorld{operatorWorld: newOperatorWorld(ctx)}
	DeferCleanup(w.stopAll)
	w.book = seatbook.New(seatbook.Options{Client: w.client, Reader: w.client})
	w.create(ctx, node("n1", "eu"), node("n2", "us"))
	return w
}

func node(name, region string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"region": region}}}
}

// noKeys is a key source that has every key.
type noKeys struct{}

func (noKeys) Fetch(context.Context, *v1alpha1.ModelLicense, string) (keys.Material, error) {
	return keys.Material{}, nil
}

// start runs an operator until stop is called. Rights may be replaced.
func (w *revocationWorld) start(ctx context.Context, identity string, replace ...func(*rights.Store) controllers.Snapshots) (stop func()) {
	GinkgoHelper()
	return w.run(ctx, identity, func(o *operatorParts) {
		now := clock.RealClock{}
		o.addPods()
		o.addGrants(now)
		Expect((&controllers.LicenseReconciler{
			Client: o.GetClient(), Keys: noKeys{}, Namespace: operatorNamespace, Audit: o.log, Events: o.events, Clock: now,
		}).SetupWithManager(o.running, o)).To(Succeed())
		Expect((&controllers.RevocationReconciler{
			Client: o.GetClient(), Live: o.GetAPIReader(), Rights: o.rights, Ledgers: o.ledgers, Audit: o.log, Events: o.events,
			Clock: now, Timers: now, Protected: []string{"kube-system", operatorNamespace},
		}).SetupWithManager(o)).To(Succeed())
	}, replace...)
}

// brokenRights cannot be asked live while it is broken.
type brokenRights struct {
	controllers.Snapshots
	broken atomic.Bool
	asked  atomic.Int64
}

func (r *brokenRights) Live(ctx context.Context, namespace string) (*entitlement.Snapshot, error) {
	r.asked.Add(1)
	if r.broken.Load() {
		return nil, fmt.Errorf("the API server is away")
	}
	return r.Snapshots.Live(ctx, namespace)
}

// team is a namespace with a licence and a grant of it, all of one name.
type team struct {
	name    string
	license *v1alpha1.ModelLicense
	grant   *v1alpha1.ModelGrant
}

func (w *revocationWorld) team(ctx context.Context, license func(*builders.LicenseBuilder), grant func(*builders.GrantBuilder)) team {
	GinkgoHelper()
	w.spec++
	t := team{name: fmt.Sprintf("team-%d", w.spec)}
	l := builders.License(t.name).Repository("registry.example.com/models/" + t.name).Key("v1").OnRevoke(v1alpha1.RevokeWipeKey)
	g := builders.Grant(t.name, "chat", t.name).ServiceAccount("llm")
	if license != nil {
		license(l)
	}
	if grant != nil {
		grant(g)
	}
	t.license, t.grant = l.Obj(), g.Obj()
	w.create(ctx, builders.Namespace(t.name).Label("team", "ml").Obj(), t.license, t.grant)
	return t
}

func (t team) pod(name string) *builders.PodBuilder {
	return builders.Pod(t.name, name).ServiceAccount("llm").Label("app", "llm").
		Container("server", "registry.example.com/models/"+t.name+":1").KeyVolume(t.name, "server")
}

// runs creates a pod, has it admitted and bound to a node, and releases its key there.
func (w *revocationWorld) runs(ctx context.Context, t team, pod *corev1.Pod, node string) *corev1.Pod {
	GinkgoHelper()
	w.create(ctx, pod)
	w.bound(ctx, t, pod, node)
	return pod
}

func (w *revocationWorld) bound(ctx context.Context, t team, pod *corev1.Pod, node string) {
	GinkgoHelper()
	Eventually(w.licensed(ctx, pod)).Should(Equal("True Entitled"))
	Expect(w.client.SubResource("binding").Create(ctx, pod, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: node}})).To(Succeed())
	w.do(ctx, t, seats.Release{Pod: pod.UID, Node: node})
}

// do changes the ledger of a team's licence.
func (w *revocationWorld) do(ctx context.Context, t team, changes ...seats.Change) {
	GinkgoHelper()
	doing, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	results, err := w.book.Do(doing, t.license.Name, changes...)
	Expect(err).NotTo(HaveOccurred())
	for i, result := range results {
		Expect(result.OK()).To(BeTrue(), "%T: %s %s", changes[i], result.Reason, result.Message)
	}
}

// revoked sees that a pod is revoked for a reason: logged, said on it, told, and its node made to look.
func (w *revocationWorld) revoked(ctx context.Context, pod *corev1.Pod, reason v1alpha1.Reason) {
	GinkgoHelper()
	Eventually(w.licensed(ctx, pod)).Should(Equal("False Revoked"))
	Expect(pod.Annotations).To(HaveKey(v1alpha1.AnnotationAttention))
	_, err := time.Parse(time.RFC3339Nano, pod.Annotations[v1alpha1.AnnotationAttention])
	Expect(err).NotTo(HaveOccurred())
	Expect(w.reasons(ctx, pod, audit.Revoked)).To(ContainElement(reason))
	Eventually(w.told(ctx, "Pod", pod.Namespace, pod.Name)).
		Should(ContainElement(And(HavePrefix("Revoked lost licence "), ContainSubstring("[%s]: ", reason))))
}

// reasons lists the reasons of the entries of a type about a pod. Entries of one ID are told once.
func (w *revocationWorld) reasons(ctx context.Context, pod *corev1.Pod, kind audit.Type) []v1alpha1.Reason {
	GinkgoHelper()
	reasons, seen := []v1alpha1.Reason{}, map[string]bool{}
	for e, err := range audit.Entries(ctx, w.client, 0) {
		Expect(err).NotTo(HaveOccurred())
		if e.Entry.Type == kind && e.Entry.Pod.UID == string(pod.UID) && !seen[e.Entry.ID] {
			reasons = append(reasons, e.Entry.Reason)
			seen[e.Entry.ID] = true
		}
	}
	return reasons
}

// update changes an object as it is now.
func update[T client.Object](ctx context.Context, w *revocationWorld, o T, change func(T)) {
	GinkgoHelper()
	Expect(w.client.Get(ctx, client.ObjectKeyFromObject(o), o)).To(Succeed())
	before, ok := o.DeepCopyObject().(client.Object)
	Expect(ok).To(BeTrue())
	change(o)
	Expect(w.client.Patch(ctx, o, client.MergeFrom(before))).To(Succeed())
}

// marksIn are the marks at the end of a condition's message.
func marksIn(message string) []string {
	return strings.Fields(strings.TrimSuffix(message[strings.LastIndexByte(message, '[')+1:], "]"))
}
