//go:build e2e

package e2e

import (
	"context"
	"encoding/json"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

// entries returns the entries of the audit log that the filter keeps, oldest first. It fails where the log has a hole.
func entries(ctx context.Context, keep func(audit.Entry) bool) []audit.Entry {
	GinkgoHelper()
	var records v1alpha1.ModelAuditRecordList
	Expect(api.List(ctx, &records)).To(Succeed())
	var kept []audit.Entry
	next := int64(0)
	for _, record := range records.Items {
		Expect(record.Spec.FirstIndex).To(Equal(next), "the log has a hole before record %s", record.Name)
		next += int64(len(record.Spec.Entries))
		for _, leaf := range record.Spec.Entries {
			Expect(leaf).NotTo(ContainSubstring("AGE-SECRET-KEY"))
			var entry audit.Entry
			Expect(json.Unmarshal([]byte(leaf), &entry)).To(Succeed())
			if keep(entry) {
				kept = append(kept, entry)
			}
		}
	}
	return kept
}

// of keeps entries of a type in a namespace.
func of(kind audit.Type, namespace string) func(audit.Entry) bool {
	return func(e audit.Entry) bool { return e.Type == kind && e.Namespace == namespace }
}

// eventsOn returns the reasons and messages of Events about an object.
func eventsOn(ctx context.Context, kind string, object client.Object) []corev1.Event {
	GinkgoHelper()
	var list corev1.EventList
	Expect(api.List(ctx, &list)).To(Succeed())
	var events []corev1.Event
	for _, event := range list.Items {
		if event.InvolvedObject.Kind == kind && event.InvolvedObject.Name == object.GetName() && event.InvolvedObject.Namespace == object.GetNamespace() {
			Expect(event.Message).NotTo(ContainSubstring("AGE-SECRET-KEY"))
			events = append(events, event)
		}
	}
	return events
}

// reasons are the reasons of Events.
func reasons(events []corev1.Event) []string {
	list := []string{}
	for _, event := range events {
		list = append(list, event.Reason)
	}
	return list
}

// warnings are the messages of Events that are warnings, but for probes that came before the server was up.
func warnings(events []corev1.Event) []string {
	list := []string{}
	for _, event := range events {
		if event.Type == corev1.EventTypeWarning && event.Reason != "Unhealthy" {
			list = append(list, event.Reason+": "+event.Message)
		}
	}
	return list
}
