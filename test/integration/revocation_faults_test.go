package integration

import (
	"context"
	"fmt"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// revocationStep is a place at which the operator that revokes a pod is killed.
type revocationStep string

const (
	beforeRevokedLogged revocationStep = "before the entry is written"
	afterRevokedLogged  revocationStep = "after the entry is durable, before the pod is patched"
	afterPodPatched     revocationStep = "after the pod is patched, before it is evicted"
)

// killer has an operator do nothing more from a step on: who comes to it waits until the operator has ended.
type killer struct {
	at      revocationStep
	running context.Context
	once    sync.Once
	reached chan struct{}
}

func (k *killer) step(s revocationStep) error {
	if s == k.at {
		k.once.Do(func() { close(k.reached) })
	}
	select {
	case <-k.reached:
		<-k.running.Done()
		return k.running.Err()
	default:
		return nil
	}
}

// killedLog is the log of an operator that is killed.
type killedLog struct {
	*audit.Log
	k *killer
}

func (l killedLog) Append(ctx context.Context, e audit.Entry) (int64, error) {
	if e.Type != audit.Revoked {
		return l.Log.Append(ctx, e)
	}
	if err := l.k.step(beforeRevokedLogged); err != nil {
		return -1, err
	}
	index, err := l.Log.Append(ctx, e)
	if err != nil {
		return index, err
	}
	return index, l.k.step(afterRevokedLogged)
}

// killedClient is its client.
type killedClient struct {
	client.Client
	k *killer
}

func (c killedClient) Status() client.SubResourceWriter {
	return killedStatus{c.Client.Status(), c.k}
}

type killedStatus struct {
	client.SubResourceWriter
	k *killer
}

func (w killedStatus) Patch(ctx context.Context, o client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
	if err := w.SubResourceWriter.Patch(ctx, o, patch, opts...); err != nil {
		return err
	}
	return w.k.step(afterPodPatched)
}

var _ = Describe("An operator that is killed while it revokes a pod", Ordered, ContinueOnFailure, func() {
	var w *revocationWorld

	BeforeAll(func(ctx SpecContext) {
		w = newRevocationWorld(ctx)
	}, NodeTimeout(specTimeout))

	evict := func(l *builders.LicenseBuilder) { l.OnRevoke(v1alpha1.RevokeEvict) }

	for n, step := range []revocationStep{beforeRevokedLogged, afterRevokedLogged, afterPodPatched} {
		It(string(step), func(ctx SpecContext) {
			t := w.team(ctx, evict, nil)
			k := &killer{at: step, reached: make(chan struct{})}
			stop := w.run(ctx, fmt.Sprintf("killed-%d", n), func(o *operatorParts) {
				k.running = o.running
				o.addPods()
				Expect((&controllers.RevocationReconciler{
					Client: killedClient{o.GetClient(), k}, Live: o.GetAPIReader(), Rights: o.rights, Ledgers: o.ledgers,
					Audit: killedLog{o.log, k}, Events: o.events, Clock: clock.RealClock{}, Timers: clock.RealClock{},
				}).SetupWithManager(o)).To(Succeed())
			})
			pod := w.runs(ctx, t, t.pod("llm").Obj(), "n1")
			Expect(w.client.Delete(ctx, t.grant)).To(Succeed())
			Eventually(k.reached).Should(BeClosed())
			stop()

			stop = w.start(ctx, fmt.Sprintf("next-%d", n))
			defer stop()
			// The Event may be lost; the entry, the condition and what makes the node look are not.
			Eventually(w.licensed(ctx, pod)).Should(Equal("False Revoked"))
			Expect(pod.Annotations).To(HaveKey(v1alpha1.AnnotationAttention))
			Expect(w.reasons(ctx, pod, audit.Revoked)).To(Equal([]v1alpha1.Reason{v1alpha1.ReasonNoGrant}))
			Eventually(func(g Gomega) {
				g.Expect(w.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
				g.Expect(pod.DeletionTimestamp.IsZero()).To(BeFalse())
			}).Should(Succeed())
			ids := map[string]bool{}
			for _, e := range w.all(ctx, audit.Revoked, t.name) {
				ids[e.ID] = true
			}
			Expect(ids).To(HaveLen(1), "the loss is told more than once")

			By("the node driver, which wipes the key and reports the end")
			w.do(ctx, t, seats.Wipe{Pod: pod.UID}, seats.End{Pod: pod.UID})
			Eventually(func(g Gomega) {
				ledger := &v1alpha1.ModelSeats{}
				g.Expect(w.client.Get(ctx, client.ObjectKey{Name: t.name}, ledger)).To(Succeed())
				g.Expect(ledger.Spec.Holders).To(BeEmpty())
			}).Should(Succeed())
		}, SpecTimeout(specTimeout))
	}
})
