package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"filippo.io/age"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/test/builders"
)

// The key service against real TokenRequests and TokenReviews. No webhook runs here, so pods are whatever a tenant who
// got past it could have made.
var _ = Describe("Key service", Ordered, ContinueOnFailure, func() {
	const (
		model   = "registry.example.com/models/chat-7b:2.1"
		license = "acme-chat-7b"
		account = "llm-server"
	)
	var (
		w        *keyWorld
		log      *audit.Log
		replica  *keyReplica
		identity string
		driver   string // the token of the driver on node-a
		team     string // a namespace of the spec's own, with account and grant
		spec     int
	)

	BeforeAll(func(ctx SpecContext) {
		env := &envtest.Environment{}
		config := startEnvironment(env)
		DeferCleanup(env.Stop)
		w = newKeyWorld(ctx, config)
		id, err := age.GenerateHybridIdentity()
		Expect(err).NotTo(HaveOccurred())
		identity = id.String()
		w.create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: license + "-v2"},
			StringData: map[string]string{"key": identity},
		})
		w.create(ctx, builders.License(license).Repository("registry.example.com/models/chat-7b").Key("v2").Obj())
		driver = w.driverToken(ctx, "node-a")
		log = w.auditLog("operator-0")
		replica = w.replica(ctx, log)
	})

	BeforeEach(func(ctx SpecContext) {
		spec++
		team = fmt.Sprintf("team-%d", spec)
		w.create(ctx, builders.Namespace(team).Obj())
		w.account(ctx, team, account)
		w.create(ctx, builders.Grant(team, "chat", license).ServiceAccount(account).Obj())
	})

	// pod starts a pod of the spec's namespace that runs as the granted account.
	pod := func(name string) *builders.PodBuilder { return builders.Pod(team, name).ServiceAccount(account) }

	// entitled creates a pod on node-a as the webhook makes it, with its seat.
	entitled := func(ctx context.Context) *corev1.Pod {
		GinkgoHelper()
		p := w.pod(ctx, pod("llm").Container("server", model).KeyVolume(license, "server"), "node-a")
		w.seat(ctx, p, license)
		return p
	}

	// asked is what the driver asks for a pod, with the pod's token.
	asked := func(ctx context.Context, p *corev1.Pod) *protocol.ReleaseRequest {
		GinkgoHelper()
		return &protocol.ReleaseRequest{
			PodToken: w.token(ctx, p.Namespace, p.Spec.ServiceAccountName, protocol.AudiencePod, p),
			Volume:   protocol.Volume{PodNamespace: p.Namespace, PodName: p.Name, PodUID: string(p.UID), License: license, Handle: "csi-1"},
		}
	}

	// refused expects a refusal for one of the reasons, a release that was not logged, and no key.
	refused := func(ctx context.Context, bearer string, request *protocol.ReleaseRequest, reasons ...v1alpha1.Reason) {
		GinkgoHelper()
		key, err := replica.release(ctx, bearer, request)
		Expect(key).To(BeEmpty())
		var refusal *protocol.Error
		Expect(errors.As(err, &refusal)).To(BeTrue(), "%v", err)
		Expect(reasons).To(ContainElement(refusal.Reason), "%v", err)
		Expect(refusal.Remedy).NotTo(BeEmpty())
		for e, err := range audit.Entries(ctx, w.client, 0) {
			Expect(err).NotTo(HaveOccurred())
			Expect(e.Entry.Type == audit.KeyReleased && e.Entry.Namespace == team).To(BeFalse(), "a release was logged: %s", e.Leaf)
		}
	}

	It("releases the key of an entitled pod to its node, and logs that first", func(ctx SpecContext) {
		p := entitled(ctx)
		key, err := replica.release(ctx, driver, asked(ctx, p))
		Expect(err).NotTo(HaveOccurred())
		Expect(key).To(Equal(identity+"\n"), "another key came")
		entries := w.entries(ctx, audit.KeyReleased, p)
		Expect(entries).To(HaveLen(1))
		Expect(entries[0].Node).To(Equal("node-a"))
		Expect(entries[0].ServiceAccount).To(Equal(account))
		Expect(entries[0].License.Name).To(Equal(license))
		Expect(entries[0].License.Generation).To(BeEquivalentTo(1))
		Expect(entries[0].Grant.Name).To(Equal("chat"))
		Expect(entries[0].Images).To(HaveExactElements(model))
		Expect(entries[0].Keys).To(HaveExactElements("v2"))
		Eventually(w.events.Events).Should(Receive(HavePrefix("Normal KeyReleased")))
		for e, err := range audit.Entries(ctx, w.client, 0) {
			Expect(err).NotTo(HaveOccurred())
			Expect(e.Leaf).NotTo(ContainSubstring(identity[20:]))
		}
	})

	It("logs refusals, of the pod that they are about", func(ctx SpecContext) {
		p := w.pod(ctx, pod("llm").Container("server", "docker.io/library/busybox").KeyVolume(license, "server"), "node-a")
		refused(ctx, driver, asked(ctx, p), v1alpha1.ReasonModelNotReferenced)
		Eventually(func(g Gomega) {
			entries := w.entries(ctx, audit.KeyRefused, p)
			g.Expect(entries).To(HaveLen(1))
			g.Expect(entries[0].Reason).To(Equal(v1alpha1.ReasonModelNotReferenced))
		}).Should(Succeed())
	})

	Describe("refuses, whoever asks", func() {
		It("without a token", func(ctx SpecContext) {
			refused(ctx, "", asked(ctx, entitled(ctx)), v1alpha1.ReasonUnauthenticated)
		})
		It("with a token that is no token", func(ctx SpecContext) {
			refused(ctx, "eyJhbGciOiJub25lIn0.e30.", asked(ctx, entitled(ctx)), v1alpha1.ReasonUnauthenticated)
		})
		It("with the entitled pod's own token alone", func(ctx SpecContext) {
			request := asked(ctx, entitled(ctx))
			refused(ctx, request.PodToken, request, v1alpha1.ReasonUnauthenticated)
		})
		It("with a token that a tenant had minted for its account with the driver's audience", func(ctx SpecContext) {
			refused(ctx, w.token(ctx, team, account, protocol.AudienceDriver, nil), asked(ctx, entitled(ctx)), v1alpha1.ReasonNotNodeDriver)
		})
		It("with a token projected into a tenant's pod with the driver's audience", func(ctx SpecContext) {
			p := entitled(ctx)
			refused(ctx, w.token(ctx, team, account, protocol.AudienceDriver, p), asked(ctx, p), v1alpha1.ReasonNotNodeDriver)
		})
		It("with the driver's token of the API server's audience", func(ctx SpecContext) {
			var p corev1.Pod
			Expect(w.client.Get(ctx, client.ObjectKey{Namespace: driverNamespace, Name: "driver-node-a"}, &p)).To(Succeed())
			bearer := w.token(ctx, driverNamespace, driverAccount, "https://kubernetes.default.svc", &p)
			refused(ctx, bearer, asked(ctx, entitled(ctx)), v1alpha1.ReasonUnauthenticated)
		})
		It("with a token of the driver's account that is bound to no pod", func(ctx SpecContext) {
			refused(ctx, w.token(ctx, driverNamespace, driverAccount, protocol.AudienceDriver, nil), asked(ctx, entitled(ctx)), v1alpha1.ReasonTokenNotBound)
		})
		It("with a token of the driver's account in a pod that is on no node", func(ctx SpecContext) {
			p := w.pod(ctx, builders.Pod(driverNamespace, "nowhere").ServiceAccount(driverAccount).Container("driver", "driver.example.com/node"), "")
			refused(ctx, w.token(ctx, driverNamespace, driverAccount, protocol.AudienceDriver, p), asked(ctx, entitled(ctx)), v1alpha1.ReasonTokenNotBound)
		})
		It("with the token of a driver's pod that is gone", func(ctx SpecContext) {
			p := w.pod(ctx, builders.Pod(driverNamespace, "replaced").ServiceAccount(driverAccount).Container("driver", "driver.example.com/node"), "node-a")
			bearer := w.token(ctx, driverNamespace, driverAccount, protocol.AudienceDriver, p)
			Expect(w.client.Delete(ctx, p, client.GracePeriodSeconds(0))).To(Succeed())
			request := asked(ctx, entitled(ctx))
			// The API server looks pods up in a cache that may be a moment behind; no key may ever leave after it has caught up.
			Eventually(func() error {
				_, err := replica.release(ctx, bearer, request)
				return err
			}).Should(beRefused(v1alpha1.ReasonUnauthenticated))
			refused(ctx, bearer, asked(ctx, w.pod(ctx, pod("later").Container("server", model).KeyVolume(license, "server"), "node-a")), v1alpha1.ReasonUnauthenticated)
		})
		It("on another node", func(ctx SpecContext) {
			refused(ctx, w.driverToken(ctx, "node-b"), asked(ctx, entitled(ctx)), v1alpha1.ReasonPodMismatch)
		})
	})

	Describe("refuses, whichever pod's token it is", func() {
		It("without one", func(ctx SpecContext) {
			request := asked(ctx, entitled(ctx))
			request.PodToken = ""
			refused(ctx, driver, request, v1alpha1.ReasonUnauthenticated)
		})
		It("of another pod of the same account", func(ctx SpecContext) {
			other := w.pod(ctx, pod("other").Container("server", model).KeyVolume(license, "server"), "node-a")
			request := asked(ctx, entitled(ctx))
			request.PodToken = asked(ctx, other).PodToken
			refused(ctx, driver, request, v1alpha1.ReasonPodMismatch)
		})
		It("of the account, without a pod", func(ctx SpecContext) {
			request := asked(ctx, entitled(ctx))
			request.PodToken = w.token(ctx, team, account, protocol.AudiencePod, nil)
			refused(ctx, driver, request, v1alpha1.ReasonTokenNotBound)
		})
		It("of another audience", func(ctx SpecContext) {
			p := entitled(ctx)
			request := asked(ctx, p)
			request.PodToken = w.token(ctx, team, account, "vault", p)
			refused(ctx, driver, request, v1alpha1.ReasonUnauthenticated)
		})
		It("of a pod that was on no node when it was issued", func(ctx SpecContext) {
			request := asked(ctx, w.pod(ctx, pod("llm").Container("server", model).KeyVolume(license, "server"), ""))
			refused(ctx, driver, request, v1alpha1.ReasonTokenNotBound)
		})
		It("of a pod that is gone", func(ctx SpecContext) {
			p := entitled(ctx)
			request := asked(ctx, p)
			Expect(w.client.Delete(ctx, p, client.GracePeriodSeconds(0))).To(Succeed())
			// The API server may confirm the token for a moment more; the pod itself is read live.
			refused(ctx, driver, request, v1alpha1.ReasonUnauthenticated, v1alpha1.ReasonPodGone)
		})
		It("of a pod that was replaced by another of its name", func(ctx SpecContext) {
			p := entitled(ctx)
			request := asked(ctx, p)
			Expect(w.client.Delete(ctx, p, client.GracePeriodSeconds(0))).To(Succeed())
			request.Volume.PodUID = string(entitled(ctx).UID)
			refused(ctx, driver, request, v1alpha1.ReasonUnauthenticated, v1alpha1.ReasonPodMismatch)
		})
	})

	Describe("refuses, whatever the token says", func() {
		It("a pod that is being deleted", func(ctx SpecContext) {
			p := entitled(ctx)
			request := asked(ctx, p)
			Expect(w.client.Delete(ctx, p, client.GracePeriodSeconds(300))).To(Succeed())
			refused(ctx, driver, request, v1alpha1.ReasonPodGone)
		})
		It("a pod that has ended", func(ctx SpecContext) {
			p := entitled(ctx)
			p.Status.Phase = corev1.PodSucceeded
			Expect(w.client.Status().Update(ctx, p)).To(Succeed())
			refused(ctx, driver, asked(ctx, p), v1alpha1.ReasonPodGone)
		})
		It("a pod in a namespace that admission exempts", func(ctx SpecContext) {
			w.account(ctx, metav1.NamespaceSystem, team)
			p := w.pod(ctx, builders.Pod(metav1.NamespaceSystem, team).ServiceAccount(team).Container("server", model).KeyVolume(license, "server"), "node-a")
			refused(ctx, driver, asked(ctx, p), v1alpha1.ReasonNoGrant)
			Expect(w.entries(ctx, audit.KeyReleased, p)).To(BeEmpty())
		})
		It("a static pod, for which there is no token", func(ctx SpecContext) {
			request := asked(ctx, entitled(ctx))
			static := builders.Pod(team, "static-node-a").Annotation(corev1.MirrorPodAnnotationKey, "hash").Container("server", model).KeyVolume(license, "server")
			p := w.pod(ctx, static, "node-a")
			request.Volume.PodName, request.Volume.PodUID = p.Name, string(p.UID)
			refused(ctx, driver, request, v1alpha1.ReasonPodMismatch)
			request.PodToken = ""
			refused(ctx, driver, request, v1alpha1.ReasonUnauthenticated)
			bound := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
				Audiences: []string{protocol.AudiencePod}, BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID},
			}}
			sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: account}}
			Expect(w.client.SubResource("token").Create(ctx, sa, bound)).NotTo(Succeed())
		})
		It("a pod that runs a copy under another name, whatever the node reports", func(ctx SpecContext) {
			p := w.pod(ctx, pod("llm").Container("server", "elsewhere.example.com/renamed:1").KeyVolume(license, "server"), "node-a")
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "server", Image: model, ImageID: "registry.example.com/models/chat-7b@" + digestOf(model)}}
			Expect(w.client.Status().Update(ctx, p)).To(Succeed())
			refused(ctx, driver, asked(ctx, p), v1alpha1.ReasonModelNotReferenced)
		})
		It("a pod whose condition says that it is licensed", func(ctx SpecContext) {
			w.account(ctx, team, "forger")
			p := w.pod(ctx, builders.Pod(team, "llm").ServiceAccount("forger").Container("server", model).KeyVolume(license, "server"), "node-a")
			p.Status.Conditions = []corev1.PodCondition{{Type: v1alpha1.PodConditionLicensed, Status: corev1.ConditionTrue, Reason: string(v1alpha1.ReasonEntitled)}}
			Expect(w.client.Status().Update(ctx, p)).To(Succeed())
			refused(ctx, driver, asked(ctx, p), v1alpha1.ReasonSubjectNotGranted)
		})
		It("an entitled account in a pod without a licensed image", func(ctx SpecContext) {
			p := w.pod(ctx, pod("llm").Container("server", "docker.io/library/busybox").KeyVolume(license, "server"), "node-a")
			refused(ctx, driver, asked(ctx, p), v1alpha1.ReasonModelNotReferenced)
		})
		It("an entitled pod whose image was swapped for a shell", func(ctx SpecContext) {
			p := entitled(ctx)
			request := asked(ctx, p)
			p.Spec.Containers[0].Image = "docker.io/library/busybox"
			Expect(w.client.Update(ctx, p)).To(Succeed())
			refused(ctx, driver, request, v1alpha1.ReasonModelNotReferenced)
		})
		It("a pod in which a container that does not use the model mounts the key", func(ctx SpecContext) {
			p := w.pod(ctx, pod("llm").Container("server", model).Container("shell", "docker.io/library/busybox").
				KeyVolume(license, "server", "shell"), "node-a")
			refused(ctx, driver, asked(ctx, p), v1alpha1.ReasonModelNotReferenced)
		})
		It("a pod that has no key volume", func(ctx SpecContext) {
			p := w.pod(ctx, pod("llm").Container("server", model), "node-a")
			refused(ctx, driver, asked(ctx, p), v1alpha1.ReasonPodMismatch)
		})
		It("a pod of an account that is not granted", func(ctx SpecContext) {
			w.account(ctx, team, "intruder")
			p := w.pod(ctx, builders.Pod(team, "llm").ServiceAccount("intruder").Container("server", model).KeyVolume(license, "server"), "node-a")
			refused(ctx, driver, asked(ctx, p), v1alpha1.ReasonSubjectNotGranted)
		})
		It("a pod whose grant is gone", func(ctx SpecContext) {
			p := entitled(ctx)
			Expect(w.client.Delete(ctx, builders.Grant(team, "chat", license).Obj())).To(Succeed())
			refused(ctx, driver, asked(ctx, p), v1alpha1.ReasonNoGrant)
		})
		It("a licence that has expired", func(ctx SpecContext) {
			expired := fmt.Sprintf("expired-%d", spec)
			w.create(ctx, builders.License(expired).Repository("registry.example.com/models/"+expired).Key("v1").NotAfter(time.Now().Add(-time.Second)).Obj())
			w.create(ctx, builders.Grant(team, "expired", expired).ServiceAccount(account).Obj())
			p := w.pod(ctx, pod("llm").Container("server", "registry.example.com/models/"+expired).KeyVolume(expired, "server"), "node-a")
			request := asked(ctx, p)
			request.Volume.License = expired
			refused(ctx, driver, request, v1alpha1.ReasonExpired)
		})
		It("a licence whose Secret is missing", func(ctx SpecContext) {
			keyless := fmt.Sprintf("keyless-%d", spec)
			w.create(ctx, builders.License(keyless).Repository("registry.example.com/models/"+keyless).Key("v1").Obj())
			w.create(ctx, builders.Grant(team, "keyless", keyless).ServiceAccount(account).Obj())
			p := w.pod(ctx, pod("llm").Container("server", "registry.example.com/models/"+keyless).KeyVolume(keyless, "server"), "node-a")
			request := asked(ctx, p)
			request.Volume.License = keyless
			refused(ctx, driver, request, v1alpha1.ReasonKeySecretMissing)
		})
		It("everything, while the audit log cannot be written", func(ctx SpecContext) {
			w.appendFails.Store(true)
			DeferCleanup(func() { w.appendFails.Store(false) })
			p := entitled(ctx)
			request := asked(ctx, p)
			refused(ctx, driver, request, v1alpha1.ReasonAuditUnavailable)

			w.appendFails.Store(false)
			Eventually(func() error {
				_, err := replica.release(ctx, driver, request)
				return err
			}).Should(Succeed())
		})
	})

	It("releases and logs from two operators at once", func(ctx SpecContext) {
		other := w.replica(ctx, w.auditLog("operator-1"))
		p := entitled(ctx)
		request := asked(ctx, p)
		results := make(chan error, 8)
		for i := range 8 {
			go func() {
				defer GinkgoRecover()
				_, err := []*keyReplica{replica, other}[i%2].release(ctx, driver, request)
				results <- err
			}()
		}
		for range 8 {
			Eventually(ctx, results).Should(Receive(BeNil()))
		}
		entries := w.entries(ctx, audit.KeyReleased, p)
		Expect(entries).To(HaveLen(8))
		Expect([]string{entries[0].Writer, entries[1].Writer, entries[2].Writer, entries[3].Writer, entries[4].Writer}).
			To(ContainElements("operator-0", "operator-1"))
		expectNoGap(ctx, w)
	})

	It("logs a second release where an operator was killed between the entry and the answer", func(ctx SpecContext) {
		killed := w.replica(ctx, &killedAfterAppend{AuditLog: log})
		p := entitled(ctx)
		request := asked(ctx, p)
		key, err := killed.release(ctx, driver, request)
		Expect(key).To(BeEmpty())
		Expect(err).To(beRefused(v1alpha1.ReasonKeyServiceUnreachable))
		Expect(w.entries(ctx, audit.KeyReleased, p)).To(HaveLen(1), "the entry was durable before the kill")

		key, err = killed.release(ctx, driver, request)
		Expect(err).NotTo(HaveOccurred())
		Expect(key).NotTo(BeEmpty())
		Expect(w.entries(ctx, audit.KeyReleased, p)).To(HaveLen(2))
	})
})

