package v1alpha1

// Reason is a stable, documented code: of a refusal, of a condition or of an Event. Each is explained in
// docs/reasons.md with what to do about it; a test holds the two together.
type Reason string

// Reasons of decisions: why a pod may or may not use an image, or a key be released. Admission denials, key refusals,
// Events and audit entries carry them.
const (
	// ReasonNotGoverned means that neither a licence nor the operator's configuration speaks of the image.
	ReasonNotGoverned Reason = "NotGoverned"
	// ReasonEntitled means that a licence and a grant cover the use.
	ReasonEntitled Reason = "Entitled"
	// ReasonUnlicensed means that the repository is governed, but no licence covers the image.
	ReasonUnlicensed Reason = "Unlicensed"
	// ReasonUnparsableImage means that the image reference cannot be parsed, so nothing can be said for it.
	ReasonUnparsableImage Reason = "UnparsableImage"
	// ReasonImageID means that the image is named by the ID of an image on the node, which hides its repository.
	ReasonImageID Reason = "ImageID"
	// ReasonNamespaceNotAllowed means that the licence does not name the pod's namespace.
	ReasonNamespaceNotAllowed Reason = "NamespaceNotAllowed"
	// ReasonNotYetValid means that the licence's time has not come.
	ReasonNotYetValid Reason = "NotYetValid"
	// ReasonExpired means that the licence's time is over.
	ReasonExpired Reason = "Expired"
	// ReasonNoGrant means that the namespace has no grant of the licence.
	ReasonNoGrant Reason = "NoGrant"
	// ReasonSubjectNotGranted means that no grant of the licence names the pod's service account.
	ReasonSubjectNotGranted Reason = "SubjectNotGranted"
	// ReasonPodNotSelected means that the grants which name the account select other pods.
	ReasonPodNotSelected Reason = "PodNotSelected"
	// ReasonActionNotLicensed means that the grant's action is none that the licence allows.
	ReasonActionNotLicensed Reason = "ActionNotLicensed"
	// ReasonPurposeNotLicensed means that the grant's purpose is none that the licence allows.
	ReasonPurposeNotLicensed Reason = "PurposeNotLicensed"
	// ReasonLicenseMissing means that a grant or a volume names a licence that does not exist.
	ReasonLicenseMissing Reason = "LicenseMissing"
	// ReasonInvalidSelector means that a label selector of the licence or the grant cannot be parsed.
	ReasonInvalidSelector Reason = "InvalidSelector"
	// ReasonModelNotReferenced means that the key of a licence is wanted where none of its images is used.
	ReasonModelNotReferenced Reason = "ModelNotReferenced"
	// ReasonKeyVolumeInvalid means that a volume of our CSI driver is not of the form that the driver serves, or that an
	// ephemeral container mounts it.
	ReasonKeyVolumeInvalid Reason = "KeyVolumeInvalid"
	// ReasonImageSwapped means that another image was to be put into a pod that holds a key.
	ReasonImageSwapped Reason = "ImageSwapped"
	// ReasonDigestNotLicensed means that the image's digest is none of those that the licence lists.
	ReasonDigestNotLicensed Reason = "DigestNotLicensed"
	// ReasonDigestNotPinned means that the licence asks for images by digest, and the reference has none.
	ReasonDigestNotPinned Reason = "DigestNotPinned"
	// ReasonTooManyReferences means that the pod's commands, arguments and variables name more images than are looked at.
	ReasonTooManyReferences Reason = "TooManyReferences"
	// ReasonLookupFailed means that the live read that must precede a decision failed; the pod may be retried.
	ReasonLookupFailed Reason = "LookupFailed"
	// ReasonSuspended means that the licence is suspended by its spec.suspended.
	ReasonSuspended Reason = "Suspended"
	// ReasonInGrace means that the licence or the grant has ended, and in its grace period only pods that ran before go on.
	ReasonInGrace Reason = "InGrace"
	// ReasonGrantNotYetValid means that the grant's time has not come.
	ReasonGrantNotYetValid Reason = "GrantNotYetValid"
	// ReasonGrantExpired means that the grant's time is over.
	ReasonGrantExpired Reason = "GrantExpired"
	// ReasonUncountableDevice means that the pod asks for devices in a way that the licence's limits cannot count.
	ReasonUncountableDevice Reason = "UncountableDevice"
	// ReasonSeatsFull means that the licence or the grant has no room for the pod and overage is Deny.
	ReasonSeatsFull Reason = "SeatsFull"
	// ReasonNodeSelectorConflict means that the pod selects nodes with other labels than the licence requires.
	ReasonNodeSelectorConflict Reason = "NodeSelectorConflict"
	// ReasonNodeSelectorMissing means that the pod arrived without the node selector that the licence requires.
	ReasonNodeSelectorMissing Reason = "NodeSelectorMissing"
	// ReasonNodeNameSet means that the pod names its node itself, and so would not wait for a seat.
	ReasonNodeNameSet Reason = "NodeNameSet"
	// ReasonGateMissing means that a pod under a licence arrived without the scheduling gate modelrights.dev/seat.
	ReasonGateMissing Reason = "GateMissing"
	// ReasonGateRemoved means that somebody else than the operator was to remove the scheduling gate.
	ReasonGateRemoved Reason = "GateRemoved"
	// ReasonExecDenied means that the licence denies interactive access to pods that hold its key.
	ReasonExecDenied Reason = "ExecDenied"
	// ReasonNodeNotAllowed means that the node's labels are not those that the licence requires.
	ReasonNodeNotAllowed Reason = "NodeNotAllowed"
	// ReasonSurgeEnded means that the pod held a seat beyond the limits for as long as terms.surge allows, and there is no room
	// for it.
	ReasonSurgeEnded Reason = "SurgeEnded"
)

