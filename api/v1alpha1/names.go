package v1alpha1

import corev1 "k8s.io/api/core/v1"

const (
	// CSIDriverName is the name of the CSI driver that brings keys into pods. Pods name it in inline volumes.
	CSIDriverName = "node.modelrights.dev"

	// VolumeAttributeLicense is the attribute of our CSI volume that names the ModelLicense whose key is wanted.
	VolumeAttributeLicense = "license"

	// VolumeNamePrefix precedes the licence's name in the name of the volume that the webhook adds to a pod.
	VolumeNamePrefix = "modelrights-"

	// KeyDirectory is the directory in a container under which each licence has a directory of its own.
	KeyDirectory = "/var/run/modelrights"

	// KeyFileName is the file in a licence's directory that holds the age identities which open the model, one a line.
	KeyFileName = "key"

	// KeyFileVariable is the environment variable that names the key file, or KeyDirectory where a container uses
	// several licences.
	KeyFileVariable = "MODELRIGHTS_KEY_FILE"

	// DefaultSecretKey is the entry of a key Secret that is read when a licence names none.
	DefaultSecretKey = "key"

	// AuditLogName is the name of the one ModelAuditLog of a cluster.
	AuditLogName = "cluster"

	// SeatGate is the scheduling gate that keeps a pod under a licence unscheduled until it has its seats. The operator alone
	// removes it.
	SeatGate = "modelrights.dev/seat"

	// AnnotationAttention is the annotation by which the operator makes kubelet call the node driver at once, instead of in
	// up to 76 seconds: it patches it on a pod whose key is to be wiped. Its
	// value is the time of the revocation, in RFC 3339; metrics are reckoned from it, and nothing is decided by it.
	AnnotationAttention = "modelrights.dev/attention"

	// AnnotationResetTimeMark on the ModelAuditLog makes the operator take the newest record's creation time for
	// status.timeMark, even where that is earlier. It is removed when that is done, and an audit entry tells of it.
	AnnotationResetTimeMark = "modelrights.dev/reset-time-mark"

	// GrantVerb is the RBAC verb on modellicenses/NAME that whoever writes the spec of a ModelGrant for NAME must hold.
	GrantVerb = "grant"

	// PodConditionLicensed is the pod condition that says under which licences the pod was admitted (True); that it waits for
	// its seats (False, WaitingForSeat and the like); that it was admitted and has lost its entitlement (False, Revoked); or
	// that it uses governed images, is not entitled to them and never was (False; the reason is the decision's). Its presence means that
	// this stands in the audit log: the API server clears status on create, so no tenant presets it.
	PodConditionLicensed corev1.PodConditionType = "modelrights.dev/Licensed"

	// PodConditionCopy is the pod condition that is True while the pod runs a copy of a licensed image under a name that
	// the licence does not cover, by what the node reports. It is absent otherwise.
	PodConditionCopy corev1.PodConditionType = "modelrights.dev/Copy"
)
