package entitlement

import (
	"slices"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// relaxed says whether admission lets pods pass that a licence of this mode does not entitle. What is not known
// enforces.
func relaxed(mode v1alpha1.EnforcementMode) bool {
	return mode == v1alpha1.EnforcementWarn || mode == v1alpha1.EnforcementAudit
}

// Relaxed says whether a licence only watches: it refuses no pod at admission, and makes none wait for a seat.
func Relaxed(l *v1alpha1.ModelLicense) bool { return relaxed(l.Spec.Enforcement) }

// strictest is the mode of the licence that enforces most: Enforce before Warn before Audit. Of none it is empty.
func strictest(found []coverage) v1alpha1.EnforcementMode {
	var mode v1alpha1.EnforcementMode
	for _, c := range found {
		switch m := c.license.Spec.Enforcement; {
		case !relaxed(m):
			return v1alpha1.EnforcementEnforce
		case mode == "" || m == v1alpha1.EnforcementWarn:
			mode = m
		}
	}
	return mode
}

// NeedsGate says whether a pod is to be created with the scheduling gate v1alpha1.SeatGate: one of its images, whether
// declared or inferred, is covered by a licence that enforces. Whether it is entitled does not matter.
func NeedsGate(pod Pod, s *Snapshot) bool {
	if !s.GovernsAnything() {
		return false
	}
	return slices.ContainsFunc(images.FromPod(pod.Spec), func(u images.Use) bool {
		if u.Confidence == images.Unresolved || u.Excess || u.Kind == images.UseEphemeralContainer {
			return false
		}
		var room [4]coverage
		_, found, _ := s.lookup(&Request{Image: u.Image}, room[:0])
		return strictest(found) == v1alpha1.EnforcementEnforce
	})
}