// Reasons of the key service: why it refused a caller before, or after, the entitlement was decided.
const (
	// ReasonUnauthenticated means that the call carried no token, or one that the API server does not confirm.
	ReasonUnauthenticated Reason = "Unauthenticated"
	// ReasonNotNodeDriver means that the caller is not the node driver: a pod's token alone releases nothing.
	ReasonNotNodeDriver Reason = "NotNodeDriver"
	// ReasonTokenNotBound means that a token is not bound to a pod and a node.
	ReasonTokenNotBound Reason = "TokenNotBound"
	// ReasonPodMismatch means that the pod's token is not of the pod, account or node that the call speaks of.
	ReasonPodMismatch Reason = "PodMismatch"
	// ReasonPodGone means that the pod does not exist any more, has another UID, or has ended.
	ReasonPodGone Reason = "PodGone"
	// ReasonAuditUnavailable means that the audit entry could not be written, so the key was not released.
	ReasonAuditUnavailable Reason = "AuditUnavailable"
	// ReasonTooManyRequests means that keys are asked for more often than a pod, a node or an address may; it is tried again.
	ReasonTooManyRequests Reason = "TooManyRequests"
	// ReasonKeyServiceUnreachable means that the node driver got no answer from the key service, or none it understands.
	ReasonKeyServiceUnreachable Reason = "KeyServiceUnreachable"
	// ReasonNoSeat means that the pod holds no seat of the licence.
	ReasonNoSeat Reason = "NoSeat"
	// ReasonNodeLimit means that the pod's node would be one more than the licence's limit of nodes.
	ReasonNodeLimit Reason = "NodeLimit"
	// ReasonNotHolder means that a node reports on a pod that holds no seat there.
	ReasonNotHolder Reason = "NotHolder"
	// ReasonLeaseEnding means that the lease is not renewed since the seat is about to end.
	ReasonLeaseEnding Reason = "LeaseEnding"
	// ReasonLeaseEnded means that a node wiped a key since its lease was over.
	ReasonLeaseEnded Reason = "LeaseEnded"
	// ReasonPodRuns means that the end of a pod is reported which is not over yet by what the API server knows.
	ReasonPodRuns Reason = "PodRuns"
)

