package integration

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

// entries lists the types of the entries about a pod, in order. Entries of one ID are told once.
func (w *operatorWorld) entries(ctx context.Context, pod *corev1.Pod) []audit.Type {
	GinkgoHelper()
	types := []audit.Type{}
	seen := map[string]bool{}
	for e, err := range audit.Entries(ctx, w.client, 0) {
		Expect(err).NotTo(HaveOccurred())
		if e.Entry.Pod.UID == string(pod.UID) && !seen[e.Entry.ID] {
			types = append(types, e.Entry.Type)
		}
		seen[e.Entry.ID] = true
	}
	return types
}

// all lists the entries of a type in a namespace.
func (w *operatorWorld) all(ctx context.Context, kind audit.Type, namespace string) []audit.Entry {
	GinkgoHelper()
	var found []audit.Entry
	for e, err := range audit.Entries(ctx, w.client, 0) {
		Expect(err).NotTo(HaveOccurred())
		if e.Entry.Type == kind && e.Entry.Namespace == namespace {
			found = append(found, e.Entry)
		}
	}
	return found
}

// condition reads one of a pod's conditions, as STATUS REASON; empty where there is none.
func (w *operatorWorld) condition(ctx context.Context, pod *corev1.Pod, kind corev1.PodConditionType) string {
	GinkgoHelper()
	Expect(w.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return fmt.Sprintf("%s %s", c.Status, c.Reason)
		}
	}
	return ""
}

func (w *operatorWorld) licensed(ctx context.Context, pod *corev1.Pod) func() string {
	return func() string { return w.condition(ctx, pod, v1alpha1.PodConditionLicensed) }
}

func (w *operatorWorld) copied(ctx context.Context, pod *corev1.Pod) func() string {
	return func() string { return w.condition(ctx, pod, v1alpha1.PodConditionCopy) }
}

// told lists the Events about an object, as REASON NOTE.
func (w *operatorWorld) told(ctx context.Context, kind, namespace, name string) func() []string {
	return func() []string {
		GinkgoHelper()
		var list eventsv1.EventList
		Expect(w.client.List(ctx, &list)).To(Succeed())
		var notes []string
		for _, e := range list.Items {
			if e.Regarding.Kind == kind && e.Regarding.Namespace == namespace && e.Regarding.Name == name {
				notes = append(notes, e.Reason+" "+e.Note)
			}
		}
		return notes
	}
}
