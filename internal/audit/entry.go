package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Version is the version of the form of entries, in their field v. Readers ignore fields that they do not know; a
// field never changes its meaning within a version.
const Version = 1

// Type says what an entry is about.
type Type string

// Types of entries.
const (
	// Admitted means that a pod that was stored by the API server may run under a licence.
	Admitted Type = "Admitted"
	// Denied means that a pod, or a change of one, was refused at admission.
	Denied Type = "Denied"
	// Found means that a stored pod names governed images without being entitled to them, and was not seen at admission: a
	// static pod, one in an exempt namespace, or one that came before modelrights or while it was away.
	Found Type = "Found"
	// CopyDetected means that a pod runs an image that is a copy of a licensed one, or built from it, under a name that the
	// licence does not cover.
	CopyDetected Type = "CopyDetected"
	// CopyEvicted means that a pod was evicted since it ran a copy.
	CopyEvicted Type = "CopyEvicted"
	// KeyReleased means that a licence's key was about to be given to a node for a pod: it is written before the key
	// leaves, so the key may have failed to arrive.
	KeyReleased Type = "KeyReleased"
	// KeyRefused means that a key was asked for and not given.
	KeyRefused Type = "KeyRefused"
	// Revoked means that a pod that runs has lost its entitlement; reason says why.
	Revoked Type = "Revoked"
	// RevokedPodEnded means that such a pod was evicted or deleted.
	RevokedPodEnded Type = "RevokedPodEnded"
	// KeyWiped means that a node reported that it wiped a pod's key.
	KeyWiped Type = "KeyWiped"
	// SeatEnded means that a pod gave up its seat; seconds and usage say what it used, reason and message what proves its end.
	SeatEnded Type = "SeatEnded"
	// Exec means that somebody opened a session in a pod that holds a key, or wanted to.
	Exec Type = "Exec"
	// TimeMarkReset means that the time by which licences are judged was set back.
	TimeMarkReset Type = "TimeMarkReset"
	// Started means that an operator began to write the log.
	Started Type = "Started"
	// LicenseCreated, LicenseChanged and LicenseDeleted tell of a ModelLicense's spec.
	LicenseCreated Type = "LicenseCreated"
	LicenseChanged Type = "LicenseChanged"
	LicenseDeleted Type = "LicenseDeleted"
	// GrantCreated, GrantChanged and GrantDeleted tell of a ModelGrant's spec.
	GrantCreated Type = "GrantCreated"
	GrantChanged Type = "GrantChanged"
	GrantDeleted Type = "GrantDeleted"
	// DenialsRepeated means that the denial, refusal, find, copy, eviction or session named in of happened count more times within
	// the same minute.
	DenialsRepeated Type = "DenialsRepeated"
	// Gap means that count entries were not written one by one; reason and message say why. It is the log's own admission that something
	// is left out, as opposed to records that were removed.
	Gap Type = "Gap"
)

// Object names an object that an entry is about, so that it is found again, and told from a later one of that name.
type Object struct {
	// Name is metadata.name.
	Name string `json:"name,omitempty"`
	// UID is metadata.uid.
	UID string `json:"uid,omitempty"`
	// Generation is metadata.generation: which spec it had.
	Generation int64 `json:"generation,omitempty"`
}

// ObjectOf names a pod, licence or grant.
func ObjectOf(object metav1.Object) Object {
	return Object{Name: object.GetName(), UID: string(object.GetUID()), Generation: object.GetGeneration()}
}

// Owner is the controller of a pod, for instance a ReplicaSet.
type Owner struct {
	// Kind is the owner's kind.
	Kind string `json:"kind,omitempty"`
	// Name is the owner's name, in the entry's namespace.
	Name string `json:"name,omitempty"`
}

// OwnerOf names the controller of a pod. It is the zero Owner for a pod without one.
func OwnerOf(object metav1.Object) Owner {
	controller := metav1.GetControllerOfNoCopy(object)
	if controller == nil {
		return Owner{}
	}
	return Owner{Kind: controller.Kind, Name: controller.Name}
}

