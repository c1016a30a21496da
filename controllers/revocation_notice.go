package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
)

const actionRevoke = "Revoke"

// patchRevocation writes a pod's condition, where it is not nil, and annotates the pod if its node is to look, which takes
// another time than it has already. Both are written through pods/status, which takes annotations too: it is one write, and no webhook
// has to let it pass.
func patchRevocation(ctx context.Context, c client.Client, pod *corev1.Pod, condition *corev1.PodCondition, looks bool, at time.Time) error {
	before := pod.DeepCopy()
	before.UID = "" // so that the patch names the UID, and is refused for a later pod of the same name
	if condition != nil {
		setPodCondition(pod, condition.Type, condition)
	}
	if looks {
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, v1alpha1.AnnotationAttention, at.UTC().Format(time.RFC3339Nano))
	}
	err := c.Status().Patch(ctx, pod, client.StrategicMergeFrom(before))
	if err := client.IgnoreNotFound(err); err != nil {
		return fmt.Errorf("revoking pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// revokedEvent says on a pod or a licence that the pod lost its entitlement, or was ended for it.
func revokedEvent(recorder events.EventRecorder, reason v1alpha1.Reason, about, related runtime.Object, note string) {
	recorder.Eventf(about, related, corev1.EventTypeWarning, string(reason), actionRevoke, "%s", bounded(note))
}
