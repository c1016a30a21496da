package integration

import (
	"encoding/hex"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/internal/servingcert"
)

var _ = Describe("Certificates", func() {
	It("exchange leaf and CA without one failed call", func(ctx SpecContext) {
		w := newCertificateWorld(ctx, false)
		leader, follower, left := w.replica(ctx), w.replica(ctx), w.replica(ctx)
		w.callAllTheWhile()
		firstCA, firstLeaf := leader.issuer(), leader.leaf()

		By("renewing the leaf for years, until the next CA is staged")
		for w.secret(ctx).Data["ca-next.key"] == nil {
			w.pass(certificateStep)
			w.settle(firstCA)
			Expect(w.clock.Since(firstLeaf.NotBefore)).To(BeNumerically("<", w.policy.CALifetime), "no CA is staged")
		}
		Expect(leader.leaf().Equal(firstLeaf)).To(BeFalse())
		w.expectNoFailure()

		By("waiting until the next CA is known everywhere")
		Eventually(func(g Gomega) {
			g.Expect(w.secret(ctx).Data["schedule.json"]).To(ContainSubstring("nextPublished"))
			bundle, err := w.liveBundle()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect([]int{cas(bundle), cas(w.published(nodeNamespace))}).To(Equal([]int{2, 2}))
		}).Should(Succeed())
		w.pass(w.policy.Propagation - 10*time.Minute)
		w.expectNoFailure()
		Expect(leader.issuer()).To(Equal(firstCA), "the node has not been told yet")
		w.refreshNode()

		By("exchanging the CA, while one replica is cut off and serves on as it did")
		left.cutOff()
		lastOfFirst := left.leaf()
		w.pass(10 * time.Minute)
		for _, r := range []*certificateReplica{leader, follower} {
			Eventually(func() string { return r.issuer() }).ShouldNot(Equal(firstCA))
		}
		w.expectNoFailure()
		w.pass(lastOfFirst.NotAfter.Add(-time.Minute).Sub(w.clock.Now()))
		w.settle("", left)
		w.expectNoFailure()
		Expect(left.leaf().Equal(lastOfFirst)).To(BeTrue())

		By("letting the former CA go")
		w.end(left)
		w.pass(w.policy.Backdate + 2*time.Minute)
		Eventually(func() int { return cas(w.secret(ctx).Data[servingcert.CACertKey]) }).Should(Equal(1))
		Eventually(func() int { return cas(w.published(nodeNamespace)) }).Should(Equal(1))
		w.refreshNode()
		w.expectNoFailure()
	})

	It("outlive the Secret, whatever becomes of it", func(ctx SpecContext) {
		w := newCertificateWorld(ctx, false)
		leader, _ := w.replica(ctx), w.replica(ctx)
		w.callAllTheWhile()
		for what, harm := range map[string]func(*corev1.Secret) error{
			"deleted": func(s *corev1.Secret) error { return w.client.Delete(ctx, s) },
			"emptied": func(s *corev1.Secret) error {
				s.Data = map[string][]byte{servingcert.CertKey: nil, servingcert.PrivateKeyKey: nil}
				return w.client.Update(ctx, s)
			},
			"damaged": func(s *corev1.Secret) error {
				for entry := range s.Data {
					s.Data[entry] = []byte("garbage")
				}
				return w.client.Update(ctx, s)
			},
		} {
			By(what)
			former := leader.leaf()
			Eventually(func() error { return harm(w.secret(ctx)) }).Should(Succeed())
			Eventually(func() int { return cas(w.published(nodeNamespace)) }).Should(Equal(2))
			w.expectNoFailure()
			Expect(leader.leaf().Equal(former)).To(BeTrue(), "the node does not know the new CA yet")
			w.refreshNode()
			w.pass(w.policy.Propagation + time.Minute)
			for _, r := range w.everyReplica() {
				Eventually(func() string { return r.issuer() }).ShouldNot(Equal(hex.EncodeToString(former.AuthorityKeyId)))
			}
			w.expectNoFailure()
			w.pass(w.policy.Propagation)
			Eventually(func() int { return cas(w.published(nodeNamespace)) }).Should(Equal(1))
			w.refreshNode()
			w.expectNoFailure()
		}
	})

	It("recover at once from a clock that jumps over every expiry, and back", func(ctx SpecContext) {
		w := newCertificateWorld(ctx, false)
		replicas := []*certificateReplica{w.replica(ctx), w.replica(ctx)}
		for _, jump := range []time.Duration{50 * 365 * certificateDay, -50 * 365 * certificateDay} {
			w.pass(jump)
			for _, r := range replicas {
				Eventually(func(g Gomega) {
					bundle, err := w.liveBundle()
					g.Expect(err).NotTo(HaveOccurred())
					g.Expect(r.keeper.Ready(nil)).To(Succeed())
					g.Expect(r.keeper.Verifies(bundle)).To(Succeed(), "the API server")
					g.Expect(r.keeper.Verifies(w.published(nodeNamespace))).To(Succeed(), "the node driver")
				}).Should(Succeed())
			}
		}
	})

	It("are made once by replicas that start together, which know when the live caBundle is not theirs", func(ctx SpecContext) {
		w := newCertificateWorld(ctx, false)
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				defer GinkgoRecover()
				w.replica(ctx)
			})
		}
		group.Wait()
		w.settle("")
		Expect(cas(w.secret(ctx).Data[servingcert.CACertKey])).To(Equal(1))
		verified := func() error {
			bundle, err := w.liveBundle()
			if err != nil {
				return err
			}
			for _, r := range w.everyReplica() {
				if err := r.keeper.Verifies(bundle); err != nil {
					return err
				}
			}
			return nil
		}
		Eventually(verified).Should(Succeed())
		ours, err := w.liveBundle()
		Expect(err).NotTo(HaveOccurred())
		w.inject(w.issue(ctx)[servingcert.CACertKey])
		Expect(verified()).To(MatchError(ContainSubstring("does not verify")))
		w.inject(ours)
		Expect(verified()).To(Succeed())
	})

	It("of cert-manager are exchanged without one failed call", func(ctx SpecContext) {
		w := newCertificateWorld(ctx, true)
		Expect(w.client.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: servingcert.SecretName},
			Type:       corev1.SecretTypeTLS, Data: w.issue(ctx),
		})).To(Succeed())
		leader, _ := w.replica(ctx), w.replica(ctx)
		w.callAllTheWhile()
		former := leader.issuer()
		w.pass(time.Second)

		secret := w.secret(ctx)
		secret.Data = w.issue(ctx)
		Expect(w.client.Update(ctx, secret)).To(Succeed())
		Eventually(func() int { return cas(w.published(nodeNamespace)) }).Should(Equal(2))
		w.expectNoFailure()
		w.refreshNode()
		w.pass(w.policy.Propagation + time.Minute)
		for _, r := range w.everyReplica() {
			Eventually(func() string { return r.issuer() }).ShouldNot(Equal(former))
		}
		w.expectNoFailure()
		w.pass(w.policy.Propagation)
		Eventually(func(g Gomega) {
			secret := w.secret(ctx) // The controller's timer is not the fake clock's.
			metav1.SetMetaDataAnnotation(&secret.ObjectMeta, "touched", time.Now().String())
			g.Expect(w.client.Update(ctx, secret)).To(Succeed())
			g.Expect([]int{cas(w.published(nodeNamespace)), cas(w.published(operatorNamespace)), cas(leader.keeper.CABundle())}).To(Equal([]int{1, 1, 1}))
		}).Should(Succeed())
		w.refreshNode()
		w.expectNoFailure()
	})
})
