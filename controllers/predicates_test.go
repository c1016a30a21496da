package controllers

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// TestRestoredNow: a pod that is no longer said to be revoked is looked at, since it may have lost its seat meanwhile; what else
// its condition says is no reason.
func TestRestoredNow(t *testing.T) {
	saying := func(status corev1.ConditionStatus, reason v1alpha1.Reason) *corev1.Pod {
		pod := storedPod(chatImage)
		if reason != "" {
			pod.Status.Conditions = []corev1.PodCondition{{Type: v1alpha1.PodConditionLicensed, Status: status, Reason: string(reason)}}
		}
		return pod
	}
	revoked, entitled := saying(corev1.ConditionFalse, v1alpha1.ReasonRevoked), saying(corev1.ConditionTrue, v1alpha1.ReasonEntitled)
	for name, test := range map[string]struct {
		before, after *corev1.Pod
		want          bool
	}{
		"restored":      {revoked, entitled, true},
		"revoked":       {entitled, revoked, false},
		"still revoked": {revoked, revoked, false},
		"admitted":      {saying("", ""), entitled, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isRestoredNow(event.UpdateEvent{ObjectOld: test.before, ObjectNew: test.after}); got != test.want {
				t.Errorf("looked at: %v, want %v", got, test.want)
			}
		})
	}
}

// TestSpecWritten: an update can be to another object of the same name, where the watch was interrupted.
func TestSpecWritten(t *testing.T) {
	object := func(uid types.UID, generation int64) *v1alpha1.ModelLicense {
		l := chatLicense()
		l.UID, l.Generation = uid, generation
		return l
	}
	for name, test := range map[string]struct {
		after *v1alpha1.ModelLicense
		want  bool
	}{
		"its status": {object("a", 1), false}, "its spec": {object("a", 2), true}, "another object": {object("b", 1), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := specUpdates.Update(event.UpdateEvent{ObjectOld: object("a", 1), ObjectNew: test.after}); got != test.want {
				t.Errorf("looked at: %v, want %v", got, test.want)
			}
		})
	}
}

// unknownNamespaces are rights of a cache that does not have the namespaces of its pods yet.
type unknownNamespaces struct{ fixedRights }

func (unknownNamespaces) NamespaceLabels(_ context.Context, name string, _ bool) (map[string]string, error) {
	return nil, apierrors.NewNotFound(corev1.Resource("namespaces"), name)
}

// TestPodsOfUnknownNamespacesAreLookedAtAgain: no event follows when the cache knows of the namespace, too.
func TestPodsOfUnknownNamespacesAreLookedAtAgain(t *testing.T) {
	s := newScene(t, "1")
	for name, pod := range map[string]*corev1.Pod{"gated": s.pod(1, seatBehindGates), "runs": storedPod(chatImage)} {
		t.Run(name, func(t *testing.T) {
			api := fake.NewClientBuilder().WithObjects(pod.DeepCopy()).Build()
			r := &PodReconciler{Client: api, Live: api, Rights: unknownNamespaces{s.Rights.(fixedRights)}, Clock: s.Clock, Seats: s.SeatAllocator}
			if result, err := r.Reconcile(t.Context(), reconcileRequest(client.ObjectKeyFromObject(pod))); err != nil || result.RequeueAfter != retryStale {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}
