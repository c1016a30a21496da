package seats

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Ledger is a decoded ModelSeats. It is not safe for use while another goroutine applies changes; a ledger that is only
// read may be shared.
type Ledger struct {
	license    string
	licenseUID types.UID
	generation int64
}

// Empty is the ledger of a licence that nobody holds a seat of yet.
func Empty(license *v1alpha1.ModelLicense) *Ledger {
	return &Ledger{license: license.Name, licenseUID: license.UID, generation: license.Generation}
}

// Decode reads a ledger. A ledger that this package did not write, or that was changed since, is an error that names what
// cannot be understood; it never panics.
func Decode(*v1alpha1.ModelSeats) (*Ledger, error) { return &Ledger{}, nil }

// Encode writes the ledger into the object's spec, and its name where it has none. The same ledger is always encoded
// alike.
func (l *Ledger) Encode(*v1alpha1.ModelSeats) {}

// Clone is a copy that can be changed by itself.
func (l *Ledger) Clone() *Ledger { c := *l; return &c }

// License is the licence's name.
func (l *Ledger) License() string { return l.license }

// LicenseUID is the UID of the licence that the ledger is counted for.
func (l *Ledger) LicenseUID() types.UID { return l.licenseUID }

// Generation is the generation of the licence whose limits the ledger carries.
func (l *Ledger) Generation() int64 { return l.generation }

// Limits are the licence's limits that the ledger carries.
func (l *Ledger) Limits() corev1.ResourceList { return nil }

// Holder is the seat of a pod.
func (l *Ledger) Holder(types.UID) (Holder, bool) { return Holder{}, false }

// Holders are all seats, the oldest first.
func (l *Ledger) Holders() []Holder { return nil }

// Len is the number of holders.
func (l *Ledger) Len() int { return 0 }

// InUse is what all holders count for together: pods, nodes (see the package's documentation) and resources.
func (l *Ledger) InUse() corev1.ResourceList { return nil }

// InUseBy is what the holders under a grant count for together: pods, nodes and resources.
func (l *Ledger) InUseBy(Grant) corev1.ResourceList { return nil }

// Grants are the grants that hold seats or have usage, sorted by namespace and name.
func (l *Ledger) Grants() []Grant { return nil }

// Nodes are the nodes in use, sorted.
func (l *Ledger) Nodes() []string { return nil }

// BeyondLimits is the number of pods that hold a seat beyond the limits: by surge, adopted, or because the limits were
// lowered.
func (l *Ledger) BeyondLimits() int { return 0 }

// Usage is what all pods of the licence have used until now, those that hold a seat included, rounded down.
func (l *Ledger) Usage(time.Time) v1alpha1.UsageStatus { return v1alpha1.UsageStatus{} }

// UsageOf is what the pods under a grant have used until now.
func (l *Ledger) UsageOf(Grant, time.Time) v1alpha1.UsageStatus { return v1alpha1.UsageStatus{} }

func (c Limit) apply(*Ledger) Result    { return Result{} }
func (c Take) apply(*Ledger) Result     { return Result{} }
func (c Adopt) apply(*Ledger) Result    { return Result{} }
func (c Bind) apply(*Ledger) Result     { return Result{} }
func (c Release) apply(*Ledger) Result  { return Result{} }
func (c Resize) apply(*Ledger) Result   { return Result{} }
func (c Expire) apply(*Ledger) Result   { return Result{} }
func (c Renew) apply(*Ledger) Result    { return Result{} }
func (c Wipe) apply(*Ledger) Result     { return Result{} }
func (c End) apply(*Ledger) Result      { return Result{} }
func (c GiveBack) apply(*Ledger) Result { return Result{} }
