package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/test/builders"
)

// errKilled stands for the end of the operator that gets it.
var errKilled = errors.New("killed")

// Each spec has the leader killed at one of the steps of one pod, and another take over.
var _ = Describe("A leader that is killed", Ordered, ContinueOnFailure, func() {
	var (
		w     *seatsWorld
		stop  func()
		leads int
	)

	BeforeAll(func(ctx SpecContext) {
		w = newSeatsWorld(ctx)
		stop = w.lead(ctx, "operator-0")
	}, NodeTimeout(specTimeout))

	// killedAt has the leader fail for good once a pod gets to a step, and returns what says that it did.
	killedAt := func(step controllers.SeatStep, name types.NamespacedName, before ...func(step controllers.SeatStep)) *atomic.Bool {
		var dead atomic.Bool
		w.at(func(_ context.Context, at controllers.SeatStep, pod types.NamespacedName) error {
			for _, f := range before {
				if pod == name {
					f(at)
				}
			}
			if at == step && pod == name {
				dead.Store(true)
			}
			if dead.Load() {
				return errKilled
			}
			return nil
		})
		return &dead
	}
	replace := func(ctx SpecContext, dead *atomic.Bool) {
		GinkgoHelper()
		Eventually(dead.Load).WithContext(ctx).Should(BeTrue())
		stop()
		w.interrupt.Store(nil)
		leads++
		stop = w.lead(ctx, fmt.Sprintf("operator-%d", leads))
	}
	admittedOnce := func(ctx SpecContext, pod *corev1.Pod, licenses int) {
		GinkgoHelper()
		var want []audit.Type
		for range licenses {
			want = append(want, audit.Admitted)
		}
		Expect(w.entries(ctx, pod)).To(Equal(want))
		Expect(w.licensed(ctx, pod)()).To(Equal("True Entitled"))
	}
	givesBack := func(step controllers.SeatStep) bool {
		return strings.HasSuffix(string(step), "Mark") || strings.HasSuffix(string(step), "Touch") || strings.HasSuffix(string(step), "GiveBack")
	}

	for _, step := range controllers.SeatSteps() {
		if givesBack(step) {
			It("at step "+string(step)+" of a pod that loses its right leaves it neither seat nor leak", func(ctx SpecContext) {
				team, licenses := w.team(ctx, pods(1), pods(1))
				grant := &v1alpha1.ModelGrant{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "grant-" + licenses[1]}}
				pod := gatedPod(team, "llm", licenses...).Obj()
				var lost atomic.Bool
				dead := killedAt(step, client.ObjectKeyFromObject(pod), func(at controllers.SeatStep) {
					if at == controllers.StepBeforeAudit && !lost.Swap(true) {
						_ = w.client.Delete(context.Background(), grant)
						_ = w.bump(pod) // so that the gate is not removed by what was read before
					}
				})
				w.create(ctx, pod)
				replace(ctx, dead)
				Eventually(w.licensed(ctx, pod)).WithContext(ctx).Should(Equal("False NoGrant"))
				w.seatsMatch(ctx, team, 0, licenses...)
				By("and it starts once it has the right again")
				w.create(ctx, builders.Grant(team, "again", licenses[1]).ServiceAccount("llm").Obj())
				w.seatsMatch(ctx, team, 1, licenses...)
			}, SpecTimeout(specTimeout))
			continue
		}
		It("at step "+string(step)+" is followed by one who lets the pod go with its seats", func(ctx SpecContext) {
			team, licenses := w.team(ctx, pods(1), pods(1))
			pod := gatedPod(team, "llm", licenses...).Obj()
			dead := killedAt(step, client.ObjectKeyFromObject(pod))
			w.create(ctx, pod)
			replace(ctx, dead)
			started := w.seatsMatch(ctx, team, 1, licenses...)
			Expect(started[0].UID).To(Equal(pod.UID))
			admittedOnce(ctx, pod, 2)
			for _, license := range licenses {
				h, _ := w.ledger(ctx, license).Holder(pod.UID)
				Expect(h.Until).To(BeZero())
				Expect(h.Kind.String()).To(Equal("Regular"))
			}
		}, SpecTimeout(specTimeout))
	}
})

// bump writes a pod's metadata, as others do at any time.
func (w *seatsWorld) bump(pod *corev1.Pod) error {
	return w.client.Patch(context.Background(), pod.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"bumped":"yes"}}}`)))
}
