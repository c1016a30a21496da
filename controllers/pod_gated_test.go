package controllers

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// laggingRights are those of a cache that is behind.
type laggingRights struct {
	fixedRights
	live *entitlement.Snapshot
}

func (r laggingRights) Live(context.Context, string) (*entitlement.Snapshot, error) {
	return r.live, nil
}

// TestRefuseGatedGivesBackFirst: a pod that lost its right gives its seat back before its turn comes to be told, but not by
// what a cache says.
func TestRefuseGatedGivesBackFirst(t *testing.T) {
	for name, lost := range map[string]bool{"it lost its right": true, "the cache is behind": false} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, "1")
			pod := s.pod(1, seatInQueue)
			s.rounds(t)
			entitled := s.Rights.(fixedRights).snapshot
			none := world{[]*v1alpha1.ModelLicense{s.license}, nil}.snapshot(t)
			rights := laggingRights{fixedRights{none}, none}
			if !lost {
				rights.live = entitled
			}
			api := fake.NewClientBuilder().WithScheme(revocationScheme(t)).WithObjects(pod.DeepCopy(), s.license.DeepCopy()).
				WithStatusSubresource(&corev1.Pod{}).WithInterceptorFuncs(interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					if stored, ok := o.(*v1alpha1.ModelSeats); ok {
						s.held.ledgers[key.Name].Encode(stored)
						return nil
					}
					return c.Get(ctx, key, o, opts...)
				},
			}).Build()
			r := &PodReconciler{Client: api, Live: api, Rights: rights, Clock: s.Clock, Seats: s.SeatAllocator}
			for i := range 10 * freshBurst {
				r.pace.wait(PodRef{Namespace: pod.Namespace, Name: fmt.Sprint("other-", i)}, noon, pod.CreationTimestamp.Time)
			}
			result, err := r.Reconcile(t.Context(), reconcileRequest(client.ObjectKeyFromObject(pod)))
			if err != nil || result.RequeueAfter <= 0 {
				t.Fatalf("%+v, %v", result, err)
			}
			if _, holds := s.held.Ledger("chat").Holder(pod.UID); holds == lost {
				t.Errorf("it holds a seat: %v", holds)
			}
			if err := api.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
				t.Fatal(err)
			}
			if c := conditionOf(pod, v1alpha1.PodConditionLicensed); c != nil || !isGated(pod) {
				t.Errorf("it is told before its turn: %+v", c)
			}
			if lost {
				if again, err := r.Reconcile(t.Context(), reconcileRequest(client.ObjectKeyFromObject(pod))); err != nil || again.RequeueAfter != result.RequeueAfter {
					t.Errorf("it has another turn: %+v, then %+v, %v", result, again, err)
				}
			}
		})
	}
}