// beRefused matches a refusal for a reason.
func beRefused(reason v1alpha1.Reason) types.GomegaMatcher {
	return WithTransform(func(err error) v1alpha1.Reason {
		var refusal *protocol.Error
		if errors.As(err, &refusal) {
			return refusal.Reason
		}
		return ""
	}, Equal(reason))
}

func expectNoGap(ctx context.Context, w *keyWorld) {
	GinkgoHelper()
	var checker audit.Checker
	for record, err := range audit.Records(ctx, w.client, 0) {
		Expect(err).NotTo(HaveOccurred())
		checker.Add(record)
	}
	Expect(checker.FaultCount).To(BeZero())
}

// killedAfterAppend ends the connection once an entry is durable, the first time: what a killed operator looks like.
type killedAfterAppend struct {
	AuditLog interface {
		Append(context.Context, audit.Entry) (int64, error)
		Submit(audit.Entry)
	}
	done atomic.Bool
}

func (k *killedAfterAppend) Append(ctx context.Context, e audit.Entry) (int64, error) {
	index, err := k.AuditLog.Append(ctx, e)
	if k.done.CompareAndSwap(false, true) {
		panic(http.ErrAbortHandler)
	}
	return index, err
}

func (k *killedAfterAppend) Submit(e audit.Entry) { k.AuditLog.Submit(e) }