// Reasons of conditions on licences and grants, besides those above.
const (
	// ReasonReady means that everything is in place.
	ReasonReady Reason = "Ready"
	// ReasonNoKey means that the licence names no key, so none can be delivered.
	ReasonNoKey Reason = "NoKey"
	// ReasonKeySecretMissing means that the Secret of a key, or its entry, does not exist.
	ReasonKeySecretMissing Reason = "KeySecretMissing"
	// ReasonKeyEmpty means that the Secret's entry of a key is empty.
	ReasonKeyEmpty Reason = "KeyEmpty"
	// ReasonKeyInvalid means that the Secret's entry is not an age identity.
	ReasonKeyInvalid Reason = "KeyInvalid"
	// ReasonKeyUnavailable means that the key source could not be asked; it is tried again.
	ReasonKeyUnavailable Reason = "KeyUnavailable"
	// ReasonKeysAvailable means that every key of the licence was found and can be used.
	ReasonKeysAvailable Reason = "KeysAvailable"
	// ReasonAdmissionPending means that the webhook configurations do not yet send what the licence covers to the operator.
	ReasonAdmissionPending Reason = "AdmissionPending"
	// ReasonAdmissionReady means that the webhook configurations send what the licence covers to the operator.
	ReasonAdmissionReady Reason = "AdmissionReady"
	// ReasonImagesResolved means that the tags of the licensed repositories were read from their registry.
	ReasonImagesResolved Reason = "ImagesResolved"
	// ReasonNothingToResolve means that the licence names no repository literally, so that no tags can be listed.
	ReasonNothingToResolve Reason = "NothingToResolve"
	// ReasonRegistryUnreachable means that the registry gave no answer, or none that can be understood; it is tried again.
	ReasonRegistryUnreachable Reason = "RegistryUnreachable"
	// ReasonRegistryDenied means that the registry refused the credentials, or wants some.
	ReasonRegistryDenied Reason = "RegistryDenied"
	// ReasonImageNotFound means that the registry does not have a repository, or a digest, that the licence names.
	ReasonImageNotFound Reason = "ImageNotFound"
	// ReasonPullSecretInvalid means that the Secret of spec.pullSecretRef is missing or holds no registry credentials.
	ReasonPullSecretInvalid Reason = "PullSecretInvalid"
	// ReasonNoCopies means that no running pod is known to use an unlicensed copy.
	ReasonNoCopies Reason = "NoCopies"
	// ReasonProgressing means that the operator is still working on what the spec asks for.
	ReasonProgressing Reason = "Progressing"
	// ReasonLogComplete means that the audit records form a log without a gap.
	ReasonLogComplete Reason = "LogComplete"
	// ReasonLogGap means that records are missing from the audit log or overlap.
	ReasonLogGap Reason = "LogGap"
	// ReasonExpiresIn14Days means that the licence or the grant ends within 14 days.
	ReasonExpiresIn14Days Reason = "ExpiresIn14Days"
	// ReasonExpiresIn3Days means that the licence or the grant ends within 3 days.
	ReasonExpiresIn3Days Reason = "ExpiresIn3Days"
	// ReasonExpiresIn1Day means that the licence or the grant ends within a day.
	ReasonExpiresIn1Day Reason = "ExpiresIn1Day"
	// ReasonGracePeriod means that the licence or the grant has ended and its grace period runs.
	ReasonGracePeriod Reason = "GracePeriod"
	// ReasonWithinLimits means that no more is in use than the limits allow.
	ReasonWithinLimits Reason = "WithinLimits"
	// ReasonLedgerUnreadable means that the licence's ledger was changed by somebody and cannot be understood.
	ReasonLedgerUnreadable Reason = "LedgerUnreadable"
	// ReasonLimitExceeded means that more is in use than the limits allow.
	ReasonLimitExceeded Reason = "LimitExceeded"
	// ReasonWaitingForSeat means that the pod waits for a seat.
	ReasonWaitingForSeat Reason = "WaitingForSeat"
	// ReasonWaitingForGroup means that the pod waits until there are seats for its whole group.
	ReasonWaitingForGroup Reason = "WaitingForGroup"
	// ReasonWaitingForGates means that the pod waits for other scheduling gates than that of modelrights.
	ReasonWaitingForGates Reason = "WaitingForGates"
	// ReasonTooLarge means that the pod, or its group, wants more than the limits allow at all.
	ReasonTooLarge Reason = "TooLarge"
	// ReasonLedgerFull means that the licence's ledger holds as many pods as it can.
	ReasonLedgerFull Reason = "LedgerFull"
	// ReasonClockSkewed means that the operator's clock and the API server's differ by more than five minutes.
	ReasonClockSkewed Reason = "ClockSkewed"
	// ReasonClockAgrees means that the operator's clock agrees with the API server's.
	ReasonClockAgrees Reason = "ClockAgrees"
)

