package entitlement

import "modelrights.dev/modelrights/api/v1alpha1"

// Fixer is who can do something about a refusal.
type Fixer string

// Who can do something about a refusal.
const (
	// FixerLicenseOwner is whoever manages the ModelLicense, with its licensor.
	FixerLicenseOwner Fixer = "licence owner"
	// FixerGrantor is whoever holds the verb grant on the licence, and so may write grants of it.
	FixerGrantor Fixer = "whoever holds verb grant"
	// FixerPodAuthor is whoever writes the pod, or the workload that makes it.
	FixerPodAuthor Fixer = "pod author"
	// FixerPlatformTeam is whoever runs the cluster and modelrights in it.
	FixerPlatformTeam Fixer = "platform team"
)

// FixerOf says who can do something about a refusal for the reason; empty where there is nothing to be done.
func FixerOf(reason v1alpha1.Reason) Fixer {
	switch reason {
	case v1alpha1.ReasonNamespaceNotAllowed, v1alpha1.ReasonNotYetValid, v1alpha1.ReasonExpired, v1alpha1.ReasonInvalidSelector,
		v1alpha1.ReasonSuspended, v1alpha1.ReasonInGrace, v1alpha1.ReasonSeatsFull, v1alpha1.ReasonExecDenied:
		return FixerLicenseOwner
	case v1alpha1.ReasonNoGrant, v1alpha1.ReasonSubjectNotGranted, v1alpha1.ReasonActionNotLicensed, v1alpha1.ReasonPurposeNotLicensed,
		v1alpha1.ReasonGrantNotYetValid, v1alpha1.ReasonGrantExpired:
		return FixerGrantor
	case v1alpha1.ReasonUnparsableImage, v1alpha1.ReasonImageID, v1alpha1.ReasonPodNotSelected, v1alpha1.ReasonDigestNotLicensed,
		v1alpha1.ReasonDigestNotPinned, v1alpha1.ReasonTooManyReferences, v1alpha1.ReasonModelNotReferenced,
		v1alpha1.ReasonKeyVolumeInvalid, v1alpha1.ReasonImageSwapped, v1alpha1.ReasonUncountableDevice, v1alpha1.ReasonNodeSelectorConflict,
		v1alpha1.ReasonNodeNameSet, v1alpha1.ReasonGateRemoved, v1alpha1.ReasonTooLarge, v1alpha1.ReasonNodeNotAllowed:
		return FixerPodAuthor
	case v1alpha1.ReasonUnlicensed, v1alpha1.ReasonLicenseMissing, v1alpha1.ReasonLookupFailed,
		v1alpha1.ReasonGateMissing, v1alpha1.ReasonNodeSelectorMissing:
		return FixerPlatformTeam
	default:
		return ""
	}
}

// Fixer says who can do something about a refusal; empty where there is nothing to be done.
func (d Decision) Fixer() Fixer {
	if d.Grant != nil && (d.Reason == v1alpha1.ReasonInvalidSelector || d.Reason == v1alpha1.ReasonInGrace) {
		return FixerGrantor
	}
	return FixerOf(d.Reason)
}