// Entry is one thing that happened. Callers fill in Type and whatever they know; the log fills in Version, Time, ID and
// Writer. Every string is bounded when the entry is written (see Canonical), so callers need not shorten anything.
type Entry struct {
	// Version is Version.
	Version int `json:"v"`
	// Type says what the entry is about.
	Type Type `json:"type"`
	// Time is when it happened by the operator's clock, in UTC. The log fills it in if it is zero.
	Time time.Time `json:"time"`
	// ID is the same for entries that tell of the same thing twice, for instance because an operator was killed after
	// it wrote the first. The log fills it in if it is empty: from UIDs and generations for Admitted and for licences
	// and grants, at random otherwise.
	ID string `json:"id"`
	// Writer is the operator's pod that wrote the entry. The log fills it in.
	Writer string `json:"writer,omitempty"`

	// Namespace is that of the pod or the grant.
	Namespace string `json:"namespace,omitempty"`
	// Pod is the pod. A pod that is denied on creation has no UID, and often no name yet.
	Pod Object `json:"pod,omitzero"`
	// Owner is the pod's controller.
	Owner Owner `json:"owner,omitzero"`
	// ServiceAccount is the account that the pod runs as.
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// Node is the node that the key was released to.
	Node string `json:"node,omitempty"`
	// License is the ModelLicense.
	License Object `json:"license,omitzero"`
	// Grant is the ModelGrant.
	Grant Object `json:"grant,omitzero"`
	// Keys are the names, in the licence, of the keys that were released.
	Keys []string `json:"keys,omitempty"`
	// Images are the image references as the pod has them.
	Images []string `json:"images,omitempty"`
	// Reason is why, from api/v1alpha1/reasons.go.
	Reason v1alpha1.Reason `json:"reason,omitempty"`
	// Message says it in words.
	Message string `json:"message,omitempty"`
	// Count is how often, in DenialsRepeated and Gap entries.
	Count int64 `json:"count,omitempty"`
	// Of is the ID of the entry that a DenialsRepeated entry repeats.
	Of string `json:"of,omitempty"`
	// Seconds is for how long a seat was held.
	Seconds int64 `json:"seconds,omitempty"`
	// Usage are the resources that the seat counted for, each times the seconds, in the units of UsageStatus.
	Usage map[string]int64 `json:"usage,omitempty"`
	// Actor is the user who asked, as the API server authenticated them, where that is known.
	Actor string `json:"actor,omitempty"`
	// Truncated is true when a string was shortened, or characters in it were replaced, to keep the entry within its
	// bounds. The log fills it in.
	Truncated bool `json:"truncated,omitempty"`
}

// complete fills in what callers leave to the log, and bounds every string.
func (e Entry) complete(now time.Time, writer string) Entry {
	e.Version = Version
	e.Writer = writer
	if e.Time.IsZero() {
		e.Time = now
	}
	e.Time = e.Time.UTC().Round(0)
	if e.ID == "" {
		e.ID = e.deriveID()
	}
	return e.bounded()
}

// deriveID returns the ID of an entry: the same for the same thing where UIDs tell what it is, else a random one.
func (e Entry) deriveID() string {
	switch e.Type {
	case Admitted:
		return stableID(e.Type, e.Pod.UID, e.License.UID, generation(e.License))
	case LicenseCreated, LicenseChanged, LicenseDeleted:
		return stableID(e.Type, e.License.UID, generation(e.License))
	case GrantCreated, GrantChanged, GrantDeleted:
		return stableID(e.Type, e.Grant.UID, generation(e.Grant))
	default:
		return stableID(e.Type, uuid.NewString())
	}
}

func generation(o Object) string { return strconv.FormatInt(o.Generation, 10) }

// stableID joins the parts of an ID, or hashes them if they are longer than an ID may be. If a part is missing the ID is
// random: without a UID nothing says that two things are the same.
func stableID(t Type, parts ...string) string {
	for _, part := range parts {
		if part == "" {
			return string(t) + "/" + uuid.NewString()
		}
	}
	id := string(t) + "/" + strings.Join(parts, "/")
	if len(id) <= maxID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return string(t) + "/" + hex.EncodeToString(sum[:])
}