// Reasons of Events that are not refusals.
const (
	// ReasonAdmitted is the Event on a pod that was admitted under a licence.
	ReasonAdmitted Reason = "Admitted"
	// ReasonDenied is the Event on the owner of a pod that was denied.
	ReasonDenied Reason = "Denied"
	// ReasonKeyReleased is the Event on a pod whose key was released to its node.
	ReasonKeyReleased Reason = "KeyReleased"
	// ReasonKeyRefused is the Event on a pod whose key was refused.
	ReasonKeyRefused Reason = "KeyRefused"
	// ReasonFoundUnlicensed is the Event on a pod that runs without an entitlement: a static pod, one in an exempt
	// namespace, or one that was there before modelrights or came while it was away.
	ReasonFoundUnlicensed Reason = "FoundUnlicensed"
	// ReasonCopyDetected is the Event on a pod that runs an unlicensed copy of a licensed image.
	ReasonCopyDetected Reason = "CopyDetected"
	// ReasonCopyEvicted is the Event on a pod that was evicted since it ran an unlicensed copy.
	ReasonCopyEvicted Reason = "CopyEvicted"
	// ReasonTagMoved is the Event on a licence of which a tag stands for another image than before.
	ReasonTagMoved Reason = "TagMoved"
	// ReasonRevoked is the Event on a pod that runs and has lost its entitlement.
	ReasonRevoked Reason = "Revoked"
	// ReasonKeyWiped is the Event on a pod whose key was wiped on its node.
	ReasonKeyWiped Reason = "KeyWiped"
	// ReasonRevokedPodEnded is the Event on a pod that was evicted or deleted since it lost its entitlement.
	ReasonRevokedPodEnded Reason = "RevokedPodEnded"
	// ReasonSeatEnded is the Event on a licence of which a seat ended without proof that its pod did.
	ReasonSeatEnded Reason = "SeatEnded"
	// ReasonTolerated is the Event on a pod that is not entitled and was admitted all the same, since the licence does not enforce.
	ReasonTolerated Reason = "Tolerated"
	// ReasonExecIntoKeyHolder is the Event on a pod that holds a key and into which somebody opened a session.
	ReasonExecIntoKeyHolder Reason = "ExecIntoKeyHolder"
	// ReasonPodResized is the Event on a pod whose seat counts for more or less since it was resized.
	ReasonPodResized Reason = "PodResized"
)

// Reasons of SeatEnded entries in the audit log: what shows that a pod has ended. ReasonPodGone is another.
const (
	// ReasonUnpublished means that the pod's node reported that it took the volume with the key away.
	ReasonUnpublished Reason = "Unpublished"
	// ReasonNodeGone means that the pod's Node was deleted, or marked as out of service. An Event with it says that a pod was
	// deleted which could only have gone to nodes that are gone.
	ReasonNodeGone Reason = "NodeGone"
	// ReasonLeaseOver means that nothing shows that the pod has ended, but the lease of its key is over.
	ReasonLeaseOver Reason = "LeaseOver"
	// ReasonLedgerClosed means that the ledger of a deleted licence is removed, since its last pod has ended.
	ReasonLedgerClosed Reason = "LedgerClosed"
)

// Reasons of Gap entries in the audit log: why entries are missing by the log's own account.
const (
	// ReasonDenialsCapped means that there were more denials than the log has room for one by one.
	ReasonDenialsCapped Reason = "DenialsCapped"
	// ReasonEntriesDropped means that entries could not be written, because the log was overloaded or not writable.
	ReasonEntriesDropped Reason = "EntriesDropped"
)

// Types of conditions on licences and grants. Ready, Reconciling and Stalled follow kstatus.
const (
	// ConditionReady says whether the object takes effect.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the operator has not finished with the current spec.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when nothing will change unless somebody changes something.
	ConditionStalled = "Stalled"
	// ConditionKeysAvailable says whether every key of a licence was found and can be used.
	ConditionKeysAvailable = "KeysAvailable"
	// ConditionAdmissionReady says whether pods that use a licence's images are sent to the operator at admission.
	ConditionAdmissionReady = "AdmissionReady"
	// ConditionImagesResolved says whether the tags of a licence's repositories are known by their digests.
	ConditionImagesResolved = "ImagesResolved"
	// ConditionCopiesDetected is True while pods are known that run an unlicensed copy of a licence's images.
	ConditionCopiesDetected = "CopiesDetected"
	// ConditionExpiringSoon is True while a licence or grant ends within 14 days, or its grace period runs.
	ConditionExpiringSoon = "ExpiringSoon"
	// ConditionOverLimit is True while more is in use of a licence than its limits allow.
	ConditionOverLimit = "OverLimit"
	// ConditionClockSkewed is True on the audit log while the operator's clock and the API server's differ by more than
	// five minutes.
	ConditionClockSkewed = "ClockSkewed"
)
