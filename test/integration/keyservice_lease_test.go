package integration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"filippo.io/age"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// Leases and the ends of seats, with caches, ledgers and tokens as they are.
var _ = Describe("Key service's leases", Ordered, ContinueOnFailure, func() {
	const (
		model   = "registry.example.com/models/chat-7b:2.1"
		license = "acme-chat-7b"
		account = "llm-server"
	)
	var (
		w              *keyWorld
		replica        *keyReplica
		driver, others string // tokens of the drivers on node-a and node-b
		team           string
		spec           int
	)

	BeforeAll(func(ctx SpecContext) {
		env := &envtest.Environment{}
		config := startEnvironment(env)
		DeferCleanup(env.Stop)
		w = newKeyWorld(ctx, config)
		id, err := age.GenerateHybridIdentity()
		Expect(err).NotTo(HaveOccurred())
		w.create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: license + "-v2"},
			StringData: map[string]string{"key": id.String()},
		})
		w.create(ctx, builders.License(license).Repository("registry.example.com/models/chat-7b").Key("v2").
			NodeSelector("region", "eu").Lease(10*time.Minute).Obj())
		for _, node := range []string{"node-a", "node-b"} {
			w.label(ctx, node, "eu")
		}
		driver, others = w.driverToken(ctx, "node-a"), w.driverToken(ctx, "node-b")
		replica = w.replica(ctx, w.auditLog("operator-0"))
	})

	BeforeEach(func(ctx SpecContext) {
		spec++
		team = fmt.Sprintf("leases-%d", spec)
		w.create(ctx, builders.Namespace(team).Obj())
		w.account(ctx, team, account)
		w.create(ctx, builders.Grant(team, "chat", license).ServiceAccount(account).Obj())
	})

	volume := func(p *corev1.Pod) protocol.Volume {
		return protocol.Volume{PodNamespace: p.Namespace, PodName: p.Name, PodUID: string(p.UID), License: license, Handle: "csi-1"}
	}
	// running creates a pod on node-a that has its seat and its key.
	running := func(ctx context.Context, name string) *corev1.Pod {
		GinkgoHelper()
		p := w.pod(ctx, builders.Pod(team, name).ServiceAccount(account).Container("server", model).KeyVolume(license, "server"), "node-a")
		w.seat(ctx, p, license)
		request := &protocol.ReleaseRequest{PodToken: w.token(ctx, team, account, protocol.AudiencePod, p), Volume: volume(p)}
		response, err := replica.calledBy(driver).Release(ctx, request)
		Expect(err).NotTo(HaveOccurred())
		Expect(response.LeaseSeconds).To(BeEquivalentTo(600))
		return p
	}
	renew := func(ctx context.Context, p *corev1.Pod, early bool) protocol.RenewResponse {
		GinkgoHelper()
		response, err := replica.calledBy(driver).Renew(ctx, &protocol.RenewRequest{Volume: volume(p), Early: early})
		Expect(err).NotTo(HaveOccurred())
		return *response
	}
	verdict := func(ctx context.Context, p *corev1.Pod) func() protocol.Verdict {
		return func() protocol.Verdict { return renew(ctx, p, false).Verdict }
	}
	report := func(ctx context.Context, bearer string, p *corev1.Pod, event protocol.Event) error {
		GinkgoHelper()
		return replica.calledBy(bearer).Report(ctx, &protocol.ReportRequest{Volume: volume(p), Event: event, Reason: v1alpha1.ReasonNoGrant})
	}
	attend := func(ctx context.Context, p *corev1.Pod) {
		GinkgoHelper()
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationAttention, time.Now().Format(time.RFC3339Nano))
		Expect(w.client.Patch(ctx, p.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
	}

	It("notes a released key in the ledger, and refuses one without a seat or on another node", func(ctx SpecContext) {
		p := running(ctx, "llm")
		held, ok := w.holder(ctx, p, license)
		Expect(ok).To(BeTrue())
		Expect(held.Released).To(BeTrue())
		Expect(held.Node).To(Equal("node-a"))

		seatless := w.pod(ctx, builders.Pod(team, "seatless").ServiceAccount(account).Container("server", model).KeyVolume(license, "server"), "node-a")
		_, err := replica.release(ctx, driver, &protocol.ReleaseRequest{PodToken: w.token(ctx, team, account, protocol.AudiencePod, seatless), Volume: volume(seatless)})
		Expect(err).To(beRefused(v1alpha1.ReasonNoSeat))
		var refusal *protocol.Error
		Expect(errors.As(err, &refusal)).To(BeTrue())
		Expect(refusal.Temporary).To(BeTrue())
		Expect(w.entries(ctx, audit.KeyReleased, seatless)).To(BeEmpty())

		w.label(ctx, "node-a", "us")
		DeferCleanup(w.label, "node-a", "eu")
		w.seat(ctx, seatless, license)
		_, err = replica.release(ctx, driver, &protocol.ReleaseRequest{PodToken: w.token(ctx, team, account, protocol.AudiencePod, seatless), Volume: volume(seatless)})
		Expect(err).To(beRefused(v1alpha1.ReasonNodeNotAllowed))
	})

	It("renews, and wipes when the grant is gone", func(ctx SpecContext) {
		p := running(ctx, "llm")
		Eventually(func() protocol.RenewResponse { return renew(ctx, p, false) }).Should(Equal(protocol.RenewResponse{Verdict: protocol.Renewed, LeaseSeconds: 600}))
		Expect(w.client.Delete(ctx, builders.Grant(team, "chat", license).Obj())).To(Succeed())
		Eventually(verdict(ctx, p)).Should(Equal(protocol.Wipe))
		Expect(renew(ctx, p, false).Reason).To(Equal(v1alpha1.ReasonNoGrant))
		w.create(ctx, builders.Grant(team, "chat", license).ServiceAccount(account).Obj())
		Eventually(verdict(ctx, p)).Should(Equal(protocol.Renewed))
	})

	It("wipes at once where attention is called, however old the cache is", func(ctx SpecContext) {
		p := running(ctx, "llm")
		Eventually(verdict(ctx, p)).Should(Equal(protocol.Renewed))
		Expect(w.client.Delete(ctx, builders.Grant(team, "chat", license).Obj())).To(Succeed())
		attend(ctx, p)
		Expect(renew(ctx, p, true).Verdict).To(Equal(protocol.Wipe))
	})

	It("renews nothing while it is cut off from the API server, and wipes nothing", func(ctx SpecContext) {
		p := running(ctx, "llm")
		Eventually(verdict(ctx, p)).Should(Equal(protocol.Renewed))
		w.outOfTouch.Store(true)
		DeferCleanup(w.outOfTouch.Store, false)
		Expect(renew(ctx, p, false).Verdict).To(Equal(protocol.Keep))
		Expect(w.client.Delete(ctx, builders.Grant(team, "chat", license).Obj())).To(Succeed())
		Consistently(verdict(ctx, p)).WithTimeout(300 * time.Millisecond).Should(Equal(protocol.Keep))
	})

	It("does not renew for a pod that was force-deleted, nor for another of its name", func(ctx SpecContext) {
		p := running(ctx, "llm")
		Eventually(verdict(ctx, p)).Should(Equal(protocol.Renewed))
		Expect(w.client.Delete(ctx, p, client.GracePeriodSeconds(0))).To(Succeed())
		Eventually(verdict(ctx, p)).Should(Equal(protocol.Keep))
		_, ok := w.holder(ctx, p, license)
		Expect(ok).To(BeTrue(), "force deletion alone frees nothing")
		again := running(ctx, "llm")
		Eventually(verdict(ctx, again)).Should(Equal(protocol.Renewed))
		Expect(renew(ctx, p, false).Reason).To(Equal(v1alpha1.ReasonLeaseEnding))
	})

	It("ends a seat by its own node's word alone, once, and logs what was used", func(ctx SpecContext) {
		p := running(ctx, "llm")
		Expect(report(ctx, driver, p, protocol.Unpublished)).To(beRefused(v1alpha1.ReasonPodRuns))
		misnamed := p.DeepCopy()
		misnamed.Name = "no-such-pod"
		Expect(report(ctx, driver, misnamed, protocol.Unpublished)).To(beRefused(v1alpha1.ReasonPodRuns))
		misnamed.Namespace = "default"
		Expect(report(ctx, driver, misnamed, protocol.Unpublished)).To(beRefused(v1alpha1.ReasonNotHolder))
		Expect(w.client.Delete(ctx, p, client.GracePeriodSeconds(60))).To(Succeed())
		Expect(report(ctx, others, p, protocol.Unpublished)).To(beRefused(v1alpha1.ReasonNotHolder))
		_, ok := w.holder(ctx, p, license)
		Expect(ok).To(BeTrue())

		Expect(report(ctx, driver, p, protocol.Unpublished)).To(Succeed())
		_, ok = w.holder(ctx, p, license)
		Expect(ok).To(BeFalse())
		entries := w.entries(ctx, audit.SeatEnded, p)
		Expect(entries).To(HaveLen(1))
		Expect(entries[0].Reason).To(Equal(v1alpha1.ReasonUnpublished))
		Expect(entries[0].Node).To(Equal("node-a"))
		Eventually(func() error { return report(ctx, driver, p, protocol.Unpublished) }).Should(beRefused(v1alpha1.ReasonNotHolder))
	})

	It("ends no seat of the next pod of that name when a report is replayed", func(ctx SpecContext) {
		p := running(ctx, "llm")
		Expect(w.client.Delete(ctx, p, client.GracePeriodSeconds(0))).To(Succeed())
		again := running(ctx, "llm")
		for range 3 {
			_ = report(ctx, driver, p, protocol.Unpublished)
		}
		_, ok := w.holder(ctx, p, license)
		Expect(ok).To(BeFalse())
		_, ok = w.holder(ctx, again, license)
		Expect(ok).To(BeTrue())
		Expect(renew(ctx, again, false).Verdict).To(Or(Equal(protocol.Renewed), Equal(protocol.Keep)))
	})

	It("notes and logs a wiped key, until it is released again", func(ctx SpecContext) {
		p := running(ctx, "llm")
		attend(ctx, p)
		Expect(report(ctx, driver, p, protocol.Wiped)).To(Succeed())
		held, _ := w.holder(ctx, p, license)
		Expect(held.Wiped).To(BeTrue())
		entries := w.entries(ctx, audit.KeyWiped, p)
		Expect(entries).To(HaveLen(1))
		Expect(entries[0].Reason).To(Equal(v1alpha1.ReasonNoGrant))
		Eventually(w.events.Events).Should(Receive(HavePrefix("Warning KeyWiped")))

		_, err := replica.release(ctx, driver, &protocol.ReleaseRequest{PodToken: w.token(ctx, team, account, protocol.AudiencePod, p), Volume: volume(p)})
		Expect(err).NotTo(HaveOccurred())
		held, _ = w.holder(ctx, p, license)
		Expect(held.Wiped).To(BeFalse())
	})

	It("does not renew a seat that is about to end", func(ctx SpecContext) {
		p := running(ctx, "llm")
		Eventually(verdict(ctx, p)).Should(Equal(protocol.Renewed))
		_, err := w.book().Do(ctx, license, seats.Expire{Pod: p.UID, Until: time.Now().Add(time.Minute)})
		Expect(err).NotTo(HaveOccurred())
		Eventually(verdict(ctx, p)).Should(Equal(protocol.Keep))
		_, err = w.book().Do(ctx, license, seats.Renew{Pod: p.UID})
		Expect(err).NotTo(HaveOccurred())
		Eventually(verdict(ctx, p)).Should(Equal(protocol.Renewed))
	})

	It("wipes on a node that lost the licence's labels", func(ctx SpecContext) {
		p := running(ctx, "llm")
		Eventually(verdict(ctx, p)).Should(Equal(protocol.Renewed))
		w.label(ctx, "node-a", "us")
		DeferCleanup(w.label, "node-a", "eu")
		Eventually(verdict(ctx, p)).Should(Equal(protocol.Wipe))
		Expect(renew(ctx, p, false).Reason).To(Equal(v1alpha1.ReasonNodeNotAllowed))
	})
})
