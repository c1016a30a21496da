// Package seatend says in the audit log that seats end. Whoever ends one, a controller or the key service, makes the entry
// durable first and writes the ledger then: what was used is told even if the writer dies in between, and told once, since
// the entry's ID is the same when it is told again.
package seatend

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/seats"
)

// End is a seat that is to end.
type End struct {
	// Pod is the UID of the pod that holds it.
	Pod types.UID
	// At is when it ended. Usage counts until then.
	At time.Time
	// Until is the end that is set in the ledger, where this one rests on it: a seat that was renewed meanwhile stays.
	Until time.Time
	// Reason and Message say what shows that the pod has ended: Unpublished, PodGone, NodeGone or LeaseOver.
	Reason  v1alpha1.Reason
	Message string
	// Object is the pod as last seen, for its name, owner and account. Optional.
	Object *corev1.Pod
}

// Change is what is to be written into the ledger once the entry is durable.
func (e End) Change() seats.Change { return seats.End{Pod: e.Pod, At: e.At, Until: e.Until} }

// Entries are the audit entries of the seats that end, in order, by a ledger, which is not changed. There is none for a
// pod that holds no seat.
func Entries(ledger *seats.Ledger, ends ...End) []audit.Entry {
	after := ledger.Clone()
	entries := make([]audit.Entry, 0, len(ends))
	for _, end := range ends {
		if result := after.Apply(end.Change())[0]; result.Ended != nil {
			entries = append(entries, entryOf(ledger, end, *result.Ended))
		}
	}
	return entries
}

func entryOf(ledger *seats.Ledger, end End, ended seats.Ended) audit.Entry {
	h := ended.Holder
	e := audit.Entry{
		Type:      audit.SeatEnded,
		ID:        idOf(ledger.LicenseUID(), h),
		Namespace: h.Grant.Namespace,
		Pod:       audit.Object{UID: string(h.Pod)},
		Node:      h.Node,
		License:   audit.Object{Name: ledger.License(), UID: string(ledger.LicenseUID()), Generation: ledger.Generation()},
		Grant:     audit.Object{Name: h.Grant.Name, UID: string(h.Grant.UID)},
		Reason:    end.Reason,
		Message:   end.Message,
	}
	e.Seconds, e.Usage = Amounts(ended.Usage)
	if end.Object != nil {
		e.Pod, e.Owner, e.ServiceAccount = audit.ObjectOf(end.Object), audit.OwnerOf(end.Object), end.Object.Spec.ServiceAccountName
	}
	return e
}

// idOf has the time besides the UIDs: a pod whose seat ended with the lease of a node that was cut off can have another
// when the node is back.
func idOf(license types.UID, h seats.Holder) string {
	return string(audit.SeatEnded) + "/" + string(h.Pod) + "/" + string(license) + "/" + strconv.FormatInt(h.Since.Unix(), 36)
}

// Amounts is usage as audit entries have it.
func Amounts(usage v1alpha1.UsageStatus) (seconds int64, resources map[string]int64) {
	for name, amount := range usage.ResourceSeconds {
		if resources == nil {
			resources = map[string]int64{}
		}
		resources[string(name)] = amount
	}
	return usage.PodSeconds, resources
}
